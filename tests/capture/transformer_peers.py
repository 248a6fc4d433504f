"""Tiny random vision-language models of the transformers package, one a family, with an image and a prompt."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

IMAGE, DEPTH = 7, 3
_TEXT = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": DEPTH,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
_EYE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 10000.0}


def _llava(text: str):
    from transformers import CLIPVisionConfig, LlavaConfig

    return LlavaConfig(
        vision_config=CLIPVisionConfig(**_EYE), text_config={"model_type": text, **_TEXT}, image_token_index=IMAGE,
        image_token_id=IMAGE, vision_feature_layer=-2,
    )  # fmt: skip


def _vip():
    from transformers import CLIPVisionConfig, VipLlavaConfig

    return VipLlavaConfig(
        vision_config=CLIPVisionConfig(**_EYE), text_config={"model_type": "llama", **_TEXT}, image_token_index=IMAGE,
        vision_feature_layer=[-2, 1],
    )  # fmt: skip


def _next():
    from transformers import CLIPVisionConfig, LlavaNextConfig

    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_EYE), text_config={"model_type": "mistral", **_TEXT},
        image_token_index=IMAGE, image_token_id=IMAGE, image_grid_pinpoints=[[16, 32], [32, 16]],
    )  # fmt: skip


def _onevision():
    from transformers import LlavaOnevisionConfig, SiglipVisionConfig

    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_EYE), text_config={"model_type": "qwen2", **_TEXT},
        image_token_index=IMAGE, image_token_id=IMAGE, image_grid_pinpoints=[[16, 32], [32, 16]],
    )  # fmt: skip


def _qwen2():
    from transformers import Qwen2VLConfig

    eye = {
        "depth": 2, "embed_dim": 16, "hidden_size": 16, "mlp_ratio": 2, "num_heads": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    text = {**_TEXT, "rope_scaling": _ROPE, "rope_parameters": _ROPE}
    return Qwen2VLConfig(vision_config=eye, text_config=text, image_token_id=IMAGE)


def _qwen25():
    from transformers import Qwen2_5_VLConfig

    eye = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16, "patch_size": 4,
        "spatial_merge_size": 2, "window_size": 16, "fullatt_block_indexes": [1], "temporal_patch_size": 2,
    }  # fmt: skip
    text = {**_TEXT, "rope_scaling": _ROPE, "rope_parameters": _ROPE}
    return Qwen2_5_VLConfig(vision_config=eye, text_config=text, image_token_id=IMAGE)


def _qwen3():
    from transformers import Qwen3VLConfig

    eye = {
        "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    text = {**_TEXT, "rope_scaling": _ROPE, "rope_parameters": _ROPE}
    return Qwen3VLConfig(vision_config=eye, text_config=text, image_token_id=IMAGE)


def _idefics3():
    from transformers import Idefics3Config

    return Idefics3Config(
        vision_config=_EYE, text_config={"model_type": "llama", **_TEXT}, image_token_id=IMAGE, scale_factor=2
    )


def _smolvlm():
    from transformers import SmolVLMConfig

    return SmolVLMConfig(
        vision_config=_EYE, text_config={"model_type": "llama", **_TEXT}, image_token_id=IMAGE, scale_factor=2
    )


def _paligemma():
    from transformers import PaliGemmaConfig, SiglipVisionConfig

    return PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**_EYE, projection_dim=16), text_config={"model_type": "gemma", **_TEXT},
        image_token_index=IMAGE, image_token_id=IMAGE, projection_dim=16, hidden_size=16,
    )  # fmt: skip


def _gemma3():
    from transformers import Gemma3Config

    return Gemma3Config(
        vision_config=_EYE, text_config={**_TEXT, "sliding_window": 64}, image_token_id=IMAGE,
        image_token_index=IMAGE, mm_tokens_per_image=4, boi_token_index=8, eoi_token_index=9,
    )  # fmt: skip


def _internvl():
    from transformers import InternVLConfig

    eye = {**_EYE, "image_size": [16, 16], "patch_size": [4, 4]}
    return InternVLConfig(
        vision_config=eye,
        text_config={"model_type": "qwen2", **_TEXT},
        image_token_id=IMAGE,
        downsample_ratio=0.5,
    )


def _square() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 3, 16, 16)}


def _flat() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(4 * 6, 3 * 2 * 4 * 4), "image_grid_thw": torch.tensor([[1, 4, 6]])}


def _tiles() -> dict[str, Tensor]:
    # A wide image: its thumbnail and two tiles.
    return {"pixel_values": torch.randn(1, 3, 3, 16, 16), "image_sizes": torch.tensor([[16, 32]])}


PEERS: dict[str, tuple[Callable, Callable, int]] = {
    "llava": (lambda: _llava("llama"), _square, 16),
    "llava-olmo2": (lambda: _llava("olmo2"), _square, 16),
    "llava-glm4": (lambda: _llava("glm4"), _square, 16),
    "vipllava": (_vip, _square, 16),
    "llava-next": (_next, _tiles, 16 + 4 * (8 + 1)),
    "llava-onevision": (_onevision, _tiles, 16 + 4 * (8 + 1)),
    "qwen2-vl": (_qwen2, _flat, 6),
    "qwen2.5-vl": (_qwen25, _flat, 6),
    "qwen3-vl": (_qwen3, _flat, 6),
    "idefics3": (_idefics3, lambda: {"pixel_values": torch.randn(1, 3, 3, 16, 16)}, 3 * 4),
    "smolvlm": (_smolvlm, lambda: {"pixel_values": torch.randn(1, 3, 3, 16, 16)}, 3 * 4),
    "paligemma": (_paligemma, _square, 16),
    "gemma3": (_gemma3, _square, 4),
    "internvl": (_internvl, lambda: {"pixel_values": torch.randn(2, 3, 16, 16)}, 2 * 4),
}
"""Per family: its description, what an image becomes, and the number of image tokens of that."""


def peer(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model with random weights, and what it is asked: text, an image, text."""
    from transformers import AutoModelForImageTextToText

    config, image, tokens = PEERS[name]
    torch.manual_seed(4)
    model = AutoModelForImageTextToText.from_config(config(), attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():  # some begin at zero, and the image would go unseen
                weight.normal_(std=0.1)
    ids = torch.tensor([[1, 11, *[IMAGE] * tokens, 12, 13, 14]])
    kinds = (ids == IMAGE).long()
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **image()}
    if name == "gemma3":
        asked["token_type_ids"] = kinds
    if name == "paligemma":  # 0 for image and question alike, as its processor says
        asked["token_type_ids"] = torch.zeros_like(ids)
    if name.startswith("qwen"):
        asked["mm_token_type_ids"] = kinds
    return model, asked
