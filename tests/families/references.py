"""What a member's own file computes, by transformers' language models and torch's functions: nothing of ours."""

import torch
from torch import Tensor
from torch.nn import functional

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 264}
_ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None}


def logits(name: str, state: dict, features: Tensor, ids: Tensor) -> Tensor:
    """Scores over image and text."""
    llm = {key.removeprefix("llm."): value for key, value in state["llm_backbone"].items()}
    if name == "ml-mamba":
        features = _connected(state, features)
    tokens = _projected(state["projector"], features)
    rows = llm["lm_head.weight"].shape[0]
    hub = _language_model(name, rows)
    names = {"embedding.weight": "embeddings.weight"}
    if name == "llava-pocket":
        names = {"embedding.": "embed_tokens.", "norm_f.": "norm.", "backbone.": "model."}
    renamed = {}
    for key, value in llm.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        renamed[key] = value
    hub.load_state_dict(renamed)
    embedded = torch.cat([tokens, hub.get_input_embeddings()(ids)], dim=1)
    return hub(inputs_embeds=embedded).logits


def _language_model(name: str, rows: int):
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Mamba2Config,
        Mamba2ForCausalLM,
        MambaConfig,
        MambaForCausalLM,
    )

    sizes = {**SIZES, **_ENDS, "vocab_size": rows}
    if name == "llava-pocket":
        config = LlamaConfig(**sizes, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
                             rms_norm_eps=1e-5, tie_word_embeddings=True)  # fmt: skip
        return LlamaForCausalLM(config).eval()
    if name in ("emma-v2", "ml-mamba"):
        config = Mamba2Config(**sizes, state_size=16, head_dim=16, num_heads=4, n_groups=1, chunk_size=8,
                              tie_word_embeddings=True)  # fmt: skip
        return Mamba2ForCausalLM(config).eval()
    return MambaForCausalLM(MambaConfig(**sizes, state_size=8)).eval()


def _linear(state: dict, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _projected(state: dict, features: Tensor) -> Tensor:
    hidden = functional.gelu(_linear(state, "projector.0", features))
    return _linear(state, "projector.4", functional.gelu(_linear(state, "projector.2", hidden)))


def _connected(state: dict, features: Tensor) -> Tensor:
    own = state["bidirectional_mamba"]
    x = functional.gelu(_linear(state["mlp"], "0", features))
    for layer in range(2):
        part = {
            key.removeprefix(f"layers.{layer}."): value
            for key, value in own.items()
            if key.startswith(f"layers.{layer}.")
        }
        x = x + (_one_way(part, x, "") + _one_way(part, x.flip(1), "_b").flip(1)) / 2
        normed = functional.layer_norm(x, (32,), part["norm.weight"], part["norm.bias"])
        gate = functional.silu(_linear(part, "mlp.w1", normed))
        x = x + _linear(part, "mlp.w3", gate * _linear(part, "mlp.w2", normed))
    return functional.layer_norm(x, (32,), own["norm_f.weight"], own["norm_f.bias"])


def _one_way(part: dict, x: Tensor, end: str) -> Tensor:
    """One direction by transformers' mixer; its out_proj is linear, so that means of both are means of outputs."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(hidden_size=32, state_size=16, head_dim=16, num_heads=4, n_groups=1, chunk_size=8)
    hub = Mamba2Mixer(config, layer_idx=0)
    ours = {key.removeprefix("mixer."): value for key, value in part.items() if key.startswith("mixer.")}
    own = ("dt_bias", "A_log", "D", "conv1d")
    names = {key: key.replace(key.split(".")[0], key.split(".")[0] + end) for key in hub.state_dict()}
    hub.load_state_dict(
        {key: ours[names[key] if key.split(".")[0] in own else key] for key in hub.state_dict()}
    )
    return hub(x)
