"""The native lens: one picture from all taps, prefixes on request."""

import numpy as np
import pytest
import torch

from emma_viz.errors import LensError, LensMismatchError
from emma_viz.heads.config import ReleasedConfig, paper_config, released_config
from emma_viz.heads.head import build_head
from emma_viz.lens.evaluation import quality_of, with_quality
from emma_viz.lens.native import PREFIX_NOTE, native_lens
from emma_viz.lens.protocol import Lens, recording_for
from emma_viz.maps.apply import decode

WIDTH, PATCH, GRID = 6, 4, (3, 3)


def make_native(model, *, form="paper", n_blocks=4, taps=None):
    torch.manual_seed(0)
    if form == "paper":
        head = build_head(paper_config(width=WIDTH, patch=PATCH, n_blocks=n_blocks), backend="torch")
    else:
        head = build_head(
            released_config(width=WIDTH, patch=PATCH, grid=GRID, target_width=5), backend="torch"
        )
    return native_lens(head, model, patch=PATCH, fitted_on="noise", n_fit=3, taps=taps)


@pytest.fixture
def trace(make_trace):
    return make_trace(sites=("mixer_out", "norm_f"), layers=(0, 1, 2))


def test_it_reads_the_taps_and_the_final_norm(make_model):
    lens = make_native(make_model())
    assert isinstance(lens, Lens)
    assert lens.info.kind == "native"
    assert lens.info.layers == (0, 1, 2, 3)
    assert lens.reads(3) == (("mixer_out", 0), ("mixer_out", 1), ("mixer_out", 2), ("norm_f", 3))
    assert lens.reads(1) == (("mixer_out", 0), ("mixer_out", 1))
    assert recording_for(lens) == (("mixer_out", "norm_f"), (0, 1, 2, 3))
    assert PREFIX_NOTE in lens.info.notes


def test_where_the_last_block_is_a_tap_its_index_stands_for_the_whole_chain(make_model):
    lens = make_native(make_model(), taps=(0, 1, 3))
    assert lens.info.layers == (0, 1, 3)
    assert lens.reads(3) == (("mixer_out", 0), ("mixer_out", 1), ("mixer_out", 3), ("norm_f", 3))
    assert lens.default_layers == (3,)


def test_by_default_it_makes_the_one_picture_it_was_trained_to_make(make_model, trace):
    lens = make_native(make_model())
    decoding = decode(trace, lens)
    assert decoding.layers == (3,)
    assert decoding.site == "taps"
    taps = [trace["mixer_out", tap] for tap in (0, 1, 2)] + [trace["norm_f", 3]]
    with torch.no_grad():
        expected = lens.head.pictures(taps)
    np.testing.assert_allclose(decoding.patches[0], expected.numpy(), rtol=1e-5)


def test_prefixes_of_the_chain_are_decoded_when_asked_for(make_model, trace):
    lens = make_native(make_model())
    decoding = decode(trace, lens, layers=lens.info.layers)
    assert decoding.layers == (0, 1, 2, 3)
    taps = [trace["mixer_out", tap] for tap in (0, 1, 2)] + [trace["norm_f", 3]]
    with torch.no_grad():
        for depth in range(4):
            fused = lens.head.fusion.prefixes(taps)[depth]
            expected = (lens.head.decoder(fused) * 0.25 + 0.5).reshape(2, 9, PATCH, PATCH, 3)
            np.testing.assert_allclose(decoding.patches[depth], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "n_blocks", "layers"), [("paper", 3, (1, 2, 3)), ("paper", 0, (3,)), ("released", 4, (3,))]
)
def test_the_depths_that_a_form_has(make_model, trace, form, n_blocks, layers):
    lens = make_native(make_model(), form=form, n_blocks=n_blocks)
    assert lens.info.form == form
    assert lens.info.layers == layers
    assert (PREFIX_NOTE in lens.info.notes) == (len(layers) > 1)
    assert decode(trace, lens, layers=layers).patches.shape == (len(layers), 2, 9, PATCH, PATCH, 3)


def test_what_does_not_fit_is_refused(make_model, make_trace, trace):
    lens = make_native(make_model())
    with pytest.raises(LensMismatchError, match="depths of its taps"):
        lens.reads(7)
    with pytest.raises(LensMismatchError, match="reads 4 states of width 6 for layer 3; 2 of width 6"):
        lens.decode(torch.zeros(2, 1, 9, WIDTH), 3)
    with pytest.raises(LensMismatchError, match="recording_for"):
        decode(make_trace(), lens)
    other = make_trace(
        sites=("mixer_out", "norm_f"), layers=(0, 1, 2), model=make_model(fingerprint="a" * 32)
    )
    with pytest.raises(LensMismatchError, match="fitted on toy"):
        decode(other, lens)
    assert decode(other, lens, force=True).forced
    with pytest.raises(LensError, match="fuses 4 taps; toy has 3"):
        make_native(make_model(taps=(0, 1)))
    with pytest.raises(LensError, match="no grid of image tokens"):
        make_native(make_model(grid=None))


def test_the_released_form_needs_a_grid_of_threes():
    assert ReleasedConfig(grid=(18, 18)).grid == (18, 18)


def test_its_quality_is_measured_from_decodings(make_model, trace):
    lens = make_native(make_model())
    decoding = decode(trace, lens, layers=(1, 3))
    quality, n_images = quality_of([decoding.select(samples=[0]), decoding.select(samples=[1])])
    assert n_images == 2
    assert [record.layer for record in quality] == [1, 3]
    together, _ = quality_of([decoding])
    for one, other in zip(quality, together, strict=True):
        assert one.r2 == pytest.approx(other.r2)
        assert one.psnr == pytest.approx(other.psnr)
    measured = with_quality(lens, [decoding])
    assert measured.info.quality == together
    assert measured.info.n_heldout == 2
    assert measured.head is lens.head
    with pytest.raises(LensError, match="no decoding"):
        quality_of([])
    with pytest.raises(LensError, match="cannot be pooled"):
        quality_of([decoding, decoding.select(layers=[1])])


def test_a_head_that_predicts_features_is_no_lens(make_model):
    head = build_head(paper_config(width=WIDTH, patch=PATCH, feature_widths=(4, 5)), backend="torch")
    with pytest.raises(LensError, match="it is no lens"):
        native_lens(head, make_model(), patch=PATCH, fitted_on="noise", n_fit=1)
