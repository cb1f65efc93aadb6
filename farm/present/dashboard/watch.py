"""The page that watches a sweep: how far it is, who works at what, every cell, what failed, the figures so far.

parts = watch_parts(snapshot, rows, "en")    # by the id of the container that each one fills
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from dash import dcc, html

from farm.keys import load_key
from farm.present.dashboard import parts
from farm.present.dashboard.eta import remaining_s
from farm.present.dashboard.grid import STATES, Box, Grid, grids
from farm.present.dashboard.parts import Part
from farm.present.dashboard.reading import Snapshot
from farm.present.dashboard.workers import workers
from farm.present.figures import FOLDERS
from farm.present.report_html_parts import failures
from farm.present.theme import color_of, tint
from farm.present.words import number, say
from farm.records import Status
from farm.rows import CellRow

FIGURES = tuple(name for name in FOLDERS if name != "summary_table")  # the grid is the table here
STATUS_STATES = {Status.OK: "ok", Status.OOM: "finding", Status.UNSUPPORTED: "finding", Status.PREDICTED_OOM: "finding"}
CONTAINERS = ("watch-head", "watch-workers", "watch-grid", "watch-failures")


def watch_page(language: str) -> Part:
    """The page's frame; its containers are filled at every tick."""
    return html.Div(
        [
            html.Div(id="watch-head"),
            html.Div(id="watch-workers"),
            html.Div(id="watch-grid"),
            parts.section("figures", say(language, "figures_title"), _figure_frame(language)),
            html.Div(id="watch-failures"),
        ],
        className="page watch",
    )


def _figure_frame(language: str) -> Part:
    options = [{"label": say(language, f"figure_{name}"), "value": name} for name in FIGURES]
    choice = dcc.RadioItems(options, "tokens_s_vs_length", id="figure-choice", className="pills", inline=True)
    legend = html.Legend(say(language, "figures_choice"), className="quiet")
    return html.Div([html.Fieldset([legend, choice]), html.Div(id="figure", className="figure")])


def watch_parts(snapshot: Snapshot, rows: Sequence[CellRow], language: str) -> dict[str, Part]:
    """What each container holds now."""
    filled = (_head(snapshot, language), workers(snapshot, language), _cells(snapshot, rows, language))
    return dict(zip(CONTAINERS, (*filled, _failures(rows, language)), strict=True))


def state_of(snapshot: Snapshot) -> str:
    """One word for the whole run."""
    if snapshot.is_running:
        return "running" if snapshot.now.driver else "starting"
    if not snapshot.keys:
        return "empty"
    return "stopped" if snapshot.open_keys else "done"


def _head(snapshot: Snapshot, language: str) -> Part:
    state, name = state_of(snapshot), snapshot.manifest.sweep.name if snapshot.manifest else snapshot.path.name
    done, cells = len(snapshot.records), len(snapshot.keys)
    title = html.H1([name, html.Span(say(language, f"state_{state}"), className=f"state {state}", role="status")])
    hints = [html.P(snapshot.problem, className="hint bad")] if snapshot.problem else []
    if state == "stopped":
        words = say(language, "state_hint_stopped", open=number(cells - done), path=snapshot.path)
        hints.append(html.P(words, className="hint"))
    count = (
        say(language, "fact_cells"),
        html.B(say(language, "progress_cells", done=number(done), cells=number(cells))),
    )
    return [title, _bar(snapshot, language), parts.facts([count, *_facts(snapshot, state, language)]), *hints]


def _bar(snapshot: Snapshot, language: str) -> Part:
    """One bar of all cells, a piece a state."""
    counts: dict[str, int] = {}
    for status, count in snapshot.counts.items():
        state = STATUS_STATES.get(Status(status), "failed")
        counts[state] = counts.get(state, 0) + count
    total = max(1, len(snapshot.keys))
    pieces = [
        html.Div(className=f"piece {state}", style={"width": f"{100 * counts[state] / total:.2f}%"}, title=state)
        for state in STATES
        if counts.get(state)
    ]
    spoken = parts.aria(
        label=say(language, "progress_label"), valuenow=len(snapshot.records), valuemin=0, valuemax=total
    )
    return html.Div(pieces, className="bar", role="progressbar", **spoken)


