"""Families in whose blocks some mixers are attention and some a Mamba-2."""

import numpy as np
import pytest
import torch

from emma_viz.capture import Recorder, record
from emma_viz.capture.sites import site_width
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import SiteError
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.models import generate
from emma_viz.models.attention_sites import sites_of
from emma_viz.study.opening import open_study
from tests.families.conftest import make_member

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
INSIDE = ("conv", "delta", "B", "C", "scan", "y")


@pytest.fixture(scope="module", params=["matvlm", "mmmamba"])
def hybrid(request, tmp_path_factory):
    return make_member(request.param, tmp_path_factory.mktemp(request.param)).loaded


def test_its_record_says_which_blocks_have_a_mixer(hybrid):
    info, llm = hybrid.info, hybrid.config.llm
    assert info.mixer_layers == llm.mixer_layers == llm.mamba_layers
    assert 0 < len(info.mixer_layers) < info.n_layer
    assert not info.mixers_alone
    assert ModelInfo.from_json(info.to_json()) == info


def test_sites_inside_mixers_are_recorded_where_there_are_mixers(hybrid, tmp_path):
    trace = record(
        hybrid, NOISE, "Why?", sites=("resid_post", *INSIDE), max_new_tokens=2, generated_states=True
    )
    mixers = hybrid.info.mixer_layers
    for site in INSIDE:
        assert trace.layers_of(site) == mixers
        assert trace[site].shape[0] == trace.generated[site].shape[0] == len(mixers)
        assert trace[site].shape[-1] == site_width(site, hybrid.config.llm)
    assert trace.layers_of("resid_post") == tuple(range(hybrid.info.n_layer))
    assert (trace["delta"] > 0).all()
    study = open_study(tmp_path / "study", create=True)
    study.add_trace(trace, "hybrid")
    (kept,) = study.traces("hybrid")
    assert torch.equal(kept["delta", mixers[-1]], trace["delta", mixers[-1]])


def test_a_layer_without_a_mixer_is_refused_and_those_that_have_one_named(hybrid):
    mixers = hybrid.info.mixer_layers
    lacking = next(layer for layer in range(hybrid.info.n_layer) if layer not in mixers)
    named = f"layer {lacking} .*layers that have one: {', '.join(map(str, mixers))}"
    for asked in ({"layers": [lacking]}, {"layers": [lacking, mixers[0]]}):
        with pytest.raises(SiteError, match=named):
            record(hybrid, NOISE, "Why?", sites=["delta"], generate=False, **asked)
        with pytest.raises(SiteError, match=named):
            Recorder(hybrid.vlm, ["delta"], **asked)
    with pytest.raises(SiteError, match=named):
        record(hybrid, NOISE, "Why?", sites=[f"blocks.{lacking}.hook_delta"], generate=False)
    both = record(
        hybrid, NOISE, "Why?", sites=["delta", "resid_post"], layers=[lacking, mixers[0]], generate=False
    )
    assert (both.layers_of("delta"), both.layers_of("resid_post")) == ((mixers[0],), (lacking, mixers[0]))
    with pytest.raises(SiteError, match="attn_out is what its mixers add"):
        record(hybrid, NOISE, "Why?", sites=["mixer_out"], generate=False)


def test_its_sites_are_the_same_by_its_modules_and_by_its_config(hybrid):
    for name in sites_of(hybrid.config.llm):
        found = Recorder(hybrid.vlm, [name]).targets
        assert all(hybrid.vlm.get_submodule(each.path) is not None for each in found)
    point = hybrid.hook_point(f"blocks.{hybrid.info.mixer_layers[0]}.hook_delta")
    assert point in set(hybrid.vlm.modules())


@pytest.mark.parametrize(("kind", "site"), [("skip", "delta"), ("write", "B")])
def test_a_state_passes_over_tokens_in_the_blocks_that_have_one(hybrid, kind, site):
    def seen():
        return record(hybrid, NOISE, "Why?", sites=(site, "norm_f"), tokens="all", generate=False)

    before = seen()
    with intervene(hybrid, [Intervention(kind=kind, tokens=(1, 2))]):
        after = seen()
    assert (after[site][:, 0, 1:3] == 0).all()
    assert (before[site][:, 0, 1:3] != 0).any()
    assert not torch.equal(before["norm_f"], after["norm_f"])


@torch.no_grad()
def test_an_answer_is_that_of_the_whole_text_read_anew_for_each_token(hybrid):
    """Two images with prompts of two lengths: states of the mixers and keys of attention go on from what was read."""
    vlm = hybrid.vlm
    assert vlm.lead, "the text before the image is what both go on from"
    pixels = tuple(torch.randn(2, 3, each.image_size, each.image_size) for each in vlm.config.vision.towers)
    prompts = [[5, 17, 9], [40, 3, 88, 120, 7]]
    found = generate(vlm, pixels, prompts, max_new_tokens=5, eos_id=None).ids
    for sample, prompt in enumerate(prompts):
        own, ids = tuple(each[sample : sample + 1] for each in pixels), list(prompt)
        for token in found[sample]:
            scores = vlm(own, torch.tensor([ids]), logits="all").logits[0, -1]
            assert token == int(scores[: vlm.config.llm.vocab_size].argmax())
            ids.append(token)
