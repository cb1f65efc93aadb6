"""Checkpoints that a precision is measured on, made once from the base model and kept.

Why kept: GPTQ and AWQ look at real activations for minutes; a sweep must not repeat that at every load. The folder's
name is the hash of all that makes the checkpoint what it is (model, recipe, calibration text), so two sweeps share one
and a changed recipe makes another. Several workers may ask at once, and a builder may be killed: `build_once` copes.

    located = prepared(backend, wanted, located, load, cache=None)
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from farm.cells import Load
from farm.errors import Unsupported
from farm.quantization import Quantization
from jobs.models.cache import build_once, cache_root
from jobs.models.sources import Located
from jobs.quantization.base import Backend

CALIBRATION_TEXT = "calibration_text.txt"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Ordinary prose, one paragraph a sample: letters, reports, explanations, stories of about 240 tokens each."""

    samples: tuple[str, ...]
    sha256: str


@functools.cache
def calibration() -> Calibration:
    """The text shipped with the farm: not the one that quality is measured on."""
    text = resources.files("jobs").joinpath("texts", CALIBRATION_TEXT).read_text(encoding="utf-8")
    samples = tuple(paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip())
    return Calibration(samples, hashlib.sha256(text.encode()).hexdigest())


def prepared(backend: Backend, wanted: Quantization, located: Located, load: Load, cache: Path | None) -> Located:
    """The checkpoint's folder, made now if it is not there. Raises what preparing raises, and Unsupported.

    A model that is quantized already is used as it is; random weights are packed at load, in memory.
    """
    if located.random is not None or wanted.checkpoint is None:
        return located
    if quantization_config(located) is not None:
        return located
    folder = checkpoint_folder(backend, wanted, located, load, cache)
    build_once(folder, lambda aside: backend.prepare(wanted, located, load, aside))
    return Located(str(folder), None, None)


def checkpoint_folder(backend: Backend, wanted: Quantization, located: Located, load: Load, cache: Path | None) -> Path:
    """`checkpoints/SmolLM2-gptq-1f3c...`; the same on every machine, and for every precision that loads it."""
    model = (load.model.source, load.model.name, load.model.revision or located.revision)
    identity = {"model": model, "recipe": backend.recipe(wanted)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    name = f"{load.model.name.replace('/', '-')}-{wanted.precision.checkpoint}-{digest[:16]}"
    return (cache or cache_root()) / "checkpoints" / name


def quantization_config(located: Located) -> Mapping[str, Any] | None:
    """What config.json says of weights that are quantized already; None for ordinary ones."""
    try:
        config = json.loads((Path(located.name_or_path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found: Mapping[str, Any] | None = config.get("quantization_config")
    return found


def require_same(wanted: Quantization, located: Located, method: str, bits: int) -> None:
    """A checkpoint that is another than the sweep says would be measured under the wrong name. Raises Unsupported."""
    found = quantization_config(located) or {}
    asked = {"quant_method": method, "bits": bits, "group_size": wanted.group_size}
    wrong = [f"{name} {found.get(name)}" for name, value in asked.items() if found.get(name) != value]
    if wrong:
        raise Unsupported(
            f"{located.name_or_path} is not what {wanted} names: it has {', '.join(wrong)}; write its own group size "
            f"and method in the sweep, or name the unquantized model"
        )
