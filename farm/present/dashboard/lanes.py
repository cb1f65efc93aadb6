"""A try's two sides as two lanes: what each does now and what is known of it. Pure: a snapshot and its rows in.

first, second = lanes(sweep, snapshot, rows)
first.phase, first.speed    # 'showing', Figure(value=12.4, source='live')
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm.cells import Cell, SpeedTask
from farm.keys import load_key
from farm.present.answers import memory_bytes
from farm.present.dashboard.choices import Side, sides_of
from farm.present.dashboard.live import Stream
from farm.present.dashboard.log import CellRunning
from farm.present.dashboard.reading import Snapshot
from farm.present.dashboard.workers import latest_figures
from farm.reduce import SHORT_KEY
from farm.rows import CellRow
from farm.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and where it is from: `live` (the generation that is shown), `last` (a repetition), `record`."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One side. `phase`: waiting, starting, loading, checking, showing, measuring, done, failed, ended (no result)."""

    side: Side
    phase: str
    cell: Cell | None = None
    stream: Stream | None = None
    running: CellRunning | None = None
    row: CellRow | None = None
    perplexity: float | None = None

    @property
    def speed(self) -> Figure | None:
        """Decode tokens a second, the best known."""
        if self.row is not None:
            return Figure(self.row.decode_tok_s.median, "record") if self.row.decode_tok_s else None
        latest = self._latest
        if latest is not None:
            return Figure(latest[0], "last")
        live = self.stream.decode_tok_s if self.stream else None
        return None if live is None else Figure(live, "live")

    @property
    def ttft(self) -> Figure | None:
        """Seconds to the first token."""
        if self.row is not None:
            return Figure(self.row.ttft_s.median, "record") if self.row.ttft_s else None
        if self._latest is not None:
            return Figure(self._latest[1], "last")
        live = self.stream.ttft_s if self.stream else None
        return None if live is None else Figure(live, "live")

    @property
    def memory(self) -> tuple[Figure, str] | None:
        """Bytes, and whether they are the device's peak or weights and KV cache."""
        if self.row is not None:
            size, measure = memory_bytes(self.row)
            return None if size is None else (Figure(size, "record"), measure)
        if self.stream is None:
            return None
        if self.stream.peak_allocated_bytes is not None:
            return Figure(self.stream.peak_allocated_bytes, "live"), "peak_allocated"
        return Figure(self.stream.weights_bytes + (self.stream.kv_bytes or 0), "live"), "weights_and_kv"

    @property
    def _latest(self) -> tuple[float, float] | None:
        return latest_figures(self.running.latest, self.cell) if self.running else None


def lanes(sweep: Sweep, snapshot: Snapshot, rows: Sequence[CellRow]) -> tuple[Lane, ...]:
    """In the order of the form."""
    return tuple(_lane(side, snapshot, rows) for side in sides_of(sweep))


def _lane(side: Side, snapshot: Snapshot, rows: Sequence[CellRow]) -> Lane:
    key = next((key for key, cell in snapshot.cells.items() if _is_of(cell, side)), None)
    if key is None:
        return Lane(side, "starting" if snapshot.is_running else "ended")
    row = next((row for row in rows if row.key == key[:SHORT_KEY]), None)
    cell, stream, running = snapshot.cells[key], snapshot.now.stream_of(key), snapshot.now.running_of(key)
    phase = _phase(snapshot, key, cell, row, running, stream)
    return Lane(side, phase, cell, stream, running, row, _perplexity(side, rows))


def _is_of(cell: Cell, side: Side) -> bool:
    own = cell.load.quantization.partition("?")[0] == side.quantization.partition("?")[0]
    return own and isinstance(cell.task, SpeedTask) and cell.task.cache_mode == side.cache_mode


def _phase(
    snapshot: Snapshot, key: str, cell: Cell, row: CellRow | None, running: CellRunning | None, stream: Stream | None
) -> str:
    if row is not None:
        return "done" if row.is_ok else "failed"
    if not snapshot.is_running:
        return "ended"
    if running is not None and running.latest is not None:
        return "measuring"
    if stream is not None:
        task = cell.task
        is_through = isinstance(task, SpeedTask) and len(stream.gaps_s) >= task.new_tokens
        return "measuring" if is_through else "showing"
    job = snapshot.job_of(load_key(cell.load))
    return "waiting" if job is None or job.phase == "measuring" else job.phase


def _perplexity(side: Side, rows: Sequence[CellRow]) -> float | None:
    own = (row for row in rows if row.kind == "quality" and row.quantization == side.quantization)
    return next((row.quality.perplexity for row in own), None)
