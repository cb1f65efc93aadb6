"""The perplexity of the package `evaluate`, of a model that the farm has loaded: optional, for a look from outside.

Why an adapter: the metric loads its model itself, by name and in full precision, so it could not see a quantized one.
Here it is handed the loaded model and tokenizer in the place of those. What it computes: each text alone with BOS in
front, cut at `max_tokens`, one perplexity a text (papers that quote it average those). The metric's script comes from
the hub; without one, a local copy of it can be named.

    perplexities(engine, ["A text.", "Another one."])       # [41.3, 57.9]
"""

import sys
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from farm.errors import Unsupported
from jobs.engines.eager import EagerEngine

METRIC = "perplexity"


def perplexities(engine: EagerEngine, texts: Sequence[str], max_tokens: int = 512, metric: str = METRIC) -> list[float]:
    """One a text. Raises Unsupported when the package or its metric is not to be had."""
    loaded = _load(metric)
    script = sys.modules[type(loaded).__module__]
    with (
        patch.object(script, "AutoModelForCausalLM", _Hands(_InPlace(engine.model))),
        patch.object(script, "AutoTokenizer", _Hands(engine.tokenizer)),
    ):
        device = "cuda" if engine.model.device.type == "cuda" else "cpu"
        told = {"model_id": "loaded by the farm", "batch_size": 1, "max_length": max_tokens, "device": device}
        found: list[float] = loaded.compute(predictions=list(texts), **told)["perplexities"]
    return found


def _load(metric: str) -> Any:
    try:
        import evaluate
    except ImportError as error:
        raise Unsupported(f"the package evaluate is not here ({error}); run: pip install evaluate") from error
    try:
        return evaluate.load(metric, module_type="metric")
    except Exception as error:  # each layer of its download raises kinds of its own: all mean "not here"
        raise Unsupported(
            f"evaluate's metric {metric!r} cannot be loaded ({type(error).__name__}: {error}); it needs the hub, or "
            "the path of a local copy of its script"
        ) from error


class _Hands:
    """Stands for a class of transformers whose `from_pretrained` gives what is loaded already."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def from_pretrained(self, name: str) -> Any:
        return self._loaded


class _InPlace:
    """The model where it is: quantized weights refuse to be moved, even to the device that they are on."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def to(self, device: str) -> Any:
        return self._model
