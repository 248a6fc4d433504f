"""The models that have a name: official ones, the pocket family, and tiny ones for tests."""

from collections.abc import Callable
from typing import cast

from emma_viz.data.prompts import PromptStyle, prompt_style
from emma_viz.errors import InputError
from emma_viz.models.config import (
    PROJECTOR_KINDS,
    Family,
    MambaConfig,
    ProjectorConfig,
    ProjectorKind,
    ResizeStrategy,
    TowerConfig,
    VisionConfig,
    VLMConfig,
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
QUARTER = (0.25, 0.25, 0.25)

POCKET_VOCABULARY = 626
"""Tokens of the bundled pocket tokenizer."""


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


def tiny_mamba1() -> MambaConfig:
    """A Mamba-1 for tests: 3 blocks of width 32."""
    return MambaConfig(d_model=32, n_layer=3, vocab_size=61, d_state=8)


def tiny_mamba2() -> MambaConfig:
    """A Mamba-2 for tests: 3 blocks of width 32."""
    return MambaConfig(
        d_model=32, n_layer=3, vocab_size=61, ssm="mamba2", d_state=16, headdim=16, pad_vocab_size_multiple=16
    )


LLM_BACKBONES: dict[str, Callable[[], MambaConfig]] = {
    "mamba-2.8b-zephyr": mamba_2_8b,
    "mamba-2.8b-slimpj": mamba_2_8b,
    "mamba-2.8b": mamba_2_8b,
    "mamba-2.7b-v2": mamba2_2_7b,
    "pocket-mamba1": pocket_mamba1,
    "pocket-mamba2": pocket_mamba2,
    "tiny-mamba1": tiny_mamba1,
    "tiny-mamba2": tiny_mamba2,
}
"""Official (and our own) language-model ids."""

VISION_BACKBONES: dict[str, Callable[[], VisionConfig]] = {
    "dinosiglip-vit-so-384px": dinosiglip_384,
    "siglip-vit-so400m-384px": siglip_384,
    "pocket-conv-128px": pocket_conv_128,
    "tiny-dinosiglip-60px": tiny_dinosiglip_60,
}
"""Official (and our own) vision-backbone ids."""


def config_from_ids(
    *,
    model_id: str,
    arch_specifier: str,
    vision_backbone_id: str,
    llm_backbone_id: str,
    image_resize_strategy: ResizeStrategy = "resize-naive",
    llm_max_length: int = 2048,
) -> VLMConfig:
    """Describe the model of an official run directory from the `model` object of its `config.json`.

    The family is EMMA when the model id begins with it (any case), otherwise Cobra. An official EMMA was trained with
    the released code's fusion and decoder, which are not those of the paper.

    Args:
        model_id: the run's name.
        arch_specifier: the projector, with or without the official prefix `no-align+`.
        vision_backbone_id: one of `VISION_BACKBONES`.
        llm_backbone_id: one of `LLM_BACKBONES`.
        image_resize_strategy: how images are brought to the encoder's square.
        llm_max_length: longest sequence in training, tokens.

    Raises:
        InputError: an id or the projector is not known.
    """
    for what, known, name in (
        ("vision_backbone_id", VISION_BACKBONES, vision_backbone_id),
        ("llm_backbone_id", LLM_BACKBONES, llm_backbone_id),
    ):
        if name not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}; got {name!r}.")
    kind = cast(ProjectorKind, arch_specifier.rsplit("+", 1)[-1])
    if kind not in PROJECTOR_KINDS:
        raise InputError(
            f"arch_specifier must end in one of {', '.join(PROJECTOR_KINDS)}; got {arch_specifier!r}."
        )
    llm = LLM_BACKBONES[llm_backbone_id]()
    emma = model_id.lower().startswith("emma")
    return VLMConfig(
        model_id=model_id,
        family="emma" if emma else "cobra",
        vision=VISION_BACKBONES[vision_backbone_id](),
        projector=ProjectorConfig(kind=kind),
        llm=llm,
        llm_backbone_id=llm_backbone_id,
        resize_strategy=image_resize_strategy,
        max_length=llm_max_length,
        prompt_style=_prompt_style(llm_backbone_id),
        taps=emma_taps(llm.n_layer) if emma else (),
        lens_form="released" if emma else None,
    )


