"""What one dashboard is about: its runs, what it offers to try, its language.

settings = Settings(library, Launcher(library, "ray", "auto"), OFFERED, "en")
settings.view("/try", "?lang=es").language    # 'es'
"""

from dataclasses import dataclass

from farm.present.dashboard.launching import Launcher
from farm.present.dashboard.library import Library
from farm.present.dashboard.view import View, view_of

TICK_MS, TRY_TICK_MS, IDLE_TICK_MS = 1000, 400, 4000


@dataclass(frozen=True, slots=True)
class Settings:
    """Handed to everything that answers a page. `offered`: the models that may be tried."""

    library: Library
    launcher: Launcher
    offered: tuple[str, ...]
    language: str

    def view(self, path: object, search: object) -> View:
        """What an address asks for."""
        return view_of(self.library, path, search, self.language)
