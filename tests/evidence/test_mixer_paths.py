"""Edges cut, exact cuts and deleted tokens, against rows, shorter texts, and mixers with a path closed by hand."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from emma_viz.capture import record
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.evidence.mixers.implicit_attention import attention_rows, scan_rows
from emma_viz.evidence.mixers.paths import leak, taken, without_edge, without_tokens
from emma_viz.evidence.mixers.routing import carried, convolved, mixed, mixed_out, project_in, routing_of
from emma_viz.evidence.replacements import placebo
from emma_viz.models import Mamba1Mixer

LENGTH, PROMPT = 12, "What is it?"
FAR, NEAR = (2, 3), (8, 9)
EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture
def mixer(model):
    """One mixer in double precision, with a bias that can be seen."""
    found = deepcopy(model.vlm.llm.backbone.layers[1].mixer).double()
    torch.manual_seed(4)
    with torch.no_grad():
        found.conv1d.bias.normal_(std=0.5)
    return found


@pytest.fixture
def normed(mixer):
    return torch.randn(
        LENGTH, mixer.config.d_model, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )


def at(places):
    """A mask of one sample."""
    mask = torch.zeros(1, LENGTH, dtype=torch.bool)
    mask[0, list(places)] = True
    return mask


def test_an_edge_without_its_leak_is_the_scans_rows_taken_off(mixer, normed):
    with torch.no_grad():
        inputs = project_in(mixer, normed[None])
        c = convolved(mixer, inputs.x) + mixer.conv1d.bias
        held = routing_of(mixer, c, inputs.dt)
        u = functional.silu(c[..., : mixer.config.d_inner])
        y = carried(mixer, u, held)
        rows = scan_rows(mixer, held, [10, 11])
        y[0, [10, 11]] -= (rows[:, list(FAR)] * u[0, list(FAR)]).sum(dim=1)
        expected = mixed_out(mixer, y, inputs.z)[0, [10, 11]]
    torch.testing.assert_close(
        without_edge(mixer, normed[None], at(FAR), leak=True)[0, [10, 11]], expected, **EXACT
    )


def test_a_cut_takes_off_what_the_rows_say_and_leaves_the_biases(mixer, normed):
    rows = attention_rows(mixer, normed, [7, 11])
    found = taken(mixer, normed[None], at(NEAR))[0, [7, 11]]
    torch.testing.assert_close(found, rows.vectors()[:, list(NEAR)].sum(dim=1), **EXACT)
    assert not found[0].any(), "what comes later was never read"
    with torch.no_grad():
        left = mixed(mixer, normed[None]) - taken(mixer, normed[None], at(range(LENGTH)))
    torch.testing.assert_close(left[0, [7, 11]], rows.bias_vectors(), rtol=1e-7, atol=1e-9)


def test_the_leak_is_all_or_nothing_where_one_path_is_closed(mixer, normed):
    """Without lags in the convolution nothing leaks; without a state everything does."""
    plain = leak(mixer, normed, (10,), [11])
    assert abs(plain) > 1e-3
    tapped, stateless = deepcopy(mixer), deepcopy(mixer)
    with torch.no_grad():
        tapped.conv1d.weight[..., :-1] = 0
        if isinstance(mixer, Mamba1Mixer):
            stateless.x_proj.weight[-mixer.config.d_state :] = 0
        else:
            width = mixer.config.ngroups * mixer.config.d_state
            stateless.conv1d.weight[-width:] = 0
            stateless.conv1d.bias[-width:] = 0
    assert leak(tapped, normed, (10,), [11]) == pytest.approx(0, abs=1e-9)
    assert leak(stateless, normed, (10,), [11]) == pytest.approx(1, abs=1e-9)


def test_a_token_that_is_cut_in_one_mixer_reaches_its_readers_by_its_routing_alone(mixer, normed):
    """Routing held, a token's content may be anything behind a cut edge."""
    with torch.no_grad():
        inputs = project_in(mixer, normed[None])
        held = routing_of(mixer, convolved(mixer, inputs.x) + mixer.conv1d.bias, inputs.dt)
        writes = held.B.clone()
        writes[:, list(FAR)] = 0
        found = []
        for content in (0.0, 7.0):
            given = inputs.x.clone()
            given[:, list(FAR)] = 0
            u = functional.silu((convolved(mixer, given) + mixer.conv1d.bias)[..., : mixer.config.d_inner])
            u[:, list(FAR)] += content
            found.append(mixed_out(mixer, carried(mixer, u, replace(held, B=writes)), inputs.z)[0, 4:])
    torch.testing.assert_close(*found, **EXACT)
    torch.testing.assert_close(without_edge(mixer, normed[None], at(FAR))[0, 4:], found[0], **EXACT)


