"""Records with everything that figures can show: a roof, energy, a noisy row, a second engine, failures, an event log.

Built on `record_builder`, whose timing model it keeps; `turbo` is four times as fast a decode as `eager`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import plotly.graph_objects as go

from farm.architectures import KNOWN
from farm.cells import Cell, Load, SpeedTask
from farm.device_facts import DeviceLimits, Energy
from farm.keys import load_key
from farm.model_ref import ModelRef
from farm.records import Record, Trial
from farm.rows import CellRow
from tests.unit import record_builder as build

H100 = DeviceLimits(copy_bytes_per_s=3.03e12, gemm_flops=7.7e14, gemm_dtype="float16")
CONTEXTS = (128, 256, 512, 1024, 2048)
QUANTIZATIONS = ("fp16", "bf16", "int8", "nf4")
TURBO_FACTOR = 4.0
START = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


def rich_sweep() -> list[Record]:
    """`build.sweep` with failures, a roof, energy, one noisy row and the same again on a faster engine."""
    records = build.with_failures(build.sweep())
    fast = [faster(item) for item in records if item.speed is not None and _cached(item.cell)]
    return [noisy(measured(item)) if is_noisy(item.cell) else measured(item) for item in [*records, *fast]]


def measured(item: Record) -> Record:
    """With the device's roof, the model's shape, and the energy of 300 W of work."""
    if item.speed is None:
        return item
    trial = item.speed.trials[0]
    task = item.cell.task
    assert isinstance(task, SpeedTask)
    prompt, generated = task.context_tokens * task.batch_size, task.new_tokens * task.batch_size
    energy = Energy(
        idle_power_w=70.0,
        j_per_prompt_token=300 * trial.prefill_s / prompt,
        j_per_generated_token=300 * trial.decode_s / generated,
    )
    speed = replace(item.speed, energy=energy)
    return replace(item, limits=H100, architecture=KNOWN["llama-3-8b"], speed=speed)


def faster(item: Record) -> Record:
    """The same cell on the `turbo` engine."""
    load = replace(item.cell.load, engine="turbo")
    again = build.speed(Cell(load, item.cell.task))
    assert again.speed is not None
    trials = tuple(_hurried(trial) for trial in again.speed.trials)
    return replace(again, speed=replace(again.speed, trials=trials))


def _hurried(trial: Trial) -> Trial:
    decode_s = trial.decode_s / TURBO_FACTOR
    return replace(trial, decode_s=decode_s, e2e_s=trial.ttft_s + decode_s)


def noisy(item: Record) -> Record:
    """With trials so far apart that the verdict says so."""
    assert item.speed is not None
    trials = tuple(
        replace(trial, e2e_s=trial.ttft_s + (trial.e2e_s - trial.ttft_s) * (1.6 if trial.index % 2 else 1.0))
        for trial in item.speed.trials
    )
    return replace(item, speed=replace(item.speed, trials=trials))


def is_noisy(cell: Cell) -> bool:
    task = cell.task
    is_place = isinstance(task, SpeedTask) and (task.context_tokens, task.cache_mode) == (512, "on")
    return is_place and (cell.load.quantization, cell.load.engine) == ("bf16", "eager")


def _cached(cell: Cell) -> bool:
    return isinstance(cell.task, SpeedTask) and cell.task.cache_mode == "on"


def large_sweep(cells: int = 1000) -> list[Record]:
    """At least so many cells: two models, four precisions, five contexts, cache on and off, batches 1, 2, 3, ..."""
    records: list[Record] = []
    batch = 1
    while len(records) < cells:
        for model in (build.LLAMA, build.MISTRAL):
            records += [measured(item) for item in _batch(model, batch)]
        batch += 1
    return records[:cells]


def _batch(model: ModelRef, batch: int) -> list[Record]:
    loads = [build.load(model, name) for name in QUANTIZATIONS]
    speed = [
        build.failed(cell) if _too_large(cell) else build.speed(cell)
        for load in loads
        for context in CONTEXTS
        for cache in ("on", "off")
        for cell in [build.speed_cell(load, context, cache, batch)]
    ]
    return speed + ([build.quality(build.quality_cell(load)) for load in loads] if batch == 1 else [])


def _too_large(cell: Cell) -> bool:
    task = cell.task
    assert isinstance(task, SpeedTask)
    return task.cache_mode == "off" and task.batch_size > 6 and task.context_tokens == 2048


def event_log(records: Sequence[Record], at_once: int = 2, killed_after: int | None = None) -> str:
    """The log of a run that measured these records, `at_once` load groups at a time, a cell every 10 s.

    `killed_after`: the driver died after so many groups had started, and went on an hour later.
    """
    groups: dict[Load, list[Record]] = {}
    for record in records:
        groups.setdefault(record.cell.load, []).append(record)
    lines: list[tuple[float, dict[str, object]]] = []
    free = [START] * at_once
    for number, (load, own) in enumerate(groups.items(), 1):
        if killed_after == number - 1:
            free = [max(free) + 3600] * at_once
        slot = free.index(min(free))
        free[slot] = _log_group(lines, number, load, own, free[slot])
    return "".join(json.dumps(event) + "\n" for _, event in sorted(lines, key=lambda line: line[0]))


def _log_group(
    lines: list[tuple[float, dict[str, object]]], job: int, load: Load, own: Sequence[Record], start: float
) -> float:
    def log(at: float, what: str, **more: object) -> None:
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        lines.append((at, {"at": moment, "what": what, **more}))

    log(start, "group_started", job=job, load=load_key(load), cells=len(own))
    log(start + 1, "loading", job=job, load=load_key(load), pid=job, host="node-1")
    log(start + 20, "loaded", job=job, load=load_key(load), load_s=19.0)
    for place, record in enumerate(own, 1):
        log(start + 20 + 10 * place, "recorded", key=record.key, attempt=1, status=record.status.value)
    end = start + 21 + 10 * len(own)
    log(end, "group_ended", job=job, load=load_key(load))
    return end


def find(rows: Sequence[CellRow], quantization: str, context: int, cache: str) -> CellRow:
    """The first row of this precision, context and cache mode."""
    wanted = (quantization, context, cache)
    return next(r for r in rows if (r.quantization, r.context_tokens, r.cache_mode) == wanted)


def named(figure: go.Figure, name: str, panel: int = 0) -> go.Scatter:
    """The trace of this name with data in it, of the panel-th panel that has one."""
    found = [trace for trace in figure.data if trace.name == name and trace.x is not None and trace.x[0] is not None]
    return found[panel]
