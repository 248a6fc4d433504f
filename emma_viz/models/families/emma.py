"""EMMA (arXiv 2410.05938): a Mamba that was also trained to keep the image, through a fusion and a decoder."""

from dataclasses import replace

from emma_viz.models.config import VLMConfig
from emma_viz.models.families.official import OfficialFamily


def emma_v1_3b() -> VLMConfig:
    """EMMA-V1 3B, on Mamba-1 2.8B."""
    return EMMA.run("EMMA+3b", llm_backbone_id="mamba-2.8b-zephyr")


def emma_v2_3b() -> VLMConfig:
    """EMMA-V2 3B: the same on Mamba-2 2.7B."""
    return EMMA.run("EMMA+3b", llm_backbone_id="mamba-2.7b-v2")


def emma_v1_3b_csm() -> VLMConfig:
    """EMMA-V1 3B with the cross-scan before its projector: the ablation +CSM. The others (−MFF, −PAL, LA, AVF) change
    what is trained beside the model, not the model: they are `--ablate` of the training command."""
    config = emma_v1_3b()
    return replace(config, model_id="EMMA-CSM+3b", projector=replace(config.projector, cross_scan=True))


def emma_v1_pocket() -> VLMConfig:
    """The pocket EMMA on Mamba-1."""
    return EMMA.pocket("emma-v1-pocket", "pocket-mamba1")


def emma_v1_pocket_nomff() -> VLMConfig:
    """The ablation −MFF of the pocket EMMA: its pixel decoder reads the final layer alone."""
    return EMMA.pocket("emma-v1-pocket-nomff", "pocket-mamba1")


def emma_v2_pocket() -> VLMConfig:
    """The pocket EMMA on Mamba-2."""
    return EMMA.pocket("emma-v2-pocket", "pocket-mamba2")


def emma_v1_photo() -> VLMConfig:
    """The EMMA-V1 that knows photographs; see `training.photos`."""
    return EMMA.photo("emma-v1-photo", "photo-mamba1")


def tiny_emma_v1() -> VLMConfig:
    """An EMMA-V1 for tests."""
    return EMMA.tiny("tiny-emma-v1", "tiny-mamba1")


def tiny_emma_v2() -> VLMConfig:
    """An EMMA-V2 for tests."""
    return EMMA.tiny("tiny-emma-v2", "tiny-mamba2")


def emma_taps(n_layer: int) -> tuple[int, ...]:
    """EMMA's three taps: blocks 24, 36 and 48 of 64 as released, otherwise the quarters of the depth."""
    return (24, 36, 48) if n_layer == 64 else (n_layer // 4, n_layer // 2, 3 * n_layer // 4)


EMMA = OfficialFamily(
    name="emma",
    title="a Mamba over image and text, trained to keep the image as well",
    model_ids=r"(?i)emma.*",
    taps=emma_taps,
    # The released code's fusion and decoder, which are not those of the paper, trained the official members.
    lens_form="released",
    presets={
        "emma-v1-3b": emma_v1_3b,
        "emma-v2-3b": emma_v2_3b,
        "emma-v1-3b-csm": emma_v1_3b_csm,
        "emma-v1-pocket": emma_v1_pocket,
        "emma-v2-pocket": emma_v2_pocket,
        "emma-v1-photo": emma_v1_photo,
        "emma-v1-pocket-nomff": emma_v1_pocket_nomff,
        "tiny-emma-v1": tiny_emma_v1,
        "tiny-emma-v2": tiny_emma_v2,
    },
    missing="no official weights were released",
    unpublished=frozenset({"emma-v1-3b", "emma-v2-3b", "emma-v1-3b-csm"}),
)
"""The family."""
