"""Studies of models that transformers' classes run: captured, gone on with, decoded and compared without the model."""

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import require_model
from emma_viz.errors import InputError, SiteError, StudyError
from emma_viz.lens import save_lens
from emma_viz.maps import decode
from emma_viz.session import Asking, capture, compare, compare_study, decode_study, fit_ridge
from emma_viz.session.fitting import fit_lens
from emma_viz.session.options import LensRecipe
from emma_viz.session.studies import compare_shapes, decoded_sample
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


def test_a_study_holds_images_of_several_shapes(peer, tmp_path):
    """In one entry, those of one shape that follow one another together; pictures are of one shape each."""
    _, model = peer
    draw, sizes = np.random.default_rng(5), [(40, 90), (40, 90), (90, 40), (40, 90)]
    pictures = [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "images" / f"{number}.png")
    noise = list(draw.integers(0, 256, (9, 40, 90, 3), dtype=np.uint8))
    lens = fit_ridge(model, noise[:6], heldout=noise[6:], fitted_on="noise", layers=[2])
    save_lens(lens, tmp_path / "ridge.lens")
    study, maps = tmp_path / "study", tmp_path / "maps"
    (name,) = capture(tmp_path / "images", [model.folder], study, layers=(2,), batch_size=3, asking=ASKING)
    capture(
        tmp_path / "images", [model.folder], maps, store="maps", layers=(2,), batch_size=3, asking=ASKING,
        lenses=[tmp_path / "ridge.lens"],
    )  # fmt: skip
    alone = [record(model, each, "Why?", layers=(2,), max_new_tokens=2) for each in pictures]
    kept, several = open_study(study), len({each.geometry[0].grid for each in alone}) > 1
    rows = [(piece, row) for piece in kept.pieces(name) for row in range(len(piece))]
    for (piece, row), one in zip(rows, alone, strict=True):
        assert piece.geometry[row] == one.geometry[0]
        assert torch.equal(piece["resid_post", 2][row], one["resid_post", 2][0])
        assert np.array_equal(piece.views[row], one.views[0])
    assert [len(piece) for piece in kept.pieces(name)] == ([2, 1, 1] if several else [4])
    assert [np.array_equal(*pair) for pair in zip(kept.images(name), pictures, strict=True)] == [True] * 4
    decode_study(study, lenses=[tmp_path / "ridge.lens"])
    for path in (study, maps):
        shapes = compare_shapes(path)
        assert [numbers for numbers, _ in shapes] == ([(0, 1, 3), (2,)] if several else [(0, 1, 2, 3)])
        for numbers, found in shapes:
            for place, number in enumerate(numbers):
                own = decode(alone[number], lens)
                np.testing.assert_allclose(found.decodings[0].patches[:, place], own.patches[:, 0], atol=1e-5)
                assert found.image_names[place] == f"{number}.png"
        one = compare_study(path, samples=[3, 0]).decodings[0]
        assert one.image_hashes == tuple(alone[number].image_hashes[0] for number in (3, 0))
        assert decoded_sample(path, name, 2)[0].image_hashes == alone[2].image_hashes
        with pytest.raises(StudyError, match="no number 4"):
            compare_study(path, samples=[4])
    if several:
        with pytest.raises(StudyError, match="grids of several shapes"):
            kept.trace(name)
        with pytest.raises(InputError, match=r"say which \(--samples 0 1 3 for .*; --samples 2 for"):
            compare_study(study)
    else:
        assert compare_study(study).decodings[0].image_hashes == kept.trace(name).image_hashes


def test_a_figure_of_several_shapes_is_refused_before_the_model_is_loaded(peer, pictures, monkeypatch):
    _, model = peer
    _, found = require_model(model.folder)
    assert found.geometry is not None
    places = [model.transform.geometry(picture) for picture in pictures]
    assert [found.geometry(picture) for picture in pictures] == places
    if len({place.grid for place in places}) == 1:
        return
    monkeypatch.setattr("emma_viz.session.loading.load_peer", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match="grids of several shapes"):
        compare(pictures, [model.folder])


def test_a_capture_of_several_shapes_goes_on_to_the_same_batches(peer, tmp_path):
    """Wherever in a batch it stopped."""
    _, model = peer
    (tmp_path / "images").mkdir()
    for number, size in enumerate([(90, 40), (40, 90), (40, 90), (90, 40), (90, 40)]):
        Image.new("RGB", size, (40 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")

    def capture_to(path, progress=None):
        return capture(
            tmp_path / "images",
            [model.folder],
            path,
            layers=(2,),
            batch_size=3,
            asking=ASKING,
            progress=progress,
        )

    def stop(done, total, what):
        if "recording" in what and done > total // 4:
            raise KeyboardInterrupt

    (name,) = capture_to(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        capture_to(tmp_path / "again", stop)
    capture_to(tmp_path / "again")
    assert (
        open_study(tmp_path / "again").entry(name).samples
        == open_study(tmp_path / "whole").entry(name).samples
    )


def test_a_capture_at_sites_of_attention_goes_on(peer, images, tmp_path):
    more = {"sites": ["attn_out", "resid_mid"], "layers": (2,), "asking": ASKING}
    (name,) = capture(images / "0.png", [peer[1].folder], tmp_path / "study", **more)
    capture(images, [peer[1].folder], tmp_path / "study", **more)
    assert open_study(tmp_path / "study").entry(name).n_samples == 3


def test_a_lens_of_attentions_own_site_is_fitted_and_held_to_untrained_models(peer, tmp_path):
    _, model = peer
    noise = np.random.default_rng(2).integers(0, 256, (9, 48, 48, 3), dtype=np.uint8)
    before = {name: each.clone() for name, each in model.network.state_dict().items()}
    recipe = LensRecipe(site="attn_out", layers=(2,))
    lens = fit_lens(model, recipe, list(noise[:6]), list(noise[6:]), fitted_on="noise", untrained=3)
    assert lens.info.site == "attn_out"
    assert any("untrained" in each.name for each in lens.info.controls)
    assert all(each.equal(before[name]) for name, each in model.network.state_dict().items())
    shown = compare(noise[8], [model], lenses=[lens], site="attn_out", asking=ASKING)
    assert shown.decodings[0].site == "attn_out"
    with pytest.raises(SiteError, match="is a site of a Mamba"):
        compare(noise[8], [model], lenses=[lens], site="delta", asking=ASKING)


def test_a_site_that_attention_does_not_have_is_refused(peer, images, tmp_path):
    with pytest.raises(SiteError, match="is a site of a Mamba"):
        capture(images, [peer[1].folder], tmp_path / "other", sites=["delta"], asking=ASKING)
