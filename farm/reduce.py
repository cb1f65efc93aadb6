"""From records to rows: pure, and always in the same order.

Why an order of its own: several GPUs finish in any order, and still `results.csv` must come out byte for byte. Models
stand as the records name them first (the sweep's order), precisions as in the catalog, then cells by size.

    rows = cell_rows(records)

The latest attempt at a cell is the one that counts; earlier ones stay in the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from farm import catalog, formulas
from farm.baseline import Lookup, quality_rank
from farm.cells import Cell, QualityTask, SpeedTask
from farm.device_rows import energy_figures, roofline_figures, telemetry_figures
from farm.errors import FarmError
from farm.records import Record, SpeedResult, Trial
from farm.row_parts import evidence_of, memory_figures, quality_figures, sanity_figures, trust_figures
from farm.rows import CellRow, TrialRow, TrustFigures
from farm.stats import Summary, median, p99, percentile, summarize
from farm.verdict import VALID

SHORT_KEY = 12


def final_records(records: Iterable[Record]) -> dict[str, Record]:
    """The latest attempt of every key, in the order of the rows."""
    everything = list(records)
    latest: dict[str, Record] = {}
    for record in everything:
        known = latest.get(record.key)
        if known is None or _newness(record) > _newness(known):
            latest[record.key] = record
    models = list(dict.fromkeys(model_id(record.cell) for record in everything))
    return {record.key: record for record in sorted(latest.values(), key=lambda record: _place(record, models))}


def refuse_fake(records: Iterable[Record]) -> None:
    """Raise FarmError when a record comes from the fake engine: its times are invented."""
    fakes = [record for record in records if record.is_fake]
    if fakes:
        raise FarmError(
            f"{len(fakes)} record(s) come from the fake engine, the first is {fakes[0].cell.label!r}; invented times "
            "are not published: report a run of a real engine, or write to a scratch folder with fakes allowed"
        )


def trial_rows(records: Iterable[Record]) -> list[TrialRow]:
    """One row a trial; a cell without trials has one row with empty figures."""
    final = final_records(records)
    lookup = Lookup.of(final.values())
    return [row for record in final.values() for row in _trials_of(record, lookup)]


def cell_rows(records: Iterable[Record]) -> list[CellRow]:
    """One row a cell, speed and quality cells alike."""
    final = final_records(records)
    lookup = Lookup.of(final.values())
    trust = {key: trust_figures(record) for key, record in final.items()}
    return [_cell_row(record, lookup, trust) for record in final.values()]


def _newness(record: Record) -> tuple[int, str, str]:
    return record.attempt, record.started_at, record.ended_at


def _place(record: Record, models: Sequence[str]) -> tuple[Any, ...]:
    load, task = record.cell.load, record.cell.task
    name, _, options = load.quantization.partition("?")
    precision = (list(catalog.PRECISIONS).index(name), options)
    head = (models.index(model_id(record.cell)), load.engine, load.device, precision, task.kind == "quality")
    if isinstance(task, SpeedTask):
        return (
            *head,
            task.batch_size,
            task.context_tokens,
            task.new_tokens,
            catalog.CACHE_MODES.index(task.cache_mode),
            record.key,
        )
    return *head, quality_rank(task), record.key


def model_id(cell: Cell) -> str:
    """`hf:ORG/NAME@REVISION`; a local model by name and fingerprint, never by the folder it happened to lie in."""
    model = cell.load.model
    return f"{model.source}:{model.name}" + (f"@{model.revision}" if model.revision else "")


def _identity(record: Record) -> dict[str, Any]:
    """Keyword arguments that every row begins with."""
    cell, task = record.cell, record.cell.task
    speed = task if isinstance(task, SpeedTask) else None
    return {
        "key": record.key[:SHORT_KEY],
        "kind": task.kind,
        "model": cell.load.model.short,
        "model_id": model_id(cell),
        "quantization": cell.load.quantization,
        "engine": cell.load.engine,
        "device": cell.load.device,
        "device_name": _device_name(record),
        "cache_mode": task.cache_mode,
        "context_tokens": speed.context_tokens if speed else None,
        "batch_size": speed.batch_size if speed else None,
        "new_tokens": speed.new_tokens if speed else None,
        "prompt_kinds": "+".join(speed.prompts.kinds) if speed else None,
        "prompt_languages": "+".join(speed.prompts.languages) if speed else None,
        "seed": speed.seed if speed else None,
        "protocol": task.protocol_id if isinstance(task, QualityTask) else None,
        "status": record.status,
        "reason": " ".join(record.failure.message.split()) if record.failure else None,
    }


def _trials_of(record: Record, lookup: Lookup) -> list[TrialRow]:
    task, speed = record.cell.task, record.speed
    if speed is None or not isinstance(task, SpeedTask) or not speed.trials:
        return [TrialRow(**_identity(record), quality=quality_figures(record, lookup))]
    verdict = trust_figures(record).verdict  # of the whole cell: judged once, told in every trial's row
    return [_trial_row(record, speed, task, trial, lookup, verdict) for trial in speed.trials]


def _trial_row(
    record: Record, speed: SpeedResult, task: SpeedTask, trial: Trial, lookup: Lookup, verdict: str | None
) -> TrialRow:
    return TrialRow(
        **_identity(record),
        trial=trial.index,
        verdict=verdict,
        output_tokens=trial.output_tokens,
        ttft_s=trial.ttft_s,
        prefill_s=trial.prefill_s,
        decode_s=trial.decode_s,
        decode_device_s=trial.decode_device_s,
        e2e_s=trial.e2e_s,
        tpot_s=formulas.tpot_s(trial),
        decode_tok_s=formulas.decode_tok_s(trial, task.batch_size),
        prefill_tok_s=formulas.prefill_tok_s(trial.prefill_s, task.batch_size, task.context_tokens),
        memory=memory_figures(record, speed.memory),
        quality=quality_figures(record, lookup),
    )


def _cell_row(record: Record, lookup: Lookup, trust: Mapping[str, TrustFigures]) -> CellRow:
    baseline = lookup.baseline_of(record.cell.load)
    is_baseline = baseline == record.cell.load
    base = None if is_baseline else lookup.with_load(record.cell, baseline)
    without_cache = lookup.without_cache(record.cell)
    return CellRow(
        **_identity(record),
        attempt=record.attempt,
        trust=trust[record.key],
        load_s=record.load_s,
        baseline_quantization=baseline.quantization if baseline else None,
        speedup_vs_baseline=_speedup(record, base),
        speedup_verdict=_speedup_verdict(record, base, trust),
        cache_speedup=_speedup(record, without_cache),
        cache_speedup_verdict=_speedup_verdict(record, without_cache, trust),
        **_speed_figures(record),
        quality=quality_figures(record, lookup),
        evidence=evidence_of(record),
        sanity=sanity_figures(record.sanity),
        roofline=roofline_figures(record),
        telemetry=telemetry_figures(record.speed.telemetry if record.speed else None),
        energy=energy_figures(record.speed.energy if record.speed else None),
    )


def _speed_figures(record: Record) -> dict[str, Any]:
    """Keyword arguments of a cell row that only a measured speed cell has."""
    speed, task = record.speed, record.cell.task
    if speed is None or not isinstance(task, SpeedTask):
        return {}
    trials = speed.trials
    return {
        "decode_tok_s": _summary(_decode_rates(speed, task)),
        "prefill_tok_s": _summary(
            [formulas.prefill_tok_s(trial.prefill_s, task.batch_size, task.context_tokens) for trial in trials]
        ),
        "ttft_s": _summary([trial.ttft_s for trial in trials]),
        "prefill_s": _summary([trial.prefill_s for trial in trials]),
        "tpot_s": _summary([formulas.tpot_s(trial) for trial in trials]),
        "e2e_s": _summary([trial.e2e_s for trial in trials]),
        "itl_p50_s": median(speed.itl_s) if speed.itl_s else None,
        "itl_p90_s": percentile(speed.itl_s, 90) if speed.itl_s else None,
        "itl_p99_s": p99(speed.itl_s),
        "memory": memory_figures(record, speed.memory),
    }


def _decode_rates(speed: SpeedResult, task: SpeedTask) -> list[float | None]:
    return [formulas.decode_tok_s(trial, task.batch_size) for trial in speed.trials]


def _summary(samples: Sequence[float | None]) -> Summary | None:
    present = [sample for sample in samples if sample is not None]
    return summarize(present) if present else None


def _speedup(record: Record, other: Record | None) -> float | None:
    """Ratio of the median decode rates; None across two kinds of device, where it would compare those."""
    if other is None or _device_name(record) != _device_name(other):
        return None
    return formulas.ratio(_decode_median(record), _decode_median(other))


def _speedup_verdict(record: Record, other: Record | None, trust: Mapping[str, TrustFigures]) -> str | None:
    if other is None or _speedup(record, other) is None:
        return None
    named = [trust[one.key].distrust.split("+") for one in (record, other)]
    reasons = dict.fromkeys(reason for reasons in named for reason in reasons if reason not in ("", VALID))
    return "+".join(reasons) or VALID


def _device_name(record: Record) -> str | None:
    return record.environment.device_name if record.environment else None


def _decode_median(record: Record) -> float | None:
    if record.speed is None or not isinstance(record.cell.task, SpeedTask):
        return None
    present = [rate for rate in _decode_rates(record.speed, record.cell.task) if rate is not None]
    return median(present) if present else None
