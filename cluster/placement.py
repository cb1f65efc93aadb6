"""Which node has room for a load group: bookkeeping over what nodes have and what the running groups took.

Why our own and not Ray's queue alone: a group that waits in Ray's queue looks like one that hangs, an impossible one
waits for ever, and Ray packs where we spread: two groups on one host's memory bus measure each other.

    ledger = Ledger(nodes)
    place = ledger.place_for(load)          # Place(node, demand), or None: no room now
    ledger.take(job, place); ledger.free(job)

Pure: no Ray here. On GPUs a group gets its GPUs and an equal part of its node's CPUs; on CPUs it has a node for itself.
"""

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from farm.cells import Load
from farm.errors import ClusterError
from farm.plan import host_bytes

DOUBT_S = 30.0  # a lost node counts as alive until its heartbeats have been missing for about that long


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster has. `gpu_type` as Ray labels it: `H100`."""

    address: str
    cpus: int
    gpus: int
    id: str = ""
    memory_bytes: int = 0
    gpu_type: str | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What one group takes of its node; no GPU means the whole node."""

    gpus: int
    cpus: int
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and what the group takes of it."""

    node: Node
    demand: Demand


def able_nodes(nodes: Iterable[Node], load: Load) -> list[Node]:
    """Those that could run the load if nothing else ran."""
    if load.device == "cpu":
        return list(nodes)
    return [node for node in nodes if node.gpus >= load.gpus and load.gpu_type in (None, node.gpu_type)]


def demand_of(load: Load, able: Sequence[Node]) -> Demand:
    """Equal on every able node, so that rows from different nodes had the same number of threads."""
    if load.device == "cpu":
        return Demand(0, min(node.cpus for node in able))
    cpus = min(max(1, node.cpus * load.gpus // node.gpus) for node in able)
    return Demand(load.gpus, cpus, min(host_bytes(load), *(node.memory_bytes for node in able)))


def check_demands(nodes: Sequence[Node], loads: Iterable[Load]) -> None:
    """Raises ClusterError for the first load that no node could ever serve: Ray would wait for ever."""
    for load in loads:
        if not able_nodes(nodes, load):
            raise ClusterError(_refusal(nodes, load))


def _refusal(nodes: Sequence[Node], load: Load) -> str:
    kind = f" of type {load.gpu_type}" if load.gpu_type else ""
    there = ", ".join(f"{node.gpus} x {node.gpu_type or 'untyped GPU'}" for node in nodes if node.gpus) or "no GPU"
    return (
        f"{load.model.short} {load.quantization} needs {load.gpus} GPU(s){kind} on one node, but the cluster has "
        f"{there}; change gpus_per_group, gpus_per_model or gpu_type, run with device: cpu, add a node, or wait for "
        "one with --wait-for-gpus SECONDS"
    )


class Ledger:
    """Who has what. `clock` is for the time in which a node is not trusted."""

    def __init__(self, nodes: Sequence[Node], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._nodes = {node.id: node for node in nodes}
        self._taken: dict[Hashable, Place] = {}
        self._doubted: dict[str, float] = {}
        self._missed_since_s: dict[Load, float] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    def update(self, nodes: Sequence[Node]) -> None:
        """Nodes come and go; what ran on one that is gone is freed by its death."""
        self._nodes = {node.id: node for node in nodes}

    def doubt(self, job: Hashable) -> None:
        """The job's node may be gone: while another one will do, place nothing there until the cluster has noticed."""
        if job in self._taken:
            self._doubted[self._taken[job].node.id] = self.clock() + DOUBT_S

    def missed_s(self, load: Load) -> float:
        """For how long no node that could run it has been there: 0 when there is one, or when it is asked first."""
        if able_nodes(self.nodes, load):
            self._missed_since_s.pop(load, None)
            return 0.0
        return self.clock() - self._missed_since_s.setdefault(load, self.clock())

    def place_for(self, load: Load) -> Place | None:
        """The able node with the most GPUs free, so that neighbours are as few as can be; None when all are full."""
        able = able_nodes(self.nodes, load)
        if not able:
            return None
        demand = demand_of(load, able)
        trusted = [node for node in able if self._doubted.get(node.id, 0.0) <= self.clock()] or able
        roomy = [node for node in trusted if self._has_room(node, demand)]
        return Place(max(roomy, key=self._free_gpus), demand) if roomy else None

    def take(self, job: Hashable, place: Place) -> None:
        self._taken[job] = place

    def free(self, job: Hashable) -> None:
        self._taken.pop(job, None)

    def _has_room(self, node: Node, demand: Demand) -> bool:
        there = self._on(node)
        if not demand.gpus:
            return not there
        memory = node.memory_bytes - sum(taken.memory_bytes for taken in there)
        return self._free_gpus(node) >= demand.gpus and memory >= demand.memory_bytes

    def _free_gpus(self, node: Node) -> int:
        return node.gpus - sum(taken.gpus for taken in self._on(node))

    def _on(self, node: Node) -> list[Demand]:
        return [place.demand for place in self._taken.values() if place.node.id == node.id]
