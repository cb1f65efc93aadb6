"""From a load group to an engine that is ready: find the files, load them in the precision, put an engine on top.

Why in this order: the cheap refusals come before the download of 16 GB, and the memory meter before the model, so
that what the model takes is counted.

    engine = load_engine(cell.load, cache=None, seed=0)
"""

from pathlib import Path
from typing import Any

from farm.cells import Load
from farm.errors import ModelUnavailable
from jobs.engines.base import Engine
from jobs.engines.eager import EagerEngine
from jobs.memory import meter_for, release_unused
from jobs.models.sources import Located, locate
from jobs.prompts import ByteTokenizer, Tokenizer
from jobs.quantization import usable_backend
from jobs.stopwatch import stopwatch_for


def load_engine(load: Load, cache: Path | None, seed: int) -> Engine:
    """Load once. Raises Unsupported with the reason, ModelNotFound, ModelUnavailable, or what torch raises."""
    backend = usable_backend(load.quantization, load.device)
    located = locate(load.model, cache)
    meter = meter_for(load.device)
    model = backend.load(load.quantization, located, load, seed)
    tokenizer = load_tokenizer(located, load)
    release_unused(load.device)
    return EagerEngine(model.eval(), tokenizer, stopwatch_for(load.device), meter)


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
