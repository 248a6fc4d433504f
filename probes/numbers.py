"""Numbers that probes have in common: means over images, curves over layers, where a curve falls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Num

from emma_viz.metrics.intervals import Statistic, ratio
from emma_viz.render.depth import RELATIVE
from emma_viz.shapes import EMBEDDING
from probes.charts import Lines, Series
from probes.protocol import Finding, Measure, Number, Result, Seen


def averaged(values: Num[np.ndarray, " n"]) -> tuple[dict[str, np.ndarray], Statistic]:
    """The columns and the statistic of a mean over images; images with NaN are left out."""
    known = np.isfinite(values)
    columns = {"sum": np.where(known, values, 0.0), "count": known.astype(np.float64)}
    return columns, ratio("sum", "count")


def mean_measure(
    values: Num[np.ndarray, " n"], control: Num[np.ndarray, " n"] | None = None, **given: Any
) -> Measure:
    """A mean over the images of which the number, and its control where there is one, are known.

    Args:
        values: one for each image.
        control: what must be beaten, of the same images.
        given: further fields of the measure.
    """
    if control is None:
        columns, statistic = averaged(values)
        return Measure(columns=columns, statistic=statistic, **given)
    known = np.isfinite(values) & np.isfinite(control)
    columns, statistic = averaged(np.where(known, values, np.nan))
    other, _ = averaged(np.where(known, control, np.nan))
    return Measure(columns=columns, statistic=statistic, control=other, **given)


def shared_part(
    values: Num[np.ndarray, " n"], whole: Num[np.ndarray, " n"]
) -> tuple[dict[str, np.ndarray], Statistic]:
    """The columns and the statistic of Σ part / Σ whole, each image's part taken with the sign of its whole."""
    known = np.isfinite(whole) & np.isfinite(values)
    part = np.where(known, np.sign(np.where(known, whole, 1)) * values, 0)
    columns = {"part": part, "whole": np.where(known, np.abs(whole), 0), "count": known.astype(np.float64)}
    return columns, ratio("part", "whole")


def joined_parts(rows: Sequence[Mapping[str, Any]], notes: Sequence[str], **given: Any) -> Seen:
    """What was seen of a batch, from a row for each image; the same note twice is kept once."""
    columns = {name: np.stack([np.asarray(row[name], np.float64) for row in rows]) for name in rows[0]}
    return Seen(columns=columns, notes=tuple(dict.fromkeys(notes)), **given)


def layer_word(layer: int | None) -> str:
    """What a layer is called."""
    return "embedding" if layer == EMBEDDING else str(layer)


def layer_tick(layer: int | None) -> str:
    """The same where there is little room."""
    return "emb." if layer == EMBEDDING else layer_word(layer)


def signed(value: float) -> str:
    """One decimal; nothing is "0.0" from either side."""
    return f"{round(value, 1) + 0.0:.1f}"


def percent(share: float) -> str:
    """ "31%"; nothing is "0%" from either side."""
    return f"{share + 0.0 if abs(share) >= 0.005 else 0.0:.0%}"


def drop(curve: Sequence[Finding]) -> Finding | None:
    """The finding at whose layer a curve falls most from the one before it; None where it never falls."""
    pairs = [(before.number.value - after.number.value, after) for before, after in pairwise(curve)]
    pairs = [pair for pair in pairs if np.isfinite(pair[0]) and pair[0] > 0]
    return max(pairs, key=lambda pair: pair[0])[1] if pairs else None


def layer_chart(
    results: Sequence[Result],
    measure: str,
    *,
    name: str,
    title: str,
    y_title: str,
    caption: str = "",
    of: str | None = None,
) -> Lines | None:
    """One measure by layer, with its intervals, for each model; its control dashed. None where nobody has it.

    Args:
        results: of the models.
        measure: its name.
        name: of the chart.
        title: of the chart.
        y_title: what is measured, with its unit.
        caption: below the chart.
        of: what the one result is of, where that is no single model.
    """
    curves = [(index, result, result.curve(measure)) for index, result in enumerate(results)]
    curves = [each for each in curves if each[2]]
    if not curves:
        return None
    relative = len({result.gathered.model.n_layer for _, result, _ in curves}) > 1
    seen = {each.measure.layer for _, _, curve in curves for each in curve if each.measure.layer is not None}
    series = []
    for index, result, curve in curves:
        whose = of or result.model
        last = result.gathered.model.n_layer - 1 if relative else None
        gaps = () if relative else seen.intersection(result.gathered.layers)
        series.append(curve_series(whose, index, curve, last=last, gaps=gaps))
        if any(each.control is not None for each in curve):
            title_of = f"{whose}: {curve[0].measure.control_title}"
            series.append(curve_series(title_of, index, curve, last=last, gaps=gaps, controls=True))
    return Lines(
        name=name,
        title=title,
        x_title=RELATIVE if relative else "layer",
        y_title=y_title,
        series=series,
        caption=caption,
    )


def curve_chart(
    curves: Mapping[str, Sequence[Finding]],
    *,
    name: str,
    title: str,
    x_title: str,
    y_title: str,
    caption: str = "",
    control: str = "",
) -> Lines:
    """Curves of one model by layer, by what they are called.

    Args:
        curves: what each is called, and the findings.
        name: of the chart.
        title: of the chart.
        x_title: what the layers are counted by.
        y_title: what is measured, with its unit.
        caption: below the chart.
        control: what the one is called that others must beat.
    """
    series = [
        curve_series(said, number, curve, control=said == control)
        for number, (said, curve) in enumerate(curves.items())
    ]
    return Lines(name=name, title=title, x_title=x_title, y_title=y_title, series=series, caption=caption)


def curve_series(
    name: str,
    model: int,
    curve: Sequence[Finding],
    *,
    last: int | None = None,
    gaps: Iterable[int] = (),
    controls: bool = False,
    control: bool = False,
) -> Series:
    """A curve at the numbers of its layers.

    Args:
        name: of the series.
        model: which.
        curve: the findings, each of a layer.
        last: the model's last block, where layers stand by depth: 1 is that block; None where by their numbers.
        gaps: layers that were examined too; where the curve has none of them, it has a gap.
        controls: show what each must beat, in its place.
        control: show it as what others must beat.
    """
    found = {each.measure.layer: each.control if controls else each.number for each in curve}
    layers = sorted(layer for layer in {*found, *gaps} if layer is not None)
    series = series_of(name, model, [found.get(layer) for layer in layers], control=controls or control)
    return replace(series, at=[float(layer) if last is None else layer / max(last, 1) for layer in layers])


def series_of(name: str, model: int, numbers: Sequence[Number | None], *, control: bool = False) -> Series:
    """Numbers with their intervals as one series; a gap where there is none."""
    known = [each or Number(value=np.nan, low=np.nan, high=np.nan) for each in numbers]
    return Series(
        name=name,
        y=[each.value for each in known],
        low=[each.low for each in known],
        high=[each.high for each in known],
        model=model,
        control=control,
    )
