"""Films: a frame a layer, with the scales, marks and notes of the figure."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageSequence

from emma_viz.errors import InputError
from emma_viz.render import encode
from emma_viz.render.film import FRAME, LAST, film, frames
from emma_viz.render.footer import warnings


@pytest.fixture
def marked(make):
    """A figure whose first model's last layer does not beat its control."""
    spec = make.spec()
    (case,) = spec.images
    first, *others = case.models
    last = first.layers[-1]
    weak = replace(first, marked=(last,), controls=f"† does not beat shuffled weights, at layer {last}")
    return replace(spec, images=(replace(case, models=(weak, *others)),))


def test_a_frame_is_the_figure_of_one_layer(marked):
    (case,) = marked.images
    found = frames(marked)
    assert [frame.images[0].models[0].layers for frame in found] == [
        (each,) for each in case.models[0].layers
    ]
    for row, frame in enumerate(found):
        for model, whole in zip(frame.images[0].models, case.models, strict=True):
            np.testing.assert_array_equal(model.maps[0], whole.maps[row])
            np.testing.assert_array_equal(model.limits[0], whole.limits[row])
            assert model.controls == whole.controls
    says = [any("does not beat its controls" in each for each in warnings(frame)) for frame in found]
    assert says == [False] * (len(found) - 1) + [True]


def test_models_of_other_depths_move_together_and_are_not_subtracted(make):
    spec = make.spec(figure={"difference": True})
    (case,) = spec.images
    first, second = case.models
    deep = replace(
        second,
        layers=(*second.layers, 9, 10),
        **{
            name: np.concatenate([getattr(second, name), getattr(second, name)[-2:]])
            for name in ("decoded", "maps", "limits", "correlation")
        },
    )
    found = frames(replace(spec, images=(replace(case, models=(first, deep)),)))
    assert len(found) == len(first.layers) + 2
    pairs = [tuple(model.layers[0] for model in frame.images[0].models) for frame in found]
    assert (pairs[0][0], pairs[-1][0]) == (first.layers[0], first.layers[-1])
    assert [pair[1] for pair in pairs] == list(deep.layers)
    assert [frame.difference for frame in found] == [one == other for one, other in pairs]
    assert pairs == [(0, 0), (4, 4), (8, 8), (8, 9), (8, 10)]
    for frame, (one, other) in zip(found, pairs, strict=True):
        assert any("No difference is drawn here" in note for note in frame.notes) == (one != other)


def test_several_images_are_refused(make):
    spec = make.spec()
    (case,) = spec.images
    with pytest.raises(InputError, match="one image for a film"):
        frames(replace(spec, images=(case, replace(case, title="other"))))


@pytest.mark.parametrize("suffix", [".gif", pytest.param(".webp", marks=pytest.mark.slow)])
def test_a_film_plays_every_layer_in_order(marked, suffix):
    (case,) = marked.images
    two = replace(
        marked,
        images=(replace(case, models=tuple(_first(model, 2) for model in case.models)),),
    )
    played = Image.open(io.BytesIO(film(two, suffix, dpi=40)))
    assert played.info["loop"] == 0
    pictures = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(played)]
    lasting = []
    for number in range(played.n_frames):
        played.seek(number)
        played.load()
        lasting.append(played.info["duration"])
    assert lasting == [FRAME, LAST]
    for picture, still in zip(pictures, frames(two), strict=True):
        (drawn,) = encode(still, "still.png", dpi=40, recipe=False)
        expected = np.asarray(Image.open(io.BytesIO(drawn.content)).convert("RGB"), int)
        height, width = expected.shape[:2]
        off = np.abs(picture[:height, :width] - expected)
        assert off.mean() < (6 if suffix == ".gif" else 1e-9)
    assert np.abs(pictures[0] - pictures[1]).max() > 60


def _first(model, count):
    kept = ("layers", "decoded", "maps", "limits", "correlation")
    return replace(model, marked=(), **{name: getattr(model, name)[:count] for name in kept})
