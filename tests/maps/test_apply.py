"""decode: the right states through the right lens, or an error."""

import numpy as np
import pytest
import torch

from emma_viz.errors import InputError, LensError, LensMismatchError, SiteError
from emma_viz.lens.protocol import Lens, recording_for
from emma_viz.lens.ridge import RidgeLens
from emma_viz.maps.apply import decode

WIDTH, PATCH = 6, 4


@pytest.fixture
def lens(make_info):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(2, WIDTH, PATCH * PATCH * 3, generator=generator)
    return RidgeLens(info=make_info(layers=(0, 2)), weight=weight, bias=torch.randn(2, PATCH * PATCH * 3))


def test_a_ridge_lens_is_a_lens(lens):
    assert isinstance(lens, Lens)
    assert recording_for(lens) == (("resid_post",), (0, 2))
    assert recording_for(lens, (2,)) == (("resid_post",), (2,))


@pytest.mark.parametrize("tokens", ["image", "all"])
def test_every_layer_goes_through_its_own_map(make_trace, lens, tokens):
    trace = make_trace(tokens=tokens)
    decoding = decode(trace, lens)
    assert decoding.layers == (0, 2)
    assert decoding.patches.shape == (2, 2, 9, PATCH, PATCH, 3)
    assert decoding.patches.dtype == np.float32
    for index, layer in enumerate(decoding.layers):
        states = trace["resid_post", layer][:, :9]
        np.testing.assert_allclose(decoding.patches[index], lens.decode(states, layer).numpy())
    np.testing.assert_array_equal(decoding.true_images(), trace.views[:, :12, :12].astype(np.float32) / 255)
    assert decoding.model is trace.model
    assert decoding.lens is lens.info
    assert decoding.answers == trace.answers
    assert not decoding.forced


def test_a_lens_decodes_some_samples_at_a_time(make_trace, lens, monkeypatch):
    trace, seen, whole = make_trace(batch=20), [], RidgeLens.decode

    def spied(lens, states, layer):
        seen.append(len(states))
        return whole(lens, states, layer)

    monkeypatch.setattr(RidgeLens, "decode", spied)
    decoding = decode(trace, lens)
    assert max(seen) <= 8
    for index, layer in enumerate(decoding.layers):
        expected = whole(lens, trace["resid_post", layer], layer)
        np.testing.assert_allclose(decoding.patches[index], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_layers_are_decoded_in_the_order_asked_for(make_trace, lens):
    trace = make_trace()
    both, one = decode(trace, lens, layers=(2, 0)), decode(trace, lens, layers=[2])
    assert both.layers == (2, 0)
    np.testing.assert_array_equal(both.patches[:1], one.patches)
    assert decode(make_trace(layers=(2, 3)), lens).layers == (2,)


def test_a_lens_of_another_model_is_refused_unless_forced(make_trace, make_model, lens):
    trace = make_trace(model=make_model(name="other", fingerprint="a" * 32))
    with pytest.raises(LensMismatchError, match="fitted on toy"):
        decode(trace, lens)
    decoding = decode(trace, lens, force=True)
    assert decoding.forced
    assert "fitted on toy" in decoding.forced_reasons[0]
    np.testing.assert_allclose(decoding.patches[0], lens.decode(trace["resid_post", 0], 0).numpy())


def test_a_lens_of_another_site_is_refused_unless_forced(make_trace, lens):
    trace = make_trace(sites=("mixer_out",))
    with pytest.raises(LensMismatchError, match="reads resid_post"):
        decode(trace, lens)
    with pytest.raises(LensMismatchError, match="reads resid_post"):
        decode(trace, lens, layers=(0,))
    decoding = decode(trace, lens, force=True)
    assert decoding.forced
    assert decoding.site == "mixer_out"
    np.testing.assert_allclose(decoding.patches[1], lens.decode(trace["mixer_out", 2], 2).numpy())


def test_a_layer_without_a_lens_is_refused_unless_forced(make_trace, lens):
    trace = make_trace()
    with pytest.raises(LensMismatchError, match=r"layers \[0, 2\]; \[3\] were asked for"):
        decode(trace, lens, layers=(0, 3))
    decoding = decode(trace, lens, layers=(0, 3), force=True)
    assert decoding.layers == (0, 3)
    assert decoding.forced_reasons == ("layer 3 has no lens of its own (there are [0, 2]): 2 is nearest",)
    np.testing.assert_allclose(decoding.patches[1], lens.decode(trace["resid_post", 3], 2).numpy())


def test_force_that_is_not_needed_is_not_reported(make_trace, lens):
    assert not decode(make_trace(), lens, force=True).forced


def test_what_no_option_can_mend_is_refused_even_when_forced(make_trace, make_model, lens, make_info):
    with pytest.raises(LensMismatchError, match="width 6; these have 8"):
        decode(make_trace(model=make_model(d_model=8)), lens, force=True)
    other = RidgeLens(info=make_info(patch=2), weight=lens.weight[..., :12], bias=lens.bias[..., :12])
    with pytest.raises(LensMismatchError, match="patches of 2 pixels; those of toy have 4"):
        decode(make_trace(), other, force=True)


def test_a_trace_without_what_is_needed_is_refused(make_trace, make_model, lens):
    with pytest.raises(LensMismatchError, match=r"resid_post at layers \[1, 3\].*recording_for"):
        decode(make_trace(layers=(1, 3)), lens)
    with pytest.raises(SiteError, match="Layer 0"):
        decode(make_trace(layers=(1, 3)), lens, layers=(0,))
    with pytest.raises(InputError, match="no layer"):
        decode(make_trace(), lens, layers=())
    with pytest.raises(LensError, match="image tokens"):
        decode(make_trace(tokens="text"), lens)
    with pytest.raises(LensError, match="pools its 9 patches to 4 image tokens"):
        decode(make_trace(model=make_model(grid=(2, 2))), lens)
