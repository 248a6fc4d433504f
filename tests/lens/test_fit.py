"""Fitting a ridge lens, from states and from a tiny real model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.capture.record import record
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import image_hash
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.errors import LensError, LensMismatchError, SiteError
from emma_viz.lens import find_lens, load_lens, save_lens
from emma_viz.lens.evaluation import quality_of
from emma_viz.lens.fitting.fit import RidgeSettings, fit_ridge_on_states
from emma_viz.lens.ridge import RidgeLens
from emma_viz.maps.apply import decode
from emma_viz.models import PRESETS, VLM
from emma_viz.session import fit_ridge

WIDTH, PATCH, PIXELS = 6, 2, 12


def batches(seed: int, mixing: torch.Tensor, *, n: int = 4, noise: float = 0.0):
    """Batches of two images on a 3×3 grid whose pixels are in layer 1 exactly and in layer 3 not at all."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        states = torch.randn(2, 2, 9, WIDTH, generator=generator)
        pixels = 0.5 + states[0] @ mixing + noise * torch.randn(2, 9, PIXELS, generator=generator)
        yield states, pixels.reshape(2, 9, PATCH, PATCH, 3)


@pytest.fixture
def mixing():
    return 0.03 * torch.randn(WIDTH, PIXELS, generator=torch.Generator().manual_seed(9))


def fit(model, mixing, **changes):
    given = {"model": model, "site": "resid_post", "layers": (1, 3), "fitted_on": "noise"} | changes
    return fit_ridge_on_states(batches(0, mixing, n=20), batches(1, mixing), **given)


def test_the_quality_is_of_the_heldout_images(make_model, mixing):
    lens = fit(make_model(), mixing)
    kept, lost = lens.info.quality
    assert kept.layer == 1
    assert kept.r2 > 0.9999
    assert kept.psnr > 40
    assert lost.layer == 3
    assert -0.3 < lost.r2 < 0.1, "noise does not generalise, whatever it fitted"
    assert (lens.info.n_fit, lens.info.n_heldout) == (40, 8)
    assert lens.info.model_fingerprint == "f" * 32
    assert lens.info.kind == "ridge"
    assert lens.info.patch == PATCH
    assert "few tokens" not in " ".join(lens.info.notes)
    total, residual = 0.0, 0.0
    pixels = torch.cat([patches for _, patches in batches(1, mixing)])
    total = (pixels - pixels.mean(dim=(0, 1, 2, 3))).square().sum()
    for states, patches in batches(1, mixing):
        residual += (lens.decode(states[1], 3) - patches).square().sum()
    assert lost.r2 == pytest.approx(float(1 - residual / total), abs=1e-4)


def test_rounding_for_storage_is_part_of_the_quality(make_model, mixing):
    lens = fit(make_model(), mixing, settings=RidgeSettings(store=torch.float16))
    assert lens.weight.dtype == torch.float16
    assert lens.info.quality[0].r2 < fit(make_model(), mixing).info.quality[0].r2
    assert lens.info.quality[0].r2 > 0.999


def test_nothing_to_fit_or_measure_on(make_model, mixing):
    given = {"model": make_model(), "site": "resid_post", "layers": (1, 3), "fitted_on": "noise"}
    with pytest.raises(LensError, match="at least two tokens"):
        fit_ridge_on_states([], batches(1, mixing), **given)
    with pytest.raises(LensError, match="held-out images"):
        fit_ridge_on_states(batches(0, mixing), [], **given)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cup on a table"], vocab_size=258)
    config = PRESETS["tiny-emma-v1"]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)), backend="torch")
    return LoadedModel.from_vlm(vlm.eval(), tokenizer, name="tiny")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(6)]


@pytest.fixture(scope="module")
def lens(model, photos):
    return fit_ridge(model, photos[:4], heldout=photos[4:], fitted_on="noise")


def test_a_lens_for_a_model_has_every_layer_and_the_embedding(model, photos, lens):
    assert lens.info.layers == (-1, *range(model.info.n_layer))
    assert lens.info.n_fit == 4
    assert lens.info.n_heldout == 2
    assert lens.weight.shape[1] == model.info.d_model
    assert len(lens.info.quality) == len(lens.info.layers)
    assert "few tokens" in " ".join(lens.info.notes)