def test_a_mixer_without_tokens_is_one_of_the_others_alone(mixer, normed):
    kept = [index for index in range(LENGTH) if index not in (*FAR, *NEAR)]
    found = without_tokens(mixer, normed[None], at((*FAR, *NEAR)))[0]
    with torch.no_grad():
        torch.testing.assert_close(found[kept], mixed(mixer, normed[None, kept])[0], **EXACT)
    assert not found[list(FAR)].any()
    assert not without_tokens(mixer, normed[None], at(range(LENGTH))).any()


def test_deleting_everywhere_is_a_text_without_the_tokens(model, photos):
    case = Case.of(model, photos[0], PROMPT)
    places = (*range(1, 15), case.count, case.count + 3)
    (found,) = case.changed([[Intervention(kind="delete", tokens=places)]])
    whole = torch.cat([case.tokens, case.text], dim=1)
    kept = [index for index in range(case.length) if index not in places]
    with torch.no_grad():
        hidden = model.vlm.llm.backbone(whole[:, kept])
        logits = model.vlm.llm.logits(hidden[:, -1:])[0, 0]
    assert found == pytest.approx(float(logits[case.word] - logits[case.against]), abs=1e-6)
    assert found != pytest.approx(case.changed([[]])[0], abs=1e-5), "the tokens must matter to be missed"


@pytest.mark.parametrize("kind", ["edge", "cut"])
def test_only_readers_lose_an_edge_and_the_trace_says_so(model, photos, kind):
    change = Intervention(kind=kind, tokens=(2, 3), readers=(8, 9), layers=(1,))

    def states():
        return record(model, photos[0], PROMPT, sites=("mixer_out",), tokens="all", generate=False)

    plain = states()
    with intervene(model, [change]):
        found = states()
    before, after = plain["mixer_out", 1][0], found["mixer_out", 1][0]
    others = [index for index in range(len(before)) if index not in (8, 9)]
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[[8, 9]], after[[8, 9]], atol=1e-4)
    assert [each.said for each in found.interventions] == [
        f"{kind} at mixer_out, 2 tokens for 2 readers, layers 1"
    ]
    assert found.interventions[0].readers == (8, 9)
    assert not found.notes


def test_what_cannot_be_seen_or_done_is_refused(one, photos):
    cut = Intervention(kind="cut", tokens=(2,), readers=(8,), layers=(1,))
    for inner in (Intervention(kind="write", layers=(1,)), Intervention(kind="zero", site="z")):
        with pytest.raises(InputError, match="inside"), intervene(one, [inner, cut]):
            pass
    with (
        pytest.raises(InputError, match="in one"),
        intervene(one, [cut, Intervention(kind="delete", tokens=(1,))]),
    ):
        pass
    with intervene(one, [Intervention(kind="write", layers=(0,)), cut]):
        with pytest.raises(InputError, match="generate=False"):
            record(one, photos[0], PROMPT)
        record(one, photos[0], PROMPT, generate=False)
    far = Intervention(kind="delete", tokens=(10_000,))
    with intervene(one, [far]), pytest.raises(InputError, match="positions"):
        record(one, photos[0], PROMPT, generate=False)


@pytest.mark.parametrize(
    "fields",
    [{"kind": "write"}, {"kind": "skip", "layers": (0, 2)}, {"kind": "edge", "readers": (20,)}],
)
def test_a_placebo_changes_each_mixer_as_much_and_elsewhither(one, photos, fields):
    case = Case.of(one, photos[0], PROMPT)
    change = Intervention(tokens=(3, 4), **fields)
    made = placebo(case, change, seed="a")
    assert [each.layers for each in made] == [(layer,) for layer in change.layers or range(3)]
    again = placebo(case, change, seed="a")
    assert [each.to_json() for each in made] == [each.to_json() for each in again]
    alone = replace(change, layers=made[-1].layers)

    def out(changes):
        with intervene(one, changes):
            trace = record(one, photos[0], PROMPT, sites=("mixer_out",), tokens="all", generate=False)
        return trace["mixer_out", made[-1].layers[0]][0]

    plain, changed, moved = out([]), out([alone]), out([made[-1]])
    torch.testing.assert_close(
        (changed - plain).norm(dim=1), (moved - plain).norm(dim=1), atol=1e-5, rtol=1e-4
    )
    assert torch.cosine_similarity((changed - plain).ravel(), (moved - plain).ravel(), dim=0).abs() < 0.5
    with pytest.raises(InputError, match="inside a mixer"):
        placebo(case, Intervention(kind="zero", site="resid_pre"), seed="a")


def test_there_is_no_placebo_where_there_is_no_mixer(led, photos):
    """Not even an empty one, which would be a control of exactly 0."""
    case = Case.of(led, photos[0], PROMPT)
    change = Intervention(kind="write", tokens=(3, 4))
    if mixers := led.info.mixer_layers:
        assert [each.layers for each in placebo(case, change, seed="a")] == [(layer,) for layer in mixers]
        return
    with pytest.raises(InputError, match="an attention transformer has none"):
        placebo(case, change, seed="a")
