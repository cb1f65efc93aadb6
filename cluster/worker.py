"""The actor: a fresh process, pinned to its GPUs by Ray, that measures one load group and is then ended.

It never restarts and its task is never retried: a second try is the driver's decision and gets its own attempt number.
"""

import faulthandler
from collections.abc import Iterator
from pathlib import Path

import ray

from farm.cells import Load
from farm.events import Event, GroupRequest, Prepared


@ray.remote(max_restarts=0, max_task_retries=0)
class Worker:
    """Streams the events of one group; each reaches the driver while the next cell is being measured."""

    def __init__(self) -> None:
        # A segfault leaves its Python stack in the worker's log: the only trace that tells it from a kill.
        faulthandler.enable(file=2)

    def run(self, request: GroupRequest) -> Iterator[Event]:
        from jobs.numa import pin_to_gpu_node  # here, so that the driver's process never imports the measuring side

        pin_to_gpu_node()  # before torch starts threads
        from jobs.group import run_group

        yield from run_group(request)


@ray.remote(max_retries=0, max_calls=1)
def prepare(load: Load) -> Prepared:
    """A process of its own, ended afterwards: quantizing leaves gigabytes in the allocators."""
    from jobs.preparing import prepare_load

    return prepare_load(load)


@ray.remote(max_retries=0, num_cpus=0)
def has_file(path: str) -> bool:
    """Is it on the node that this task was sent to?"""
    return Path(path).is_file()
