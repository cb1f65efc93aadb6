"""The adapter to `evaluate`, with a stand-in for the package: it gets the loaded model, and a missing part is named."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from farm.errors import Unsupported
from jobs.evaluate_adapter import perplexities

SCRIPT = "metric_of_the_stand_in"


class Metric:
    """As the true one: it loads by name, moves the model, and answers for each text."""

    def compute(self, predictions: list[str], model_id: str, batch_size: int, max_length: int, device: str) -> Any:
        script: Any = sys.modules[SCRIPT]
        model = script.AutoModelForCausalLM.from_pretrained(model_id).to(device)
        tokenizer = script.AutoTokenizer.from_pretrained(model_id)
        return {"perplexities": [model(tokenizer(text)[:max_length]) for text in predictions]}


class NeverMoved:
    device = torch.device("cpu")

    def to(self, device: str) -> None:
        raise ValueError("`.to` is not supported for `4-bit` or `8-bit` bitsandbytes models")

    def __call__(self, ids: list[int]) -> float:
        return float(len(ids))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    script: Any = ModuleType(SCRIPT)
    script.AutoModelForCausalLM, script.AutoTokenizer = "theirs", "theirs"
    monkeypatch.setattr(Metric, "__module__", SCRIPT)
    monkeypatch.setitem(sys.modules, SCRIPT, script)
    package: Any = ModuleType("evaluate")
    package.load = lambda name, module_type: Metric()
    monkeypatch.setitem(sys.modules, "evaluate", package)
    return script


def engine() -> Any:
    return SimpleNamespace(model=NeverMoved(), tokenizer=lambda text: [ord(letter) for letter in text])


def test_it_is_handed_the_loaded_model_which_is_never_moved(script: Any) -> None:
    assert perplexities(engine(), ["abc", "abcdefgh"], max_tokens=5) == [3.0, 5.0]
    assert (script.AutoModelForCausalLM, script.AutoTokenizer) == ("theirs", "theirs")  # given back


def test_without_the_package_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(Unsupported, match="run: pip install evaluate"):
        perplexities(engine(), ["a"])


def test_without_the_hub_it_says_so(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, module_type: str) -> Any:
        raise FileNotFoundError(f"Couldn't find a module script at {name}.py")

    monkeypatch.setattr(sys.modules["evaluate"], "load", load)
    with pytest.raises(Unsupported, match=r"metric 'perplexity' cannot be loaded .*; it needs the hub, or the path"):
        perplexities(engine(), ["a"])
