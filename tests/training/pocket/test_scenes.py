"""Scenes of the tabletop as training sees them: drawn, labelled, and asked about."""

from functools import partial

import numpy as np
import pytest

from emma_viz.data.tabletop import (
    COLOUR_INDEX,
    KIND_INDEX,
    caption_turn,
    make_scene,
    scene_questions,
)
from training.loop.config import Phase
from training.pocket.scenes import PATCH, scene_arrays
from training.pocket.streams import SceneStream, asked_of_scene

CAPTIONS, QUESTIONS = ((Phase(steps=1, batch=1, captions=each),) for each in (True, False))
ASKED = partial(asked_of_scene, QUESTIONS, 0)


def test_an_epoch_sees_every_scene_once_and_the_next_asks_anew():
    scenes = SceneStream(batch=3, count=32, seed=(0, 1), asked=ASKED)
    drawn = [scenes.batch_of(step) for step in range(22)]
    numbers = np.concatenate([numbers for numbers, _ in drawn])
    assert sorted(numbers[:32]) == sorted(numbers[32:64]) == list(range(32))
    asked = [
        [turn for owner, turn in turns if owner == place]
        for numbers, turns in drawn
        for place in range(len(numbers))
    ]
    again = {int(n): a for n, a in zip(numbers[32:64], asked[32:64], strict=True)}
    assert sum(again[int(n)] != a for n, a in zip(numbers[:32], asked[:32], strict=True)) > 24
    alone = SceneStream(batch=3, count=32, seed=(0, 1), asked=ASKED).batch_of(15)
    assert np.array_equal(alone[0], drawn[15][0])
    assert alone[1] == drawn[15][1]


def test_caption_phases_ask_for_captions_alone():
    scenes = SceneStream(batch=2, count=24, seed=(0, 0), asked=partial(asked_of_scene, CAPTIONS, 0))
    numbers, turns = scenes.batch_of(0)
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
