"""What a member's own file computes, by transformers' language models and torch's functions: nothing of ours."""

import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from emma_viz.capture import record
from emma_viz.checkpoints.peers import PeerModel
from tests.families import llava_files, mmmamba
from tests.families.conftest import OTHERS

_MAMBA = "transformers' MambaForCausalLM"
_EMMA = f"{_MAMBA} (V1), Mamba2ForCausalLM (V2)"
AGAINST = {
    "cobra": _MAMBA, "cobra-ldp": f"{_MAMBA}, LDPv2 by torch", "emma-v1": _EMMA, "emma-v2": _EMMA,
    "ml-mamba": "transformers' Mamba2ForCausalLM, its Mamba2Mixer once each way in the connector",
    "vl-mamba": f"{_MAMBA}, its MambaMixer once each way in the connector",
    "llava-pocket": "transformers' LlamaForCausalLM", "mobilevlm-v2": "transformers' LlamaForCausalLM, LDPv2 by torch",
    "emma-text-fusion": "transformers' LlamaForCausalLM and CLIPTextModel, the mixing by torch",
    "tinyllava": "transformers' PhiForCausalLM",
    "matvlm": "transformers' PhiForCausalLM, the Mamba-2 token by token by torch",
    "mmmamba": "transformers' LlamaForCausalLM, the Mamba-2 token by token by torch",
}  # fmt: skip
"""What each member is compared with."""
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 264}
_ENDS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None}


@torch.no_grad()
def relative_error(member) -> tuple[float, int]:
    """How far a member's logits over image and text are from the reference's, and how many tokens are its best."""
    vlm = member.loaded.vlm
    torch.manual_seed(11)
    features, ids = (
        torch.randn(2, math.prod(vlm.config.vision.grid), vlm.config.vision.width),
        torch.randint(258, (2, 12)),
    )
    told = vlm.instruct(["What is this?", "Where is the cup, and why"])
    ours = vlm(None, ids, features=features, instruction=told, logits="all").logits
    theirs = logits(member, features, ids, told)
    return float((ours - theirs).norm() / theirs.norm()), ours.argmax(-1).unique().numel()


@torch.no_grad()
def error_of_states(model: PeerModel, picture: Image.Image) -> float:
    """How far recorded states are from those that transformers' class itself reports, at the worst layer."""
    trace = record(model, [picture], "Why?", tokens="all", generate=False)
    inputs = model.peer.inputs(picture, "Why?")
    states = model.peer.network(**inputs.given, output_hidden_states=True).hidden_states
    order, error = torch.cat([inputs.image, inputs.text]), 0.0
    for layer in trace.layers_of("resid_post")[:-1]:  # the last that the class reports is behind the norm
        there = states[layer + 1][0, order]
        error = max(error, float((trace["resid_post", layer][0] - there).norm() / there.norm()))
    return error


def logits(member, features: Tensor, ids: Tensor, told: Tensor | None) -> Tensor:
    """Scores over image and text."""
    name, state = member.name, member.state
    if name in OTHERS:
        return _llava(member, features, ids, told)
    llm = {key.removeprefix("llm."): value for key, value in state["llm_backbone"].items()}
    if name == "ml-mamba":
        features = _connected(state, features)
    project = {"vl-mamba": _scanned, "cobra-ldp": _projected_and_pooled}.get(name, _projected)
    tokens = project(state["projector"], features)
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


def _projected_and_pooled(state: dict, features: Tensor) -> Tensor:
    hidden = functional.gelu(_linear(state, "projector.0", features))
    return _pooled(state, _linear(state, "projector.2", hidden), side=4, own="projector.4.peg.0")


def _scanned(state: dict, features: Tensor, *, cross: bool = False) -> Tensor:
    """VL-Mamba's VSS-L2, its Mamba layer transformers' own, run once in each order."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    hub = MambaMixer(MambaConfig(hidden_size=32, state_size=16, time_step_rank=2), layer_idx=0)
    own = "projector.mixer."
    hub.load_state_dict({key.removeprefix(own): value for key, value in state.items() if key.startswith(own)})
    entered = _linear(state, "projector.enter", features)
    given = functional.gelu(entered)
    columns = torch.arange(16).reshape(4, 4).T.flatten()
    orders = [torch.arange(16), torch.arange(16).flip(0), *([columns, columns.flip(0)] if cross else [])]
    total = entered.clone()
    for order in orders:
        total[:, order] += hub(given[:, order])
    normed = functional.layer_norm(total, (32,), state["projector.norm.weight"], state["projector.norm.bias"])
    return _linear(state, "projector.leave", normed)


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


def _llava(member, features: Tensor, ids: Tensor, told: Tensor | None) -> Tensor:
    """LLaVA's road: what stands before the image, projected tokens, text, through one Llama."""
    state = member.state["all"]
    if member.name == "mmmamba":
        return mmmamba.logits(member, features, ids)
    hub = (_phi if member.name in ("tinyllava", "matvlm") else _llama)(state)
    if told is not None:
        features = _infused(member, features, told)
    tokens = _linear(state, "projector.projector.0", features)
    tokens = _linear(state, "projector.projector.2", functional.gelu(tokens))
    if member.name == "mobilevlm-v2":
        tokens = _pooled(state, tokens, side=2, own="projector.projector.4.peg.0")
    before = torch.tensor([member.loaded.vlm.lead]).expand(len(ids), -1)
    embed = hub.get_input_embeddings()
    whole = torch.cat([embed(before), tokens, embed(ids)], dim=1)
    return hub(inputs_embeds=whole).logits[:, before.shape[1] :]