def _facts(snapshot: Snapshot, state: str, language: str) -> list[tuple[str, Part]]:
    driver = snapshot.now.driver
    open_cells, groups = len(snapshot.open_keys), len(snapshot.open_groups)
    left = say(language, "fact_open_value", cells=number(open_cells), groups=number(groups)) if open_cells else "–"
    found = [(say(language, "fact_eta"), _eta(snapshot, language))] if state == "running" else []
    if driver is not None:
        until = driver.ended_at or (snapshot.now.heard_at if state == "stopped" else None) or datetime.now(UTC)
        elapsed = parts.span((until - driver.started_at).total_seconds(), language)
        found.insert(0, (say(language, "fact_elapsed"), elapsed))
    found.append((say(language, "fact_open"), left))
    return [*found, (say(language, "fact_where"), driver.pool)] if driver else found


def _eta(snapshot: Snapshot, language: str) -> str:
    loaded = {
        group.load
        for group in snapshot.open_groups
        for job in [snapshot.job_of(load_key(group.load))]
        if job is not None and job.phase in ("checking", "measuring")
    }
    capacity = snapshot.now.driver.capacity if snapshot.now.driver else 1
    left = remaining_s(snapshot.open_groups, loaded, snapshot.records.values(), capacity)
    if left is None:
        return say(language, "fact_eta_unknown")
    return say(language, "about", span=parts.span(left, language))


def _cells(snapshot: Snapshot, rows: Sequence[CellRow], language: str) -> Part:
    running = {job.key for job in snapshot.now.jobs if job.key} if snapshot.is_running else set()
    found = grids(snapshot.cells, snapshot.keys, rows, running)
    keys = [html.Li(say(language, f"key_{state}"), className=f"box {state}") for state in STATES]
    legend = html.Ul(keys, className="legend", **parts.aria(hidden="true"))
    hint = html.P(say(language, "grid_hint"), className="hint")
    return parts.section(
        "grid", say(language, "grid_title"), html.Div([hint, legend, *(_grid(one, language) for one in found)])
    )


def _grid(grid: Grid, language: str) -> Part:
    columns = [say(language, "grid_precision"), say(language, "grid_cache"), *map(number, grid.contexts)]
    columns += [say(language, "grid_ppl")] if grid.has_quality else []
    head = html.Thead(html.Tr([html.Th(column, scope="col") for column in columns]))
    title = say(
        language,
        "grid_subject",
        model=grid.model,
        engine=grid.engine,
        batch=number(grid.batch_size),
        new_tokens=number(grid.new_tokens),
    )
    lines = [
        html.Tr(
            [
                html.Th(parts.chip(line.quantization), scope="row"),
                html.Td(line.cache_mode, className="mode"),
                *(_box(box, line.quantization, language) for box in line.boxes),
            ]
        )
        for line in grid.lines
    ]
    table = html.Table([html.Caption(title), head, html.Tbody(lines)], className="grid")
    return html.Div(table, className="frame", tabIndex="0", role="region", **parts.aria(label=title))


def _box(box: Box | None, quantization: str, language: str) -> Part:
    if box is None:
        return html.Td(className="box none")
    words = box.text or html.Span(say(language, f"box_{box.state}"), className="unseen")
    style = {"background": tint(color_of(quantization), 0.25)} if box.state == "running" else {}
    return html.Td(words, className=f"box {box.state}", title=box.title or None, style=style)


def _failures(rows: Sequence[CellRow], language: str) -> Part:
    found = failures(rows)
    if not found:
        return parts.section("failures", say(language, "failed_title"), html.P(say(language, "failed_none")))
    columns = (say(language, "cell"), say(language, "filter_status"), say(language, "reason"))
    lines = [html.Tr([html.Td(one.label), html.Td(one.status, className="bad"), html.Td(one.reason)]) for one in found]
    head = html.Thead(html.Tr([html.Th(column, scope="col") for column in columns]))
    table = html.Table([head, html.Tbody(lines)], className="failures")
    frame = html.Div(table, className="frame", tabIndex="0", role="region", **parts.aria(label=columns[0]))
    return parts.section("failures", say(language, "failed_title"), frame)
