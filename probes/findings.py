"""From measures to findings: an interval, a control and a sentence for each; and differences between two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emma_viz.metrics.intervals import Columns, Statistic, combine, images_known
from emma_viz.metrics.trust import bootstrap_p, holm
from probes.numbers import layer_word
from probes.protocol import Finding, Measure, Number

NOT_BETTER = "not better than its control"
_SURE = 0.05
"""Holm's p below which a number beats its control, or two models differ."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One measure of two models, over the images that both know it of."""

    measure: Measure
    """Of the second model."""
    first: Number
    """Over those images alone, as `second` is."""
    second: Number
    over: Number
    """Second less first; images are drawn for both at once."""
    p: float
    """Holm's, two-sided, over all numbers of the probe that both models have."""
    sentence: str

    @property
    def sure(self) -> bool:
        """Whether the models differ here."""
        return self.p < _SURE and (self.over.low > 0 or self.over.high < 0)


def find(measures: Sequence[Measure]) -> tuple[Finding, ...]:
    """Estimate each measure, and put its control beside it; all that have one are judged as one family, by Holm."""
    judged = [index for index, each in enumerate(measures) if each.control is not None]
    p = np.array(
        [
            bootstrap_p(each.columns, each.control or {}, each.statistic, higher=each.higher)
            for each in measures
            if each.control is not None
        ]
    )
    adjusted = dict(zip(judged, holm(p).tolist(), strict=True)) if judged else {}
    return tuple(_found(each, adjusted.get(index), len(judged)) for index, each in enumerate(measures))


def _found(measure: Measure, p: float | None, family: int) -> Finding:
    number = estimated([(1.0, measure.columns)], measure.statistic)
    control = over = beats = None
    if measure.control is not None:
        control = estimated([(1.0, measure.control)], measure.statistic)
        over = estimated([(1.0, measure.columns), (-1.0, measure.control)], measure.statistic)
        beats = p is not None and p < _SURE and (over.low > 0 if measure.higher else over.high < 0)
    return Finding(
        measure=measure,
        number=number,
        control=control,
        over=over,
        beats=beats,
        p=p,
        family=family,
        sentence=_sentence(measure, number, control, over, beats, p, family),
    )


def estimated(terms: Sequence[tuple[float, Columns]], statistic: Statistic) -> Number:
    """Σ weight · statistic with its interval over images; that of one known image is not known (NaN)."""
    found = combine([(weight, [each]) for weight, each in terms], statistic)
    return Number(value=found.value, low=found.low, high=found.high)


def _where(measure: Measure) -> str:
    """ ", layer 3" or nothing."""
    return "" if measure.layer is None else f", layer {layer_word(measure.layer)}"


def shown(number: Number) -> str:
    """ "0.83 [0.80, 0.86]"."""
    if not math.isfinite(number.value):
        return "not defined"
    if not (math.isfinite(number.low) and math.isfinite(number.high)):
        return f"{number.value:.3g} (no interval)"
    return f"{number.value:.3g} [{number.low:.3g}, {number.high:.3g}]"


def _sentence(
    measure: Measure,
    number: Number,
    control: Number | None,
    over: Number | None,
    beats: bool | None,
    p: float | None,
    family: int,
) -> str:
    unit = f" {measure.unit}" if measure.unit else ""
    text = f"{measure.title}{_where(measure)}: {shown(number)}{unit}"
    if control is not None:
        text += f"; {measure.control_title or 'control'}: {shown(control)}"
        text += "." if beats else f": {NOT_BETTER}{_counted(measure, over, p, family)}."
    else:
        text += "."
    return f"{text} {measure.note}".strip()


def _counted(measure: Measure, over: Number | None, p: float | None, family: int) -> str:
    """Why a number does not beat its control although its own interval says so."""
    alone = over is not None and (over.low > 0 if measure.higher else over.high < 0)
    return f" when all {family} comparisons are counted (Holm's p {p:.2g})" if alone else ""


def differences(first: Sequence[Measure], second: Sequence[Measure]) -> tuple[Difference, ...]:
    """Every measure that both models have, with its paired difference over the images that both know it of."""
    known = {(each.name, each.layer): each for each in first}
    pairs = [
        _on_common_images(other, each)
        for each in second
        if (other := known.get((each.name, each.layer))) and _length(other.columns) == _length(each.columns)
    ]
    adjusted = holm(np.array([_two_sided(*pair) for pair in pairs])) if pairs else ()
    found = []
    for (other, measure), p in zip(pairs, adjusted, strict=True):
        before, after = (estimated([(1.0, each.columns)], each.statistic) for each in (other, measure))
        over = estimated([(1.0, measure.columns), (-1.0, other.columns)], measure.statistic)
        found.append(
            Difference(
                measure=measure,
                first=before,
                second=after,
                over=over,
                p=float(p),
                sentence=_difference(measure, over, float(p), len(pairs)),
            )
        )
    return tuple(found)


def _two_sided(first: Measure, second: Measure) -> float:
    sides = (
        bootstrap_p(second.columns, first.columns, second.statistic, higher=higher)
        for higher in (True, False)
    )
    return min(1.0, 2 * min(sides))


def _on_common_images(*measures: Measure) -> tuple[Measure, Measure]:
    """Two measures without the images that one of them is not known of."""
    both = np.all([images_known(each.columns, each.statistic) for each in measures], axis=0)
    first, second = (
        replace(each, columns={name: np.where(both, column, 0.0) for name, column in each.columns.items()})
        for each in measures
    )
    return first, second


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _difference(measure: Measure, over: Number, p: float, family: int) -> str:
    if not math.isfinite(over.value):
        said = "the difference is not defined"
    elif (over.low > 0 or over.high < 0) and not p < _SURE:
        said = f"no difference that stands when all {family} are counted ({shown(over)}, Holm's p {p:.2g})"
    elif over.low > 0:
        said = f"higher by {shown(over)}"
    elif over.high < 0:
        said = f"lower by {shown(Number(value=-over.value, low=-over.high, high=-over.low))}"
    elif over.value == 0 and over.low == over.high == 0:
        said = "exactly the same"
    else:
        said = f"no difference that these images support ({shown(over)})"
    return f"{measure.title}{_where(measure)}: {said}."