def test_a_lens_names_the_images_that_it_was_fitted_on(model, photos, lens):
    assert lens.info.fit_images == tuple(image_hash(photo)[:8] for photo in photos[:4])
    old = record(model, [photos[0], photos[5]], "?", layers=lens.info.layers, generate=False)
    (note,) = decode(old, lens).notes
    assert f"fitted on 1 of these images ({image_hash(photos[0])[:8]})" in note
    new = record(model, photos[4:], "?", layers=lens.info.layers, generate=False)
    assert decode(new, lens).notes == ()


def test_its_recorded_quality_is_that_of_its_decodings(model, photos, lens):
    trace = record(model, photos[4:], "anything", layers=lens.info.layers, generate=False)
    quality, n_images = quality_of([decode(trace, lens)])
    assert n_images == 2
    for one, other in zip(quality, lens.info.quality, strict=True):
        assert one.layer == other.layer
        assert one.r2 == pytest.approx(other.r2, abs=1e-4), "the prompt must not matter"
        assert one.ssim == pytest.approx(other.ssim, abs=1e-4)


def test_layers_in_several_passes_give_the_same_lens(model, photos, lens):
    done = []
    other = fit_ridge(
        model,
        photos[:4],
        heldout=photos[4:],
        fitted_on="noise",
        batch_size=3,
        layers_per_pass=2,
        on_batch=done.append,
    )
    assert other.info.layers == lens.info.layers
    torch.testing.assert_close(other.weight, lens.weight, rtol=1e-3, atol=1e-4)
    n_passes = -(-len(lens.info.layers) // 2)
    assert done == [3, 1, 2] * n_passes


def test_other_sites_and_layers(model, photos):
    lens = fit_ridge(
        model, photos[:2], heldout=photos[2:4], fitted_on="noise", site="mixer_out", layers=[1, 0]
    )
    assert lens.info.site == "mixer_out"
    assert lens.info.layers == (0, 1)
    with pytest.raises(SiteError):
        fit_ridge(model, photos[:2], heldout=photos[2:4], fitted_on="noise", layers=[99])


def test_an_image_may_not_be_on_both_sides(model, photos):
    with pytest.raises(LensError, match="Held-out image 1 is also image 0"):
        fit_ridge(model, photos[:2], heldout=[photos[3], photos[0].copy()], fitted_on="noise")
    with pytest.raises(LensError, match="got 2 and 0"):
        fit_ridge(model, photos[:2], heldout=[], fitted_on="noise")


def test_the_lens_in_a_models_folder_must_belong_to_its_weights(model, lens, tmp_path):
    save_lens(lens, tmp_path / "ridge.lens")
    placed = replace(model, folder=tmp_path)
    assert torch.equal(load_lens(placed).weight, lens.weight)
    retrained = replace(placed, info=replace(model.info, fingerprint="a" * 32))
    with pytest.raises(LensMismatchError, match="fitted on tiny"):
        load_lens(retrained)
    assert load_lens(retrained, force=True).info == lens.info
    with pytest.raises(LensError, match=r"No ridge lens of the weights .* \(looked at .*lenses"):
        load_lens(model)


def test_a_lens_is_found_by_the_fingerprint_of_the_weights(model, make_info, tmp_path):
    """A model's own lens has any name; a file with the usual name and other weights is passed by, or refused alone."""
    folder = tmp_path / "run"
    here = replace(model, folder=folder)

    def lens(fingerprint: str) -> RidgeLens:
        info = make_info(model_fingerprint=fingerprint, model_name="tiny", layers=(0, 1))
        return RidgeLens(info=info, weight=torch.zeros(2, 6, 48), bias=torch.zeros(2, 48))

    save_lens(lens("another"), folder / "ridge.lens")
    with pytest.raises(LensMismatchError, match="it was fitted on tiny"):
        load_lens(here)
    save_lens(lens(model.info.fingerprint), folder / "best of three.lens")
    assert find_lens(here) == folder / "best of three.lens"
    assert load_lens(here).info.model_fingerprint == model.info.fingerprint
    (folder / "broken.lens").write_bytes(b"no lens")
    assert find_lens(here) == folder / "best of three.lens"
