"""Findings of many numbers at once: what chance gives is not called a find, what was planted is."""

import numpy as np
import pytest

from emma_viz.metrics.intervals import ratio
from probes.findings import differences, find
from probes.numbers import mean_measure
from probes.protocol import Measure

DRAW = np.random.default_rng(7)
IMAGES, NOTHINGS = 24, 60


def measures(planted: float, offset: float = 0.0):
    """Many numbers that are their control but for chance, and one that is more."""
    nothing = [
        mean_measure(
            DRAW.normal(size=IMAGES) + offset, DRAW.normal(size=IMAGES), name=f"{index}", title="noise"
        )
        for index in range(NOTHINGS)
    ]
    control = DRAW.normal(size=IMAGES)
    real = mean_measure(
        control + planted + 0.1 * DRAW.normal(size=IMAGES), control, name="real", title="planted"
    )
    return [*nothing, real]


def test_of_many_nothings_none_beats_its_control_and_what_was_planted_does():
    found = find(measures(planted=1.0))
    lucky = [each for each in found[:-1] if each.over.low > 0]
    assert lucky, "without luck there is nothing to hold back"
    assert [each.measure.name for each in found if each.beats] == ["real"]
    assert all(each.family == len(found) for each in found)
    shown = found[-1]._repr_html_()
    assert "planted: " in shown
    assert all(f"<td>{row}</td><td>" in shown for row in ("value", "control", "over it"))
    assert "when all 61 comparisons are counted (Holm's p" in lucky[0].sentence
    (alone,) = find([lucky[0].measure])
    assert alone.p < found[found.index(lucky[0])].p


def test_two_models_differ_where_it_was_planted_and_equal_ones_nowhere():
    first = measures(planted=0.0)
    second = [
        mean_measure(each.columns["sum"] + shift, name=each.name, title=each.title)
        for each, shift in zip(first, [*DRAW.normal(scale=0.3, size=(NOTHINGS, IMAGES)), 2.0], strict=True)
    ]
    found = differences(first, second)
    assert [each.measure.name for each in found if each.sure] == ["real"]
    assert not any(each.sure for each in differences(first, first))
    assert all(each.over.value == each.over.low == each.over.high == 0 for each in differences(first, first))


def test_a_mean_over_all_images_needs_no_column_that_counts_them():
    values, control = DRAW.normal(size=IMAGES) + 2, DRAW.normal(size=IMAGES)
    mean, other = (
        Measure(
            name="mean", title="mean", columns={"x": each}, statistic=ratio("x"), control={"x": 0 * control}
        )
        for each in (values, control)
    )
    (found,) = find([mean])
    assert found.beats
    assert found.number.value == pytest.approx(values.mean())
    (gap,) = differences([other], [mean])
    assert gap.sure
    assert gap.over.value == pytest.approx(values.mean() - control.mean())


def test_models_are_compared_on_the_images_that_both_know_whichever_is_first():
    """Of two images nothing can be said, however many more one of the models knows."""
    known = DRAW.normal(size=16)
    few = np.where(np.arange(16) < 2, known, np.nan)
    one, other = (mean_measure(each, name="mean", title="mean") for each in (few, known + 3))
    for first, second, sign in ((one, other, 1), (other, one, -1)):
        (gap,) = differences([first], [second])
        assert not gap.sure
        assert gap.p >= 0.5
        assert gap.over.value == pytest.approx(3 * sign), "each image beside itself"
        assert gap.second.value - gap.first.value == pytest.approx(gap.over.value)


def test_a_share_of_one_image_has_no_interval():
    alone = np.eye(4)[0]
    (found,) = find(
        [
            Measure(
                name="share", title="share", columns={"frozen": 0.25 * alone, "real": alone},
                statistic=ratio("frozen", "real"),
            )
        ]
    )  # fmt: skip
    assert "0.25 (no interval)" in found.sentence
