"""Tokens and original pixels: each claim is checked against the transform that really runs."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from emma_viz.data import STRATEGIES, Geometry, ImageTransform, TowerNorm
from emma_viz.errors import InputError

GREY = TowerNorm(name="grey", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PROFILE = settings(max_examples=40, derandomize=True)

values = st.fixed_dictionaries(
    {
        "image_size": st.tuples(st.integers(1, 700), st.integers(1, 700)),
        "strategy": st.sampled_from(STRATEGIES),
        "size": st.integers(16, 120),
        "patch": st.integers(2, 16),
    }
)


def make(image_size, strategy, size=384, patch=14):
    return Geometry(image_size=image_size, strategy=strategy, size=size, patch=patch)


def view_of(geometry, pixels):
    """What the real transform makes of an image."""
    transform = ImageTransform(
        strategy=geometry.strategy, size=geometry.size, patch=geometry.patch, towers=(GREY,)
    )
    image = Image.fromarray(pixels)
    assert transform.geometry(image) == geometry
    return np.asarray(transform.view(image))


def texture(width, height, grain, seed=0):
    """An image in which every place looks different: noise with features of about `grain` (x, y) pixels."""
    size = [max(2, round(n / g)) for n, g in zip((width, height), grain, strict=True)]
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def in_image(geometry, boxes):
    """The tokens whose whole box lies in the image."""
    return (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= geometry.image_size).all(1)


class Comparison:
    """Cuts boxes out of an original, and compares each with the patch the model really gets for its token."""

    def __init__(self, geometry, seed=0):
        self.geometry = geometry
        grain = [max(2, axis.padded / axis.resized * geometry.patch / 2) for axis in geometry.axes]
        pixels = texture(*geometry.image_size, grain, seed)
        self.image = Image.fromarray(pixels)
        self.patches = geometry.patches(view_of(geometry, pixels)).astype(float)

    def worst(self, boxes):
        """The largest mean difference, 0 … 255, over the tokens whose box lies in the image."""
        p = self.geometry.patch
        inside = in_image(self.geometry, boxes)
        assert inside.any(), "no token to compare"
        return max(
            np.abs(self.image.resize((p, p), Image.Resampling.BICUBIC, box=box) - patch).mean()
            for box, patch in zip(boxes[inside].tolist(), self.patches[inside], strict=True)
        )


CASES = [
    ((640, 480), "resize-naive"),
    ((640, 480), "resize-crop"),
    ((640, 480), "letterbox"),
    ((481, 700), "letterbox"),
    ((1600, 200), "resize-naive"),
    ((1600, 200), "resize-crop"),
    ((200, 1600), "letterbox"),
    ((384, 384), "resize-crop"),
    ((101, 77), "resize-naive"),
    ((4000, 3000), "resize-naive"),
]


class TestAgainstTheRealTransform:
    @pytest.mark.parametrize(("image_size", "strategy"), CASES)
    def test_a_box_cut_from_the_original_is_the_patch_the_model_gets(self, image_size, strategy):
        geometry = make(image_size, strategy)
        assert Comparison(geometry).worst(geometry.token_boxes()) < 1

    @pytest.mark.parametrize(("image_size", "strategy"), CASES)
    def test_the_check_notices_a_shift(self, image_size, strategy):
        """The test above can fail: with boxes that are off by one patch, or by a tenth of one, it does."""
        geometry = make(image_size, strategy)
        boxes = geometry.token_boxes()
        right, down = boxes[1] - boxes[0], boxes[27] - boxes[0]
        comparison = Comparison(geometry)
        for shift in (right, -right, down, -down):
            assert comparison.worst(boxes + shift) > 80
            assert comparison.worst(boxes + shift / 10) > 10

    def test_the_check_notices_the_forgotten_six_pixels(self):
        """Were 384 pixels cut into 27 patches instead of 378, the last ones would lie half a patch off."""
        geometry = make((640, 480), "resize-naive")
        stretched = geometry.token_boxes() * (384 / 378)
        assert Comparison(geometry).worst(stretched) > 80

    @PROFILE
    @given(values=values, seed=st.integers(0, 1000))
    def test_boxes_are_right_for_any_size(self, values, seed):
        geometry = Geometry(**values)
        assume(in_image(geometry, geometry.token_boxes()).any())
        assert Comparison(geometry, seed).worst(geometry.token_boxes()) < 4

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("image_size", [(800, 600), (1200, 300), (301, 900)])
    def test_an_image_of_coordinates_tells_each_token_where_it_is(self, image_size, strategy):
        geometry = make(image_size, strategy)
        width, height = image_size
        x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        pixels = np.rint(np.stack([x, y, np.zeros_like(x)], axis=-1) * 255).astype(np.uint8)
        means = geometry.patches(view_of(geometry, pixels)).astype(float).mean(axis=(1, 2))
        boxes = geometry.token_boxes()
        inside = in_image(geometry, boxes)
        assert inside.any()
        found = means[:, :2] / 255 * image_size
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        side = boxes[0, 2:] - boxes[0, :2]
        off = np.abs(found - centre) / side
        # Bytes resolve 1/255 of the image, of which a patch here is never less than 1/110.
        assert off[inside].max() < 0.3

    def test_padding_belongs_to_tokens_outside_the_image(self):
        geometry = make((800, 200), "letterbox")
        patches = geometry.patches(view_of(geometry, np.full((200, 800, 3), 255, np.uint8)))
        boxes = geometry.token_boxes()
        padding = (boxes[:, 3] < -8) | (boxes[:, 1] > 208)
        image = (boxes[:, 1] > 8) & (boxes[:, 3] < 192)
        assert padding.sum() > 400
        assert (patches[padding] == 127).all()
        assert (patches[image] == 255).all()


class TestProperties:
    @PROFILE
    @given(values=values)
    def test_the_centre_of_a_box_is_in_its_token(self, values):
        geometry = Geometry(**values)
        boxes = geometry.token_boxes()
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        np.testing.assert_array_equal(geometry.tokens_at(centres), np.arange(geometry.n_tokens))

    @PROFILE
    @given(values=values)
    def test_boxes_tile_without_gap_or_overlap(self, values):
        geometry = Geometry(**values)
        rows, columns = geometry.grid
        boxes = geometry.token_boxes().reshape(rows, columns, 4)
        np.testing.assert_array_equal(boxes[:, 1:, 0], boxes[:, :-1, 2])
        np.testing.assert_array_equal(boxes[1:, :, 1], boxes[:-1, :, 3])
        assert (boxes[..., 2] > boxes[..., 0]).all()
        assert (boxes[..., 3] > boxes[..., 1]).all()

    @PROFILE
    @given(values=values)
    def test_corners_belong_to_the_box_they_begin(self, values):
        geometry = Geometry(**values)
        boxes = geometry.token_boxes()
        np.testing.assert_array_equal(geometry.tokens_at(boxes[:, :2]), np.arange(geometry.n_tokens))
        outside = [boxes[-1, 2:], boxes[0, :2] - (0.01, 0)]
        np.testing.assert_array_equal(geometry.tokens_at(np.array(outside)), -1)

    @PROFILE
    @given(values=values)
    def test_paste_gives_each_pixel_its_token(self, values):
        geometry = Geometry(**values)
        width, height = geometry.image_size
        rows, columns = geometry.grid
        pasted = geometry.paste(np.arange(geometry.n_tokens, dtype=np.float64).reshape(rows, columns))
        assert pasted.shape == (height, width)
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        tokens = geometry.tokens_at(np.stack([x, y], axis=-1))
        np.testing.assert_array_equal(np.nan_to_num(pasted, nan=-1).astype(int), tokens)

    @PROFILE
    @given(values=values)
    def test_patches_run_row_by_row_from_the_top_left(self, values):
        geometry = Geometry(**values)
        rows, columns = geometry.grid
        p, size = geometry.patch, geometry.size
        view = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        patches = geometry.patches(view)
        assert patches.shape == (rows * columns, p, p, 3)
        for token, patch in enumerate(patches):
            y, x = (p * place for place in divmod(token, columns))
            np.testing.assert_array_equal(patch, view[y : y + p, x : x + p])


class TestPaste:
    def test_channels_and_what_no_patch_sees(self):
        geometry = make((384, 384), "resize-naive")
        values = np.random.default_rng(0).random((27, 27, 3)).astype(np.float32)
        pasted = geometry.paste(values)
        assert pasted.shape == (384, 384, 3)
        np.testing.assert_array_equal(pasted[:378, :378], values.repeat(14, 0).repeat(14, 1))
        assert np.isnan(pasted[378:]).all()
        assert np.isnan(pasted[:, 378:]).all()

    def test_a_panorama_cropped_to_its_middle(self):
        geometry = make((1600, 200), "resize-crop")
        pasted = geometry.paste(np.ones((27, 27)))
        (left, *_), *_, (*_, right, _) = geometry.token_boxes()
        assert 1600 * 0.43 < left < right < 1600 * 0.57
        assert np.isfinite(pasted).any(axis=0).sum() == pytest.approx(right - left, abs=1)
        assert geometry.tokens_at(np.array([10.0, 100.0])) == -1

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_large_photo_costs_little_beside_the_result(self, strategy):
        geometry = make((4000, 3000), strategy)
        values = np.zeros((27, 27))
        tracemalloc.start()
        size = geometry.paste(values).nbytes
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size + 30e6

    def test_wrong_shapes(self):
        geometry = make((100, 100), "resize-naive", size=48, patch=12)
        with pytest.raises(InputError, match=r"values on a \(4, 4\) grid"):
            geometry.paste(np.zeros((4, 5)))
        with pytest.raises(InputError, match="view of 48×48"):
            geometry.patches(np.zeros((50, 50, 3)))


def test_the_official_grid():
    geometry = make((384, 384), "resize-naive")
    assert geometry.grid == (27, 27)
    assert geometry.n_tokens == 729
    np.testing.assert_array_equal(geometry.token_boxes()[[28, -1]], [(14, 14, 28, 28), (364, 364, 378, 378)])
    np.testing.assert_array_equal(geometry.tokens_at(np.array([(377.9, 0.0), (378.0, 0.0)])), [26, -1])


def test_a_value_object():
    geometry = make((640, 480), "letterbox")
    geometry.token_boxes()
    again = Geometry(**dataclasses.asdict(geometry))
    assert again == geometry
    assert hash(again) == hash(geometry)
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.patch = 3


@pytest.mark.parametrize(
    ("settings_", "sentence"),
    [
        ({"strategy": "stretch"}, "unknown resize strategy 'stretch'"),
        ({"image_size": (0, 5)}, "expected positive sizes"),
        ({"patch": 60}, "a patch of 60 pixels does not fit"),
        ({"patch": 0}, "a patch of 0 pixels does not fit"),
    ],
)
def test_wrong_settings(settings_, sentence):
    right = {"image_size": (9, 9), "strategy": "letterbox", "size": 48, "patch": 12}
    with pytest.raises(InputError, match=sentence):
        Geometry(**(right | settings_))


@PROFILE
@given(values, st.floats(0.1, 1), st.tuples(*[st.floats(0, 1)] * 4))
def test_tokens_in_a_box_are_those_that_it_covers_so_far(given_values, at_least, corners):
    geometry = make(**{**given_values, "patch": min(given_values["patch"], given_values["size"])})
    width, height = geometry.image_size
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    box = (left * width, top * height, right * width, bottom * height)
    assume(box[0] < box[2] and box[1] < box[3])
    found = set(geometry.tokens_in(box, at_least=at_least).tolist())
    for token, (x0, y0, x1, y1) in enumerate(geometry.token_boxes()):
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x0 >= x1 or y0 >= y1:
            assert token not in found
            continue
        across = max(0.0, min(x1, box[2]) - max(x0, box[0])) / (x1 - x0)
        down = max(0.0, min(y1, box[3]) - max(y0, box[1])) / (y1 - y0)
        if abs(across * down - at_least) > 1e-6:
            assert (token in found) == (across * down > at_least)


def test_a_box_along_a_tokens_edges_holds_that_token():
    geometry = make((640, 481), "resize-crop")
    for token in (0, 200, 400):
        assert geometry.tokens_in(geometry.token_boxes()[token].tolist(), at_least=1).tolist() == [token]


@pytest.mark.parametrize(("box", "at_least"), [((5, 5, 5, 9), 0.5), ((0, 0, 9, 9), 0), ((0, 0, 9, 9), 1.5)])
def test_a_box_without_extent_or_share_is_refused(box, at_least):
    with pytest.raises(InputError, match="expected"):
        make((64, 64), "resize-naive").tokens_in(box, at_least=at_least)
