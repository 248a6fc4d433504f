"""The sizes of a model's parameters, from its description alone: no module is built, whatever the numbers say."""

import math
from collections.abc import Iterator

from emma_viz.errors import InputError
from emma_viz.models.config import MambaConfig, ProjectorConfig, VLMConfig
from emma_viz.models.towers.lite0 import BLOCKS, LITE0_FEATURES, LITE0_STEM
from emma_viz.models.towers.pocket import COARSE, FINE, MIDDLE, STEM
from emma_viz.models.vision_config import TextTowerConfig, TowerConfig, VisionConfig

_Shape = tuple[int, ...]

_LARGEST = 2 * 10**12
"""Parameters of the largest model that is read; published Mambas have at most 10**10, any model 2 * 10**12."""


def language_model_shapes(config: MambaConfig) -> dict[str, _Shape]:
    """Names and shapes of `MambaLM.state_dict()`; the tied head is named too."""
    width, rows = config.d_model, config.padded_vocab_size
    attention = _parallel_block if config.parallel else _grouped_block if config.grouped else _attention_block
    hybrid = _grouped_mamba_block if config.grouped else _hybrid_block
    block_of = {"mamba1": _mamba1_block, "mamba2": _mamba2_block, "attention": attention}
    shapes: dict[str, _Shape] = {"backbone.embedding.weight": (rows, width)}
    for layer in range(config.n_layer):
        named = (hybrid if layer in config.mamba_layers else block_of[config.ssm])(config)
        shapes.update((f"backbone.layers.{layer}.{name}", shape) for name, shape in named.items())
    norm, head = {"backbone.norm_f.weight": (width,)}, {"lm_head.weight": (rows, width)}
    if config.parallel:
        norm, head = norm | {"backbone.norm_f.bias": (width,)}, head | {"lm_head.bias": (rows,)}
    return shapes | norm | head


def vlm_shapes(config: VLMConfig) -> dict[str, _Shape]:
    """Names and shapes of what a checkpoint of a model holds: projector and language model, not the frozen encoders.

    Raises:
        InputError: the projector's token grid does not fit the encoders'.
    """
    projector = _projector(config.projector, config.vision, config.llm)
    return {
        **{f"projector.{name}": shape for name, shape in projector},
        **{f"llm.{name}": shape for name, shape in language_model_shapes(config.llm).items()},
    }


def language_model_parameters(config: MambaConfig) -> int:
    """Parameters of a language model; a tied head is the embedding again."""
    shapes = language_model_shapes(config)
    return sum(
        math.prod(shape) for name, shape in shapes.items() if name != "lm_head.weight" or not config.tied
    )


def parameters(config: VLMConfig) -> int:
    """Parameters of a whole model: encoders, projector and language model."""
    whole = sum(math.prod(shape) for shape in vlm_shapes(config).values()) + vision_parameters(config.vision)
    return whole - (math.prod((config.llm.padded_vocab_size, config.llm.d_model)) if config.llm.tied else 0)


def vision_parameters(config: VisionConfig) -> int:
    """Parameters of a model's encoders, those that never run included."""
    text = 0 if config.text is None else _clip_text(config.text)
    return text + sum(_TOWERS[tower.kind](tower) for tower in config.towers)


def require_real(config: VLMConfig | MambaConfig) -> None:
    """Refuse the description of a model larger than any that exists.

    Raises:
        InputError: it has more than LARGEST parameters.
    """
    count = language_model_parameters(config) if isinstance(config, MambaConfig) else parameters(config)
    if count > _LARGEST:
        raise InputError(
            f"the description is of a model of {count:.3g} parameters; at most {_LARGEST:.0e} are read, more than any "
            "model has."
        )


def _mamba1_block(config: MambaConfig) -> dict[str, _Shape]:
    mixer = {f"mixer.{name}": shape for name, shape in _mamba1(config).items()}
    return {"norm.weight": (config.d_model,), **mixer}


