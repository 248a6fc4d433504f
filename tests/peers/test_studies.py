"""Studies of models that transformers' classes run: captured, gone on with, decoded and compared without the model."""

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.errors import SiteError, StudyError
from emma_viz.lens import save_lens
from emma_viz.session import Asking, capture, compare, compare_study, decode_study, fit_ridge
from emma_viz.study import open_study

pytestmark = pytest.mark.slow  # the package's models take seconds to import

ASKING = Asking(max_new_tokens=2, prompt="Why?")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of three images of one size."""
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(
        np.random.default_rng(3).integers(0, 256, (3, 40, 90, 3), dtype=np.uint8)
    ):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_study_holds_what_the_model_held(peer, images, tmp_path):
    """Interrupted after a batch, too."""
    _, model = peer
    said: list[str] = []

    def capture_to(path, progress=None):
        (name,) = capture(
            images, [model.folder], path, layers=(-1, 2), batch_size=1, asking=ASKING, say=said.append,
            progress=progress,
        )  # fmt: skip
        return name

    name = capture_to(tmp_path / "whole")
    assert any("is known when its images have become tokens" in each for each in said)
    trace = open_study(tmp_path / "whole").trace(name)
    pictures = [Image.open(images / f"{number}.png").convert("RGB") for number in range(3)]
    whole = record(model, pictures, "Why?", layers=(-1, 2), max_new_tokens=2)
    assert trace.geometry == whole.geometry
    assert trace.answers == whole.answers
    assert trace.notes == whole.notes
    assert torch.equal(trace["resid_post"], whole["resid_post"])
    assert np.array_equal(trace.views, whole.views)

    def stop(done, total, what):
        if "recording" in what and done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_to(tmp_path / "again", stop)
    capture_to(tmp_path / "again")
    assert torch.equal(open_study(tmp_path / "again").trace(name)["resid_post"], whole["resid_post"])


def test_a_study_is_decoded_as_the_model_is_and_maps_are_kept(peer, images, tmp_path):
    _, model = peer
    noise = list(np.random.default_rng(0).integers(0, 256, (9, 40, 90, 3), dtype=np.uint8))
    lens = fit_ridge(model, noise[:6], heldout=noise[6:], fitted_on="noise", layers=[2])
    save_lens(lens, tmp_path / "ridge.lens")
    options = {"layers": (2,), "asking": ASKING, "lenses": [tmp_path / "ridge.lens"]}
    (name,) = capture(images, [model.folder], tmp_path / "states", layers=(2,), asking=ASKING)
    decode_study(tmp_path / "states", lenses=[tmp_path / "ridge.lens"])
    capture(images, [model.folder], tmp_path / "maps", store="maps", **options)
    capture(images, [model.folder], tmp_path / "pooled", store="pooled", layers=(2,), asking=ASKING)
    files = sorted(images.iterdir())
    live = compare(files, [model.folder], lenses=[tmp_path / "ridge.lens"], asking=ASKING)
    for path in (tmp_path / "states", tmp_path / "maps"):
        found = compare_study(path)
        assert found.decodings[0].geometry == live.decodings[0].geometry
        np.testing.assert_allclose(found.decodings[0].patches, live.decodings[0].patches, atol=1e-5)
        found.figure().savefig(tmp_path / "figure.png", dpi=40)
    arrays = next(open_study(tmp_path / "pooled").batch_arrays(name, "pooled"))[0]
    assert {key: value.shape[1:] for key, value in arrays.items()} == {
        "resid_post/image": (3, model.info.d_model),
        "resid_post/last": (3, model.info.d_model),
    }


def test_images_of_several_shapes_are_refused_where_grids_differ(peer, tmp_path):
    _, model = peer
    for number, size in enumerate([(40, 90), (90, 40)]):
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number}.png")
    shapes = {model.transform.geometry(Image.new("RGB", size)).view_size for size in [(40, 90), (90, 40)]}
    if len(shapes) == 1:
        capture(tmp_path, [model.folder], tmp_path / "study", layers=(2,), asking=ASKING)
    else:
        with pytest.raises(StudyError, match="size of views"):
            capture(tmp_path, [model.folder], tmp_path / "study", layers=(2,), asking=ASKING)
    with pytest.raises(SiteError, match="is a site of a Mamba"):
        capture(tmp_path / "0.png", [model.folder], tmp_path / "other", sites=["delta"], asking=ASKING)
