"""Ready recipes, as functions. Sizes of models are presets of emma_viz; here are schedules and data."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.presets import cobra_pocket, emma_v1_pocket
from training.config import EncoderRecipe, JointRecipe, Optimisation, Phase, TextRecipe
from training.tokenizer import VOCABULARY


@dataclass(frozen=True, kw_only=True)
class FamilyRecipe:
    """Everything that the members of a family share, and the members."""

    encoder: EncoderRecipe
    text: TextRecipe
    joint: JointRecipe
    """Settings of the joint stage; each member replaces `model`."""
    members: dict[str, Callable[[], VLMConfig]]
    """Name → the member's model."""
    test_scenes: int = 500
    """Held-out scenes that questions are asked about."""
    lens_scenes: int = 400
    """Training scenes that ridge lenses are fitted on."""
    lens_heldout: int = 150
    """Held-out scenes on which their quality is measured."""


def pocket_pair() -> FamilyRecipe:
    """`cobra-pocket` and `emma-v1-pocket`: same encoder, same text-only language model, same fresh projector, same
    data in the same order; only the losses differ, from the first step."""
    return FamilyRecipe(
        encoder=EncoderRecipe(
            scenes=12000, optimisation=Optimisation(steps=2600, batch=32, lr=3e-3, weight_decay=0.05)
        ),
        text=TextRecipe(optimisation=Optimisation(steps=300, batch=16, lr=3e-3)),
        joint=JointRecipe(
            model="cobra-pocket",
            scenes=12000,
            phases=(
                Phase(steps=1400, batch=8, captions=True, pooled=True),
                Phase(steps=1600, batch=8, pooled=True),
                Phase(steps=900, batch=8),
            ),
            pixel_weight=0.25,
            optimisation=Optimisation(steps=3900, batch=8, lr=2e-3, save_every=100),
        ),
        members={"cobra-pocket": cobra_pocket, "emma-v1-pocket": emma_v1_pocket},
    )


def tiny_emma() -> VLMConfig:
    """A small EMMA-V1 on the pocket encoder, for trying the loop out."""
    base = emma_v1_pocket()
    llm = MambaConfig(d_model=48, n_layer=4, vocab_size=VOCABULARY, d_state=8)
    return replace(base, model_id="tiny-emma", llm=llm, taps=(1, 2))


def tiny() -> FamilyRecipe:
    """The whole pipeline in under a minute; the models learn little more than the form of the answers."""
    few = Optimisation(steps=30, batch=4, lr=3e-3)
    return FamilyRecipe(
        encoder=EncoderRecipe(scenes=64, optimisation=few),
        text=TextRecipe(optimisation=few),
        joint=JointRecipe(
            model="tiny",
            scenes=64,
            phases=(
                Phase(steps=10, batch=4, captions=True, pooled=True),
                Phase(steps=10, batch=4, pooled=True),
                Phase(steps=10, batch=4),
            ),
            optimisation=few,
        ),
        members={"tiny": tiny_emma},
        test_scenes=10,
        lens_scenes=16,
        lens_heldout=8,
    )


FAMILIES: dict[str, Callable[[], FamilyRecipe]] = {"pocket-pair": pocket_pair, "tiny": tiny}


def family_of(member: str) -> FamilyRecipe:
    """The family that has a member of this name, its joint recipe set to it.

    Raises:
        KeyError: no family has it.
    """
    for build in FAMILIES.values():
        family = build()
        if member in family.members:
            return replace(family, joint=replace(family.joint, model=member))
    raise KeyError(member)


MEMBERS: tuple[str, ...] = tuple(name for build in FAMILIES.values() for name in build().members)
