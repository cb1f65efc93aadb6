"""docs/results.md and README's headline, in both languages: every figure in them is put there by this module.

Why templates: the prose (what random weights cannot say, how to reproduce) is written by hand, the figures never are. A
page holds no moment but those of the records, so the same records give the same page.

    Path("docs/results.md").write_text(results_page(subject, "en"))
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from farm.cells import Cell
from farm.present.caveats import caveats
from farm.present.coverage import coverage_of_cells, coverage_of_rows
from farm.present.expected import Compared, compare, quality_rows, why
from farm.present.figures.gantt_bars import LoggedEvent, chart_of
from farm.present.figures.panels import devices
from farm.present.figures.points import is_trusted
from farm.present.ladder import headline_rows, ladder
from farm.present.markdown import table
from farm.present.report_html_parts import failures
from farm.present.sentences import answer_questions
from farm.present.theme import title_of
from farm.present.words import number, numbers_in, say
from farm.records import Record
from farm.rows import CellRow
from farm.stats import Summary, scaled_median

EMPTY = "–"
HEADS = {
    "en": {
        "expected": ("expected", "configuration", "measured", "outcome", "what limits it"),
        "speed": ("engine", "precision", "cache", "context", "decode tok/s [95 %]", "TTFT ms", "peak GB", "verdict"),
        "quality": ("model", "engine", "precision", "PPL", "change", "KL (nats)", "same first choice"),
        "coverage": ("model", "engine", "cache", "batch", "contexts", "precisions"),
        "failures": ("cell", "status", "reason"),
    },
    "es": {
        "expected": ("se esperaba", "configuración", "medido", "resultado", "qué lo limita"),
        "speed": ("motor", "precisión", "caché", "contexto", "decode tok/s [95 %]", "TTFT ms", "pico GB", "veredicto"),
        "quality": ("modelo", "motor", "precisión", "PPL", "cambio", "KL (nats)", "misma primera opción"),
        "coverage": ("modelo", "motor", "caché", "lote", "contextos", "precisiones"),
        "failures": ("celda", "estado", "motivo"),
    },
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that a page is about: its rows, the records behind them, the log, and the sweep's name.

    `asked`: how many cells the run was to measure; `missing`: those of its sweep that it has not come to; `others`: how
    many of its rows are no cells of that sweep, but of another one measured into the same folder.
    """

    rows: tuple[CellRow, ...]
    records: tuple[Record, ...]
    events: tuple[LoggedEvent, ...]
    sweep: str
    asked: int = 0
    missing: tuple[Cell, ...] = ()
    others: int = 0


def results_page(subject: Subject, language: str) -> str:
    """The text of docs/results.md (`en`) or docs/results.es.md (`es`)."""
    return _filled(f"results.{language}.md.j2", subject, language)


def readme_block(subject: Subject, language: str) -> str:
    """What stands between the README's marks."""
    return _filled(f"readme.{language}.md.j2", subject, language)


def _filled(template: str, subject: Subject, language: str) -> str:
    rows = subject.rows
    tables = {
        "expected_table": expected_table(compare(rows), language),
        "ladder_table": _table("speed", map(_speed_line, ladder(rows)), language),
        "speed_table": _table("speed", map(_speed_line, headline_rows(rows)), language),
        "quality_table": _table("quality", map(_quality_line, quality_rows(rows)), language),
        "coverage_table": _table("coverage", coverage_of_rows(rows), language),
        "missing_table": _table("coverage", coverage_of_cells(subject.missing), language),
        "failures_table": _table("failures", ((f.label, f.status, f.reason) for f in failures(rows)), language),
    }
    return (
        _templates()
        .get_template(template)
        .render(
            answers=answer_questions(rows, language),
            caveats=caveats(rows, language),
            **tables,
            **_facts(subject, language),
        )
    )


@functools.cache
def _templates() -> Environment:
    loader = PackageLoader("farm.present", "pages")
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _facts(subject: Subject, language: str) -> dict[str, object]:
    """The figures of the prose, as the language writes them."""
    rows, speed = subject.rows, [row for row in subject.rows if row.kind == "speed" and row.is_ok]
    shown = next(iter(headline_rows(rows)), rows[0])
    wall_s, device_s = _durations(subject)
    facts = {
        "sweep": subject.sweep,
        "device": devices(rows),
        "commit": _commits(subject.records),
        "day": max((record.ended_at for record in subject.records), default=EMPTY)[:10],
        "cells": number(len(rows)),
        "ok": number(sum(row.is_ok for row in rows)),
        "speed_cells": number(len(speed)),
        "valid": number(sum(map(is_trusted, speed))),
        "valid_percent": number(round(100 * sum(map(is_trusted, speed)) / max(len(speed), 1))),
        "suspects": _suspects(speed),
        "model": shown.model,
        "batch": number(shown.batch_size or 0),
        "asked": number(max(subject.asked, len(rows))),
        "others": number(subject.others) if subject.others else "",
        "not_run": number(max(0, subject.asked - len(rows))) if subject.asked > len(rows) else "",
        "runs": _runs(headline_rows(rows)),
        "wall_min": number(wall_s / 60),
        "device_min": number(device_s / 60),
        "text": next((_text(row) for row in quality_rows(rows) if row.is_ok), EMPTY),
        "true_models": ", ".join(dict.fromkeys(row.model for row in rows if row.has_true_weights)) or EMPTY,
    }
    return {name: numbers_in(language, value) for name, value in facts.items()}


