"""What mmMamba's released code computes of a tiny checkpoint: attention by transformers, the rest by torch."""

import torch
from torch import Tensor
from torch.nn import functional

from tests.families import llava_files

HEADS, SHARED, HEAD = 4, 2, 8


def logits(member, features: Tensor, ids: Tensor) -> Tensor:
    """Scores over image and text, of a file whose stream is brought to the length 1 between its two modules."""
    state = llava_files.renamed(member.state["all"], llava_files.MMMAMBA_NAMES)
    table = state["embedding_model.llm_text_embeddings.weight"]
    before = torch.tensor([member.loaded.vlm.lead]).expand(len(ids), -1)
    x = torch.cat([table[before], _image(state, features), table[ids]], dim=1)
    encoder, decoder = (
        _blocks(state, "embedding_model.encoder", 8),
        _blocks(state, "language_model.model.layers", 1),
    )
    for block in encoder:
        x = block(x)
    x = x / x.norm(dim=-1, keepdim=True)
    for block in decoder:
        x = block(x)
    normed = _normed(x, state["language_model.model.norm.weight"])
    return functional.linear(normed, state["language_model.output.weight"])[:, before.shape[1] :]


def _image(state: dict, features: Tensor) -> Tensor:
    """Tiles of 4×4 patches through the convolution itself, then the released pixel shuffle, step by step."""
    own = {key.removeprefix("embedding_model."): value for key, value in state.items()}
    pixels = features.reshape(-1, 4, 4, 3, 14, 14).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 56, 56)
    weight, bias = (own[f"vision_embeddings.patch_embedding.{name}"] for name in ("weight", "bias"))
    embedded = functional.conv2d(pixels, weight, bias, stride=14).flatten(2).transpose(1, 2)
    x = embedded + own["vision_embeddings.position_embedding"][:, 1:]
    count, width = len(x), x.shape[-1]
    x = x.reshape(count, 4, 2, 2 * width).permute(0, 2, 1, 3).contiguous()
    x = x.view(count, 2, 2, 4 * width).permute(0, 2, 1, 3).reshape(count, 4, 4 * width)
    for place in ("0", "2"):
        name = f"pixel_shuffle_proj.{place}"
        x = functional.linear(x, own[f"{name}.weight"], own[f"{name}.bias"])
        x = functional.gelu(x) if place == "0" else x
    return x


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def _blocks(state: dict, path: str, count: int):
    for layer in range(count):
        begin = f"{path}.{layer}."
        yield _Block(
            {key.removeprefix(begin): value for key, value in state.items() if key.startswith(begin)}
        )


class _Block:
    def __init__(self, state: dict):
        self.state = state

    def __call__(self, x: Tensor) -> Tensor:
        state = self.state
        mix = self._attended if "attention.wqkv.weight" in state else self._scanned
        x = x + mix(_normed(x, state["attention_norm.weight"]))
        normed = _normed(x, state["ffn_norm.weight"])
        gate = functional.silu(functional.linear(normed, state["feed_forward.w1.weight"]))
        up = functional.linear(normed, state["feed_forward.w3.weight"])
        return x + functional.linear(gate * up, state["feed_forward.w2.weight"])

    def _attended(self, x: Tensor) -> Tensor:
        """transformers' attention, whose weights are the rows of wqkv: of each key head 2 queries, key, value."""
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

        config = LlamaConfig(
            hidden_size=32, num_attention_heads=HEADS, num_key_value_heads=SHARED, attn_implementation="eager",
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )  # fmt: skip
        rows = self.state["attention.wqkv.weight"].view(SHARED, HEADS // SHARED + 2, HEAD, 32)
        hub = LlamaAttention(config, layer_idx=0)
        hub.load_state_dict(
            {
                "q_proj.weight": rows[:, :-2].reshape(-1, 32),
                "k_proj.weight": rows[:, -2].reshape(-1, 32),
                "v_proj.weight": rows[:, -1].reshape(-1, 32),
                "o_proj.weight": self.state["attention.wo.weight"],
            }
        )
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)[None, None]
        turned = LlamaRotaryEmbedding(config)(x, torch.arange(length)[None])
        return hub(x, position_embeddings=turned, attention_mask=mask)[0]

    def _scanned(self, x: Tensor) -> Tensor:
        """`Mamba2_LM.forward`, token by token: values enter, keys write, queries read."""
        state, batch, length = self.state, len(x), x.shape[1]
        shared = SHARED * HEAD
        vkq, gate, dt = functional.linear(x, state["attention.wvkqgdt.weight"]).split(
            [2 * shared + 32, 32, HEADS], -1
        )
        flat = functional.pad(vkq.transpose(1, 2), (1, 0))
        weight, bias = state["attention.conv1d.weight"], state["attention.conv1d.bias"]
        vkq = functional.silu(functional.conv1d(flat, weight, bias, groups=len(bias))).transpose(1, 2)
        v, k, q = vkq.split([shared, shared, 32], -1)
        v, k = (
            each.view(batch, length, SHARED, HEAD).repeat_interleave(HEADS // SHARED, 2) for each in (v, k)
        )
        q = q.view(batch, length, HEADS, HEAD)
        step = functional.softplus(dt + state["attention.dt_bias"])
        memory, read = torch.zeros(batch, HEADS, HEAD, HEAD), []
        for token in range(length):
            decay = torch.exp(-step[:, token] * state["attention.A_log_bias"].exp())[..., None, None]
            memory = decay * memory + torch.einsum(
                "bh,bhp,bhn->bhpn", step[:, token], v[:, token], k[:, token]
            )
            read.append(torch.einsum("bhpn,bhn->bhp", memory, q[:, token]))
        y = _normed(torch.stack(read, 1), state["attention.g_norm_swish_gate.weight"])
        y = y * functional.silu(gate.view(batch, length, HEADS, HEAD))
        return functional.linear(y.flatten(2), state["attention.o_proj.weight"])