def emma_taps(n_layer: int) -> tuple[int, ...]:
    """EMMA's three taps: blocks 24, 36 and 48 of 64 as released, otherwise the quarters of the depth."""
    return (24, 36, 48) if n_layer == 64 else (n_layer // 4, n_layer // 2, 3 * n_layer // 4)


def cobra_3b() -> VLMConfig:
    """Cobra 3B (`han1997/cobra`, folder `cobra+3b`)."""
    return _official("cobra+3b", "mamba-2.8b-zephyr")


def emma_v1_3b() -> VLMConfig:
    """EMMA-V1 3B: Cobra's architecture, trained to keep the image."""
    return _official("EMMA+3b", "mamba-2.8b-zephyr")


def emma_v2_3b() -> VLMConfig:
    """EMMA-V2 3B: the same on Mamba-2 2.7B."""
    return _official("EMMA+3b", "mamba-2.7b-v2")


def cobra_pocket() -> VLMConfig:
    """The pocket Cobra: small enough to train and run on a CPU."""
    return _pocket("cobra-pocket", "pocket-mamba1", family="cobra")


def emma_v1_pocket() -> VLMConfig:
    """The pocket EMMA on Mamba-1."""
    return _pocket("emma-v1-pocket", "pocket-mamba1", family="emma")


def emma_v1_pocket_nomff() -> VLMConfig:
    """The ablation −MFF of the pocket EMMA: its pixel decoder reads the final layer alone."""
    return _pocket("emma-v1-pocket-nomff", "pocket-mamba1", family="emma")


def emma_v2_pocket() -> VLMConfig:
    """The pocket EMMA on Mamba-2."""
    return _pocket("emma-v2-pocket", "pocket-mamba2", family="emma")


def tiny_cobra() -> VLMConfig:
    """A Cobra for tests: two tiny transformer towers, 4×4 image tokens, 3 blocks."""
    return _tiny("tiny-cobra", "tiny-mamba1", family="cobra")


def tiny_emma_v1() -> VLMConfig:
    """An EMMA-V1 for tests."""
    return _tiny("tiny-emma-v1", "tiny-mamba1", family="emma")


def tiny_emma_v2() -> VLMConfig:
    """An EMMA-V2 for tests."""
    return _tiny("tiny-emma-v2", "tiny-mamba2", family="emma")


PRESETS: dict[str, Callable[[], VLMConfig]] = {
    "cobra-3b": cobra_3b,
    "emma-v1-3b": emma_v1_3b,
    "emma-v2-3b": emma_v2_3b,
    "cobra-pocket": cobra_pocket,
    "emma-v1-pocket": emma_v1_pocket,
    "emma-v2-pocket": emma_v2_pocket,
    "emma-v1-pocket-nomff": emma_v1_pocket_nomff,
    "tiny-cobra": tiny_cobra,
    "tiny-emma-v1": tiny_emma_v1,
    "tiny-emma-v2": tiny_emma_v2,
}
"""Every model that has a name."""


def _prompt_style(llm_backbone_id: str) -> PromptStyle:
    """Our own small language models are prompted as the official Mamba of their name's last part."""
    return prompt_style(llm_backbone_id.removeprefix("pocket-").removeprefix("tiny-"))


def _official(model_id: str, llm_backbone_id: str) -> VLMConfig:
    return config_from_ids(
        model_id=model_id,
        arch_specifier="no-align+fused-gelu-mlp",
        vision_backbone_id="dinosiglip-vit-so-384px",
        llm_backbone_id=llm_backbone_id,
    )


def _pocket(model_id: str, llm_backbone_id: str, *, family: Family) -> VLMConfig:
    projector = ProjectorConfig(kind="fused-gelu-mlp", hidden_multiplier=2, positions=True)
    return _small(model_id, llm_backbone_id, family, pocket_conv_128(), projector)


def _tiny(model_id: str, llm_backbone_id: str, *, family: Family) -> VLMConfig:
    return _small(
        model_id, llm_backbone_id, family, tiny_dinosiglip_60(), ProjectorConfig(kind="fused-gelu-mlp")
    )


def _small(
    model_id: str, llm_backbone_id: str, family: Family, vision: VisionConfig, projector: ProjectorConfig
) -> VLMConfig:
    llm = LLM_BACKBONES[llm_backbone_id]()
    emma = family == "emma"
    return VLMConfig(
        model_id=model_id,
        family=family,
        vision=vision,
        projector=projector,
        llm=llm,
        llm_backbone_id=llm_backbone_id,
        prompt_style=_prompt_style(llm_backbone_id),
        taps=emma_taps(llm.n_layer) if emma else (),
        lens_form="paper" if emma else None,
    )
