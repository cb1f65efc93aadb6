"""YAML from anybody: plain data only, no duplicate keys, and no file that is small on disk and huge in memory.

Why not `yaml.safe_load`: it keeps the last of two equal keys without a word, follows aliases of aliases until a file of
200 bytes has a billion entries, and lets some malformed values out as TypeError, ValueError or RecursionError.

    >>> load_yaml("a: 1")
    {'a': 1}
"""

from collections.abc import Iterable
from typing import Any

import yaml

MAX_NODES = 100_000  # aliases counted as often as they are named; a sweep of 1,000 lines has some 5,000


class InvalidYaml(ValueError):
    """Not usable; the message is one line without the file's name."""


def load_yaml(text: str) -> Any:
    """Plain data. Raises InvalidYaml for whatever is wrong with the text."""
    try:
        return yaml.load(text, Loader=_Strict)  # a SafeLoader underneath: no tag makes anything but plain data
    except RecursionError:
        raise InvalidYaml("nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # the last two: an impossible date, a key that is a list
        raise InvalidYaml(" ".join(str(error).split())) from None


class _Strict(yaml.SafeLoader):
    def get_single_node(self) -> Any:
        """The whole document, still without values: here its true size is known and nothing is copied yet."""
        root = super().get_single_node()
        if root is not None and _expanded(root, {}) > MAX_NODES:
            raise InvalidYaml(f"its aliases make more than {MAX_NODES:,} entries of it")
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _expanded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many nodes there are when every alias is written out; infinite for one that contains itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        known[id(node)] = 1 + sum(_expanded(child, known) for child in _children(node))
    return known[id(node)]


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    return node.value if isinstance(node, yaml.SequenceNode) else ()
