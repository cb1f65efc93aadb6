"""Joining a Ray cluster, or starting one here; what its nodes have; waiting for those that are still to come.

started_here = connect()                # a local Ray
nodes()[0].gpus
"""

import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from cluster.placement import Node, able_nodes
from farm.cells import Load
from farm.errors import ClusterError

KNOCK_S = 10.0
LOOK_AGAIN_S = 2.0  # how old the list of nodes may be
GPU_TYPE = "ray.io/accelerator-type"


def connect(address: str | None = None, num_gpus: int | None = None, num_cpus: int | None = None) -> bool:
    """Join the cluster at `address` (or start a local one). True when it was started here. Raises ClusterError."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        local = {"num_gpus": num_gpus, "num_cpus": num_cpus}
        options |= {"address": "local", "include_dashboard": False, **local}
    else:
        _knock(address)
        options |= {"address": address}
    try:
        ray.init(**options)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address!r}" if address else "a local Ray"
        raise ClusterError(f"{where} cannot be reached: {first_line(error)}; check it with `ray status`") from error
    _keep_deaths_off_the_screen()
    return address is None


def _knock(address: str) -> None:
    """Ray itself tries a wrong `host:port` for minutes, and says so in lines of its own. Raises ClusterError."""
    host, _, port = address.rpartition(":")
    if "://" in address or not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"the Ray cluster at {address!r} cannot be reached: {first_line(error)}; the head's port is 6379 unless it "
            "was started with another; look there with `ray status`"
        ) from None


def nodes() -> tuple[Node, ...]:
    """The machines that are alive now."""
    return tuple(
        Node(
            node["NodeManagerAddress"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
            node["NodeID"],
            int(node["Resources"].get("memory", 0)),
            node["Labels"].get(GPU_TYPE),
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def order_gpus(loads: Iterable[Load]) -> None:
    """Ask an autoscaler for what each of these loads needs, until it is told otherwise; without one nothing happens."""
    wanted = [load for load in loads if load.device == "cuda"]
    labels = [{GPU_TYPE: load.gpu_type} if load.gpu_type else {} for load in wanted]
    request_resources(bundles=[{"GPU": load.gpus} for load in wanted], bundle_label_selectors=labels)


def wait_for_nodes(loads: Sequence[Load], seconds: float) -> None:
    """Until each load could run somewhere, or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not all(able_nodes(nodes(), load) for load in loads):
        time.sleep(min(LOOK_AGAIN_S, max(0.0, until - time.monotonic())))


def _keep_deaths_off_the_screen() -> None:
    """Ray prints a paragraph for every worker that dies, whatever its log settings; our records say it better."""
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
