"""Interventions against what they mean: cut paths, replaced values, and models left as they were."""

import json

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import InputError, SiteError
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene, mean, replace, zero
from emma_viz.models import generate
from emma_viz.models.attention_sites import ATTENTION_SITES, sites_of
from emma_viz.study import open_study

PROMPT = "What is it?"


def states(model, photo, site, layer):
    return record(model, photo, PROMPT, tokens="all", generate=False, sites=(site,), layers=(layer,))[
        site, layer
    ][0]


def test_a_skipped_token_is_as_good_as_not_in_the_scan(model, photos):
    """Δ = 0 at a token: changing what it writes changes nothing behind it but through the convolution."""
    reach = model.vlm.config.llm.d_conv
    skip = Intervention(kind="skip", tokens=(3,), layers=(0,))
    loud = Intervention(
        kind="replace", site="B", tokens=(3,), layers=(0,), value=np.full(16, 9.0, np.float32)
    )
    width = model.vlm.llm.backbone.layers[0].mixer.config
    loud = Intervention(
        kind="replace", site="B", tokens=(3,), layers=(0,), value=np.full(width.ngroups * width.d_state, 9.0)
    )
    with intervene(model, [skip]):
        alone = states(model, photos[0], "mixer_out", 0)
    with intervene(model, [skip, loud]):
        both = states(model, photos[0], "mixer_out", 0)
    with intervene(model, [loud]):
        written = states(model, photos[0], "mixer_out", 0)
    torch.testing.assert_close(alone, both, rtol=0, atol=0)
    assert not torch.equal(written[3 + reach :], alone[3 + reach :])


def test_without_its_write_a_token_reaches_only_its_neighbours(model, photos):
    """B = 0 cuts the state; the convolution still carries a token to the d_conv − 1 behind it."""
    write = Intervention(kind="write", tokens=(3,), layers=(0,))
    other = Intervention(kind="zero", site="mixer_in", tokens=(3,), layers=(0,))
    with intervene(model, [write]):
        kept = states(model, photos[0], "scan", 0)
    reach = model.vlm.config.llm.d_conv
    with intervene(model, [write, other]):
        changed = states(model, photos[0], "scan", 0)
    assert not torch.equal(kept[3:][:reach], changed[3:][:reach])
    assert torch.equal(kept[:3], changed[:3])


def test_values_are_put_where_they_are_meant(model, photos):
    plain = states(model, photos[0], "mixer_out", 1)
    value = np.arange(model.info.d_model, dtype=np.float32)
    put = Intervention(
        kind="replace", site="mixer_out", tokens=(2, 5), layers=(1,), value=np.stack([value, -value])
    )
    with intervene(model, [put]):
        after = states(model, photos[0], "mixer_out", 1)
    np.testing.assert_array_equal(after[[2, 5]].numpy(), np.stack([value, -value]))
    untouched = [index for index in range(len(plain)) if index not in (2, 5)]
    assert torch.equal(after[untouched], plain[untouched])
    with intervene(model, [Intervention(kind="mean", site="mixer_out", tokens=(2, 5), layers=(1,))]):
        averaged = states(model, photos[0], "mixer_out", 1)
    torch.testing.assert_close(averaged[2], plain[[2, 5]].mean(0))
    assert torch.equal(averaged[2], averaged[5])


def test_names_of_hooks_touch_every_token(model, photos):
    with intervene(model, {"blocks.1.hook_mixer_out": zero}):
        assert not states(model, photos[0], "mixer_out", 1).any()
        assert states(model, photos[0], "mixer_out", 0).any()
    with intervene(model, {"mixer_in": replace(torch.ones(model.info.d_model)), "mixer_out": mean}):
        assert (states(model, photos[0], "mixer_in", 2) == 1).all()


def test_an_answers_tokens_are_not_taken_for_the_images(one, photos):
    """With a cache, a pass of one token is not position 0 again."""
    seen = []
    point = one.vlm.llm.backbone.layers[0].hook_mixer_out
    prompt = [one.tokenizer.encode(one.prompt(PROMPT))]
    with intervene(one, [Intervention(kind="zero", site="mixer_out", tokens=(0,), layers=(0,))]):
        handle = point.register_forward_hook(lambda module, args, value: seen.append(value))
        generate(one.vlm, one.transform.pixels([photos[0]]), prompt, max_new_tokens=3, eos_id=None)
        handle.remove()
    assert not seen[0][0, 0].any()
    assert all(value[0, 0].any() for value in seen[1:])
    first = one.vlm.n_image_tokens + len(prompt[0])
    seen.clear()
    with intervene(one, [Intervention(kind="zero", site="mixer_out", tokens=(first,), layers=(0,))]):
        handle = point.register_forward_hook(lambda module, args, value: seen.append(value))
        generate(one.vlm, one.transform.pixels([photos[0]]), prompt, max_new_tokens=4, eos_id=None)
        handle.remove()
        with pytest.raises(InputError, match="positions"):
            one.vlm(one.transform.pixels([photos[0]]), torch.tensor(prompt))
    assert [bool(value.any()) for value in seen] == [True, False, True, True][: len(seen)]