def _commits(records: Sequence[Record]) -> str:
    """Each in short; one whose code was changed keeps its mark."""
    found = dict.fromkeys(r.environment.farm_commit or EMPTY for r in records if r.environment)
    return ", ".join(commit[:7] + commit[40:] for commit in found) or EMPTY


def _runs(rows: Sequence[CellRow]) -> str:
    """`10`, or `10–20` where some needed more to be sure."""
    counts = sorted({row.decode_tok_s.n for row in rows if row.decode_tok_s}) or [0]
    return "–".join(number(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _text(row: CellRow) -> str:
    figures = row.quality
    return f"{figures.perplexity_protocol}, {figures.perplexity_text}, {figures.perplexity_tokens:,} tokens"


def _suspects(speed: Sequence[CellRow]) -> str:
    counts = Counter(row.trust.distrust for row in speed if not is_trusted(row))
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))


def _durations(subject: Subject) -> tuple[float, float]:
    """Seconds of the run without its pauses, and of all its load groups together; 0 without a log."""
    bars = chart_of(subject.events, subject.records).bars
    return max((bar.end_s for bar in bars), default=0.0), sum(bar.end_s - bar.start_s for bar in bars)


def expected_table(found: Sequence[Compared], language: str) -> str:
    """One line a row; an expectation's name stands at its first."""
    lines = [
        (
            say(language, f"expected_{one.name}") if one.name not in {f.name for f in found[:place]} else "",
            _configuration(one.row),
            _measured(one),
            say(language, one.outcome),
            why(one, language),
        )
        for place, one in enumerate(found)
    ]
    return _table("expected", lines, language)


def _configuration(row: CellRow) -> str:
    """A perplexity is that of no single length."""
    length = [f"{number(row.context_tokens)} tokens"] if row.context_tokens else []
    return ", ".join([row.engine, title_of(row.quantization), *length])


def _measured(one: Compared) -> str:
    if one.name in ("ppl", "compile"):
        return f"{one.value:+.1f} %"
    return _interval(one.row.decode_tok_s)


def _speed_line(row: CellRow) -> Sequence[str]:
    head = (row.engine, title_of(row.quantization), row.cache_mode or EMPTY, number(row.context_tokens or 0))
    if not row.is_ok:
        return (*head, EMPTY, EMPTY, EMPTY, row.status.value)
    ttft, peak = scaled_median(row.ttft_s, 1000), row.memory.peak_allocated_bytes
    figures = (_interval(row.decode_tok_s), _number(ttft), _number(None if peak is None else peak / 1e9))
    return (*head, *figures, row.trust.verdict or EMPTY)


def _quality_line(row: CellRow) -> Sequence[str]:
    quality, agreement = row.quality, row.quality.agreement
    change, top1 = quality.perplexity_delta_percent, agreement.top1_agreement
    return (
        row.model,
        row.engine,
        title_of(row.quantization),
        row.status.value if quality.perplexity is None else f"{quality.perplexity:.3f}",
        EMPTY if change is None else f"{change:+.2f} %",
        EMPTY if agreement.kl_mean is None else f"{agreement.kl_mean:.3g}",
        EMPTY if top1 is None else f"{100 * top1:.1f} %",
    )


def _interval(summary: Summary | None) -> str:
    if summary is None:
        return EMPTY
    if summary.ci_low is None or summary.ci_high is None:
        return number(summary.median)
    return f"{number(summary.median)} [{number(summary.ci_low)}, {number(summary.ci_high)}]"


def _number(value: float | None) -> str:
    return EMPTY if value is None else number(value)


def _table(name: str, lines: Iterable[Sequence[str]], language: str) -> str:
    """Empty where there is no line."""
    rows = [[numbers_in(language, cell) for cell in line] for line in lines]
    return table(HEADS[language][name], rows) if rows else ""
