"""Words of models that transformers' classes run, attributed to image tokens, against runs made here by hooks."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.checkpoints.peers import PeerModel
from emma_viz.errors import InputError
from emma_viz.evidence.attribution import attribute, falls_without
from emma_viz.evidence.case import Case
from emma_viz.evidence.integrated import integrate
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.models.peers.entered import language_model

pytestmark = pytest.mark.slow  # the package's models take seconds to import

PROMPT, BEFORE, WORD = "Where is the cup?", (40, 41), (50, 51)
DEEP = "deepstack_visual_embeds"


@pytest.fixture
def loud(peer):
    """The model with weights large enough for its words to depend on the image."""
    _, model = peer
    network = deepcopy(model.peer.network)
    with torch.no_grad():
        for name, weight in language_model(replace(model.peer, network=network)).named_parameters():
            if "o_proj" in name or "down_proj" in name or "v_proj" in name:
                weight.mul_(12)
        for name, weight in network.named_parameters():
            if weight.ndim == 2 and any(part in name for part in ("project", "connector", "merger")):
                weight.mul_(8)
        network.get_output_embeddings().weight.mul_(8)
    return PeerModel(peer=replace(model.peer, network=network), info=model.info)


def chance(model, picture, missing=(), share=1.0):
    """The word's log-probability through the whole class, some image tokens moved towards the mean of all."""
    asked = model.peer.inputs(picture, PROMPT)
    length = asked.given["input_ids"].shape[1]
    asked = asked.followed_by((*BEFORE, *WORD), kind=model.peer.family.kinds[2])
    rows, moved = asked.image[list(missing)], [0]

    def change(module, args, given):
        moved[0] += 1
        embeds = given["inputs_embeds"].clone()
        mean = embeds[0, asked.image].mean(dim=0)
        embeds[0, rows] += share * (mean - embeds[0, rows])
        changed = {"inputs_embeds": embeds}
        if given.get(DEEP):
            at = torch.isin(asked.image.sort().values, rows)
            changed[DEEP] = [
                torch.where(at[:, None], each + share * (each.mean(0) - each), each) for each in given[DEEP]
            ]
        return args, {**given, **changed}

    hook = language_model(model.peer).register_forward_pre_hook(change, with_kwargs=True)
    try:
        with torch.no_grad():
            logits = model.peer.network(**asked.given).logits[0]
    finally:
        hook.remove()
    assert moved == [1]
    scored = logits[length + len(BEFORE) - 1 :][: len(WORD)].float().log_softmax(-1)
    return float(scored[torch.arange(len(WORD)), torch.tensor(WORD)].sum())


def test_knock_out_is_ablation_by_a_hook(loud, pictures):
    model, picture = loud, pictures[0]
    place = model.transform.geometry(picture)
    found = attribute(model, picture, PROMPT, before=BEFORE, word=WORD, method="knockout", judged=1)
    whole = chance(model, picture)
    assert found.values.shape == place.grid
    assert found.score == pytest.approx(whole, abs=1e-5)
    assert len(found.verdict.random) == 19
    flat = found.values.ravel()
    for token in (0, 1, len(flat) - 1):
        gone = place.with_coarser(np.array([token])).tolist()
        assert flat[token] == pytest.approx(whole - chance(model, picture, gone), abs=1e-4)
    assert np.abs(flat).max() > 2e-3
    some = np.array([0, len(flat) - 1])
    (fall,) = falls_without(model, picture, PROMPT, [some], before=BEFORE, word=WORD)
    gone = place.with_coarser(some).tolist()
    assert fall == pytest.approx(whole - chance(model, picture, gone), abs=1e-4)


def test_gradients_are_slopes_towards_the_mean(loud, pictures):
    model, picture = loud, pictures[0]
    place = model.transform.geometry(picture)
    found = attribute(model, picture, PROMPT, before=BEFORE, word=WORD)
    flat, share = found.values.ravel(), 0.02
    for token in (0, len(flat) // 2):
        gone = place.with_coarser(np.array([token])).tolist()
        ends = [chance(model, picture, gone, share=each) for each in (-share, share)]
        assert flat[token] == pytest.approx((ends[0] - ends[1]) / (2 * share), abs=2e-4, rel=0.02)
    assert all(parameter.grad is None for parameter in model.peer.network.parameters())


def test_integrated_gradients_are_complete(loud, pictures):
    case = Case.of(loud, pictures[0], PROMPT, words=("Yes", "No"))
    found = integrate(case, case.tokens[0].mean(dim=0), points=32)
    assert found.complete
    assert abs(found.score - found.baseline) > 1e-3
    assert found.values.shape == (loud.transform.geometry(pictures[0]).n_image_tokens,)


def test_what_holds_the_routing_of_a_mamba_is_refused_with_a_sentence(peer, pictures):
    _, model = peer
    with pytest.raises(InputError, match="runs through transformers' own class"):
        decompose(model, pictures[0], PROMPT, word=WORD)
