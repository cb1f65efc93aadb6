"""A pool of Ray actors: one actor a load group, each in a fresh process that sees only its own GPUs.

    pool = RayPool(connect(address=None), device="auto", gpus_per_group=1)

Without an address a local Ray is started and stopped again; with one, the running cluster is used and left running.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.pool import JobId
from cluster.worker import Worker, prepare
from farm.cells import Load
from farm.errors import ClusterError
from farm.events import Died, Ended, Event, GroupRequest, Loading, Prepared
from farm.records import Status
from farm.sweep import RuntimeEnv
from jobs.devices import device_memory_bytes

GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster has."""

    address: str
    cpus: int
    gpus: int
    id: str = ""


def connect(address: str | None = None, num_gpus: int | None = None, num_cpus: int | None = None) -> bool:
    """Join the cluster at `address` (or start a local one). True when it was started here. Raises ClusterError."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        local = {"num_gpus": num_gpus, "num_cpus": num_cpus}
        options |= {"address": "local", "include_dashboard": False, **local}
    else:
        options |= {"address": address}
    try:
        ray.init(**options)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address!r}" if address else "a local Ray"
        raise ClusterError(f"{where} cannot be reached: {_first_line(error)}; check it with `ray status`") from error
    _keep_deaths_off_the_screen()
    return address is None


def nodes() -> tuple[Node, ...]:
    """The machines that are alive now."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return tuple(
        Node(
            node["NodeManagerAddress"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
            node["NodeID"],
        )
        for node in alive
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What one group asks of its node, and how many groups the cluster can run at once."""

    gpus: int
    cpus: int
    capacity: int


def share_out(cluster: Sequence[Node], device: str, gpus_per_group: int) -> Share:
    """On GPUs: each group its GPUs and an equal part of the node's CPUs. On CPUs: one group a node, with all of it.

    Two groups on one node's CPU would measure each other. Raises ClusterError when no node can serve a group.
    """
    if device == "cpu":
        return Share(0, min(node.cpus for node in cluster), len(cluster))
    able = [node for node in cluster if node.gpus >= gpus_per_group]
    if not able:
        most = max(node.gpus for node in cluster)
        raise ClusterError(
            f"a group needs {gpus_per_group} GPU(s) on one node, but the best node has {most}; "
            "lower gpus_per_group, run with device: cpu, or add a node"
        )
    capacity = sum(node.gpus // gpus_per_group for node in able)
    cpus = min(max(1, node.cpus * gpus_per_group // node.gpus) for node in able)
    return Share(gpus_per_group, cpus, capacity)


class RayPool:
    """See the module's docstring. The caller has connected already."""

    def __init__(self, started_here: bool, device: str = "auto", gpus_per_group: int = 1) -> None:
        cluster = nodes()
        self.device = device if device != "auto" else ("cuda" if any(node.gpus for node in cluster) else "cpu")
        # Only a local device can be asked; on other machines nothing is predicted, the cells simply run.
        self.device_memory_bytes = device_memory_bytes(self.device) if started_here else None
        self.share = share_out(cluster, self.device, gpus_per_group)
        self.capacity = self.share.capacity
        self._started_here = started_here
        self._cluster = cluster
        self._actors: dict[JobId, Any] = {}
        self._streams: dict[Any, JobId] = {}
        self._pids: dict[JobId, int] = {}
        self._count = 0

    def prepare(self, loads: Sequence[Load]) -> Iterator[Prepared]:
        """Tasks on every node that can run a group, side by side where a node has room for it."""
        share = {"num_gpus": min(self.share.gpus, 1), "num_cpus": self.share.cpus}
        waiting: dict[Any, tuple[Load, Node]] = {}
        for node in self._cluster:
            if node.gpus >= self.share.gpus:
                place = NodeAffinitySchedulingStrategy(node.id, soft=False)
                where = {"scheduling_strategy": place, "runtime_env": _runtime_env(None, self.share.cpus)}
                waiting |= {prepare.options(**share, **where).remote(load): (load, node) for load in loads}  # type: ignore[attr-defined]
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            load, node = waiting.pop(done)
            try:
                yield ray.get(done)
            except RayError as error:
                yield Prepared(load, node.address, 0.0, f"the process that made it died: {_first_line(error)}")

    def start(self, request: GroupRequest, env: RuntimeEnv | None) -> JobId:
        self._count += 1
        job = JobId(self._count)
        options = {"num_gpus": self.share.gpus, "num_cpus": self.share.cpus}
        actor = Worker.options(runtime_env=_runtime_env(env, self.share.cpus), **options).remote()  # type: ignore[attr-defined]
        self._actors[job] = actor
        # One event at a time: the worker goes on when the driver has taken it, so a death finds the cell it belongs to.
        stream = actor.run.options(num_returns="streaming", _generator_backpressure_num_objects=1).remote(request)
        self._streams[stream] = job
        return job

    def events(self, timeout_s: float) -> Iterator[tuple[JobId, Event]]:
        if not self._streams:
            return
        ready, _ = ray.wait(list(self._streams), num_returns=1, timeout=timeout_s, fetch_local=True)
        more, _ = ray.wait(list(self._streams), num_returns=len(self._streams), timeout=0) if ready else ([], [])
        for stream in more:
            job = self._streams[stream]
            event = self._next_event(stream, job)
            if isinstance(event, Ended | Died):
                del self._streams[stream]
            yield job, event

    def has_news(self, timeout_s: float) -> bool:
        """Is there an event to take? The worker that sent it does nothing until it is taken."""
        return bool(ray.wait(list(self._streams), num_returns=1, timeout=timeout_s, fetch_local=True)[0])

    def _next_event(self, stream: Any, job: JobId) -> Event:
        """The next event of a stream that is ready; a dead worker's last event is Died."""
        try:
            event: Event = ray.get(next(stream), timeout=GRACE_S)
        except StopIteration:
            return Died(Status.CRASH, "the worker's stream ended before its group did")
        except (RayError, GetTimeoutError) as error:
            return died(error, last_words(self._pids.get(job)))
        if isinstance(event, Loading):
            self._pids[job] = event.pid
        return event

    def kill(self, job: JobId) -> None:
        self._streams = {stream: owner for stream, owner in self._streams.items() if owner != job}
        actor = self._actors.pop(job, None)
        if actor is not None:
            with suppress(RayError, ValueError):
                ray.kill(actor, no_restart=True)

    def close(self) -> None:
        for job in list(self._actors):
            self.kill(job)
        if self._started_here:
            ray.shutdown()

    def describe(self) -> str:
        where = "a local Ray" if self._started_here else "a running Ray cluster"
        each = f"{self.share.gpus} GPU(s) and {self.share.cpus} CPU(s) a group"
        return f"{where}, {len(self._cluster)} node(s), {self.capacity} group(s) at once on {self.device}, {each}"


def died(error: BaseException, words: str | None) -> Died:
    """Why a worker is gone, as far as Ray and the worker's own log tell.

    Ray kills a worker when the *host's* memory runs out and says so; that is worth another try with fewer at once.
    """
    text = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return Died(Status.HOST_OOM, "the host ran out of memory and Ray ended the worker")
    if not isinstance(error, RayActorError):  # an event that could not be pickled, a lost object
        return Died(Status.CRASH, f"{type(error).__name__}: {text[:300]}")
    if "node" in text and "died" in text and "worker process has died" not in text:
        return Died(Status.CRASH, "the worker's node is gone")
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


def _keep_deaths_off_the_screen() -> None:
    """Ray prints a paragraph for every worker that dies, whatever its log settings; our records say it better."""
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _runtime_env(env: RuntimeEnv | None, threads: int) -> dict[str, Any]:
    """Environment variables of its own give the actor a process of its own: never one that Ray started ahead.

    The thread count is said outright because Ray would set OMP_NUM_THREADS by its own rule.
    """
    variables = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    options: dict[str, Any] = {"env_vars": variables | (env.env_vars if env else {})}
    if env and env.py_executable:
        options["py_executable"] = env.py_executable
    return options
