from dataclasses import replace

import numpy as np
import pytest

from emma_viz.data.tabletop import (
    COLOURS,
    ChartPicture,
    ChartSeries,
    Scene,
    caption,
    draw_scene,
    make_scene,
    questions,
    relation_turns,
    stream,
    where_turns,
)
from emma_viz.data.tabletop.charts import HIGHEST, PAPERS, TITLES, UNITS, draw_chart
from emma_viz.data.tabletop.language import color_turns, comparison, corpus, count, existence
from emma_viz.data.tabletop.scenes import Thing

CHARTS = [scene for scene in (make_scene("train", index) for index in range(700)) if scene.chart]


def chart_of(form, *series, title="Sales"):
    chosen = tuple(ChartSeries(colour=colour, values=values) for colour, values in series)
    return ChartPicture(form=form, title=title, paper="light", unit=1, series=chosen)


def scene_of(chart):
    things = tuple(
        Thing(kind=chart.form, colour=series.colour, x=0, y=0, size=10, angle=0) for series in chart.series
    )
    return Scene(split="test", index=0, surface=chart.paper, things=things, chart=chart)


BARS = chart_of("bar", ("red", (3,)), ("blue", (9,)), ("green", (5,)))
LINES = chart_of("line", ("red", (8, 9, 7)), ("pink", (2, 3, 4)), ("blue", (1, 4, 9)))


def test_charts_show_everything_that_was_promised():
    charts = [scene.chart for scene in CHARTS]
    assert {(chart.form, len(chart.series)) for chart in charts} == {
        *(("bar", n) for n in (2, 3, 4, 5)),
        *(("line", n) for n in (1, 2, 3)),
    }
    assert {chart.title for chart in charts} == set(TITLES)
    assert {chart.paper for chart in charts} == set(PAPERS)
    assert {chart.unit for chart in charts} == set(UNITS)
    for scene in CHARTS:
        colours = [series.colour for series in scene.chart.series]
        assert colours == [thing.colour for thing in scene.things]
        assert len(set(colours)) == len(colours)
        assert PAPERS[scene.surface][2] not in colours, "such a bar could not be told from the paper"
        assert {thing.kind for thing in scene.things} == {scene.chart.form}
        assert all(1 <= value <= HIGHEST for series in scene.chart.series for value in series.values)
        if scene.chart.form == "bar":
            assert len({series.values for series in scene.chart.series}) == len(colours)


@pytest.mark.parametrize("number", range(8))
def test_the_mask_is_where_another_colour_changes_the_picture(number):
    scene = CHARTS[number]
    last = scene.chart.series[-1]
    other = max(COLOURS, key=lambda name: abs(COLOURS[name][0] - COLOURS[last.colour][0]))
    painted = replace(scene.chart, series=(*scene.chart.series[:-1], replace(last, colour=other)))
    first, second = (
        draw_scene(replace(scene, chart=chart)).image[..., 0].astype(float)
        for chart in (scene.chart, painted)
    )
    cover = (second - first) / (COLOURS[other][0] - COLOURS[last.colour][0])
    mask = draw_scene(scene).mask == len(scene.things)
    assert cover.max() == pytest.approx(1, abs=0.01)
    assert cover[mask].min() > 0.49
    assert cover[~mask].max() < 0.51


def test_a_bar_is_as_high_as_its_value_and_stands_in_its_place():
    _, mask = draw_chart(BARS, np.random.default_rng(0))
    heights = [int((mask == n).any(1).sum()) for n in (1, 2, 3)]
    step = heights[1] / 9
    assert heights == pytest.approx([3 * step, 9 * step, 5 * step], abs=1)
    for n in (1, 2, 3):
        rows, columns = np.nonzero(mask == n)
        assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == len(rows)
    places = [np.nonzero(mask == n)[1].mean() for n in (1, 2, 3)]
    assert places == sorted(places)


def test_every_series_can_be_seen_and_lies_round_its_centre():
    for scene in CHARTS:
        mask = draw_scene(scene).mask
        assert set(np.unique(mask)) == set(range(len(scene.things) + 1))
        for number, thing in enumerate(scene.things, start=1):
            rows, columns = np.nonzero(mask == number)
            assert len(rows) >= 40
            if scene.chart.form == "bar":
                assert abs(rows.mean() - thing.y) <= 1
                assert abs(columns.mean() - thing.x) <= 1


def test_titles_and_labels_change_the_picture_where_they_stand():
    first, second = (
        draw_chart(chart, np.random.default_rng(0))[0].astype(int)
        for chart in (BARS, replace(BARS, title="Rain", unit=10))
    )
    rows, columns = np.nonzero(np.abs(first - second).max(-1) > 30)
    title = rows < 24
    assert rows[title].max() - rows[title].min() >= 9, "a title is large enough to be read"
    assert columns[~title].max() < 24, "and the unit shows on the vertical axis alone"


def test_a_chart_is_the_same_every_time():
    scene = CHARTS[0]
    assert make_scene(scene.split, scene.index) == scene
    np.testing.assert_array_equal(draw_scene(scene).image, draw_scene(scene).image)


def test_captions_name_every_series():
    assert caption(scene_of(BARS)) == "A bar chart with three bars, red, blue and green, titled Sales."
    assert caption(scene_of(LINES)) == "A line chart with three lines, red, pink and blue, titled Sales."
    one = chart_of("line", ("orange", (1, 2)), title="Rain")
    assert caption(scene_of(one)) == "A line chart with an orange line, titled Rain."
    for scene in CHARTS:
        said = caption(scene)
        assert scene.chart.title in said
        assert all(series.colour in said for series in scene.chart.series)


def test_answers_about_bars_are_true():
    scene = scene_of(BARS)
    assert {(turn.question, turn.answer) for turn in color_turns(scene)} == {
        ("What color is the tallest bar?", "Blue."),
        ("What color is the shortest bar?", "Red."),
    }
    assert existence(scene, "bar").answer == "Yes."
    assert existence(scene, "line").answer == "No."
    assert (count(scene, "bar").question, count(scene, "bar").answer) == (
        "How many bars are there?",
        "Three.",
    )
    red, blue, _ = BARS.series
    turn = comparison("bar", red, blue, word="taller than")
    assert (turn.question, turn.answer) == ("Is the red bar taller than the blue bar?", "No.")
    assert comparison("bar", red, blue, word="shorter than").answer == "Yes."
    assert comparison("bar", blue, red, word="taller than").answer == "Yes."
    assert not where_turns(scene)


def test_lines_that_meet_are_not_compared():
    asked = {
        turn.question: turn.answer
        for purpose in range(40)
        for turn in relation_turns(scene_of(LINES), stream("test", 0, purpose))
    }
    assert asked == {
        "Is the red line above the pink line?": "Yes.",
        "Is the red line below the pink line?": "No.",
        "Is the pink line above the red line?": "No.",
        "Is the pink line below the red line?": "Yes.",
    }
    assert not color_turns(scene_of(LINES)), 'with three lines, "the line" means none'
    one = scene_of(chart_of("line", ("red", (1, 2))))
    assert [turn.answer for turn in color_turns(one)] == ["Red."]


def test_the_tokenizer_is_shown_every_word_about_charts():
    known = set(" ".join(corpus()).split())
    known |= {word.strip(".,?") for word in known}
    for scene in CHARTS:
        for turn in questions(scene, stream("train", scene.index, 2)):
            words = {word.strip(".,?") for word in f"{turn.question} {turn.answer}".split()}
            assert words <= known