def test_positions_begin_with_the_image_behind_what_stands_before_it(led, photos):
    first = Intervention(kind="zero", site="attn_out", tokens=(0, 5), layers=(1,))
    with intervene(led, [first]):
        trace = record(
            led, photos[:2], PROMPT, tokens="all", generate=False, sites=("attn_out",), layers=(1,)
        )
    for sample in range(2):
        zeroed = [index for index, row in enumerate(trace["attn_out", 1][sample]) if not row.any()]
        assert zeroed == [0, 5]
    prompt = [led.tokenizer.encode(led.prompt(PROMPT))]
    pixels = led.transform.pixels([photos[0]])
    behind = led.vlm.n_image_tokens + len(prompt[0])
    seen = []
    answered = Intervention(kind="zero", site="attn_out", tokens=(behind,), layers=(1,))
    with intervene(led, [answered]):
        handle = led.hook_point("blocks.1.hook_attn_out").register_forward_hook(
            lambda module, args, value: seen.append(bool(value[0].any(dim=-1).all()))
        )
        generate(led.vlm, pixels, prompt, max_new_tokens=3, eos_id=None)
        handle.remove()
        with pytest.raises(InputError, match="positions"):
            led.vlm(pixels, torch.tensor(prompt))
    assert seen == [True, False, True]


def test_one_value_each_goes_to_its_token_in_any_order_and_in_any_pass(one, photos):
    prompt = [one.tokenizer.encode(one.prompt(PROMPT))]
    first = one.vlm.n_image_tokens + len(prompt[0])
    values = np.array([[1.0], [2.0], [3.0]], np.float32) * np.ones(one.info.d_model, np.float32)
    seen = []
    put = Intervention(kind="replace", site="mixer_out", tokens=(first, 7, 2), layers=(1,), value=values)
    with intervene(one, [put]):
        handle = one.hook_point("blocks.1.hook_mixer_out").register_forward_hook(
            lambda module, args, value: seen.append(value[0].clone())
        )
        generate(one.vlm, one.transform.pixels([photos[0]]), prompt, max_new_tokens=3, eos_id=None)
        handle.remove()
    assert (seen[0][7] == 2).all()
    assert (seen[0][2] == 3).all()
    assert (seen[1][0] == 1).all()
    two = replace(torch.ones(2, one.info.d_model))
    with intervene(one, {"mixer_out": two}), pytest.raises(InputError, match="one for each of the"):
        one.vlm(one.transform.pixels([photos[0]]), torch.tensor(prompt))


def test_hooks_are_named_as_the_model_has_them(led, one, photos):
    with intervene(led, {"blocks.1.hook_attn_out": zero}):
        assert not states(led, photos[0], "attn_out", 1).any()
        assert states(led, photos[0], "attn_out", 0).any()
    lacking = set(ATTENTION_SITES) - set(sites_of(led.vlm.config.llm))
    for model, site in ((one, "attn_out"), (led, "mixer_out"), *((led, site) for site in lacking)):
        with pytest.raises(SiteError, match="Its sites"), intervene(model, {f"blocks.1.hook_{site}": zero}):
            pass


def test_the_model_is_as_before_also_after_an_error(one, photos):
    before = states(one, photos[0], "resid_post", 2)
    with pytest.raises(InputError, match="width"), intervene(one, {"mixer_out": replace(torch.ones(3))}):
        states(one, photos[0], "resid_post", 2)
    assert torch.equal(states(one, photos[0], "resid_post", 2), before)


