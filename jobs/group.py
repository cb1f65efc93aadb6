"""One load group, start to end, in this process: load once, measure its cells, report each point as it ends.

    for event in run_group(request): ...

Cells take turns (`interleave` of them at a time), so that a drift of clocks or temperature hits all alike. Every
failure becomes a typed record here; an exception that leaves this module is a bug. After an out-of-memory or a device
error the process measures nothing more: its allocator and its context can no longer be trusted.
"""

import gc
import os
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from farm.architectures import Architecture
from farm.cells import Cell, Load, QualityTask, SpeedTask
from farm.device_facts import DeviceLimits
from farm.errors import Unsupported
from farm.events import CellEnded, Ended, Event, GroupRequest, Loaded, Loading, Running
from farm.records import Environment, Failure, Memory, Record, Status
from farm.sanity import Sanity, in_one_sentence, problems
from farm.timestamps import now
from jobs.engines import open_engine
from jobs.engines.base import Engine
from jobs.environment import read_environment
from jobs.failures import classify, poisons
from jobs.measure import SpeedRun
from jobs.prompts import Prompt, make_prompts
from jobs.refusals import why_refused
from jobs.show import show
from jobs.turns import Progress, QualityRun
from jobs.watch import watch_for


def run_group(request: GroupRequest) -> Iterator[Event]:
    """Measure every cell of the request. Ends with Ended; `poisoned` when cells are left for a fresh process."""
    yield Loading(os.getpid(), platform.node(), os.environ.get("CUDA_VISIBLE_DEVICES") or None)
    desk = _Desk(request, now())
    yield from desk.refuse_what_cannot_run()
    if not desk.request.cells:
        yield Ended()
        return
    try:
        engine = desk.load()
        yield Loaded(desk.load_s or 0.0)
        found = desk.pass_gate(engine)
    except Exception as error:
        yield from desk.fail_all(error)
        yield Ended(poisons(error))
        return
    if found:
        yield from desk.refuse_all(in_one_sentence(found))
        yield Ended()
        return
    with _imports_out_of_garbage_collection():
        yield Ended((yield from _run_blocks(engine, desk)))


def _run_blocks(engine: Engine, desk: "_Desk") -> Generator[Event, None, bool]:
    for block in _blocks(desk.request):
        if (yield from _run_block(engine, block, desk)):
            return True
    return False


