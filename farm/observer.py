"""Who is told what happens during a run. The default looks away; the terminal's progress view is one that looks.

Observers only watch: nothing they do or fail to do changes what is measured.
"""

from collections.abc import Hashable

from farm.events import Event
from farm.plan import LoadGroup, Plan
from farm.records import Record


class Observer:
    """`job` stands for one started load group; `pool` is a sentence about where it runs."""

    def planned(self, plan: Plan, pool: str) -> None: ...
    def started(self, job: Hashable, group: LoadGroup) -> None: ...
    def event(self, job: Hashable, event: Event) -> None: ...
    def recorded(self, record: Record) -> None: ...
    def ended(self, job: Hashable) -> None: ...
