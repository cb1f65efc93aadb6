"""A figure in another language: its phrases replaced in a copy.

Why after drawing: all figures draw in English and stay readable as code; what they say is one table of phrases in
`farm.present.words`. Names of models, devices and reasons from records stay as they are.

    translated(latency_vs_context(rows), "es").layout.xaxis.title.text    # 'Contexto (tokens del prompt)'
"""

import re
from typing import Any

import plotly.graph_objects as go

from farm.present.words import numbers_in
from farm.present.words.figures_es import PHRASES

# Where plotly keeps text that people read.
_SPOKEN = frozenset(("text", "name", "hovertemplate", "hovertext", "customdata", "values", "ticktext", "categoryarray"))
_PATTERN = re.compile(
    r"(?<![\w{])(" + "|".join(re.escape(phrase) for phrase in sorted(PHRASES, key=len, reverse=True)) + r")(?!\w)"
)


def translated(figure: go.Figure, language: str) -> go.Figure:
    """The same figure; English is drawn as it is."""
    if language == "en":
        return figure
    return go.Figure(_walk(figure.to_dict(), language, spoken=False))


def in_spanish(text: str) -> str:
    """Every known phrase replaced, the longest that fits first."""
    return numbers_in("es", _PATTERN.sub(lambda found: PHRASES[found.group(1)], text))


def _walk(node: Any, language: str, spoken: bool) -> Any:
    if isinstance(node, dict):
        return {key: _walk(value, language, _is_spoken(key, value)) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_walk(item, language, spoken) for item in node]
    return in_spanish(node) if spoken and isinstance(node, str) else node


def _is_spoken(key: str, value: Any) -> bool:
    """`y` of a strip holds its labels; elsewhere coordinates are numbers."""
    is_labels = key == "y" and isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)
    return key in _SPOKEN or is_labels
