"""Scenes of the tabletop as training sees them: drawn, labelled, and asked about."""

import numpy as np
import pytest

from emma_viz.checkpoints.tokenizers import BUNDLED_TOKENIZER
from emma_viz.data.tabletop import (
    COLOUR_INDEX,
    KIND_INDEX,
    caption_turn,
    make_scene,
    scene_questions,
)
from emma_viz.data.tokenizer import Tokenizer
from training.pocket.joint import asked_of_scene
from training.pocket.scenes import PATCH, scene_arrays
from training.vision_language.recipe import Phase, Recipe
from training.vision_language.scene_batches import SceneBatches


def drawn(step, *, count, **phase):
    """A step of a run's second phase, which begins at 1."""
    phases = (Phase(steps=1, batch=1), Phase(steps=32, **phase))
    batches = SceneBatches(
        recipe=Recipe(model="x", phases=phases, lr=1e-3),
        style="in-out",
        tokenizer=Tokenizer.load(BUNDLED_TOKENIZER),
        count=count,
        shown=lambda _: pytest.fail("the images are not needed"),
        asked=lambda number, *which: asked_of_scene(phases[number], *which),
    )
    number, rows, turns = batches.drawn(1 + step)
    assert number == 1
    return rows, turns


def test_an_epoch_sees_every_scene_once_and_the_next_asks_anew():
    steps = [drawn(step, count=32, batch=3) for step in range(22)]
    numbers = np.concatenate([numbers for numbers, _ in steps])
    assert sorted(numbers[:32]) == sorted(numbers[32:64]) == list(range(32))
    asked = [
        [turn for owner, turn in turns if owner == place]
        for numbers, turns in steps
        for place in range(len(numbers))
    ]
    again = {int(n): a for n, a in zip(numbers[32:64], asked[32:64], strict=True)}
    assert sum(again[int(n)] != a for n, a in zip(numbers[:32], asked[:32], strict=True)) > 24
    alone = drawn(15, count=32, batch=3)
    assert np.array_equal(alone[0], steps[15][0])
    assert alone[1] == steps[15][1]


def test_caption_phases_ask_for_captions_alone():
    numbers, turns = drawn(0, count=24, batch=2, captions=True)
    assert turns == [(place, caption_turn(make_scene("train", int(n)))) for place, n in enumerate(numbers)]


def test_scene_arrays_are_drawn_once_and_labelled_by_patch(tmp_path):
    data = scene_arrays("val", 5, tmp_path, workers=1)
    again = scene_arrays("val", 5, tmp_path, workers=1)
    assert data.digest == again.digest
    assert len(data) == 5
    scene = make_scene("val", 2)
    labels = set(np.unique(data.kinds[2])) - {0}
    assert len(labels) == len(scene.kinds)
    peaks = data.centers[2] > 0.7
    assert 1 <= peaks.sum() <= 2 * len(scene.things) + 4


def test_the_patches_of_a_chart_are_labelled_by_its_bars(tmp_path):
    data = scene_arrays("val", 40, tmp_path, workers=1)
    number = next(n for n in range(40) if (made := make_scene("val", n).chart) and made.form == "bar")
    scene = make_scene("val", number)
    for thing in scene.things:
        row, column = thing.y // PATCH, thing.x // PATCH
        assert data.kinds[number, row, column] == 1 + KIND_INDEX["bar"]
        assert data.colours[number, row, column] == COLOUR_INDEX[thing.colour]
        assert data.centers[number, row, column] > 0.5


def test_held_out_questions_are_of_every_topic_about_charts_too():
    topics = {True: set(), False: set()}
    for index in range(150):
        scene = make_scene("test", index)
        topics[scene.chart is not None] |= {topic for topic, _ in scene_questions(scene)}
    assert topics[False] == topics[True] | {"where"}
    assert {f"existence {mode}" for mode in ("random", "popular", "adversarial")} < topics[True]


def test_held_out_questions_are_balanced():
    turns = [
        turn
        for i in range(200)
        for topic, turn in scene_questions(make_scene("test", i))
        if "existence" in topic
    ]
    assert sum(turn.answer == "Yes." for turn in turns) == len(turns) / 2
    assert len(turns) == 200 * 3 * 2
    relations = [
        t.answer
        for i in range(400)
        for topic, t in scene_questions(make_scene("test", i))
        if topic == "relation"
    ]
    assert np.mean([answer == "Yes." for answer in relations]) == pytest.approx(0.5, abs=0.08)
