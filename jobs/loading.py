"""From a load group to an engine that is ready: find the files, load them in the precision, put an engine on top.

Why in this order: the cheap refusals come before the download of 16 GB, and the memory meter before the model, so
that what the model takes is counted.

    engine = load_engine(cell.load, cache=None, seed=0)
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from farm.architectures import architecture_of_config
from farm.catalog import REFERENCES
from farm.cells import Load
from farm.errors import ModelUnavailable, Unsupported
from farm.quantization import parse_quantization
from jobs.checkpoints import prepared, quantization_config
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
    named = locate(load.model, cache)
    located = readable(prepared(backend, wanted, named, load, cache))
    meter = meter_for(load.device)
    model = backend.load(wanted, located, load, seed)
    tokenizer = load_tokenizer(located, load)
    release_unused(load.device)
    classes, dtype = backend.linear_classes(wanted, load.device), backend.dtype(wanted, load.device)
    commit = {"commit": named.revision[:12]} if named.revision else {}  # `hf:ORG/NAME` may mean another model tomorrow
    request = Request(load.quantization, classes, dtype, backend.details(wanted, model) | commit)
    reference = reference_of(load, named, cache, seed)
    return EagerEngine(model.eval(), tokenizer, stopwatch_for(load.device), meter, request, reference)


def reference_of(load: Load, named: Located, cache: Path | None, seed: int) -> Reference:
    """The same weights in the reference precision: opened on demand, sized before it is opened. `named`: the model as
    the sweep names it, before a checkpoint is made of it."""
    name = REFERENCES[load.device]
    if load.quantization == name:
        return Reference(name, load.device)
    if quantization_config(named) is not None:
        return Reference(name, load.device, _refuse_quantized)
    other = replace(load, quantization=name, engine="eager")
    needed_bytes = _weights_bytes(named, name)
    return Reference(name, load.device, lambda: load_engine(other, cache, seed), needed_bytes, named.revision)


def _refuse_quantized() -> NoReturn:
    """It would load as it is, and be found to agree with itself."""
    raise Unsupported("its weights are published quantized, so there are none in 16 bit to compare them with")


def _weights_bytes(named: Located, quantization: str) -> int | None:
    """None where nothing of the model is on this machine: then only trying can tell whether it fits."""
    folder, widths = Path(named.name_or_path), parse_quantization(quantization)
    config = _config_in(folder)
    architecture = named.random or architecture_of_config(config)
    if architecture is not None:
        return int(architecture.weight_bytes(widths.linear_bits, widths.other_bits))
    stored_bits = 32 if "float32" in (config.get("dtype"), config.get("torch_dtype")) else 16
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) * widths.other_bits // stored_bits or None


def _config_in(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


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
