"""The time of every token that was shown, as a figure: where the KV cache shows itself, one line a side.

token_times(lanes, "en").data[0].y    # milliseconds; the first token, the prompt's, is left out
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.dashboard.lanes import Lane
from farm.present.words import say

HEIGHT = 300


def token_times(lanes: Sequence[Lane], language: str) -> go.Figure:
    """Colours as in all figures; the dash tells the cache mode."""
    figure = go.Figure()
    for place, lane in enumerate(lanes):
        gaps_ms = [1000 * gap for gap in lane.stream.gaps_s[1:]] if lane.stream else []
        name = f"{'AB'[place]}: {theme.short_title_of(lane.side.quantization)}, {lane.side.cache_mode}"
        dash = theme.dash_of_cache(lane.side.cache_mode)
        line = {"color": theme.color_of(lane.side.quantization), "dash": dash, "width": 2.5}
        tokens = list(range(2, 2 + len(gaps_ms)))
        figure.add_trace(go.Scatter(x=tokens, y=gaps_ms, name=name, mode="lines", line=line))
    theme.dress(figure, "", height=HEIGHT)
    figure.update_layout(
        template=None,
        title=None,
        width=None,
        margin={"l": 60, "r": 16, "t": 8, "b": 80},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "xanchor": "left"},
        uirevision="same",
        showlegend=True,
    )
    figure.update_xaxes(title_text=say(language, "tokens_x"), zeroline=False)
    figure.update_yaxes(title_text=say(language, "tokens_y"), rangemode="tozero", zeroline=False)
    return figure
