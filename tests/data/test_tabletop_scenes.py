from collections import Counter

import numpy as np
import pytest

from emma_viz.data.tabletop import COLOURS, KINDS, SIZE, Scene, Thing, draw_scene, make_scene
from emma_viz.data.tabletop.backgrounds import PHOTOS, WEIGHTS, draw_background
from emma_viz.data.tabletop.bank import DRAWINGS, KEPT, sprite
from emma_viz.data.tabletop.charts import PAPERS
from emma_viz.data.tabletop.kinds import BY_FREQUENCY, TABLE_KINDS
from emma_viz.data.tabletop.scenes import CHARTS, MIDLINE
from emma_viz.errors import InputError
from training.results.examination import UNSEEN_PHOTOS as MEASURED

SCENES = [make_scene("train", index) for index in range(300)]
TABLES = [scene for scene in SCENES if not scene.chart]


def test_the_world_is_rich_enough():
    assert len(KINDS) >= 24
    assert len(COLOURS) == 9
    assert set(DRAWINGS) == {kind.name for kind in TABLE_KINDS}
    assert {thing.kind for scene in TABLES for thing in scene.things} == set(DRAWINGS)
    assert {scene.surface for scene in TABLES} == set(WEIGHTS)
    assert {scene.surface for scene in SCENES if scene.chart} == set(PAPERS)
    assert {len(scene.things) for scene in TABLES} == {1, 2, 3, 4, 5}


def test_charts_and_kinds_are_as_frequent_as_declared():
    scenes = [make_scene("train", index) for index in range(3000)]
    assert np.mean([scene.chart is not None for scene in scenes]) == pytest.approx(CHARTS, abs=0.02)
    often = Counter(kind for scene in scenes for kind in scene.kinds)
    assert {kind for kind, _ in often.most_common(6)} == set(BY_FREQUENCY[:6])
    assert often[BY_FREQUENCY[0]] > 2 * np.median(list(often.values()))
    assert min(often[kind.name] for kind in KINDS) > 100, (
        "rare kinds must still be met often enough to be learnt"
    )


def test_companions_are_kinds_and_never_the_kind_itself():
    names = {kind.name for kind in KINDS}
    for kind in KINDS:
        assert set(kind.companions) <= names - {kind.name}
        assert set(kind.palette) <= set(COLOURS)


def test_a_scene_is_the_same_every_time():
    again = make_scene("train", 17)
    assert again == SCENES[17]
    np.testing.assert_array_equal(draw_scene(again).image, draw_scene(SCENES[17]).image)


def test_splits_share_no_scene():
    looks = [
        {(s.surface, s.things, s.chart) for s in (make_scene(split, i) for i in range(300))}
        for split in ("train", "val", "test")
    ]
    assert not looks[0] & looks[1]
    assert not looks[0] & looks[2]
    assert not looks[1] & looks[2]


def test_drawing_has_the_promised_form():
    drawn = draw_scene(SCENES[3])
    assert drawn.image.shape == (SIZE, SIZE, 3)
    assert drawn.image.dtype == np.uint8
    assert set(np.unique(drawn.mask)) == set(range(len(SCENES[3].things) + 1))


@pytest.mark.parametrize("index", range(6))
def test_mask_is_where_the_object_changed_the_picture(index):
    scene = TABLES[index]
    number = len(scene.things)
    without = draw_scene(
        Scene(split=scene.split, index=scene.index, surface=scene.surface, things=scene.things[:-1])
    )
    drawn = draw_scene(scene)
    last = drawn.mask == number
    assert last.sum() > 60
    changed = np.abs(drawn.image.astype(int) - without.image).max(-1) > 0
    assert changed[last].mean() > 0.8
    near = np.hypot(
        *(np.mgrid[0:SIZE, 0:SIZE] - np.array([scene.things[-1].y, scene.things[-1].x])[:, None, None])
    )
    assert not last[near > scene.things[-1].size].any()


def test_where_has_one_answer():
    for scene in TABLES:
        for thing in scene.things:
            assert abs(thing.x - SIZE / 2) >= MIDLINE
            assert abs(thing.y - SIZE / 2) >= MIDLINE
    thing = Thing(kind="cup", colour="red", x=20, y=100, size=30, angle=0)
    assert thing.quarter == "bottom left"


def test_a_red_cup_is_red_and_a_turn_moves_it():
    red, blue = sprite("cup", "red", 40, 0), sprite("cup", "blue", 40, 0)
    body = red.alpha > 0.9
    assert red.colour[body][:, 0].mean() > red.colour[body][:, 2].mean() + 60
    assert blue.colour[body][:, 2].mean() > blue.colour[body][:, 0].mean() + 60
    assert np.abs(sprite("cup", "red", 40, 90).alpha - np.rot90(red.alpha)).mean() < 0.02


def test_as_many_sprites_as_are_kept_take_their_own_memory_and_no_more():
    assert sprite.cache_info().maxsize == KEPT
    piece = sprite("cup", "red", 40, 15)
    assert all(each.base is None for each in (piece.alpha, piece.shadow))


def test_sprites_cannot_be_changed_by_their_users():
    with pytest.raises(ValueError, match="read-only"):
        sprite("cup", "red", 40, 0).alpha[0, 0] = 1


@pytest.mark.parametrize("kind", sorted(WEIGHTS))
def test_backgrounds_differ_with_the_seed(kind):
    first, second = (draw_background(kind, 64, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.abs(first - second).mean() > 0.01


def test_photographs_for_showing_and_measuring_are_not_trained_on():
    assert not {"coffee.png", "astronaut.png", "chelsea.png", *MEASURED} & set(PHOTOS)


@pytest.mark.parametrize(("split", "index"), [("training", 0), ("train", -1)])
def test_wrong_split_or_number_is_an_error(split, index):
    with pytest.raises(InputError, match=r"tabletop split|number is 0 or more"):
        make_scene(split, index)