def _mamba2_block(config: MambaConfig) -> dict[str, _Shape]:
    mixer = {f"mixer.{name}": shape for name, shape in _mamba2(config).items()}
    return {"norm.weight": (config.d_model,), **mixer}


def _attention_block(config: MambaConfig) -> dict[str, _Shape]:
    width, inner = config.d_model, config.mlp_width
    return {
        "input_layernorm.weight": (width,),
        **dict(_queries_keys_values(config)),
        "self_attn.o_proj.weight": (width, width),
        "post_attention_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
    }


def _parallel_block(config: MambaConfig) -> dict[str, _Shape]:
    width, inner = config.d_model, config.mlp_width
    return {
        **dict(_affine("input_layernorm", (width,))),
        **dict(_queries_keys_values(config)),
        **dict(_affine("self_attn.dense", (width, width))),
        **dict(_affine("mlp.fc1", (inner, width))),
        **dict(_affine("mlp.fc2", (width, inner))),
    }


def _hybrid_block(config: MambaConfig) -> dict[str, _Shape]:
    """A parallel block with a Mamba-2 for attention."""
    whole = _parallel_block(config)
    return {
        **{name: shape for name, shape in whole.items() if name.startswith("input_layernorm.")},
        **{f"mamba.{name}": shape for name, shape in _mamba2(config.mixer).items()},
        **{name: shape for name, shape in whole.items() if name.startswith("mlp.")},
    }


