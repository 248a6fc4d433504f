"""The language models against the independent implementation in transformers, at 24 layers."""

from contextlib import contextmanager

import pytest
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaForCausalLM
from transformers import MambaConfig as HubMambaConfig

from emma_viz.models import MambaConfig, MambaLM

LAYERS, WIDTH, VOCABULARY = 24, 32, 48
RELATIVE = 1e-3


def mamba1():
    config = MambaConfig(d_model=WIDTH, n_layer=LAYERS, vocab_size=VOCABULARY, d_state=8)
    hub = HubMambaConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, vocab_size=VOCABULARY, state_size=8,
        residual_in_fp32=True, pad_token_id=0, bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return config, MambaForCausalLM(hub)


def mamba2():
    config = MambaConfig(
        d_model=WIDTH, n_layer=LAYERS, vocab_size=VOCABULARY, ssm="mamba2", d_state=16, headdim=16, ngroups=2,
        pad_vocab_size_multiple=16,
    )  # fmt: skip
    hub = Mamba2Config(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, vocab_size=VOCABULARY, state_size=16, head_dim=16,
        n_groups=2, num_heads=4, chunk_size=8, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return config, Mamba2ForCausalLM(hub)


@pytest.fixture(params=[mamba1, mamba2], ids=["mamba1", "mamba2"])
def pair(request):
    """Our model and transformers', with the same random weights."""
    config, theirs = request.param()
    ours = MambaLM(config).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(("norm.weight", "norm_f.weight", ".D")):
                parameter.uniform_(0.5, 1.5)
            if name.endswith("out_proj.weight"):
                parameter.mul_(40)
        ours.backbone.embedding.weight.mul_(2)
    renamed = {key.replace("embedding.", "embeddings."): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(renamed)
    return ours, theirs.eval()


@contextmanager
def recorded(model, site):
    """Values that a site of every block shows during the body."""
    seen = []
    handles = [
        getattr(block, site).register_forward_hook(lambda module, args, value: seen.append(value))
        for block in model.backbone.layers
    ]
    yield seen
    for handle in handles:
        handle.remove()


def close(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm()) < RELATIVE


@torch.no_grad()
def test_logits_and_all_hidden_states(pair):
    ours, theirs = pair
    ids = torch.randint(VOCABULARY, (2, 37))
    with recorded(ours, "hook_resid_post") as states:
        logits = ours(ids)
    expected = theirs(ids, output_hidden_states=True)
    assert close(logits, expected.logits)
    assert len(states) == LAYERS
    for state, reference in zip(states, expected.hidden_states, strict=False):
        assert close(state, reference)


@torch.no_grad()
def test_mixer_output_is_the_difference_of_hidden_states(pair):
    ours, theirs = pair
    ids = torch.randint(VOCABULARY, (1, 19))
    with recorded(ours, "hook_mixer_out") as outputs:
        ours(ids)
    states = theirs(ids, output_hidden_states=True).hidden_states
    for output, before, after in zip(outputs[1:], states[:LAYERS], states[1:LAYERS], strict=False):
        assert close(output, after - before)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
def test_greedy_generation(pair, batch):
    ours, theirs = pair
    prompt = torch.randint(VOCABULARY, (batch, 11))
    expected = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False, use_cache=True
    )
    cache = ours.new_cache()
    ids = ours(prompt, cache=cache)[:, -1:].argmax(-1)
    chosen = [ids]
    for _ in range(11):
        ids = ours(ids, cache=cache)[:, -1:].argmax(-1)
        chosen.append(ids)
    assert torch.equal(torch.cat([prompt, *chosen], dim=1), expected)
    assert len(torch.unique(expected[:, 11:])) > 2, "a constant answer would compare nothing"
