"""What a soak found."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """`lost`, `doubled`, `without_final`, `orphans` and `held_gpus` must all be zero."""

    cells: int
    faults: dict[str, int] = field(default_factory=dict)
    faults_in_all: int = 0
    final: dict[str, int] = field(default_factory=dict)
    without_final: int = 0
    lost: int = 0
    doubled: int = 0
    orphans: int = 0
    held_gpus: float = 0.0
    drivers: int = 0
    recovery_s: dict[str, dict[str, float]] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.without_final or self.orphans or self.held_gpus)
