"""From a load group to an engine that is ready: find the files, load them in the precision, put an engine on top.

Why in this order: the cheap refusals come before the download of 16 GB, and the memory meter before the model, so
that what the model takes is counted.

    engine = load_engine(cell.load, cache=None, seed=0)
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm.architectures import Architecture, architecture_of_config
from farm.catalog import REFERENCES
from farm.cells import Load
from farm.errors import ModelUnavailable
from farm.quantization import parse_quantization
from jobs.checkpoints import prepared
from jobs.effective import Request
from jobs.engines.base import Engine, Reference
from jobs.engines.eager import EagerEngine
from jobs.memory import meter_for, release_unused
from jobs.models.sources import Located, locate
from jobs.models.transformers_4 import readable
from jobs.prompts import ByteTokenizer, Tokenizer
from jobs.quantization import usable_backend
from jobs.stopwatch import stopwatch_for


def load_engine(load: Load, cache: Path | None, seed: int) -> Engine:
    """Load once. Raises Unsupported with the reason, ModelNotFound, ModelUnavailable, or what torch raises."""
    wanted = parse_quantization(load.quantization)
    backend = usable_backend(wanted, load.device)
    located = readable(prepared(backend, wanted, locate(load.model, cache), load, cache))
    meter = meter_for(load.device)
    model = backend.load(wanted, located, load, seed)
    tokenizer = load_tokenizer(located, load)
    release_unused(load.device)
    classes, dtype = backend.linear_classes(wanted, load.device), backend.dtype(wanted, load.device)
    request = Request(load.quantization, classes, dtype, backend.details(wanted, model))
    reference = reference_of(load, located, cache, seed)
    return EagerEngine(model.eval(), tokenizer, stopwatch_for(load.device), meter, request, reference)


def reference_of(load: Load, located: Located, cache: Path | None, seed: int) -> Reference:
    """The same weights in the reference precision: opened on demand, sized before it is opened."""
    name = REFERENCES[load.device]
    if load.quantization == name:
        return Reference(name, load.device)
    other = replace(load, quantization=name, engine="eager")
    return Reference(name, load.device, lambda: load_engine(other, cache, seed), _weights_bytes(located, name))


def _weights_bytes(located: Located, quantization: str) -> int | None:
    """None where the shape is not known: then only trying can tell whether it fits."""
    widths = parse_quantization(quantization)
    architecture = located.random or _architecture_in(Path(located.name_or_path))
    return int(architecture.weight_bytes(widths.linear_bits, widths.other_bits)) if architecture else None


def _architecture_in(folder: Path) -> Architecture | None:
    try:
        return architecture_of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def load_tokenizer(located: Located, load: Load) -> Tokenizer:
    """The model's own tokenizer; bytes for random weights, which have none. Raises ModelUnavailable."""
    if located.random is not None:
        return ByteTokenizer()
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            located.name_or_path, revision=located.revision or "main", trust_remote_code=load.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{load.model}: its tokenizer could not be loaded ({error}); the folder must hold tokenizer.json"
        ) from error
    tokenizer.clean_up_tokenization_spaces = False  # it drops spaces before punctuation: texts would lose bytes
    return tokenizer
