"""Reading a trace: layers, samples, lengths."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import CaptureError, InputError, SiteError


def test_a_layer_is_read_by_site_and_layer(make_trace):
    trace = make_trace(batch=2)
    assert torch.equal(trace["resid_post", -1], trace.states["resid_post"][0])
    assert torch.equal(trace["resid_post", 2], trace.states["resid_post"][2])
    # The embedding is no layer of B, so its axis Y begins with layer 0.
    assert trace.layers_of("B") == (0, 2)
    assert torch.equal(trace["B", 2], trace.states["B"][1])
    assert torch.equal(trace["B"], trace.states["B"])


@pytest.mark.parametrize(
    ("key", "message"), [("resid_pots", "resid_post"), (("resid_post", 1), "-1, 0, 2"), (("B", -1), "0, 2")]
)
def test_what_was_not_recorded_is_an_error(make_trace, key, message):
    with pytest.raises(SiteError, match=message):
        make_trace()[key]


def test_norm_f_counts_as_the_last_block(make_trace):
    states = {"resid_post": torch.randn(2, 2, 4, 5), "norm_f": torch.randn(1, 2, 4, 5)}
    trace = make_trace(batch=2, layers=(0, 1), sites=("resid_post",))
    trace = replace(trace, sites=("resid_post", "norm_f"), states=states)
    assert trace.layers_of("norm_f") == (2,)
    assert torch.equal(trace["norm_f", 2], states["norm_f"][0])


def test_a_selection_has_the_layers_sites_and_samples_asked_for(make_trace, assert_same):
    trace = make_trace(batch=3, generated=True)
    some = trace.select(layers=[2, 0], sites=["B"], samples=[2, 0])
    assert (some.layers, some.sites, len(some)) == ((2, 0), ("B",), 2)
    assert torch.equal(some["B", 0], trace["B", 0][[2, 0]])
    assert torch.equal(some.generated["B"], trace.generated["B"][[1, 0]][:, [2, 0]])
    assert some.prompts == (trace.prompts[2], trace.prompts[0])
    assert some.images == (trace.images[2], trace.images[0])
    assert np.array_equal(some.views, trace.views[[2, 0]])
    assert_same(trace.select(), trace)
    assert_same(trace.select(samples=[1]).select(layers=[0]), trace.select(layers=[0], samples=[1]))


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        ({"layers": [1]}, SiteError),
        ({"sites": ["y"]}, SiteError),
        ({"samples": [3]}, InputError),
        ({"samples": [-1]}, InputError),
    ],
)
def test_a_selection_of_what_is_not_there_is_an_error(make_trace, selection, error):
    with pytest.raises(error):
        make_trace(batch=3).select(**selection)


def test_a_selection_keeps_the_seed_where_it_still_holds(one, photos):
    trace = record(one, photos, "What?", temperature=1.0, seed=4, max_new_tokens=4)
    later = trace.select(samples=[1, 2])
    again = record(one, photos[1:], "What?", temperature=1.0, seed=later.sampling.seed, max_new_tokens=4)
    assert again.answer_ids == later.answer_ids
    assert trace.select(samples=[2, 0]).sampling.seed is None


def test_without_states_everything_else_stays(make_trace):
    trace = make_trace(batch=2, generated=True)
    light = trace.without_states()
    assert not light.states
    assert not light.generated
    assert light.answers == trace.answers
    assert light.layers_of("B") == (0, 2)
    for key in ("B", ("B", 0)):
        with pytest.raises(CaptureError, match="without the states"):
            light[key]
    assert light.select(samples=[1], layers=[0]).prompts == trace.prompts[1:]


def test_lengths_say_which_tokens_are_real(make_trace):
    trace = make_trace(batch=2)
    assert (trace.n_image_tokens, trace.lengths) == (4, (4, 4))
    assert trace.mask().all()
    text = replace(trace, token_kind="text", states={})
    assert text.lengths == (2, 3)
    assert text.mask().tolist() == [[True, True, False], [True, True, True]]
    both = replace(trace, token_kind="all", states={})
    assert both.lengths == (6, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ("one",)}, "answers needs one entry for each of the 2 prompts"),
        ({"geometry": ()}, "or none"),
        ({"states": {"resid_post": torch.zeros(2, 2, 4, 5)}}, "3 layers and 2 samples"),
        ({"states": {"resid_post": torch.zeros(3, 1, 4, 5)}}, "3 layers and 2 samples"),
        ({"states": {"resid_post": torch.zeros(3, 2, 5)}}, "layers, samples, tokens, width"),
        ({"states": {"y": torch.zeros(3, 2, 4, 5)}}, "not among its sites"),
        ({"generated": {"B": torch.zeros(3, 2, 4, 5)}}, r"generated\['B'\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make_trace, changes, message):
    with pytest.raises(InputError, match=message):
        replace(make_trace(batch=2), **changes)


def test_the_last_state_is_that_of_the_last_real_token(one, photos):
    trace = record(one, None, ["Hi", "What is there on the table?"], tokens="text", generate=False)
    last = trace.last("resid_post", 2)
    assert torch.isnan(trace["resid_post", 2][0, -1]).all()
    assert torch.equal(last, torch.stack([states[-1] for states in trace.ragged("resid_post", 2)]))


def test_each_token_of_a_trace_has_a_string(one, photos):
    trace = record(one, photos[:1], "Hi", tokens="all", generate=False)
    strings = trace.token_strings(0)
    assert strings == replace(trace, tokenizer=None).token_strings(0, one.tokenizer)
    assert len(strings) == trace.lengths[0]
    assert strings[: trace.n_image_tokens][5] == "<image 1,1>"
    assert "".join(strings[trace.n_image_tokens :]) == one.prompt("Hi")
    with pytest.raises(InputError, match="0 to 0"):
        trace.token_strings(1)
    with pytest.raises(InputError, match=r"model\.tokenizer"):
        replace(trace, tokenizer=None).token_strings(0)


def test_states_in_a_box_are_those_of_the_tokens_that_it_covers(make_trace):
    trace = make_trace(batch=2)
    left, top, right, bottom = trace.geometry[1].token_boxes()[3].tolist()
    inside = trace.in_box("resid_post", 2, (left, top, right, bottom), sample=1)
    assert torch.equal(inside, trace["resid_post", 2][1, [3]])
    with pytest.raises(InputError, match="0 to 1"):
        trace.in_box("resid_post", 2, (0, 0, 9, 9), sample=2)
    with pytest.raises(CaptureError, match="image tokens"):
        make_trace(token_kind="text", prompt_ids=((1, 2, 3, 4),)).in_box("resid_post", 2, (0, 0, 9, 9))


def test_a_trace_is_shown_in_one_line(make_trace, study):
    trace = make_trace(batch=2)
    said = repr(trace)
    assert said == (
        "Trace(tiny, 2 samples, image tokens 4, resid_post × 3 layers, 5 wide, B × 2 layers, 1×3 wide, float32, "
        "0.000672 MB)"
    )
    study.add_trace(trace, "a")
    assert repr(study["a"]).endswith("states on disk)")
    assert repr(study).endswith("1 entries: a)")
    assert repr(trace.without_states()).endswith("without states)")
    ragged = replace(trace.without_states(), token_kind="text")
    assert "text tokens 2–3" in repr(ragged)
