"""What the notebook shows of a run: one figure or one text a call, so that its cells stay one line.

Why here and not in the notebook: code in a notebook is neither checked nor reused; this is what report.html shows, put
out through IPython.

    Study.of(RunFolder("runs/demo"), "en").show("latency_vs_context")
"""

import functools
import shutil
from dataclasses import dataclass

import plotly.io
from IPython.display import Markdown, display

from farm.errors import FarmError, unknown
from farm.present.caveats import caveats
from farm.present.expected import compare
from farm.present.figures import Drawing, all_drawings
from farm.present.publish import subject_of
from farm.present.report_html_parts import lead, report_rows
from farm.present.results_page import Subject, expected_table
from farm.present.sentences import answer_questions
from farm.store import RunFolder

PNG_SCALE = 0.75  # as wide as a page of a code host; the files in figures/ are larger
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Study:
    """A run's rows and figures in one language."""

    subject: Subject
    language: str

    @classmethod
    def of(cls, run: RunFolder, language: str) -> "Study":
        return cls(subject_of(run), language)

    def show(self, name: str) -> None:
        """One of the figures: interactive, and beside it a picture where a browser is there to draw it."""
        known = {drawing.name: drawing for drawing in self._drawings}
        if name not in known:
            raise FarmError(unknown("figure", name, known))
        plotly.io.show(known[name].figure, renderer=renderer())

    def describe(self) -> None:
        self._print(lead(self.subject.rows, self.language, self.subject.asked))

    def expected(self) -> None:
        """The mission's expectations beside what was measured."""
        self._print(expected_table(compare(self.subject.rows), self.language))

    def conclusions(self) -> None:
        """The three questions, answered by the rows."""
        for answer in answer_questions(self.subject.rows, self.language):
            points = "\n".join(f"- {sentence.text}" for sentence in answer.sentences)
            self._print(f"### {answer.question}\n\n{points}")

    def caveats(self) -> None:
        self._print("\n".join(f"- {one.text}" for one in caveats(self.subject.rows, self.language)))

    @functools.cached_property
    def _drawings(self) -> tuple[Drawing, ...]:
        rows, subject = report_rows(self.subject.rows), self.subject
        return all_drawings(rows, subject.records, subject.events, self.language)

    def _print(self, text: str) -> None:
        display(Markdown(text))  # type: ignore[no-untyped-call]


def renderer() -> str:
    """Plotly's JSON for Jupyter, without its library; a PNG for readers that run no script, such as a code host."""
    has_browser = any(map(shutil.which, BROWSERS))
    plotly.io.renderers["png"].scale = PNG_SCALE
    return "plotly_mimetype+png" if has_browser else "plotly_mimetype"
