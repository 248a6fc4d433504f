"""Charts for the browser: plain values to what Plotly's script draws, in colours that the page sets by its theme."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from emma_viz.render.plotly_text import plotly_text
from probes.charts import Bars, Chart, Grids, Lines, Series, beyond_scale, places_in_kind, scale_end

_DASHES = ("dash", "dot", "dashdot", "longdash")
"""Of the controls of one model."""
_STROKES = ("solid", "longdashdot", "dot")
"""Of the other series of one model."""
_LEGEND = 40
"""Letters in a line of a legend, so that a narrow page cuts none."""
SIGNED = [[0.0, "#2166ac"], [0.5, "#f4f4f4"], [1.0, "#b2182b"]]


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """Data and layout for `Plotly.newPlot`; a trace's `meta` says which model's colour it takes."""
    if isinstance(chart, Grids):
        return _grids(chart)
    traces, controls = [], 0
    for each, place in zip(chart.series, places_in_kind(chart.series), strict=True):
        controls += each.control
        traces += _traces(chart, each, controls if each.control else 0, place)
    layout: dict[str, Any] = {
        "xaxis": {
            "title": {"text": plotly_text(chart.x_title)},
            "type": "category",
            "tickangle": 0,
            "tickfont": {"size": 11},
        },
        "yaxis": {"title": {"text": plotly_text(chart.y_title)}, "zeroline": True},
        "legend": {"orientation": "h", "y": -0.28},
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "height": 380,
    }
    if isinstance(chart, Bars):
        layout["barmode"] = "group"
    elif ticks := chart.ticks:
        values, texts = zip(*ticks, strict=True)
        numbers = {"type": "linear", "tickvals": values, "ticktext": texts, "zeroline": False}
        layout["xaxis"] = {**layout["xaxis"], **numbers}
    return {"data": traces, "layout": layout}


def _traces(chart: Lines | Bars, series: Series, control: int, place: int) -> list[dict[str, Any]]:
    """A series; `control` numbers the controls from 1, so that bars of two can be told apart, `place` those alike."""
    meta = {"model": series.model, "control": control}
    name = "<br>".join(map(plotly_text, textwrap.wrap(series.name, _LEGEND)))
    values = _plain(series.y)
    if isinstance(chart, Bars):
        bar: dict[str, Any] = {
            "type": "bar",
            "name": name,
            "x": [plotly_text(each) for each in chart.x],
            "y": values,
            "meta": meta,
        }
        if series.low is not None and series.high is not None:
            ends = zip(series.y, series.low, series.high, strict=True)
            spread = [(value - low, high - value) for value, low, high in ends]
            bar["error_y"] = {
                "type": "data",
                "symmetric": False,
                "arrayminus": _plain([below for below, _ in spread]),
                "array": _plain([above for _, above in spread]),
            }
        return [bar]
    x = [plotly_text(each) for each in chart.x][: len(values)] if series.at is None else list(series.at)
    line = {
        "type": "scatter",
        "name": name,
        "x": x,
        "y": values,
        "meta": meta,
        "mode": "lines+markers",
        "line": {"dash": _STROKES[place % len(_STROKES)]},
    }
    if series.control:
        line |= {"mode": "lines", "line": {"dash": _DASHES[place % len(_DASHES)], "width": 1.5}}
    if series.low is None or series.high is None or series.control:
        return [line]
    low, high = _plain(series.low), _plain(series.high)
    bands = [
        {
            "type": "scatter",
            "x": x[start:end] + x[start:end][::-1],
            "y": high[start:end] + low[start:end][::-1],
            "fill": "toself",
            "mode": "none",
            "hoverinfo": "skip",
            "showlegend": False,
            "meta": {**meta, "band": True},
        }
        for start, end in _unbroken(low, high)
    ]
    return [*bands, line]


def _unbroken(low: Sequence[float | None], high: Sequence[float | None]) -> list[tuple[int, int]]:
    """Starts and ends of the parts of a band between its gaps."""
    known = [a is not None and b is not None for a, b in zip(low, high, strict=True)]
    edges = [
        at for at in range(len(known) + 1) if (at > 0 and known[at - 1]) != (at < len(known) and known[at])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _grids(chart: Grids) -> dict[str, Any]:
    columns = min(chart.columns, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    limit = scale_end(chart)
    said = ", ".join(text for text in (chart.value_title, beyond_scale(chart)) if text)
    bar = {
        "title": {"text": plotly_text(said)},
        "orientation": "h",
        "thickness": 12,
        "y": 0,
        "yanchor": "top",
    }
    ends = {"cmin": -limit, "colorscale": SIGNED} if chart.signed else {"cmin": 0.0, "colorscale": "Viridis"}
    colours = {"cmax": limit, "colorbar": bar, **ends}
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "coloraxis": colours,
        "margin": {"l": 8, "r": 8, "t": 28, "b": 60},
        "height": 90 + 230 * rows,
    }
    for index, panel in enumerate(chart.panels):
        end = "" if index == 0 else str(index + 1)
        row, column = divmod(index, columns)
        left, top = column / columns, 1 - row / rows
        right, bottom = left + 0.94 / columns, top - 0.86 / rows
        layout[f"xaxis{end}"] = {
            "domain": [left, right],
            "anchor": f"y{end}",
            # The title keeps to the map, whose place is what its square leaves of the domain.
            "title": {"text": plotly_text(panel.title), "standoff": 4, "font": {"size": 12}},
            "side": "top",
            "showticklabels": False,
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
            "constrain": "domain",
        }
        layout[f"yaxis{end}"] = {
            "domain": [bottom, top],
            "anchor": f"x{end}",
            "visible": False,
            "autorange": "reversed",
            "constrain": "domain",
            "scaleanchor": f"x{end}",
        }
        traces.append(
            {
                "type": "heatmap",
                "z": [_plain(row) for row in panel.values.tolist()],
                "xaxis": f"x{end}",
                "yaxis": f"y{end}",
                "coloraxis": "coloraxis",
                "name": plotly_text(panel.title),
            }
        )
    return {"data": traces, "layout": layout}


def _plain(values: Sequence[float]) -> list[float | None]:
    return [round(float(each), 6) if math.isfinite(each) else None for each in values]
