"""Charts for paper: plain values to PNG and PDF by matplotlib, which needs no browser."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.files.atomic import write_file
from emma_viz.render.colours import FAINT, MARKERS, MODELS
from probes.charts import Bars, Chart, Grids, Lines, Series, beyond_scale, places_in_kind, scale_end

HATCHES = ("", "//", "..", "xx")
_DASHES = ("--", ":", "-.", (0, (8, 3)))
"""Of the controls of one model."""
_STROKES = ("-", (0, (8, 2, 2, 2)), ":")
"""Of the other series of one model."""
_LEGEND = 48
"""Letters of a name in a legend of two columns, at most."""
_WIDTH = 6.4
"""Inches."""


def write_charts(chart: Chart, stem: Path) -> tuple[Path, ...]:
    """Write a chart as `stem`.png and `stem`.pdf; the same chart gives the same bytes."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # no name is a formula, whatever signs it has
        return _written(chart, stem)


def _written(chart: Chart, stem: Path) -> tuple[Path, ...]:
    from matplotlib.figure import Figure

    size = (_WIDTH, 3.8) if not isinstance(chart, Grids) else (_WIDTH, 0.6 + 1.9 * _rows(chart))
    figure = Figure(figsize=size, layout="constrained")
    if isinstance(chart, Grids):
        _grids(figure, chart)
    else:
        _axes(figure, chart)
    figure.suptitle(chart.title, fontsize=10)
    written = []
    stamps: Mapping[str, Mapping[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    for kind, about in stamps.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        write_file(
            path,
            lambda part, kind=kind, about=about: figure.savefig(part, format=kind, dpi=150, metadata=about),
        )
        written.append(path)
        figure.set_layout_engine("none")  # found once; the next kind is drawn in the same places
    return tuple(written)


def _rows(chart: Grids) -> int:
    return -(-len(chart.panels) // max(1, min(chart.columns, len(chart.panels))))


def _axes(figure, chart: Lines | Bars) -> None:
    axes = figure.add_subplot()
    places = np.arange(len(chart.x))
    alike = places_in_kind(chart.series)
    drawn = []
    for index, series in enumerate(chart.series):
        if isinstance(chart, Bars):
            drawn.append(_bar(axes, places, series, index, len(chart.series)))
        else:
            at = places[: len(series.y)] if series.at is None else np.asarray(series.at)
            drawn.append(_line(axes, at, series, alike[index]))
    if isinstance(chart, Lines) and (ticks := chart.ticks):
        axes.set_xticks(*map(list, zip(*ticks, strict=True)))
    else:
        every = max(1, len(places) // 20)
        turned = 0 if isinstance(chart, Lines) else 20
        axes.set_xticks(places[::every], list(chart.x)[::every], rotation=turned)
    axes.set_xlabel(chart.x_title)
    axes.set_ylabel(chart.y_title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    # Beneath the axes: inside, it would lie on curves or whiskers.
    longest = max((len(series.name) for series in chart.series), default=0)
    columns = 2 if longest <= _LEGEND else 1
    if chart.series:
        names = [series.name for series in chart.series]  # matplotlib itself leaves out what begins with "_"
        figure.legend(drawn, names, fontsize=7, frameon=False, loc="outside lower center", ncols=columns)


def _line(axes, x: np.ndarray, series: Series, place: int):
    colour = MODELS[series.model % len(MODELS)]
    if series.control:
        dashes, look = _DASHES[place % len(_DASHES)], {"linewidth": 1, "alpha": 0.6}
        return axes.plot(x, series.y, color=colour, linestyle=dashes, label=series.name, **look)[0]
    (drawn,) = axes.plot(
        x,
        series.y,
        color=colour,
        linestyle=_STROKES[place % len(_STROKES)],
        marker=MARKERS[series.model % len(MARKERS)],
        ms=3.5,
        label=series.name,
    )
    if series.low is not None and series.high is not None:
        axes.fill_between(x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
    return drawn


def _bar(axes, places: np.ndarray, series: Series, index: int, count: int):
    width = 0.8 / count
    x, y = places + (index - (count - 1) / 2) * width, np.asarray(series.y, float)
    spread = None
    if series.low is not None and series.high is not None:
        spread = np.abs(np.nan_to_num(np.stack([y - series.low, np.asarray(series.high) - y])))
    look: dict[str, Any] = {"color": MODELS[series.model % len(MODELS)], "error_kw": {"linewidth": 0.8}}
    if series.control:
        look |= {"alpha": 0.5, "hatch": HATCHES[index % len(HATCHES)], "edgecolor": FAINT}
    return axes.bar(x, y, width * 0.92, yerr=spread, label=series.name, **look)


def _grids(figure, chart: Grids) -> None:
    columns = min(chart.columns, len(chart.panels))
    all_axes = figure.subplots(_rows(chart), columns, squeeze=False).ravel()
    largest = scale_end(chart)
    for axes in all_axes:
        axes.axis("off")
    shown = None
    for axes, panel in zip(all_axes, chart.panels, strict=False):
        low = -largest if chart.signed else 0.0
        shown = axes.imshow(
            panel.values, cmap="RdBu_r" if chart.signed else "viridis", vmin=low, vmax=largest
        )
        axes.set_title(panel.title, fontsize=7)
    if shown is not None:
        beyond = beyond_scale(chart)
        label = ", ".join(text for text in (chart.value_title, beyond) if text)
        ends = ("both" if chart.signed else "max") if beyond else "neither"
        figure.colorbar(shown, ax=list(all_axes), label=label, shrink=0.7, extend=ends)
