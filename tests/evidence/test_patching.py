"""Patching and its estimates: real patches, finite differences, and models in which the estimate is exact."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from emma_viz.errors import InputError, SiteError
from emma_viz.evidence.case import Case
from emma_viz.evidence.patching import estimated_effects, patches, states_of, verify

PROMPT = "What is it?"
SITES = ("resid_pre", "mixer_out", "B", "delta", "z")


@pytest.fixture(scope="module")
def pair(model, photos):
    """Two images and one question, about one pair of words."""
    first = Case.of(model, photos[0], PROMPT)
    other = Case.of(model, photos[1], PROMPT)
    return first, replace(first, tokens=other.tokens)


def test_a_patch_with_itself_is_nothing_and_one_of_everything_is_the_other_run(pair):
    source, target = pair
    every = range(target.length)
    own = patches(states_of(target, SITES, (0, 2)), every, source="itself")
    plain, *same = target.changed([[], *([each] for each in own.values())])
    np.testing.assert_allclose(same, plain, atol=1e-6)
    given = patches(states_of(source, ("resid_pre",), (0, 2)), every, source="the other")
    np.testing.assert_allclose(
        target.changed([[each] for each in given.values()]), source.changed([[]] * 2), atol=1e-5
    )
    shifted = patches(states_of(source, ("resid_pre",), (2,)), [5], source="the other", taken=[4])
    assert np.array_equal(
        shifted["resid_pre", 2].value[0], states_of(source, ("resid_pre",), (2,))["resid_pre", 2][4].numpy()
    )


@pytest.mark.parametrize("site", SITES)
def test_an_estimate_is_the_slope_of_the_patch(pair, site):
    """A small step towards the source, really made, against the estimate of the whole step."""
    source, target = pair
    found = estimated_effects(source, target, (site,), (1,))
    step = 1e-2
    token = int(np.abs(found.effects[site, 1]).argmax())
    here, there = (states_of(each, (site,), (1,))[site, 1] for each in (target, source))
    ends = [here + share * (there - here) for share in (step, -step)]
    runs = [[*patches({(site, 1): end}, [token], source="a step").values()] for end in ends]
    ahead, behind = target.changed(runs)
    assert (ahead - behind) / (2 * step) == pytest.approx(found.effects[site, 1][token], rel=0.02, abs=2e-5)
    assert found.effects[site, 1][token] != 0


def test_real_patches_stand_beside_estimates(pair):
    source, target = pair
    near = replace(target, tokens=0.98 * target.tokens + 0.02 * source.tokens)
    found = estimated_effects(near, target, ("resid_pre", "mixer_out"), (0, 1, 2))
    compared = verify(near, target, found, top=5, drawn=20, seed=1)
    assert len(compared.places) == len(set(compared.places)) == 25
    largest = max(np.abs(each).max() for each in found.effects.values())
    assert np.abs(compared.estimates[:5]).min() >= np.abs(compared.estimates[5:]).max()
    assert np.abs(compared.estimates[0]) == pytest.approx(largest)
    assert compared.correlation > 0.99, "so small a step is nearly linear"
    nothing = estimated_effects(target, target, ("resid_pre",), (0,))
    assert not nothing.effects["resid_pre", 0].any()
    assert nothing.source == pytest.approx(nothing.target, abs=1e-6)


def test_with_points_between_the_estimates_of_what_enters_sum_to_the_difference(pair):
    """Integrated gradients: one gradient misses the difference, more come nearer; two are written out."""
    source, target = pair
    near = replace(target, tokens=0.7 * target.tokens + 0.3 * source.tokens)
    found = {n: estimated_effects(near, target, ("resid_pre",), (0,), points=n) for n in (1, 2, 8)}
    whole = found[1].source - found[1].target
    misses = {n: abs(each.effects["resid_pre", 0].sum() - whole) for n, each in found.items()}
    assert misses[8] < 0.2 * misses[1]
    assert misses[8] < 0.02 * abs(whole) + 1e-5
    halves = [replace(target, tokens=torch.lerp(target.tokens, near.tokens, share)) for share in (0.25, 0.75)]
    each = [estimated_effects(near, half, ("resid_pre",), (0,)).effects["resid_pre", 0] for half in halves]
    # The gradient at a point between, times what is left of the way: 3/4 and 1/4 of it.
    expected = (each[0] / 0.75 + each[1] / 0.25) / 2
    np.testing.assert_allclose(found[2].effects["resid_pre", 0], expected, rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="point"):
        estimated_effects(source, target, ("resid_pre",), (0,), points=0)


def test_where_the_model_is_affine_an_estimate_is_the_patch(pair):
    """Blocks that give nothing and no norm at the end: one gradient says all, at every layer."""
    source, target = pair
    vlm = deepcopy(target.vlm)
    with torch.no_grad():
        for block in vlm.llm.backbone.layers:
            block.mixer.out_proj.weight.zero_()
    vlm.llm.backbone.norm_f = nn.Identity()
    source, target = (replace(each, vlm=vlm) for each in (source, target))
    # The score is read at the last text token, so that one is moved too.
    source = replace(source, text=source.text * 1.5)
    found = estimated_effects(source, target, ("resid_pre",), (0, 2))
    for layer in (0, 2):
        states = states_of(source, ("resid_pre",), (layer,))
        last = target.length - 1
        change = [*patches(states, [last], source="the other").values()]
        real = target.changed([change])[0] - found.target
        assert found.effects["resid_pre", layer][last] == pytest.approx(real, rel=1e-4)
        assert abs(real) > 1e-3
        assert found.effects["resid_pre", layer].sum() == pytest.approx(found.source - found.target, rel=1e-4)


def test_runs_and_sites_that_do_not_fit_are_refused(pair):
    source, target = pair
    short = replace(source, text=source.text[:, 1:])
    with pytest.raises(InputError, match="one length"):
        estimated_effects(short, target, ("resid_pre",), (0,))
    with pytest.raises(SiteError):
        estimated_effects(source, target, ("resid_post",), (0,))
    points = [module for module in target.vlm.modules() if module._forward_hooks]
    with pytest.raises(SiteError):
        states_of(target, ("resid_pre",), (99,))
    assert [module for module in target.vlm.modules() if module._forward_hooks] == points
    assert not torch.is_grad_enabled() or all(each.grad is None for each in target.vlm.parameters())
