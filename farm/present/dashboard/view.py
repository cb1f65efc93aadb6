"""What a page's address asks for: which run, which language. Whatever is typed there is checked before it is used.

view = view_of(library, "/", "?run=demo&lang=es", "en")
view.run, view.language    # 'demo', 'es'
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from farm.errors import FarmError
from farm.present.dashboard.library import TRIES, Library
from farm.present.words import LANGUAGES

PAGES = {"/": "watch", "/try": "try", "/demo": "demo"}


@dataclass(frozen=True, slots=True)
class View:
    """`run` None: none is there yet, or none was started on this page; `problem`: the address asked for nonsense."""

    page: str
    run: str | None
    language: str
    problem: str | None = None

    def link(self, page: str | None = None, **changes: str | None) -> str:
        """The address of the same view with something changed; None leaves a parameter out."""
        wanted = {"run": self.run, "lang": self.language} | changes
        path = next(path for path, name in PAGES.items() if name == (page or self.page))
        return path + "?" + urlencode({name: value for name, value in wanted.items() if value})


def view_of(library: Library, path: object, search: object, language: str) -> View:
    """Never raises: a callback's values may be forged, so they may be anything."""
    asked = parse_qs(search.removeprefix("?")) if isinstance(search, str) else {}
    page = PAGES.get(path if isinstance(path, str) else "/", "watch")
    spoken = asked.get("lang", [language])[0]
    chosen = spoken if spoken in LANGUAGES else language
    return _with_run(library, page, asked.get("run", [None])[0], chosen)


def _with_run(library: Library, page: str, run: str | None, language: str) -> View:
    if run is None and page != "try":
        names = library.sweeps() or library.names()
        return View(page, names[0] if names else None, language)
    if run is None or (page == "try" and not run.startswith(f"{TRIES}/")):
        return View(page, None, language)
    try:
        library.reader(run)
    except FarmError as error:
        return View(page, None, language, str(error))
    return View(page, run, language)
