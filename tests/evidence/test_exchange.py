"""Exchange between checkpoints: equal ones differ by nothing, and one that was turned is understood through a map."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.exchange import exchange, fit_map, paired_states
from emma_viz.evidence.patching import states_of

PROMPT = "What is it?"


@pytest.fixture(scope="module")
def cases(one, photos):
    return [Case.of(one, photo, PROMPT) for photo in photos]


@pytest.fixture(scope="module")
def turned(one, cases):
    """The same function in other directions: every state of its stream is turned by one orthogonal matrix."""
    llm = deepcopy(one.vlm.llm)
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(llm.config.d_model, llm.config.d_model, generator=draw))[0]
    with torch.no_grad():
        for block in llm.backbone.layers:
            block.mixer.in_proj.weight.copy_((block.mixer.in_proj.weight * block.norm.weight) @ turn.mT)
            block.norm.weight.fill_(1)
            block.mixer.out_proj.weight.copy_(turn @ block.mixer.out_proj.weight)
        llm.lm_head.weight = torch.nn.Parameter((llm.lm_head.weight * llm.backbone.norm_f.weight) @ turn.mT)
        llm.backbone.norm_f.weight.fill_(1)
    vlm = deepcopy(one.vlm)
    vlm.llm = llm
    return [replace(case, vlm=vlm, tokens=case.tokens @ turn.mT, text=case.text @ turn.mT) for case in cases]


def test_equal_checkpoints_differ_by_nothing(cases):
    every = range(cases[0].length)
    twin = replace(cases[0], vlm=deepcopy(cases[0].vlm))
    clean = cases[0].changed([[]])[0]
    for layer in range(3):
        assert exchange(twin, cases[0], layer, every) == clean


def test_a_turned_checkpoint_is_understood_through_a_map_and_not_without(cases, turned):
    for one, other in zip(cases, turned, strict=True):
        assert one.changed([[]])[0] == pytest.approx(other.changed([[]])[0], abs=1e-4)
    layer, image = 1, range(cases[0].count)
    (pairs,) = paired_states(cases[1:], turned[1:], [layer])
    # One question of all; the other image's tokens in the turned model are what its own would be.
    target = replace(turned[0], tokens=turned[1].tokens)
    expected, plain = turned[0].changed([[]])[0], target.changed([[]])[0]
    through = exchange(cases[0], target, layer, image, through=fit_map(*pairs, strength=1e-9))
    raw = exchange(cases[0], target, layer, image)
    shuffled = exchange(cases[0], target, layer, image, through=fit_map(*pairs, strength=1e-9, shuffle=1))
    # What the text took from the image in block 0 is still the other image's.
    alone = exchange(turned[0], target, layer, image)
    assert expected != plain
    assert through == pytest.approx(alone, abs=1e-5)
    assert abs(raw - alone) > 10 * abs(through - alone)
    assert abs(shuffled - alone) > 10 * abs(through - alone)


def test_paired_states_are_those_of_each_run_alone(cases, turned):
    found = paired_states(cases, turned, [0, 2], [2, 2])
    for (ours, theirs), (layer, other) in zip(found, [(0, 2), (2, 2)], strict=True):
        for got, some, at in ((ours, cases, layer), (theirs, turned, other)):
            states = [states_of(each, ("resid_pre",), (at,))["resid_pre", at][: each.count] for each in some]
            torch.testing.assert_close(got, torch.cat(states), atol=1e-5, rtol=1e-5)


def test_states_that_do_not_fit_are_refused(cases, unchecked):
    with pytest.raises(InputError, match="same tokens"):
        fit_map(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(InputError, match="image tokens"):
        paired_states([], [], [0])
