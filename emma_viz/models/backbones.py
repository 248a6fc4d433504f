"""Encoders and language models that have a name: official ones, the pocket ones, and tiny ones for tests."""

from collections.abc import Callable
from dataclasses import replace

from emma_viz.models.config import MambaConfig
from emma_viz.models.vision_config import TextTowerConfig, TowerConfig, VisionConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
QUARTER = (0.25, 0.25, 0.25)
_LITE_MEAN, _LITE_STD = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)

CLIP_LARGE = "openai/clip-vit-large-patch14-336"

POCKET_VOCABULARY = 626
"""Tokens of the bundled pocket tokenizer."""

PHOTO_VOCABULARY = 925
"""Tokens of the photo world's tokenizer."""


def dinov2_large(*, image_size: int) -> TowerConfig:
    """DINOv2 ViT-L/14 with 4 registers (timm `vit_large_patch14_reg4_dinov2.lvd142m`)."""
    return TowerConfig(
        kind="dinov2", hub_id="facebook/dinov2-with-registers-large", width=1024, n_layer=24, n_heads=16,
        mlp_width=4096, n_registers=4, patch=14, image_size=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip


def siglip_so400m(*, image_size: int, hub_id: str = "google/siglip-so400m-patch14-384") -> TowerConfig:
    """SigLIP SO400M/14 (timm `vit_so400m_patch14_siglip_384`)."""
    return TowerConfig(
        kind="siglip", hub_id=hub_id, width=1152, n_layer=27, n_heads=16, mlp_width=4304,
        patch=14, image_size=image_size, mean=_HALF, std=_HALF,
    )  # fmt: skip


def dinosiglip_384() -> VisionConfig:
    """The encoders of Cobra and EMMA: DINOv2 then SigLIP at 384 px, 27×27 patches, 2176 channels."""
    towers = (dinov2_large(image_size=384), siglip_so400m(image_size=384))
    return VisionConfig(backbone_id="dinosiglip-vit-so-384px", towers=towers)


def siglip_384() -> VisionConfig:
    """SigLIP alone at 384 px (Cobra's `cobra-siglip+3b`)."""
    return VisionConfig(backbone_id="siglip-vit-so400m-384px", towers=(siglip_so400m(image_size=384),))


def pocket_conv_128() -> VisionConfig:
    """The pocket convolutional encoder: 128 px, patch 8, 16×16 tokens, 96 channels."""
    tower = TowerConfig(kind="pocket", width=96, patch=8, image_size=128, mean=_HALF, std=QUARTER)
    return VisionConfig(backbone_id="pocket-conv-128px", towers=(tower,))


def lite0_256() -> VisionConfig:
    """EfficientNet-Lite0's ImageNet weights: 256 px, patch 16, 16×16 tokens, reduced to 192 channels."""
    tower = TowerConfig(kind="lite0", width=192, patch=16, image_size=256, mean=_LITE_MEAN, std=_LITE_STD)
    return VisionConfig(backbone_id="lite0-256px", towers=(tower,))


def tiny_dinosiglip_60() -> VisionConfig:
    """Two tiny transformer towers at 60 px: a 4×4 grid that leaves 4 px unseen, as 384 px leaves 6."""
    dino = TowerConfig(
        kind="dinov2", width=24, n_layer=3, n_heads=2, mlp_width=48, n_registers=2,
        patch=14, image_size=60, mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip
    siglip = TowerConfig(
        kind="siglip",
        width=16,
        n_layer=3,
        n_heads=2,
        mlp_width=40,
        patch=14,
        image_size=60,
        mean=_HALF,
        std=_HALF,
    )
    return VisionConfig(backbone_id="tiny-dinosiglip-60px", towers=(dino, siglip))


def clip_large_336() -> VisionConfig:
    """CLIP ViT-L/14 at 336 px, 24×24 patches, 1024 channels: the encoder of LLaVA-1.5."""
    tower = TowerConfig(
        kind="clip", hub_id=CLIP_LARGE, width=1024, n_layer=24, n_heads=16, mlp_width=4096, patch=14,
        image_size=336, mean=_CLIP_MEAN, std=_CLIP_STD, activation="quick_gelu",
    )  # fmt: skip
    return VisionConfig(backbone_id=CLIP_LARGE, towers=(tower,))


def clip_large_text() -> TextTowerConfig:
    """CLIP ViT-L/14's text encoder."""
    return TextTowerConfig(
        hub_id=CLIP_LARGE, width=768, n_layer=12, n_heads=12, mlp_width=3072, vocab_size=49408
    )


def tiny_clip_60() -> VisionConfig:
    """A CLIP for tests: 4×4 patches."""
    tower = TowerConfig(
        kind="clip", width=24, n_layer=3, n_heads=2, mlp_width=48, patch=14, image_size=60,
        mean=_CLIP_MEAN, std=_CLIP_STD, activation="quick_gelu",
    )  # fmt: skip
    return VisionConfig(backbone_id="tiny-clip-60px", towers=(tower,))


def tiny_clip_text() -> TextTowerConfig:
    """A text encoder for tests: instructions of 12 tokens."""
    return TextTowerConfig(width=16, n_layer=3, n_heads=2, mlp_width=40, vocab_size=64, context=12)


def siglip_384_tanh() -> VisionConfig:
    """SigLIP alone at 384 px with the tanh form of GELU, as its transformers class computes it (TinyLLaVA)."""
    tower = replace(siglip_so400m(image_size=384), activation="gelu_pytorch_tanh")
    return VisionConfig(backbone_id="siglip-so400m-384px+tanh", towers=(tower,))


def tiny_siglip_60() -> VisionConfig:
    """A SigLIP alone, for tests."""
    tower = replace(tiny_dinosiglip_60().towers[1], activation="gelu_pytorch_tanh")
    return VisionConfig(backbone_id="tiny-siglip-60px", towers=(tower,))


def phi_2() -> MambaConfig:
    """Phi-2 (`microsoft/phi-2`)."""
    return MambaConfig(
        d_model=2560, n_layer=32, vocab_size=51200, pad_vocab_size_multiple=1, ssm="attention", parallel=True,
        q_heads=32, kv_heads=32, mlp_width=10240, rotary_share=0.4, qkv_bias=True, tied=False,
        residual_in_fp32=False,
    )  # fmt: skip


def tiny_phi() -> MambaConfig:
    """The same for tests: 3 blocks of width 32, half of each head's channels turned."""
    return MambaConfig(
        d_model=32, n_layer=3, vocab_size=POCKET_VOCABULARY, pad_vocab_size_multiple=1, ssm="attention", parallel=True,
        q_heads=4, kv_heads=4, mlp_width=48, rotary_share=0.5, qkv_bias=True, tied=False, residual_in_fp32=False,
    )  # fmt: skip


def mamba_2_8b() -> MambaConfig:
    """Mamba-1 2.8B (state-spaces/mamba-2.8b and its fine-tunes)."""
    return MambaConfig(d_model=2560, n_layer=64, vocab_size=50277)


def mamba2_2_7b() -> MambaConfig:
    """Mamba-2 2.7B (state-spaces/mamba2-2.7b)."""
    return MambaConfig(
        d_model=2560, n_layer=64, vocab_size=50277, ssm="mamba2", d_state=128, pad_vocab_size_multiple=16
    )


def pocket_mamba1() -> MambaConfig:
    """The pocket Mamba-1: 12 blocks of width 112."""
    return MambaConfig(d_model=112, n_layer=12, vocab_size=POCKET_VOCABULARY)


def pocket_mamba2() -> MambaConfig:
    """The pocket Mamba-2: 12 blocks of width 112."""
    return MambaConfig(
        d_model=112, n_layer=12, vocab_size=POCKET_VOCABULARY, ssm="mamba2", d_state=32, headdim=32
    )


def photo_mamba1() -> MambaConfig:
    """The Mamba-1 of the pair that knows photographs: 12 blocks of width 192."""
    return MambaConfig(d_model=192, n_layer=12, vocab_size=PHOTO_VOCABULARY)


def pocket_attention() -> MambaConfig:
    """The pocket attention transformer: 12 blocks of width 112, with as many parameters as the pocket Mambas."""
    return MambaConfig(
        d_model=112,
        n_layer=12,
        vocab_size=POCKET_VOCABULARY,
        ssm="attention",
        q_heads=7,
        kv_heads=7,
        mlp_width=120,
    )


def tiny_attention() -> MambaConfig:
    """An attention transformer for tests: 3 blocks of width 32."""
    return MambaConfig(
        d_model=32,
        n_layer=3,
        vocab_size=POCKET_VOCABULARY,
        ssm="attention",
        q_heads=4,
        kv_heads=2,
        mlp_width=48,
    )


def tiny_mamba1() -> MambaConfig:
    """A Mamba-1 for tests: 3 blocks of width 32."""
    return MambaConfig(d_model=32, n_layer=3, vocab_size=POCKET_VOCABULARY, d_state=8)


def tiny_mamba2() -> MambaConfig:
    """A Mamba-2 for tests: 3 blocks of width 32."""
    return MambaConfig(
        d_model=32,
        n_layer=3,
        vocab_size=POCKET_VOCABULARY,
        ssm="mamba2",
        d_state=16,
        headdim=16,
        pad_vocab_size_multiple=16,
    )


LLM_BACKBONES: dict[str, Callable[[], MambaConfig]] = {
    "mamba-2.8b-zephyr": mamba_2_8b,
    "mamba-2.8b-slimpj": mamba_2_8b,
    "mamba-2.8b": mamba_2_8b,
    "mamba-2.7b-v2": mamba2_2_7b,
    "mamba2-2.7b": mamba2_2_7b,
    "pocket-mamba1": pocket_mamba1,
    "pocket-mamba2": pocket_mamba2,
    "pocket-attention": pocket_attention,
    "photo-mamba1": photo_mamba1,
    "tiny-mamba1": tiny_mamba1,
    "tiny-mamba2": tiny_mamba2,
    "tiny-attention": tiny_attention,
    "phi-2": phi_2,
    "tiny-phi": tiny_phi,
}
"""Official (and our own) language-model ids."""

VISION_BACKBONES: dict[str, Callable[[], VisionConfig]] = {
    "dinosiglip-vit-so-384px": dinosiglip_384,
    "siglip-vit-so400m-384px": siglip_384,
    "pocket-conv-128px": pocket_conv_128,
    "lite0-256px": lite0_256,
    "tiny-dinosiglip-60px": tiny_dinosiglip_60,
    CLIP_LARGE: clip_large_336,
    "tiny-clip-60px": tiny_clip_60,
    "siglip-so400m-384px+tanh": siglip_384_tanh,
    "tiny-siglip-60px": tiny_siglip_60,
}
"""Official (and our own) vision-backbone ids."""

TEXT_TOWERS: dict[str, Callable[[], TextTowerConfig]] = {
    CLIP_LARGE: clip_large_text,
    "tiny-clip-60px": tiny_clip_text,
}
"""Encoders of instructions, by the vision backbone that they belong to."""
