"""A cluster of several nodes on this machine, with fake GPUs: for the soak, and for tests of scheduling."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.ray_cluster import GPU_TYPE, connect, ray  # by way of the package that says how Ray authenticates

FAST_HEARTBEATS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 2,
}


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A head without GPUs and two nodes with two fake GPUs each; this process is connected to it."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "_system_config": FAST_HEARTBEATS}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        add_node(cluster)
    connect(cluster.address)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add_node(cluster: Any, kind: str = "H100", gpus: int = 2) -> Any:
    return cluster.add_node(num_cpus=2, num_gpus=gpus, labels={GPU_TYPE: kind})


def gpu_node_ids() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")}


def held_gpus() -> float:
    until = time.monotonic() + 10
    while (held := _gpus(ray.cluster_resources()) - _gpus(ray.available_resources())) and time.monotonic() < until:
        time.sleep(0.2)
    return held


def _gpus(resources: dict[str, float]) -> float:
    return resources.get("GPU", 0.0)
