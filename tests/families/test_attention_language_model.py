"""The attention language model against transformers' Llama and Qwen2."""

import pytest
import torch

from emma_viz.models import MambaConfig, MambaLM

SIZES = {"vocab_size": 61, "num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 48}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def _llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    hub = LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, tie_word_embeddings=False, rms_norm_eps=1e-5))
    return hub, {"tied": False}


def _qwen2():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hub = Qwen2ForCausalLM(
        Qwen2Config(**SIZES, **HEADS, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_theta=500.0)
    )
    return hub, {"tied": True, "qkv_bias": True, "rope_base": 500.0}


@pytest.fixture(scope="module", params=[_llama, _qwen2], ids=["llama", "qwen2"])
def pair(request):
    """Ours and theirs with the same random weights."""
    torch.manual_seed(2)
    hub, changes = request.param()
    config = MambaConfig(
        d_model=32, n_layer=3, vocab_size=61, pad_vocab_size_multiple=1, ssm="attention", q_heads=4, kv_heads=2,
        mlp_width=48, residual_in_fp32=False, **changes,
    )  # fmt: skip
    ours = MambaLM(config)
    with torch.no_grad():
        for weight in hub.parameters():
            weight.normal_(std=0.3)
    renamed = {"embed_tokens.": "embedding.", "model.norm.": "backbone.norm_f.", "model.": "backbone."}
    state = {}
    for key, value in hub.state_dict().items():
        for theirs, mine in renamed.items():
            key = key.replace(theirs, mine)
        state[key] = value
    ours.load_state_dict(state)
    return ours.eval(), hub.eval()


def apart(one, other):
    return float((one - other).norm() / other.norm())


@torch.no_grad()
def test_logits_and_states(pair):
    ours, theirs = pair
    ids = torch.randint(61, (2, 17))
    seen = []
    for block in ours.backbone.layers:
        block.hook_resid_post.register_forward_hook(lambda module, args, value: seen.append(value))
    logits = ours(ids)
    for block in ours.backbone.layers:
        block.hook_resid_post._forward_hooks.clear()
    expected = theirs(ids, output_hidden_states=True)
    assert apart(logits, expected.logits) < 1e-5
    for state, reference in zip(seen, expected.hidden_states[1:-1], strict=False):
        assert apart(state, reference) < 1e-5


@torch.no_grad()
def test_texts_of_unequal_length_in_pieces_are_what_each_is_alone(pair):
    """Right-padded, then two tokens more, one by one; and the same from a cache that is forked and joined."""
    ours, _ = pair
    texts = [torch.randint(61, (1, n)) for n in (5, 9, 2)]
    more = torch.randint(61, (3, 2))
    alone = [ours(torch.cat([text, more[i : i + 1]], 1))[0, -2:] for i, text in enumerate(texts)]
    lengths = torch.tensor([5, 9, 2])
    padded = torch.stack([torch.nn.functional.pad(text[0], (0, 9 - text.shape[1])) for text in texts])
    cache = ours.new_cache()
    ours(padded, cache=cache, lengths=lengths)
    forks = [cache.select(torch.tensor([i])) for i in (2, 0, 1)]
    forks[0].layers = [  # a shorter memory than the others': of its own two tokens
        type(state)(k=state.k[:, :, :2], v=state.v[:, :, :2], real=state.real[:, :2])
        for state in forks[0].layers
    ]
    joined = type(cache).joined(forks)
    for order, start in (([0, 1, 2], cache), ([2, 0, 1], joined)):
        rows = [ours(more[order, step : step + 1], cache=start)[:, 0] for step in range(2)]
        for place, sample in enumerate(order):
            assert apart(torch.stack([row[place] for row in rows]), alone[sample]) < 1e-5
