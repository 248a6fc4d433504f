"""Checkpoints in the layout of LLaVA's released code, made of a model's weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

NAMES = (
    ("llm.backbone.embedding.", "model.embed_tokens."), ("llm.backbone.norm_f.", "model.norm."),
    ("llm.backbone.", "model."), ("llm.lm_head.", "lm_head."), ("projector.projector.", "model.mm_projector."),
)  # fmt: skip
LLAMA = {
    "model_type": "llava_llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "mm_vision_tower": "tiny-clip-60px",
    "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "image_aspect_ratio": "pad",
    "torch_dtype": "float16",
}  # fmt: skip
TEXT_FUSION = {
    **LLAMA, "encoder_version": "v1", "mm_text_select_layer": -2, "mm_text_select_feature": "cls_patch",
    "num_learnable_tokens": 0,
}  # fmt: skip

MOBILEVLM = {**LLAMA, "model_type": "mobilevlm", "mm_projector_type": "ldpnetv2"}
MOBILEVLM_NAMES = (
    ("projector.projector.4.peg.", "model.mm_projector.peg.peg."),
    ("projector.projector.", "model.mm_projector.mlp.mlp."), *NAMES,
)  # fmt: skip
TINYLLAVA = {
    "model_type": "tinyllava", "llm_model_name_or_path": "tiny-phi", "vision_model_name_or_path": "tiny-siglip-60px",
    "connector_type": "mlp2x_gelu", "vision_feature_layer": -2, "image_aspect_ratio": "square",
}  # fmt: skip
MATVLM = {
    "d_model": 32, "ssm_cfg": {"expand": 1, "ngroups": 4, "d_state": 8}, "rms_norm_eps": 1e-5, "vocab_size": None,
    "d_inner": 32, "d_xb": 32, "intermediate_size": 48, "hidden_act": "gelu_new", "n_layer": 3, "attn_layers": [1],
    "resid_pdrop": 0.0, "bidirectional": False, "is_bias": False,
}  # fmt: skip
"""`mamba_config.json`, whose fields are those of the released code's PhiMambaConfig."""
TINYLLAVA_NAMES = (
    ("llm.backbone.embedding.", "language_model.model.embed_tokens."),
    ("llm.backbone.norm_f.", "language_model.model.final_layernorm."),
    ("llm.backbone.", "language_model.model."), ("llm.", "language_model."),
    ("projector.projector.", "connector._connector."),
)  # fmt: skip


_BLOCKS = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5, "rope_theta": 1000000, "hidden_act": "silu",
}  # fmt: skip
MMMAMBA = {
    "model_type": "mmMamba_chat", "template": "internlm2-chat", "downsample_ratio": 0.5, "force_image_size": 56,
    "normalize_encoder_output": True, "ps_version": "v2", "use_thumbnail": True,
    "embedding_config": {
        **_BLOCKS, "num_hidden_layers": 8, "layers_block_type": ["mha"] + 7 * ["mamba2"], "llm_vocab_size": 258,
        "image_size": 56, "patch_size": 14, "use_pixel_shuffle_proj": True, "use_ls": False, "special_token_maps": {},
        "pixel_shuffle_loc": "pre", "attention_bias": False,
    },
    "llm_config": {**_BLOCKS, "num_hidden_layers": 1, "layers_block_type": ["mha"], "vocab_size": 258, "bias": False},
}  # fmt: skip
MMMAMBA_NAMES = (
    ("llm.backbone.embedding.", "embedding_model.llm_text_embeddings."),
    ("llm.backbone.layers.8.", "language_model.model.layers.0."),
    ("llm.backbone.layers.", "embedding_model.encoder."),
    ("llm.backbone.norm_f.", "language_model.model.norm."), ("llm.lm_head.", "language_model.output."),
    ("projector.projector.patches.", "embedding_model.vision_embeddings."),
    ("projector.projector.mlp.", "embedding_model.pixel_shuffle_proj."),
)  # fmt: skip


def renamed(state: dict, names=NAMES) -> dict:
    """The weights that the language model's file holds, under the names of the released code."""
    found = {}
    for key, value in state.items():
        for ours, theirs in names:
            if key.startswith(ours):
                found[theirs + key.removeprefix(ours)] = value.contiguous()
                break
    return found


def infusion(state: dict, prefix: str = "") -> dict:
    """What `vision_tower.bin` holds."""
    own = "projector.infusion."
    return {prefix + key.removeprefix(own): value for key, value in state.items() if key.startswith(own)}


def write(folder: Path, values: dict, state: dict, names=NAMES) -> None:
    """Write `config.json` and the weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    weights = renamed(state, names)
    if weights.get("lm_head.weight") is weights.get("model.embed_tokens.weight"):
        weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors")


def write_tower(folder: Path, state: dict, prefix: str = "") -> None:
    """Write `vision_tower.bin`, with the frozen encoders' weights in it as the released code saves them."""
    frozen = {f"{prefix}vision_tower.vision_model.post_layernorm.weight": torch.zeros(4)}
    torch.save(frozen | infusion(state, prefix), folder / "vision_tower.bin")


def write_instruction_tokenizer(folder: Path) -> dict:
    """Write a small CLIP tokenizer of letters; its vocabulary and merges."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["?", "'"]
    tokens = [
        "<|startoftext|>",
        "<|endoftext|>",
        *letters,
        *(f"{each}</w>" for each in letters),
        "is</w>",
        "wh",
    ]
    # Id 0 fills, as in CLIP, whose first token is a sign.
    model = {
        "type": "BPE", "vocab": {token: 1 + index for index, token in enumerate(tokens)},
        "merges": ["i s</w>", "w h"], "end_of_word_suffix": "</w>",
    }  # fmt: skip
    (folder / "instruction-tokenizer.json").write_text(json.dumps({"model": model}))
    return model
