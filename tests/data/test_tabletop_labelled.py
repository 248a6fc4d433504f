"""Labelled scenes: half with a thing and half without, and what each token sees of them."""

import numpy as np
import pytest

from emma_viz.data.geometry import Geometry
from emma_viz.data.tabletop import SIZE, labelled_scenes, make_scene
from emma_viz.errors import InputError


def test_a_balanced_choice_takes_turns():
    scenes = labelled_scenes("test", 6, with_kind="spoon", balanced=True)
    assert [each.has_kind for each in scenes] == [True, False] * 3
    assert [each.scene.count("spoon") > 0 for each in scenes] == [True, False] * 3
    assert len({each.scene.index for each in scenes}) == 6
    assert all(each.scene.split == "test" for each in scenes)


def test_a_kind_alone_or_none():
    assert [each.scene for each in labelled_scenes("val", 3)] == [
        make_scene("val", index) for index in range(3)
    ]
    with_cups = labelled_scenes("val", 2, with_kind="cup")
    assert all(each.has_kind and each.scene.count("cup") for each in with_cups)


def test_tokens_are_labelled_by_what_covers_them():
    (scene,) = labelled_scenes("test", 1, with_kind="plate")
    place = Geometry(image_size=(SIZE, SIZE), strategy="resize-naive", size=64, patch=8)
    labels = scene.token_labels(place)
    side = SIZE // 8
    for token in range(place.n_tokens):
        row, column = divmod(token, 8)
        cell = scene.mask[side * row : side * (row + 1), side * column : side * (column + 1)]
        shares = np.bincount(cell.ravel(), minlength=len(scene.scene.things) + 1) / cell.size
        assert labels[token] == (shares.argmax() if shares.max() >= 0.5 else -1)
    assert {0, 1 + [thing.kind for thing in scene.scene.things].index("plate")} <= set(labels.tolist())
    whole = scene.token_labels(place, at_least=1)
    assert ((whole == labels) | (whole == -1)).all()
    assert (whole == -1).sum() > (labels == -1).sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "at least one"),
        ({"n": 3, "with_kind": "cup", "balanced": True}, "an even number"),
        ({"n": 2, "with_kind": "unicorn"}, "no kind 'unicorn'"),
        ({"n": 2, "balanced": True}, "with_kind"),
        ({"n": 2, "split": "holdout"}, "split"),
    ],
)
def test_what_cannot_be_chosen_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        labelled_scenes(**{"split": "test", **options})


def test_tokens_of_another_image_or_share_are_refused():
    (scene,) = labelled_scenes("test", 1)
    place = Geometry(image_size=(SIZE, SIZE), strategy="resize-naive", size=64, patch=8)
    with pytest.raises(InputError, match="at_least"):
        scene.token_labels(place, at_least=0)
    with pytest.raises(InputError, match="expected the geometry"):
        scene.token_labels(Geometry(image_size=(9, 9), strategy="resize-naive", size=64, patch=8))
