"""The Decoding: layout of its images, selection, and a trip through arrays and JSON."""

import json
import tracemalloc

import numpy as np
import pytest

from emma_viz.errors import InputError
from emma_viz.lens.info import LayerQuality
from emma_viz.maps.decoding import Decoding


def test_images_are_laid_out_as_the_model_saw_them(make_decoding):
    decoding = make_decoding(lambda layer, patches: patches + layer)
    shown = decoding.decoded_images()
    assert shown.shape == (2, 2, 12, 12, 3)
    np.testing.assert_array_equal(shown[0], decoding.views[:, :12, :12].astype(np.float32) / 255)
    np.testing.assert_array_equal(decoding.true_images(), shown[0])
    assert (shown[1] == 1).all(), "pixels above 1 are shown as white"
    assert decoding.patches[1].max() > 2, "and kept as they were decoded"


def test_select_keeps_order_and_everything_else(make_decoding):
    decoding = make_decoding(lambda layer, patches: patches + layer, layers=(0, 1, 2), batch=3)
    chosen = decoding.select(layers=(2, 0), samples=(1,))
    np.testing.assert_array_equal(chosen.patches, decoding.patches[[2, 0]][:, [1]])
    assert chosen.layers == (2, 0)
    assert chosen.image_hashes == ("hash1",)
    assert chosen.images[0] is decoding.images[1]
    assert len(chosen) == 1
    for wrong in ({"layers": (5,)}, {"samples": (3,)}):
        with pytest.raises(InputError):
            decoding.select(**wrong)


def test_select_copies_nothing_that_is_not_chosen(make_decoding):
    decoding = make_decoding(lambda layer, patches: patches + layer, layers=(0, 1, 2, 3), batch=400)
    wanted = {"layers": (3, 1), "samples": (17, 5)}
    tracemalloc.start()
    chosen = decoding.select(**wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(chosen.patches, decoding.patches[[3, 1]][:, [17, 5]])
    assert peak < decoding.patches[0].nbytes / 2
    run = decoding.select(layers=(1, 2), samples=(3, 4, 5))
    np.testing.assert_array_equal(run.patches, decoding.patches[1:3, 3:6])
    for name in ("patches", "true", "views"):
        assert np.shares_memory(getattr(run, name), getattr(decoding, name))


@pytest.mark.parametrize("with_images", [True, False])
def test_a_trip_through_arrays_and_json(make_decoding, make_info, with_images):
    quality = (LayerQuality(layer=0, r2=0.5, psnr=float("inf"), ssim=float("nan")),)
    decoding = make_decoding(lens=make_info(quality=quality, notes=("a",)), forced_reasons=("other model",))
    arrays, meta = decoding.to_arrays(with_images=with_images)
    assert all(isinstance(each, np.ndarray) for each in arrays.values())
    meta = json.loads(json.dumps(meta, allow_nan=False))
    back = Decoding.from_arrays(arrays, meta, images=None if with_images else decoding.images)
    np.testing.assert_array_equal(back.patches, decoding.patches)
    np.testing.assert_array_equal(back.true, decoding.true)
    np.testing.assert_array_equal(back.views, decoding.views)
    assert [np.asarray(image).tolist() for image in back.images] == [
        np.asarray(image).tolist() for image in decoding.images
    ]
    for name in (
        "layers",
        "site",
        "model",
        "geometry",
        "image_hashes",
        "prompts",
        "answers",
        "forced_reasons",
    ):
        assert getattr(back, name) == getattr(decoding, name), name
    assert back.forced
    assert back.lens.to_json() == decoding.lens.to_json()


def test_what_was_not_stored_whole_is_refused(make_decoding):
    arrays, meta = make_decoding().to_arrays(with_images=False)
    with pytest.raises(InputError, match="image_0"):
        Decoding.from_arrays(arrays, meta)
    with pytest.raises(InputError, match="newer emma_viz: its schema version is 7"):
        Decoding.from_arrays(arrays, meta | {"schema": 7})
    del meta["site"]
    with pytest.raises(InputError, match="site"):
        Decoding.from_arrays(arrays, meta, images=())


def test_fields_that_do_not_belong_together_are_refused(make_decoding):
    with pytest.raises(InputError, match="layers"):
        make_decoding(layers=(0, 1), patches=make_decoding().patches[:1])
    with pytest.raises(InputError, match="prompts"):
        make_decoding(prompts=("one",))
    with pytest.raises(InputError, match="answers"):
        make_decoding(answers=("one",))


def test_decodings_and_maps_are_shown_in_one_line(make_decoding):
    decoding = make_decoding()
    for shown in (decoding, decoding.maps(), decoding.lens):
        said = repr(shown)
        assert said.startswith(f"{type(shown).__name__}({decoding.model.name}, ")
        assert len(said) < 200
        assert "\n" not in said