def _grouped_block(config: MambaConfig) -> dict[str, _Shape]:
    """A block of InternLM2's form."""
    width, shared = config.d_model, 2 * config.kv_heads * (config.d_model // config.q_heads)
    return _grouped(
        config, {"attention.wqkv.weight": (width + shared, width), "attention.wo.weight": (width, width)}
    )


def _grouped_mamba_block(config: MambaConfig) -> dict[str, _Shape]:
    """The same with a Mamba-2 for attention."""
    width, head = config.d_model, config.d_model // config.q_heads
    convolved = width + 2 * config.kv_heads * head
    return _grouped(
        config,
        {
            "attention.dt_bias": (config.q_heads,),
            "attention.A_log_bias": (config.q_heads,),
            "attention.wvkqgdt.weight": (convolved + width + config.q_heads, width),
            "attention.o_proj.weight": (width, width),
            **dict(_affine("attention.conv1d", (convolved, 1, config.d_conv))),
            "attention.g_norm_swish_gate.weight": (head,),
        },
    )


def _grouped(config: MambaConfig, attention: dict[str, _Shape]) -> dict[str, _Shape]:
    width, inner = config.d_model, config.mlp_width
    return {
        "attention_norm.weight": (width,),
        **attention,
        "ffn_norm.weight": (width,),
        "feed_forward.w1.weight": (inner, width),
        "feed_forward.w3.weight": (inner, width),
        "feed_forward.w2.weight": (width, inner),
    }


def _queries_keys_values(config: MambaConfig) -> Iterator[tuple[str, _Shape]]:
    width, shared = config.d_model, config.kv_heads * (config.d_model // config.q_heads)
    for part, rows in (("q", width), ("k", shared), ("v", shared)):
        yield f"self_attn.{part}_proj.weight", (rows, width)
        if config.qkv_bias:
            yield f"self_attn.{part}_proj.bias", (rows,)


def _mamba1(config: MambaConfig) -> dict[str, _Shape]:
    width, inner, states, rank = config.d_model, config.d_inner, config.d_state, config.rank
    return {
        "A_log": (inner, states),
        "D": (inner,),
        "in_proj.weight": (2 * inner, width),
        "conv1d.weight": (inner, 1, config.d_conv),
        "conv1d.bias": (inner,),
        "x_proj.weight": (rank + 2 * states, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "out_proj.weight": (width, inner),
    }


def _mamba2(config: MambaConfig) -> dict[str, _Shape]:
    width, inner, heads, convolved = config.d_model, config.d_inner, config.n_heads, config.conv_width
    return {
        "dt_bias": (heads,),
        "A_log": (heads,),
        "D": (heads,),
        "in_proj.weight": (inner + convolved + heads, width),
        "conv1d.weight": (convolved, 1, config.d_conv),
        "conv1d.bias": (convolved,),
        "norm.weight": (inner,),
        "out_proj.weight": (width, inner),
    }


def _projector(
    config: ProjectorConfig, vision: VisionConfig, llm: MambaConfig
) -> Iterator[tuple[str, _Shape]]:
    width = llm.d_model
    features = width if config.bidirectional else vision.width
    hidden = config.hidden_multiplier * features
    layers = {
        "linear": {"": (features, width)},
        "gelu-mlp": {".0": (features, width), ".2": (width, width)},
        "fused-gelu-mlp": {".0": (features, hidden), ".2": (hidden, width), ".4": (width, width)},
        "fused-ldpnet": {".0": (features, hidden), ".2": (hidden, width)},
        "ldpnet": {".0": (features, width), ".2": (width, width)},
    }
    rows, columns = config.grid(vision.grid)
    if config.infused and vision.text is not None:
        yield from _infusion(config, vision.width, math.prod(vision.grid), vision.text)
    if config.positions:
        yield from (("row", (rows, width)), ("col", (columns, width)))
    if config.bidirectional:
        yield from _affine("mlp.0", (width, vision.width))
        yield from _bidirectional(llm, config.bidirectional)
    if config.kind == "vss-l2":
        yield from _vss(features, width)
    for place, (before, after) in layers.get(config.kind, {}).items():
        yield from _affine(f"projector{place}", (after, before))
    if config.kind == "patches":
        yield "projector.patches.position_embedding", (1, math.prod(vision.grid) + 1, width)
        yield from _affine("projector.patches.patch_embedding", (width, 3, vision.patch, vision.patch))
        yield from _affine("projector.mlp.0", (width, 4 * width))
        yield from _affine("projector.mlp.2", (width, width))
    if config.kind.endswith("ldpnet"):
        yield from _affine("projector.4.peg.0", (width, 1, 3, 3))
    if config.cross_scan:
        yield from _cross_scan(vision.width, config.scan_states)


def _vss(features: int, width: int) -> Iterator[tuple[str, _Shape]]:
    yield from _affine("projector.enter", (width, features))
    layer = MambaConfig(d_model=width, n_layer=1, vocab_size=1)
    yield from ((f"projector.mixer.{name}", shape) for name, shape in _mamba1(layer).items())
    yield from _affine("projector.norm", (width,))
    yield from _affine("projector.leave", (width, width))


def _infusion(
    config: ProjectorConfig, width: int, patches: int, text: TextTowerConfig
) -> Iterator[tuple[str, _Shape]]:
    if config.learned_tokens:
        yield "infusion.learnable_tokens", (patches, width)
    yield from _affine("infusion.text_projection", (width, text.width))
    yield from _affine("infusion.image_text_infusion", (patches, patches + text.n_tokens))


def _bidirectional(llm: MambaConfig, n_blocks: int) -> Iterator[tuple[str, _Shape]]:
    mixer, width = _mamba2(llm), llm.d_model
    for layer in range(n_blocks):
        block = f"bidirectional_mamba.layers.{layer}"
        yield from _affine(f"{block}.norm", (width,))
        for end in ("", "_b"):
            yield from ((f"{block}.mixer.{name}{end}", mixer[name]) for name in ("dt_bias", "A_log", "D"))
        yield f"{block}.mixer.in_proj.weight", mixer["in_proj.weight"]
        for end in ("", "_b"):
            yield from _affine(f"{block}.mixer.conv1d{end}", mixer["conv1d.weight"])
        yield f"{block}.mixer.norm.weight", mixer["norm.weight"]
        yield f"{block}.mixer.out_proj.weight", mixer["out_proj.weight"]
        for linear in ("w1", "w2", "w3"):
            yield from _affine(f"{block}.mlp.{linear}", (width, width))
    yield from _affine("bidirectional_mamba.norm_f", (width,))


def _affine(name: str, weight: _Shape) -> Iterator[tuple[str, _Shape]]:
    yield from ((f"{name}.weight", weight), (f"{name}.bias", weight[:1]))


def _cross_scan(width: int, states: int) -> Iterator[tuple[str, _Shape]]:
    inner, rank = 2 * width, math.ceil(width / 16)
    yield from _affine("scan.norm", (width,))
    yield "scan.in_proj.weight", (2 * inner, width)
    yield from _affine("scan.conv2d", (inner, 1, 3, 3))
    for order in range(4):
        scan = f"scan.scans.{order}"
        yield from ((f"{scan}.A_log", (inner, states)), (f"{scan}.D", (inner,)))
        yield f"{scan}.x_proj.weight", (rank + 2 * states, inner)
        yield from _affine(f"{scan}.dt_proj", (inner, rank))
    yield from _affine("scan.out_norm", (inner,))
    yield "scan.out_proj.weight", (width, inner)


def _dinov2(tower: TowerConfig) -> int:
    width, hidden = tower.width, tower.mlp_width
    # Class, mask and register tokens; a position for each patch and the class token.
    tokens = width * (2 + tower.n_registers + math.prod(tower.grid) + 1)
    block = 4 * width * (width + 1) + _mlp(width, hidden) + 6 * width
    return tokens + _patches(tower) + tower.n_layer * block + 2 * width


def _siglip(tower: TowerConfig) -> int:
    width, hidden = tower.width, tower.mlp_width
    block = 4 * width * (width + 1) + _mlp(width, hidden) + 4 * width
    pooling = width + 4 * width * (width + 1) + 2 * width + _mlp(width, hidden)
    positions = width * math.prod(tower.grid)
    return positions + _patches(tower) + tower.n_layer * block + 2 * width + pooling


def _clip(tower: TowerConfig) -> int:
    width = tower.width
    block = 4 * width * (width + 1) + _mlp(width, tower.mlp_width) + 4 * width
    # Positions of the patches and the class token, that token, two norms, and patches without a bias.
    around = width * (math.prod(tower.grid) + 1 + 1) + 4 * width
    return around + _patches(tower) - width + tower.n_layer * block


def _clip_text(tower: TextTowerConfig) -> int:
    width = tower.width
    block = 4 * width * (width + 1) + _mlp(width, tower.mlp_width) + 4 * width
    return width * (tower.vocab_size + tower.context + 2) + tower.n_layer * block


def _pocket(tower: TowerConfig) -> int:
    down = sum(9 * a * b + 2 * b for a, b in ((3, STEM), (STEM, FINE), (FINE, MIDDLE), (MIDDLE, COARSE)))
    blocks = sum(18 * size**2 + 4 * size for size in (FINE, MIDDLE, COARSE, MIDDLE))
    up, out = COARSE * MIDDLE + MIDDLE, MIDDLE * tower.width + tower.width
    return down + blocks + up + out + 2 * tower.width


def _lite0(tower: TowerConfig) -> int:
    convolutions = 27 * LITE0_STEM + 2 * LITE0_STEM
    for channels, out, expansion, kernel, _ in BLOCKS:
        inner = channels * expansion
        expand = (channels + 2) * inner if expansion > 1 else 0
        convolutions += expand + (kernel**2 + 2) * inner + (inner + 2) * out
    return convolutions + (LITE0_FEATURES + 1) * tower.width


def _mlp(width: int, hidden: int) -> int:
    return 2 * width * hidden + hidden + width


def _patches(tower: TowerConfig) -> int:
    return (3 * tower.patch**2 + 1) * tower.width


_TOWERS = {
    "dinov2": _dinov2, "siglip": _siglip, "clip": _clip, "pocket": _pocket, "lite0": _lite0, "patches": lambda _: 0,
}  # fmt: skip
