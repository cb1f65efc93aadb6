"""A pool of Ray actors: one actor a load group, each in a fresh process that sees only its own GPUs.

    pool = RayPool(connect(), device="auto")

Without an address a local Ray is started and stopped again; with one, the running cluster is used and left running.
Nodes may join and leave meanwhile: `cluster.placement` keeps the books of who has what.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.placement import DOUBT_S, Ledger, Node, able_nodes, check_demands, demand_of
from cluster.pool import JobId
from cluster.ray_cluster import LOOK_AGAIN_S, first_line, nodes, order_gpus, wait_for_nodes
from cluster.worker import Worker, has_file, prepare
from farm.cells import Load
from farm.events import Died, Ended, Event, GroupRequest, Loading, Prepared
from farm.quantization import parse_quantization
from farm.records import Status
from farm.sweep import RuntimeEnv
from jobs.devices import device_memory_bytes
from jobs.legacy import with_own_interpreter

GRACE_S = 5.0
SETTLE_S = 15.0
NODE_GONE = "the worker's node is gone"


class RayPool:
    """See the module's docstring. The caller has connected already."""

    def __init__(self, started_here: bool, device: str = "auto", wait_s: float = 0.0) -> None:
        """`wait_s`: how long `check` waits for nodes that are still to come."""
        self._ledger = Ledger(nodes())
        has_gpus = wait_s > 0 or any(node.gpus for node in self._ledger.nodes)
        self.device = device if device != "auto" else ("cuda" if has_gpus else "cpu")
        # Only a local device can be asked; on other machines nothing is predicted, the cells simply run.
        self.device_memory_bytes = device_memory_bytes(self.device) if started_here else None
        self._started_here, self._wait_s = started_here, wait_s
        self._looked_at_s = time.monotonic()
        self._actors: dict[JobId, Any] = {}
        self._streams: dict[Any, JobId] = {}
        self._pids: dict[JobId, int] = {}
        self._count = 0

    @property
    def capacity(self) -> int:
        there = self._ledger.nodes
        return len(there) if self.device == "cpu" else sum(node.gpus for node in there)

    def check(self, loads: Iterable[Load]) -> None:
        loads = tuple(loads)
        if self._wait_s > 0:
            order_gpus(loads)
            wait_for_nodes(loads, self._wait_s)
            self._look_again(age_s=0.0)
        check_demands(self._ledger.nodes, loads)

    def prepare(self, loads: Sequence[Load]) -> Iterator[Prepared]:
        """Tasks on every node that can run a group, side by side where a node has room for it."""
        check_demands(self._ledger.nodes, loads)
        waiting: dict[Any, tuple[Load, Node]] = {}
        for load in loads:
            able = able_nodes(self._ledger.nodes, load)
            share = _share_of_preparing(load, able)
            for node in able:
                place = NodeAffinitySchedulingStrategy(node.id, soft=False)
                waiting[prepare.options(scheduling_strategy=place, **share).remote(load)] = (load, node)  # type: ignore[attr-defined]
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            load, node = waiting.pop(done)
            try:
                yield ray.get(done)
            except RayError as error:
                yield Prepared(load, node.address, 0.0, f"the process that made it died: {first_line(error)}")

    def has_room(self, load: Load) -> bool:
        """Raises ClusterError when the last node that could run it left and none came within the time to wait."""
        self._look_again(LOOK_AGAIN_S)
        if self._ledger.missed_s(load) >= max(self._wait_s, DOUBT_S):
            check_demands(self._ledger.nodes, [load])
        return self._ledger.place_for(load) is not None

    def _look_again(self, age_s: float) -> None:
        if time.monotonic() - self._looked_at_s >= age_s:
            self._ledger.update(nodes())
            self._looked_at_s = time.monotonic()

    def start(self, request: GroupRequest, env: RuntimeEnv | None) -> JobId:
        place = self._ledger.place_for(request.load)
        if place is None:
            raise RuntimeError("no room: ask has_room first")
        self._count += 1
        job = JobId(self._count)
        self._ledger.take(job, place)
        demand, env = place.demand, self._with_own_interpreter(env, request.load, place.node.id)
        options = {"num_gpus": demand.gpus, "num_cpus": demand.cpus, "memory": demand.memory_bytes or None}
        where = NodeAffinitySchedulingStrategy(place.node.id, soft=False)
        actor = Worker.options(  # type: ignore[attr-defined]
            runtime_env=_runtime_env(env, demand.cpus), scheduling_strategy=where, **options
        ).remote()
        self._actors[job] = actor
        # One event at a time: the worker goes on when the driver has taken it, so a death finds the cell it belongs to.
        stream = actor.run.options(num_returns="streaming", _generator_backpressure_num_objects=1).remote(request)
        self._streams[stream] = job
        return job

    def _with_own_interpreter(self, env: RuntimeEnv | None, load: Load, node: str) -> RuntimeEnv | None:
        """A legacy backend's, where the node has it too: Ray would wait without end for a worker that cannot start.
        The ordinary worker that takes its place says what is missing."""
        completed = with_own_interpreter(env, load.quantization)
        if completed is env or completed is None or self._started_here:
            return completed
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        asked = has_file.options(scheduling_strategy=where).remote(completed.py_executable or "")
        return completed if ray.get(asked) else env

    def events(self, timeout_s: float, held: Set[JobId] = frozenset()) -> Iterator[tuple[JobId, Event]]:
        streams = [stream for stream, job in self._streams.items() if job not in held]
        if not streams:  # everything waits for a node
            time.sleep(timeout_s)
            return
        ready, _ = ray.wait(streams, num_returns=1, timeout=timeout_s, fetch_local=True)
        more, _ = ray.wait(streams, num_returns=len(streams), timeout=0) if ready else ([], [])
        for stream in more:
            job = self._streams[stream]
            event = self._next_event(stream, job)
            if isinstance(event, Ended | Died):
                del self._streams[stream]
            yield job, event

    def _next_event(self, stream: Any, job: JobId) -> Event:
        """The next event of a stream that is ready; a dead worker's last event is Died."""
        try:
            event: Event = ray.get(next(stream), timeout=GRACE_S)
        except StopIteration:
            return Died(Status.CRASH, "the worker's stream ended before its group did")
        except (RayError, GetTimeoutError) as error:
            found = died(error, last_words(self._pids.get(job)))
            if found.node_lost:
                self._ledger.doubt(job)
                self._look_again(age_s=0.0)
            return found
        if isinstance(event, Loading):
            self._pids[job] = event.pid
        return event

    def kill(self, job: JobId) -> None:
        self._streams = {stream: owner for stream, owner in self._streams.items() if owner != job}
        self._ledger.free(job)
        actor = self._actors.pop(job, None)
        if actor is not None:
            with suppress(RayError, ValueError):
                ray.kill(actor, no_restart=True)

    def settle(self) -> None:
        """Ray frees a GPU a moment after its worker was killed; a worker that starts meanwhile is given another."""
        until, gpus = time.monotonic() + SETTLE_S, sum(node.gpus for node in self._ledger.nodes)
        while not self._actors and ray.available_resources().get("GPU", 0.0) < gpus and time.monotonic() < until:
            time.sleep(0.1)

    def close(self) -> None:
        for job in list(self._actors):
            self.kill(job)
        if self._wait_s > 0:
            order_gpus(())  # a standing order would keep nodes that cost money
        if self._started_here:
            ray.shutdown()

    def describe(self) -> str:
        where = "a local Ray" if self._started_here else "a running Ray cluster"
        there = self._ledger.nodes
        gpus = ", ".join(f"{node.gpus} x {node.gpu_type or 'GPU'}" for node in there if node.gpus) or "no GPU"
        return f"{where}, {len(there)} node(s) with {gpus}: {self.capacity} group(s) at once on {self.device}"


