"""From measures to findings: an interval, a control and a sentence for each; and differences between two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emma_viz.metrics.intervals import Columns, Statistic, combine
from probes.numbers import layer_word
from probes.protocol import Finding, Measure, Number

NOT_BETTER = "not better than its control"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One measure of two models on the same images."""

    measure: Measure
    """Of the second model."""
    first: Number
    second: Number
    over: Number
    """Second less first; images are drawn for both at once."""
    sentence: str


def find(measures: Sequence[Measure]) -> tuple[Finding, ...]:
    """Estimate each measure, and put its control beside it."""
    return tuple(_found(each) for each in measures)


def _found(measure: Measure) -> Finding:
    number = estimated([(1.0, measure.columns)], measure.statistic)
    control = over = beats = None
    if measure.control is not None:
        control = estimated([(1.0, measure.control)], measure.statistic)
        over = estimated([(1.0, measure.columns), (-1.0, measure.control)], measure.statistic)
        beats = over.low > 0 if measure.higher else over.high < 0
    return Finding(
        measure=measure,
        number=number,
        control=control,
        over=over,
        beats=beats,
        sentence=_sentence(measure, number, control, beats),
    )


def estimated(terms: Sequence[tuple[float, Columns]], statistic: Statistic) -> Number:
    """Σ weight · statistic with its interval over images; that of one image is not known (NaN)."""
    columns = [(weight, [each]) for weight, each in terms]
    found = combine(columns, statistic)
    known = min((np.count_nonzero(each["count"]) for _, each in terms if "count" in each), default=2)
    if min(found.images, known) < 2:
        return Number(value=found.value, low=math.nan, high=math.nan)
    return Number(value=found.value, low=found.low, high=found.high)


def where(measure: Measure) -> str:
    """ ", layer 3" or nothing."""
    return "" if measure.layer is None else f", layer {layer_word(measure.layer)}"


def shown(number: Number) -> str:
    """ "0.83 [0.80, 0.86]"."""
    if not math.isfinite(number.value):
        return "not defined"
    if not (math.isfinite(number.low) and math.isfinite(number.high)):
        return f"{number.value:.3g} (no interval)"
    return f"{number.value:.3g} [{number.low:.3g}, {number.high:.3g}]"


def _sentence(measure: Measure, number: Number, control: Number | None, beats: bool | None) -> str:
    unit = f" {measure.unit}" if measure.unit else ""
    text = f"{measure.title}{where(measure)}: {shown(number)}{unit}"
    if control is not None:
        text += f"; {measure.control_title or 'control'}: {shown(control)}"
        text += "." if beats else f": {NOT_BETTER}."
    else:
        text += "."
    return f"{text} {measure.note}".strip()


def differences(first: Sequence[Measure], second: Sequence[Measure]) -> tuple[Difference, ...]:
    """Every measure that both models have, of the same images, with its paired difference."""
    known = {(each.name, each.layer): each for each in first}
    found = []
    for measure in second:
        other = known.get((measure.name, measure.layer))
        if other is None or _length(other.columns) != _length(measure.columns):
            continue
        before, after = (estimated([(1.0, each.columns)], each.statistic) for each in (other, measure))
        over = estimated([(1.0, measure.columns), (-1.0, other.columns)], measure.statistic)
        found.append(
            Difference(
                measure=measure, first=before, second=after, over=over, sentence=_difference(measure, over)
            )
        )
    return tuple(found)


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _difference(measure: Measure, over: Number) -> str:
    if not math.isfinite(over.value):
        said = "the difference is not defined"
    elif over.low > 0:
        said = f"higher by {shown(over)}"
    elif over.high < 0:
        said = f"lower by {shown(Number(value=-over.value, low=-over.high, high=-over.low))}"
    elif over.value == 0 and over.low == over.high == 0:
        said = "exactly the same"
    else:
        said = f"no difference that these images support ({shown(over)})"
    return f"{measure.title}{where(measure)}: {said}."
