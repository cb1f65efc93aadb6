"""Predicted against measured memory: may the plan be trusted when it says that a cell will not fit?

The physics: weights and KV cache follow from the model's shape to the byte; activations, workspaces and the allocator's
rounding come on top. A prediction is a lower bound, so every point belongs on or above the diagonal.

    predicted_memory(cell_rows(records), records).show()
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from farm.cells import SpeedTask
from farm.plan import predicted_bytes
from farm.present import theme
from farm.present.answers import memory_bytes
from farm.present.figures.curve_legend import legend_entry
from farm.present.figures.panels import devices, in_catalog_order
from farm.records import Record, Status
from farm.reduce import SHORT_KEY
from farm.rows import CellRow

TITLE = "Predicted and measured memory"
GB = 1e9


@dataclass(frozen=True, slots=True)
class Prediction:
    """Bytes that a row was predicted to need at the very least, what it took, and what its device has.

    `measured` is None for a row that ran out of memory or was never started for want of it.
    """

    row: CellRow
    predicted: float
    measured: float | None
    device_bytes: int | None


def predicted_memory(rows: Sequence[CellRow], records: Sequence[Record] = ()) -> go.Figure:
    """One point a row on logarithmic axes; a cross on the device's own line where memory ran out."""
    found = predictions(rows, records)
    measured = [one for one in found if one.measured is not None]
    if not measured:
        return theme.blank(TITLE, "no measured cell whose model's shape is known")
    figure = go.Figure()
    _draw_diagonal(figure, found)
    for name in in_catalog_order(one.row.quantization for one in measured):
        _draw_points(figure, [one for one in measured if one.row.quantization == name])
    _draw_failures(figure, [one for one in found if one.measured is None and one.device_bytes is not None])
    for name in in_catalog_order(one.row.quantization for one in measured):
        legend_entry(figure, theme.title_of(name), "Precision", theme.color_of(name), "solid", theme.symbol_of(name))
    axis = theme.log_axis([size / GB for one in found for size in (one.predicted, one.measured) if size])
    figure.update_xaxes(title_text="Predicted: weights and KV cache (GB)", **axis)
    figure.update_yaxes(title_text=_y_title(measured), **axis)
    return theme.dress(figure, TITLE, _subtitle(found), height=620)


def predictions(rows: Iterable[CellRow], records: Iterable[Record]) -> tuple[Prediction, ...]:
    """Every speed row that was measured, or failed for want of memory, and whose model's shape is known."""
    known = list(records)
    by_key = {record.key[:SHORT_KEY]: record for record in known}
    device_bytes = {r.environment.device: r.environment.device_memory_bytes for r in known if r.environment}
    found = []
    for row in rows:
        record = by_key.get(row.key)
        is_speed = record is not None and isinstance(record.cell.task, SpeedTask)
        predicted = predicted_bytes(record.cell, record.architecture) if record and is_speed else None
        measured = memory_bytes(row)[0] if row.is_ok else None
        if predicted is not None and (measured is not None or row.status in (Status.OOM, Status.PREDICTED_OOM)):
            found.append(Prediction(row, predicted, measured, device_bytes.get(row.device)))
    return tuple(found)


def _draw_diagonal(figure: go.Figure, found: Sequence[Prediction]) -> None:
    sizes = [size / GB for one in found for size in (one.predicted, one.measured) if size]
    ends = [min(sizes) * 0.9, max(sizes) * 1.1]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            name="measured = predicted",
            line={"color": theme.INK, "dash": "dash", "width": 1.5},
            legendgroup="Line",
            legendgrouptitle_text="Line",
            hoverinfo="skip",
        )
    )


def _draw_points(figure: go.Figure, found: Sequence[Prediction]) -> None:
    name = found[0].row.quantization
    figure.add_trace(
        go.Scatter(
            x=[one.predicted / GB for one in found],
            y=[(one.measured or 0) / GB for one in found],
            mode="markers",
            name=theme.short_title_of(name),
            showlegend=False,
            marker={"symbol": theme.symbol_of(name), "size": 9, "color": theme.color_of(name)},
            customdata=[_words(one.row) for one in found],
            hovertemplate="%{customdata}<br>predicted %{x:.4~g} GB<br>measured %{y:.4~g} GB<extra></extra>",
        )
    )


def _draw_failures(figure: go.Figure, failed: Sequence[Prediction]) -> None:
    if not failed:
        return
    figure.add_trace(
        go.Scatter(
            x=[one.predicted / GB for one in failed],
            y=[(one.device_bytes or 0) / GB for one in failed],
            mode="text",
            name="failed",
            showlegend=False,
            text=[theme.cross(one.row.quantization, one.row.status.value) for one in failed],
            hovertext=[_words(one.row) for one in failed],
            hoverinfo="text",
        )
    )
    top = max(one.device_bytes or 0 for one in failed) / GB
    figure.add_hline(y=top, line={"color": theme.FAINT, "width": 1.5}, annotation_text="device memory")


def _words(row: CellRow) -> str:
    task = f"{row.context_tokens:,} tokens, batch {row.batch_size}, cache {row.cache_mode}"
    return f"<b>{row.model} {theme.short_title_of(row.quantization)}</b><br>{task}"


def _y_title(measured: Sequence[Prediction]) -> str:
    has_peak = any(memory_bytes(one.row)[1] == "peak_allocated" for one in measured)
    return "Measured: device peak (GB)" if has_peak else "Measured: weights and KV cache (GB)"


def _subtitle(found: Sequence[Prediction]) -> str:
    ratios = [one.measured / one.predicted for one in found if one.measured]
    spread = f"measured / predicted: {min(ratios):.2f} to {max(ratios):.2f}"
    return "; ".join([devices([one.row for one in found]), spread, "activations come on top of a prediction"])
