"""Attention vision-language models of the transformers package are recorded at TransformerLens's sites."""

import pytest
import torch

from emma_viz.capture import Recorder
from emma_viz.capture.hooks import foreign_hooks
from emma_viz.errors import SiteError
from emma_viz.models.attention_sites import ATTENTION_SITES, PARTS
from tests.capture import transformer_peers
from tests.capture.transformer_peers import DEPTH, IMAGE, PEERS, peer

pytestmark = pytest.mark.slow  # the package's models take seconds to import


@pytest.fixture(scope="module", params=PEERS)
def seen(request):
    """A model, what it was asked, what it gives without hooks and with them, and what they saw."""
    model, asked = peer(request.param)
    with torch.no_grad():
        plain = model(**asked, output_hidden_states=True)
        # Asked for its states, the package hooks its own blocks and lets those hooks stay.
        theirs = foreign_hooks(model)
        with Recorder(model, ATTENTION_SITES) as recorder:
            hooked = model(**asked)
        assert foreign_hooks(model) == theirs
    return model, asked, plain, hooked, recorder


def test_hooks_change_no_bit(seen):
    _, _, plain, hooked, recorder = seen
    assert torch.equal(plain.logits, hooked.logits)
    assert all(report.fired == 1 and report.finite for report in recorder.reports)


def test_states_are_those_that_the_model_reports(seen):
    """The package's own states: the embedding, what leaves each block but the last, and the last after the norm."""
    model, _, plain, _, recorder = seen
    embedding, *leaving, last = plain.hidden_states
    torch.testing.assert_close(recorder["resid_pre", 0], embedding)
    assert len(leaving) == DEPTH - 1
    for layer, states in enumerate(leaving):
        torch.testing.assert_close(recorder["resid_post", layer], states)
    torch.testing.assert_close(recorder["norm_f", DEPTH - 1], last)
    torch.testing.assert_close(model.get_output_embeddings()(recorder["norm_f", DEPTH - 1]), plain.logits)


def test_a_block_reads_what_the_last_one_left(seen):
    """But for Qwen3-VL, which adds features of its encoder to the image tokens behind its first blocks."""
    model, asked, *_, recorder = seen
    image = (asked["input_ids"] == IMAGE)[..., None]
    adds = {0} if model.config.model_type == "qwen3_vl" else set()
    for layer in range(DEPTH - 1):
        between = (recorder["resid_pre", layer + 1] != recorder["resid_post", layer]) & image
        assert bool(between.any()) == (layer in adds)
        torch.testing.assert_close(
            recorder["resid_pre", layer + 1] * ~image, recorder["resid_post", layer] * ~image
        )


def test_the_parts_of_a_block_add_up(seen):
    recorder = seen[-1]
    for layer in range(DEPTH):
        middle = recorder["resid_pre", layer] + recorder["attn_out", layer]
        torch.testing.assert_close(recorder["resid_mid", layer], middle)
        torch.testing.assert_close(recorder["resid_post", layer], middle + recorder["mlp_out", layer])
        assert recorder["z", layer].shape[-1] == 16


def test_an_answer_is_recorded_token_by_token(seen):
    model, asked, *_ = seen
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    plain = model.generate(**asked, **settings)
    with Recorder(model, "blocks.1.hook_resid_post") as recorder:
        hooked = model.generate(**asked, **settings)
    assert torch.equal(plain, hooked)
    first, *steps = recorder.calls("blocks.1.hook_resid_post")
    assert first.shape[1] == asked["input_ids"].shape[1]
    assert [step.shape[1] for step in steps] == [1, 1]


def test_the_image_is_in_the_states_of_its_tokens(seen):
    """Another image changes what enters block 0 at the image tokens, and nowhere else."""
    model, asked, *_, recorder = seen
    with torch.no_grad(), Recorder(model, "resid_post", layers=[-1]) as other:
        model(**{**asked, "pixel_values": asked["pixel_values"] + torch.randn_like(asked["pixel_values"])})
    changed = (other["resid_post", -1] != recorder["resid_pre", 0]).any(-1)
    here = asked["input_ids"] == IMAGE
    assert not changed[~here].any()
    assert changed[here].float().mean() > 0.8  # newline tokens are the same for every image


@pytest.fixture(scope="module")
def llava():
    return peer("llava")[0]


@pytest.mark.parametrize("site", ["delta", "B", "mixer_out", "blocks.0.hook_y"])
def test_a_mamba_site_is_refused_in_a_sentence(llava, site):
    with pytest.raises(
        SiteError, match=r"is a site of a Mamba; an attention transformer has none\..*attn_out"
    ):
        Recorder(llava, site)


def test_names_and_layers_that_do_not_exist_are_refused(llava):
    with pytest.raises(SiteError, match=r"'resid_pst' is no hook site|No module matches"):
        Recorder(llava, "resid_pst")
    with pytest.raises(SiteError, match="layers 0 to 2"):
        Recorder(llava, "blocks.3.hook_attn_out")
    names = [target.name for target in Recorder(llava, "blocks.*.attn.hook_z", layers=[0, 2]).targets]
    assert names == ["blocks.0.hook_z", "blocks.2.hook_z"]


def test_parts_of_blocks_of_another_kind_are_refused_and_its_ends_recorded():
    """Granite multiplies what it adds; another block may have a norm that is not known."""
    from transformers import AutoModelForImageTextToText

    config = transformer_peers._llava("granite")
    config.text_config.residual_multiplier = 0.5
    scaled = AutoModelForImageTextToText.from_config(config).eval()
    for site in PARTS:
        with pytest.raises(
            SiteError, match=r"residual_multiplier\)\. Its sites: resid_pre, z, resid_post, norm_f"
        ):
            Recorder(scaled, site)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad(), Recorder(scaled, ("resid_pre", "resid_post")) as recorder:
        scaled(input_ids=ids)
    torch.testing.assert_close(recorder["resid_pre", 1], recorder["resid_post", 0])
    odd, _ = peer("llava")
    blocks = odd.get_submodule("model.language_model.layers")
    blocks[1].third_norm = torch.nn.LayerNorm(4)
    with pytest.raises(SiteError, match="third_norm"):
        Recorder(odd, "mlp_out")
