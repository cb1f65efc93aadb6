"""What transformers 4 names differently: the one place that knows, for workers in a legacy backend's environment.

Why: a folder written by transformers 5 loads in 4 without an error and answers nonsense, because 4 looks for
`rope_theta` where 5 writes `rope_parameters` and falls back on a wrong base frequency. So such a folder is read through
a translated view of it: links to the weights, and small files rewritten. Everything here is a no-op beside 5.

    >>> translated_config({"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}, "dtype": "float16"})
    {'rope_theta': 100000.0, 'torch_dtype': 'float16'}
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import Unsupported
from jobs.models.cache import build_once, cache_root

if TYPE_CHECKING:
    from jobs.models.sources import Located


@functools.cache
def is_4() -> bool:
    return version("transformers").startswith("4.")


def as_here(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a configuration, or of `from_pretrained`, as the transformers here spells them."""
    return translated_config(arguments) if is_4() else arguments


def new_cache(kind: Any, config: Any) -> Any:
    """A key/value cache for a model; transformers 4 makes a growing one without looking at the model."""
    return kind() if is_4() else kind(config=config)


def cached_tensors(cache: Any) -> Iterator[Any]:
    """Keys and values, layer by layer; nothing for a cache of another form."""
    for layer in getattr(cache, "layers", ()):
        yield from (getattr(layer, name, None) for name in ("keys", "values"))
    for name in ("key_cache", "value_cache"):  # transformers 4
        yield from getattr(cache, name, ())


def readable(located: "Located") -> "Located":
    """The same model in a form that the transformers here can read. Raises Unsupported where there is none."""
    folder = Path(located.name_or_path)
    if not is_4() or located.random is not None or not (folder / "config.json").is_file():
        return located
    rewritten = dict(_translated_files(folder))
    digest = hashlib.sha256(json.dumps([str(folder.resolve()), rewritten]).encode()).hexdigest()
    view = cache_root() / "views" / f"{folder.name}-{digest[:16]}"
    return replace(located, name_or_path=str(build_once(view, lambda aside: _view(folder, rewritten, aside))))


def _translated_files(folder: Path) -> Iterator[tuple[str, str]]:
    translations = {"config.json": translated_config, "tokenizer_config.json": translated_tokenizer}
    for name, translate in translations.items():
        if (folder / name).is_file():
            yield name, json.dumps(translate(json.loads((folder / name).read_text(encoding="utf-8"))), indent=1)


def _view(folder: Path, rewritten: dict[str, str], view: Path) -> None:
    for file in folder.iterdir():
        if file.name in rewritten:
            (view / file.name).write_text(rewritten[file.name], encoding="utf-8")
        elif not file.name.startswith("."):
            (view / file.name).symlink_to(file.resolve())


def translated_config(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json of transformers 5, as 4 reads it; one of 4 comes back unchanged."""
    kept = {name: value for name, value in config.items() if name not in ("rope_parameters", "dtype")}
    rope = dict(config.get("rope_parameters") or {})
    if any(isinstance(value, dict) for value in rope.values()):
        raise Unsupported(
            "its layers have different rotary positions, which transformers 4 cannot read; use gptq or awq"
        )
    if "rope_theta" in rope:
        kept["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        kept["rope_scaling"] = rope
    return kept | ({"torch_dtype": config["dtype"]} if "dtype" in config else {})


def translated_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json of transformers 5, as 4 reads it."""
    kept = dict(config)
    if str(kept.get("tokenizer_class")).startswith("TokenizersBackend"):  # gptqmodel saves it with `Fast` behind it
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    return kept
