"""What differs between the transformers of today and 4.51.3, the last one that autoawq and auto-gptq ran on.

Why: those two packages are measured in an environment of their own, with the same worker code, so the few calls whose
spelling changed go through here. One of the changes is dangerous: transformers 5 writes the rotary base inside
`rope_parameters`, where 4.51.3 does not look. It would load SmolLM2 with base 10,000 instead of 100,000, without an
error, and answer nonsense. Hence `readable`: the same weights beside a config.json that the older one understands.

    dtype_option(torch.float16)     # {"dtype": torch.float16}, or {"torch_dtype": ...} in the older one
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.models.cache import MARKER, cache_root

if TYPE_CHECKING:
    import torch

    from jobs.models.sources import Located

_TOKENIZER_OF_5 = "TokenizersBackend"
_TOKENIZER_OF_4 = "PreTrainedTokenizerFast"
_REWRITTEN = ("config.json", "tokenizer_config.json", MARKER)


@cache
def is_modern() -> bool:
    """transformers 5 or newer."""
    try:
        return int(version("transformers").partition(".")[0]) >= 5
    except (PackageNotFoundError, ValueError):
        return True


def dtype_option(dtype: "torch.dtype") -> dict[str, "torch.dtype"]:
    """The dtype as `from_pretrained` and the configurations spell it."""
    return {"dtype" if is_modern() else "torch_dtype": dtype}


def rope_option(theta: float) -> dict[str, Any]:
    """The rotary base as LlamaConfig spells it."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}} if is_modern() else {"rope_theta": theta}


def new_cache(kind: type, config: Any) -> Any:
    """An empty cache of a class that derives from DynamicCache."""
    return kind(config=config) if is_modern() else kind()


def cached_tensors(cache: Any) -> Iterator[Any]:
    """Keys and values of every layer: today in `layers`, before in two lists."""
    for layer in getattr(cache, "layers", ()):
        yield from (getattr(layer, "keys", None), getattr(layer, "values", None))
    yield from (*getattr(cache, "key_cache", ()), *getattr(cache, "value_cache", ()))


def readable(located: "Located", root: Path | None = None) -> "Located":
    """The same model in a folder that the transformers of this process understands.

    Only for the older one, and only where transformers 5 wrote the folder: then links to its files, and config.json
    and tokenizer_config.json said in the older words.
    """
    source = Path(located.name_or_path)
    if is_modern() or not (source / "config.json").is_file():
        return located
    config = _read(source / "config.json")
    if "rope_parameters" not in config and _read(source / "tokenizer_config.json").get("backend") is None:
        return located
    identity = [str(source.resolve()), json.dumps(config, sort_keys=True)]
    name = f"{source.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
    folder = (root or cache_root()) / "for-transformers-4" / name
    if not folder.is_dir():
        _translate_aside(source, folder)
    return replace(located, name_or_path=str(folder))


def _translate_aside(source: Path, folder: Path) -> None:
    """Aside, then renamed: whoever comes second finds the same folder there. Not `build_once`, which sets the mode of
    every file: through the links those are the model's own."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        _translate(source, aside)
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _translate(source: Path, folder: Path) -> None:
    for file in source.iterdir():
        if file.is_file() and file.name not in _REWRITTEN:
            (folder / file.name).symlink_to(file.resolve())
    _write(folder / "config.json", older_config(_read(source / "config.json")))
    tokenizer = _read(source / "tokenizer_config.json")
    if tokenizer:
        _write(folder / "tokenizer_config.json", _older_tokenizer(tokenizer, source))


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """config.json of transformers 5 in the words of 4.51.3.

    >>> older_config({"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}, "dtype": "float32"})
    {'torch_dtype': 'float32', 'rope_theta': 100000.0}
    """
    told = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    if "dtype" in config:
        told["torch_dtype"] = config["dtype"]
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        told["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":  # Llama 3.1 stretches its positions
        told["rope_scaling"] = rope
    return told


def _older_tokenizer(config: dict[str, Any], source: Path) -> dict[str, Any]:
    told = {key: value for key, value in config.items() if key != "backend"}
    if str(told.get("tokenizer_class")).startswith(_TOKENIZER_OF_5):  # gptqmodel appends "Fast" to it
        told["tokenizer_class"] = _TOKENIZER_OF_4
    template = source / "chat_template.jinja"
    return told | ({"chat_template": template.read_text(encoding="utf-8")} if template.is_file() else {})


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