def _share_of_preparing(load: Load, able: Sequence[Node]) -> dict[str, Any]:
    """Quantizing takes what a group would take, a download next to nothing."""
    quantizes = parse_quantization(load.quantization).checkpoint is not None
    cpus = demand_of(load, able).cpus if quantizes else 1
    gpus = int(quantizes and load.device == "cuda")
    return {"num_gpus": gpus, "num_cpus": cpus, "runtime_env": _runtime_env(None, cpus)}


def died(error: BaseException, words: str | None) -> Died:
    """Why a worker is gone, as far as Ray and the worker's own log tell.

    Ray kills a worker when the *host's* memory runs out and says so; that is worth another try with fewer at once.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return Died(Status.HOST_OOM, "the host ran out of memory and Ray ended the worker")
    if isinstance(error, ActorUnschedulableError):
        return Died(Status.CRASH, NODE_GONE, node_lost=True)
    if not isinstance(error, RayActorError):  # an event that could not be pickled, a lost object
        return Died(Status.CRASH, f"{type(error).__name__}: {text[:300]}")
    if isinstance(error, ActorUnavailableError):
        why = words or "its process or its node is gone"
        return Died(Status.CRASH, f"the connection to the worker broke: {why}", node_lost=words is None)
    if "node" in text and "died" in text and "worker process has died" not in text:
        return Died(Status.CRASH, NODE_GONE, node_lost=True)
    return Died(Status.CRASH, f"the worker process died: {words or 'no last words: killed, or left by os._exit'}")


def last_words(pid: int | None) -> str | None:
    """What faulthandler wrote when a worker of this machine crashed: `Segmentation fault in decode_step (eager.py)`."""
    session = ray._private.worker._global_node
    if pid is None or session is None:
        return None
    for log in Path(session.get_session_dir_path(), "logs").glob(f"worker-*-{pid}.err"):
        text = log.read_text(errors="replace")
        crash = re.search(r"Fatal Python error: (.+)", text)
        frame = re.search(r'Current thread.*\n\s+File "([^"]+)", line (\d+) in (\S+)', text)
        if crash:
            return crash[1] + (f" in {frame[3]} ({Path(frame[1]).name}:{frame[2]})" if frame else "")
    return None


def _runtime_env(env: RuntimeEnv | None, threads: int) -> dict[str, Any]:
    """Environment variables of its own give the actor a process of its own: never one that Ray started ahead.

    The thread count is said outright because Ray would set OMP_NUM_THREADS by its own rule.
    """
    variables = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    options: dict[str, Any] = {"env_vars": variables | (env.env_vars if env else {})}
    if env and env.py_executable:
        options["py_executable"] = env.py_executable
    return options