def _llama(state: dict):
    from transformers import LlamaConfig, LlamaForCausalLM

    hub = LlamaForCausalLM(
        LlamaConfig(**{**SIZES, **_ENDS, "vocab_size": len(state["llm.lm_head.weight"])}, intermediate_size=48,
                    num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=False)
    ).eval()  # fmt: skip
    named = llava_files.renamed(state)
    hub.load_state_dict({key: value for key, value in named.items() if "mm_projector" not in key})
    return hub


def _phi(state: dict):
    from transformers import PhiConfig, PhiForCausalLM

    hub = PhiForCausalLM(
        PhiConfig(**{**SIZES, **_ENDS, "vocab_size": len(state["llm.lm_head.weight"])}, intermediate_size=48,
                  num_attention_heads=4, partial_rotary_factor=0.5, layer_norm_eps=1e-5)
    ).eval()  # fmt: skip
    named = llava_files.renamed(state, llava_files.TINYLLAVA_NAMES)
    own = "language_model."
    weights = {key.removeprefix(own): value for key, value in named.items() if key.startswith(own)}
    for number, layer in enumerate(hub.model.layers):
        mixer = f"model.layers.{number}.mamba."
        theirs = {key.removeprefix(mixer): value for key, value in weights.items() if key.startswith(mixer)}
        if theirs:
            layer.self_attn = _Mixing(theirs)
            weights = {key: value for key, value in weights.items() if not key.startswith(mixer)}
    hub.load_state_dict(weights)
    return hub


class _Mixing(torch.nn.Module):
    """The Mamba-2 that MaTVLM puts in the place of attention, of 4 heads of 8, token by token."""

    def __init__(self, state: dict, heads: int = 4):
        super().__init__()
        self._state, self._heads = state, heads

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        """As the released code's `Mamba2.forward`, whose keys and values no heads share."""
        state, heads, width = self._state, self._heads, hidden_states.shape[-1]
        z, x, b, c, dt = functional.linear(hidden_states, state["in_proj.weight"]).split(
            [width, width, width, width, heads], dim=-1
        )
        flat = torch.cat([x, b, c], dim=-1).transpose(1, 2)
        convolved = functional.conv1d(
            functional.pad(flat, (3, 0)), state["conv1d.weight"], state["conv1d.bias"], groups=3 * width
        )
        x, b, c = (
            each.unflatten(-1, (heads, -1))
            for each in functional.silu(convolved).transpose(1, 2).split(width, dim=-1)
        )
        step = functional.softplus(dt + state["dt_bias"])
        memory, out = torch.zeros(len(x), heads, x.shape[-1], b.shape[-1]), []
        for token in range(x.shape[1]):
            decay = torch.exp(-step[:, token] * state["A_log"].exp())[..., None, None]
            entering = torch.einsum("bh,bhp,bhn->bhpn", step[:, token], x[:, token], b[:, token])
            memory = decay * memory + entering
            read = torch.einsum("bhpn,bhn->bhp", memory, c[:, token])
            out.append(read + state["D"][:, None] * x[:, token])
        y = torch.stack(out, dim=1) * functional.silu(z).unflatten(-1, (heads, -1))
        normed = y * (y.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        return functional.linear(normed.flatten(2) * state["norm.weight"], state["out_proj.weight"]), None


def _pooled(state: dict, tokens: Tensor, *, side: int, own: str) -> Tensor:
    """LDPv2 of the released code: adaptive mean pooling, then a depthwise convolution beside the identity."""
    whole = math.isqrt(tokens.shape[1])
    plane = functional.adaptive_avg_pool2d(tokens.transpose(1, 2).unflatten(2, (whole, whole)), (side, side))
    weight, bias = (state[f"{own}.{name}"] for name in ("weight", "bias"))
    return (
        (functional.conv2d(plane, weight, bias, padding=1, groups=len(bias)) + plane)
        .flatten(2)
        .transpose(1, 2)
    )


def _infused(member, features: Tensor, told: Tensor) -> Tensor:
    """The released code's fusion, with the states of transformers' own CLIP."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tower = CLIPTextModel(
        CLIPTextConfig(vocab_size=64, hidden_size=16, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2,
                       max_position_embeddings=12, bos_token_id=None, eos_token_id=2)
    ).eval()  # fmt: skip
    tower.load_state_dict(
        {
            key.removeprefix("text.model."): value
            for key, value in member.vision.items()
            if key.startswith("text.")
        }
    )
    states = tower(told, output_hidden_states=True).hidden_states[-2]
    state = member.state["all"]
    text = functional.gelu(_linear(state, "projector.infusion.text_projection", states))
    both = torch.cat((features, text), dim=1)
    mixed = _linear(state, "projector.infusion.image_text_infusion", both.permute(0, 2, 1))
    return mixed.permute(0, 2, 1)