def test_an_intervention_says_what_it_is():
    value = np.ones((2, 4), np.float32)
    change = Intervention(
        kind="replace", site="resid_pre", tokens=(1, 2), layers=(0, 3), value=value, source="noise"
    )
    assert change.describe() == "replace by noise at resid_pre, 2 tokens, layers 0, 3"
    kept = json.loads(json.dumps(change.to_json()))
    assert kept["value"]["shape"] == [2, 4]
    assert (kept["kind"], kept["tokens"], kept["layers"], kept["site"]) == (
        "replace",
        [1, 2],
        [0, 3],
        "resid_pre",
    )
    assert Intervention(kind="skip").describe() == "skip at delta, all tokens, all layers"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"kind": "remove"}, InputError),
        ({"kind": "zero"}, SiteError),
        ({"kind": "zero", "site": "resid_post"}, SiteError),
        ({"kind": "zero", "site": "nonsense"}, SiteError),
        ({"kind": "skip", "site": "B"}, InputError),
        ({"kind": "replace", "site": "B"}, InputError),
        ({"kind": "zero", "site": "B", "value": np.ones(3)}, InputError),
        ({"kind": "replace", "site": "B", "value": np.ones((2, 3))}, InputError),
        ({"kind": "zero", "site": "B", "tokens": (1, 1)}, InputError),
        ({"kind": "zero", "site": "B", "tokens": (-1,)}, InputError),
        ({"kind": "edge", "tokens": (1,)}, InputError),
        ({"kind": "cut", "readers": (1,)}, InputError),
        ({"kind": "delete"}, InputError),
        ({"kind": "delete", "tokens": (1,), "readers": (2,)}, InputError),
        ({"kind": "edge", "tokens": (1,), "readers": (2, 2)}, InputError),
    ],
)
def test_what_makes_no_sense_is_refused(fields, error, unchecked):
    with pytest.raises(error):
        Intervention(**fields)


def test_layers_and_names_that_are_not_there_are_refused_before_anything_is_hooked(one):
    points = [module for module in one.vlm.modules() if module._forward_hooks]
    for changes in (
        [Intervention(kind="skip", layers=(99,))],
        {"blocks.99.hook_B": zero},
        {"nonsense": zero},
    ):
        with pytest.raises(SiteError), intervene(one, changes):
            pass
    assert [module for module in one.vlm.modules() if module._forward_hooks] == points


def test_a_trace_says_what_was_changed_and_keeps_it_on_disk(one, photos, tmp_path, caplog):
    value = np.ones(one.info.d_model, np.float32)
    changes = [
        Intervention(kind="skip", tokens=(1, 2), layers=(0,)),
        Intervention(kind="replace", site="resid_pre", tokens=(3,), value=value, source="noise"),
    ]
    with intervene(one, changes), intervene(one, {"blocks.1.hook_mixer_out": zero}):
        trace = record(one, photos[0], PROMPT, generate=False)
    assert [each.said for each in trace.interventions] == [
        *(each.describe() for each in changes),
        "zero at blocks.1.hook_mixer_out, all tokens",
    ]
    assert not trace.notes
    assert not caplog.records
    assert not record(one, photos[0], PROMPT, generate=False).interventions
    study = open_study(tmp_path / "study", create=True)
    study.add_trace(trace, "changed")
    assert open_study(tmp_path / "study").trace("changed").interventions == trace.interventions


def test_an_intervention_comes_back_from_json_with_its_own_value_alone(unchecked):
    value = np.arange(4, dtype=np.float32)
    change = Intervention(kind="replace", site="B", tokens=(1,), layers=(0, 3), value=value, source="noise")
    kept = json.loads(json.dumps(change.to_json()))
    again = Intervention.from_json(kept, value)
    assert (again.describe(), again.to_json()) == (change.describe(), change.to_json())
    for wrong in (None, value + 1):
        with pytest.raises(InputError, match="another one"):
            Intervention.from_json(kept, wrong)
    with pytest.raises(InputError, match="kind"):
        Intervention.from_json({**kept, "kind": "remove"}, value)
    edge = Intervention(kind="edge", tokens=(1, 2), readers=(9,), layers=(0,))
    assert Intervention.from_json(json.loads(json.dumps(edge.to_json()))).to_json() == edge.to_json()


def test_points_are_found_by_the_names_that_interventions_take(one):
    for name in ("blocks.1.hook_mixer_out", "blocks.1.hook_B", "hook_norm_f", "blocks.1.mixer.hook_y"):
        assert one.hook_point(name) in set(one.vlm.modules())
    # The last norm is in no block.
    for name in ("blocks.9.hook_B", "blocks.1.hook_norm_f", "blocks.99.hook_norm_f"):
        with pytest.raises(SiteError, match="hook point"):
            one.hook_point(name)
