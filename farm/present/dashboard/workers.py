"""Who is at work now, on which device, at which cell; and what waits.

workers(snapshot, "en")    # nothing at all when the run has ended
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from dash import html

from farm.cells import Cell, SpeedTask
from farm.formulas import decode_tok_s
from farm.keys import load_key
from farm.plan import LoadGroup
from farm.present.dashboard import parts
from farm.present.dashboard.live import Job
from farm.present.dashboard.parts import Part
from farm.present.dashboard.reading import Snapshot
from farm.present.theme import color_of
from farm.present.words import number, say
from farm.records import Trial


def workers(snapshot: Snapshot, language: str) -> Part:
    """One card a worker, then the groups without one."""
    if not snapshot.is_running:
        return []
    loads = {load_key(group.load): group for group in snapshot.open_groups}
    cards = [_worker(snapshot, job, loads.get(job.load), language) for job in snapshot.now.jobs]
    if not cards:
        cards = [html.P(say(language, "workers_preparing"), className="hint")]
    idle = _idle(snapshot, language) if snapshot.now.jobs else []
    body = html.Div([html.Div(cards, className="cards"), *idle, _queue(snapshot.waiting, language)])
    return parts.section("workers", say(language, "workers_title"), body)


def _idle(snapshot: Snapshot, language: str) -> list[Part]:
    """Places where a group could run and none does."""
    capacity = snapshot.now.driver.capacity if snapshot.now.driver else 0
    idle = capacity - len(snapshot.now.jobs)
    if idle <= 0:
        return []
    return [html.P(say(language, "worker_idle", idle=number(idle), capacity=number(capacity)), className="hint")]


def _worker(snapshot: Snapshot, job: Job, group: LoadGroup | None, language: str) -> Part:
    place = f"GPU {job.gpus}" if job.gpus else "CPU"
    where = f"{place} · {job.host}" if job.host else place
    name = [parts.chip(group.load.quantization), html.Span(group.load.model.short)] if group else [job.load]
    since = say(language, "worker_since", span=parts.span(_age(job), language))
    phase = html.P(
        [html.B(say(language, f"phase_{job.phase}")), html.Span(since, className="quiet")], className="phase"
    )
    color = color_of(group.load.quantization) if group else None
    doing = _doing(snapshot, job, color, language) if job.key else []
    children = [html.P(where, className="where"), html.H3(name), phase, *doing]
    return html.Div(children, className="card worker", style={"borderTopColor": color} if color else {})


def _age(job: Job) -> float:
    return (datetime.now(UTC) - job.started_at).total_seconds()


def _doing(snapshot: Snapshot, job: Job, color: str | None, language: str) -> list[Part]:
    cell = snapshot.cells.get(job.key or "")
    label = cell.label.partition(" | ")[2] if cell else (job.key or "")[:12]
    words = say(language, "worker_repetition", done=number(job.done), total=number(job.total))
    shown = [html.P(label, className="cell"), parts.meter(job.done, job.total, words, color), html.P(words)]
    latest = latest_figures(job.latest, cell)
    if latest is None:
        return shown
    speed, ttft_s = latest
    told = say(language, "worker_latest", speed=number(speed), ttft=parts.milliseconds(ttft_s))
    return [*shown, html.P(told, className="latest")]


def _queue(waiting: Sequence[LoadGroup], language: str) -> Part:
    title = html.H3(say(language, "queue_title"), className="quiet")
    if not waiting:
        return html.Div([title, html.P(say(language, "queue_none"), className="quiet")], className="queue")
    items = [
        html.Li(
            [
                parts.chip(group.load.quantization),
                html.Span(f"{group.load.model.short} {group.load.engine}"),
                html.Span(say(language, "queue_cells", cells=number(len(group.cells))), className="quiet"),
            ]
        )
        for group in waiting
    ]
    return html.Div([title, html.Ol(items)], className="queue")


def latest_figures(trial: Trial | None, cell: Cell | None) -> tuple[float, float] | None:
    """Tokens/s and seconds to the first token of a cell's last repetition, as far as there was one."""
    if trial is None or cell is None or not isinstance(cell.task, SpeedTask):
        return None
    speed = decode_tok_s(trial, cell.task.batch_size)
    return None if speed is None else (speed, trial.ttft_s)
