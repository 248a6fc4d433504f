"""The plots of the casebook: one look in light and dark, one colour a model everywhere."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from emma_viz.metrics.verdicts import CalibrationBin, ShareOfRows
from emma_viz.render.plotly_text import plotly_text

_COLOURS = {
    "light": (
        *("rgb(200,82,0)", "rgb(0,114,178)", "rgb(0,128,92)", "rgb(176,86,138)"),
        *("rgb(110,80,160)", "rgb(120,95,0)", "rgb(90,90,90)", "rgb(170,30,50)"),
    ),
    "dark": (
        *("rgb(255,145,82)", "rgb(98,181,240)", "rgb(69,207,164)", "rgb(235,164,205)"),
        *("rgb(190,165,250)", "rgb(225,200,90)", "rgb(200,200,200)", "rgb(255,130,140)"),
    ),
}
"""Of models in their order; the first four are those of the canvas."""
_GRID = "rgba(128,128,128,0.28)"


_INK = {"light": "#4b4c52", "dark": "#c9c8c4"}
"""Of the numbers at an axis and its title."""


def _theme() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """Name → colour, as the theme that the visitor sees has it."""
    colours = _COLOURS[_theme()]
    return {name: colours[number % len(colours)] for number, name in enumerate(models)}


def dressed(figure: go.Figure, title: str, *, height: int = 360, **layout) -> go.Figure:
    """A figure in the look of the pages: no background of its own, quiet lines, the legend below in rows."""
    figure.update_layout(
        title={"text": plotly_text(title), "x": 0, "font": {"size": 15}},
        height=height,
        margin={"l": 50, "r": 10, "t": 40 if title else 10, "b": 40},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        **layout,
    )
    ink = {"color": _INK[_theme()]}
    figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID, tickfont=ink, title_font=ink)
    figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID, tickfont=ink, title_font=ink)
    return figure


def right_by_category(found: Mapping[tuple[str, str], ShareOfRows], models: Sequence[str]) -> go.Figure:
    """Bars: the share of right answers of each model in each category.

    Args:
        found: (category, model) → the right ones among its answers.
        models: in their order.
    """
    figure = go.Figure()
    categories = sorted({category for category, _ in found})
    for model, colour in model_colours(models).items():
        held = [found.get((category, model)) for category in categories]
        figure.add_bar(
            x=[plotly_text(each) for each in categories],
            y=[None if each is None else each.value for each in held],
            error_y={**_whiskers(held), "thickness": 1, "width": 2, "color": "rgb(128,128,128)"},
            customdata=[_told(each) for each in held],
            hovertemplate="%{x}: %{y:.3f} of %{customdata}<extra>%{fullData.name}</extra>",
            name=plotly_text(model),
            marker_color=colour,
        )
    return dressed(figure, "Right answers by category", yaxis_range=[0, 1], barmode="group")


def _whiskers(shares: Sequence[ShareOfRows | None]) -> dict[str, Any]:
    """From each share to the ends of its interval; none where it has none."""
    ends = [
        (None, None)
        if each is None or math.isnan(each.low + each.high)
        else (each.high - each.value, each.value - each.low)
        for each in shares
    ]
    above, below = ([each[side] for each in ends] for side in (0, 1))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def _told(each: ShareOfRows | None) -> str:
    """How many answers a share is of, and its interval."""
    if each is None:
        return ""
    ends = "" if math.isnan(each.low + each.high) else f" [{each.low:.3f}, {each.high:.3f}]"
    return f"{each.rows}{ends}"


def confusion_by_object(
    made_up: Mapping[tuple[str, str], tuple[int, int]],
    missed: Mapping[tuple[str, str], tuple[int, int]],
    objects: Sequence[str],
    models: Sequence[str],
) -> go.Figure:
    """Bars to both sides of 0: to the right, how often an object that is not there was affirmed, to the left, how often
    one that is there was denied.

    Args:
        made_up: (object, model) → (yes, asked) of questions whose truth is no.
        missed: (object, model) → (no, asked) of questions whose truth is yes.
        objects: from top to bottom.
        models: in their order.
    """
    figure = go.Figure()
    for model, colour in model_colours(models).items():
        for sign, found, what in (
            (1, made_up, "yes, though it is not there"),
            (-1, missed, "no, though it is there"),
        ):
            counts = [found.get((name, model), (0, 0)) for name in objects]
            figure.add_bar(
                y=[plotly_text(name) for name in objects],
                x=[sign * wrong / asked if asked else None for wrong, asked in counts],
                text=[f"{wrong} of {asked}" if wrong else "" for wrong, asked in counts],
                customdata=[f"{wrong} of {asked}" for wrong, asked in counts],
                hovertemplate=f"%{{y}}: {what}, %{{customdata}}<extra>%{{fullData.name}}</extra>",
                orientation="h",
                name=plotly_text(model),
                legendgroup=plotly_text(model),
                showlegend=sign == 1,
                marker_color=colour,
                offsetgroup=plotly_text(model),
            )
    ticks = (-1, -0.5, 0, 0.5, 1)
    dressed(figure, "← missed   ·   made up →", barmode="relative")
    figure.update_layout(height=130 + 14 * len(objects) * (1 + len(models)))
    figure.update_xaxes(range=[-1, 1], tickvals=ticks, ticktext=[f"{abs(each):g}" for each in ticks])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def calibration(curves: Mapping[str, Sequence[CalibrationBin]], models: Sequence[str]) -> go.Figure:
    """How often yes is true, by how sure of yes a model was; on the diagonal where they agree.

    Args:
        curves: model → its bins.
        models: in their order.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": _GRID, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )
    for model, colour in model_colours(models).items():
        if not (bins := curves.get(model)):
            continue
        shares = [each.share for each in bins]
        most = max(each.rows for each in shares)
        figure.add_scatter(
            x=[each.leaning for each in bins],
            y=[each.value for each in shares],
            error_y={**_whiskers(shares), "thickness": 1, "width": 3, "color": colour},
            customdata=[_told(each) for each in shares],
            mode="lines+markers",
            cliponaxis=False,
            name=plotly_text(model),
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "size": [6 + 12 * (each.rows / most) ** 0.5 for each in shares]},
            hovertemplate="leaning %{x:.2f}: yes is true for %{y:.2f} of %{customdata}<extra>%{fullData.name}</extra>",
        )
    return dressed(
        figure,
        "Calibration: how often yes is true",
        xaxis={"title": "P(Yes) of P(Yes) + P(No), ten bins", "range": [-0.03, 1.03]},
        yaxis={"title": "yes is true", "range": [-0.03, 1.03]},
    )