@contextmanager
def _imports_out_of_garbage_collection() -> Iterator[None]:
    """Collecting before each trial would walk the million objects of torch and transformers: 50 ms, every time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _device_limits(load: Load) -> DeviceLimits | None:
    """The roof of this device, now; measured before the model takes its memory. The fake engine has no device."""
    if load.engine == "fake":
        return None
    from jobs.device_limits import measure_limits  # imports torch

    return measure_limits(load.device)


@dataclass(slots=True)
class _Desk:
    """Writes the records of one group: what all of them share is kept here."""

    request: GroupRequest
    started_at: str
    load_s: float | None = None
    load_memory: Memory | None = None
    environment: Environment | None = None
    limits: DeviceLimits | None = None
    architecture: Architecture | None = None
    sanity: Sanity | None = None
    prompts: dict[tuple[object, ...], tuple[Prompt, ...]] = field(default_factory=dict)

    def load(self) -> Engine:
        """Raises what loading raises."""
        self.limits = _device_limits(self.request.load)
        began = time.perf_counter()
        engine = open_engine(self.request)
        self.load_s = time.perf_counter() - began
        self.load_memory = engine.meter.read()
        self.environment = read_environment(self.request.load.device)
        self.architecture = engine.architecture
        return engine

    def pass_gate(self, engine: Engine) -> tuple[str, ...]:
        """What is wrong with the loaded model; the fake engine has none."""
        if self.request.load.engine == "fake":
            return ()
        from jobs.gate import look_at  # imports torch

        self.sanity = look_at(engine, self.request.load)
        return problems(self.sanity, self.request.max_ppl_ratio)

    def record(self, key: str, cell: Cell, status: Status = Status.OK, **parts: Any) -> Record:
        started, self.started_at = self.started_at, now()
        return Record(
            key=key,
            attempt=self.request.attempt_of(key),
            status=status,
            cell=cell,
            started_at=started,
            ended_at=self.started_at,
            environment=self.environment,
            load_s=self.load_s,
            load_memory=self.load_memory,
            limits=self.limits,
            architecture=self.architecture,
            sanity=self.sanity,
            **parts,
        )

    def failed(self, key: str, cell: Cell, error: BaseException) -> CellEnded:
        status, failure = classify(error)
        return CellEnded(self.record(key, cell, status, failure=failure))

    def refuse_what_cannot_run(self) -> Iterator[Event]:
        """Before the model is loaded; the request keeps the rest."""
        request = self.request
        why = [why_refused(cell) for cell in request.cells]
        for key, cell, reason in zip(request.keys, request.cells, why, strict=True):
            if reason is not None:
                self.environment = self.environment or read_environment(request.load.device)
                yield self.failed(key, cell, Unsupported(reason))
        self.request = request.only([reason is None for reason in why])

    def fail_all(self, error: BaseException) -> Iterator[Event]:
        self.environment = read_environment(self.request.load.device)
        for key, cell in zip(self.request.keys, self.request.cells, strict=True):
            yield self.failed(key, cell, error)

    def refuse_all(self, reason: str) -> Iterator[Event]:
        for key, cell in zip(self.request.keys, self.request.cells, strict=True):
            yield CellEnded(self.record(key, cell, Status.INVALID, failure=Failure(reason)))

    def prompts_for(self, engine: Engine, task: SpeedTask) -> tuple[Prompt, ...]:
        shape = (task.context_tokens, task.prompts, task.seed)
        if shape not in self.prompts:
            self.prompts[shape] = make_prompts(
                engine.tokenizer,
                tokens=task.context_tokens,
                count=task.prompts.per_length,
                kinds=task.prompts.kinds,
                languages=task.prompts.languages,
                seed=task.seed,
            )
        return self.prompts[shape]


Block = Sequence[tuple[str, Cell]]


def _blocks(request: GroupRequest) -> Iterator[Block]:
    """Speed cells in blocks that take turns; a quality cell alone."""
    pairs = list(zip(request.keys, request.cells, strict=True))
    speed = [pair for pair in pairs if isinstance(pair[1].task, SpeedTask)]
    for start in range(0, len(speed), request.interleave):
        yield speed[start : start + request.interleave]
    yield from ([pair] for pair in pairs if isinstance(pair[1].task, QualityTask))


def _run_block(engine: Engine, block: Block, desk: _Desk) -> Generator[Event, None, bool]:
    """Give each cell of the block one repetition in turn until all have ended. Returns True when poisoned."""
    progress = Progress()
    waiting = {key: _Turn(key, cell) for key, cell in block}
    while waiting:
        for turn in list(waiting.values()):
            try:
                if progress.is_due(turn.key):
                    yield turn.running()
                yield from turn.show(engine, desk)
                turn.take(engine, desk)
                ended = CellEnded(desk.record(turn.key, turn.cell, **turn.parts())) if turn.is_complete else None
            except Exception as error:
                ended = desk.failed(turn.key, turn.cell, error)
                if poisons(error):
                    yield ended
                    return True
            if ended is not None:
                del waiting[turn.key]
                yield ended
    return False


@dataclass(slots=True)
class _Turn:
    """A cell that takes turns with its neighbours. Its run is made on its first turn, where a failure is caught."""

    key: str
    cell: Cell
    run: SpeedRun | QualityRun | None = None

    def show(self, engine: Engine, desk: _Desk) -> Iterator[Event]:
        """Before the cell's first repetition, when somebody wants to see it work."""
        if desk.request.show and self.run is None and isinstance(self.cell.task, SpeedTask):
            yield from show(engine, self.key, self.cell.task, desk.prompts_for(engine, self.cell.task)[0])

    def take(self, engine: Engine, desk: _Desk) -> None:
        if self.run is None:
            task = self.cell.task
            if isinstance(task, QualityTask):
                self.run = QualityRun(engine, task)
            else:
                prompts, watch = desk.prompts_for(engine, task), watch_for(self.cell.load)
                self.run = SpeedRun(engine, task, prompts, watch, desk.request.more_runs_s)
        self.run.repeat()

    @property
    def is_complete(self) -> bool:
        return self.run is not None and self.run.is_complete

    def running(self) -> Running:
        if self.run is None:
            task = self.cell.task
            return Running(self.key, 0, task.warmups + task.runs if isinstance(task, SpeedTask) else 1)
        latest = self.run.trials[-1] if isinstance(self.run, SpeedRun) and self.run.trials else None
        return Running(self.key, self.run.done, self.run.total, latest)

    def parts(self) -> dict[str, Any]:
        assert self.run is not None
        return {self.cell.task.kind: self.run.result()}
