"""Ready recipes, as functions. Sizes of models are presets of emma_viz; here are schedules and data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from emma_viz.models.config import MambaConfig, VLMConfig
from emma_viz.models.families.cobra import cobra_pocket
from emma_viz.models.families.emma import emma_v1_pocket, emma_v1_pocket_nomff, emma_v2_pocket
from emma_viz.models.families.llava import llava_pocket
from emma_viz.session.options import LensRecipe
from training.loop.config import EncoderRecipe, Optimisation, TextRecipe
from training.pocket.tokenizer import VOCABULARY
from training.vision_language.lenses import TUNED_BUDGET
from training.vision_language.objective import Objective
from training.vision_language.recipe import Phase, Recipe


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of a family."""

    model: Callable[[], VLMConfig]
    """Its sizes."""
    fusion: bool = True
    """False: the ablation −MFF, whose decoder reads the final layer alone."""


@dataclass(frozen=True, kw_only=True)
class FamilyRecipe:
    """Everything that the members of a family share, and the members."""

    encoder: EncoderRecipe
    text: TextRecipe
    joint: Recipe
    """Settings of the joint stage; `of_member` has those of a member."""
    scenes: int
    """Training scenes whose encoder features are kept; a pass over all of them is an epoch."""
    tuned: LensRecipe
    """The budget of the tuned lenses, the same for every member."""
    members: dict[str, Member]
    """The models by name. Those with the same language model start from the same weights."""
    score_every: int = 400
    """Steps between two times that held-out questions are asked; a multiple of joint.save_every."""
    scored_scenes: int = 100
    """Validation scenes that those questions are about."""
    test_scenes: int = 500
    """Held-out scenes that questions are asked about."""
    lens_scenes: int = 400
    """Training scenes that ridge lenses are fitted on."""
    lens_heldout: int = 150
    """Held-out scenes on which the quality of every lens is measured."""

    def of_member(self, name: str, *, seed: int = 0) -> Recipe:
        """A member's settings of the joint stage."""
        chosen = self.members[name]
        return self.joint.of_member(name, chosen.model(), seed=seed, fusion=chosen.fusion)


_BLOCKS = ("backbone.layers.",)
"""Names of the matrices of a language model's blocks, which Muon moves."""

SLOW_PROJECTOR = (("vlm.projector.", 0.1),)
"""The projector's rate as a share of the others'. In the paper's recipe (2e-5 over 19k steps) weights stay near their
start; at a small model's rates an unslowed projector would be rewritten many times over."""

PAIR = ("cobra-pocket", "emma-v1-pocket")
"""The members that are compared by default, and trained first."""


def pocket() -> FamilyRecipe:
    """The pocket family: same encoder, same text-only language model, same fresh projector, same data in the same
    order; only the losses differ, from the first step. EMMA-V2 and LLaVA have language models of their own, a Mamba-2
    and an attention transformer."""
    return FamilyRecipe(
        encoder=EncoderRecipe(
            scenes=12000,
            optimisation=Optimisation(steps=1400, batch=32, lr=3e-3, weight_decay=0.05, save_every=100),
        ),
        text=TextRecipe(
            optimisation=Optimisation(
                steps=1000, batch=8, lr=3e-3, constant=0.1, save_every=100, muon=_BLOCKS
            ),
        ),
        joint=Recipe(
            model="cobra-pocket",
            phases=(
                Phase(steps=600, batch=8, captions=True, pooled=True),
                Phase(steps=3600, batch=4, pooled=True),
                Phase(steps=3000, batch=4),
            ),
            objective=Objective(weight=0.1),
            lr=2e-3,
            constant=0.1,
            save_every=100,
            slower=SLOW_PROJECTOR,
            muon=_BLOCKS,
        ),
        scenes=12000,
        tuned=TUNED_BUDGET,
        members={
            "cobra-pocket": Member(model=cobra_pocket),
            "emma-v1-pocket": Member(model=emma_v1_pocket),
            "emma-v2-pocket": Member(model=emma_v2_pocket),
            "emma-v1-pocket-nomff": Member(model=emma_v1_pocket_nomff, fusion=False),
            "llava-pocket": Member(model=llava_pocket),
        },
    )


def tiny_emma() -> VLMConfig:
    """A small EMMA-V1 on the pocket encoder, for trying the loop out."""
    base = emma_v1_pocket()
    llm = MambaConfig(d_model=48, n_layer=4, vocab_size=VOCABULARY, d_state=8)
    return replace(base, model_id="tiny-emma", llm=llm, taps=(1, 2))


def tiny() -> FamilyRecipe:
    """The whole pipeline in under a minute; the models learn little more than the form of the answers."""
    few = Optimisation(steps=30, batch=4, lr=3e-3, muon=_BLOCKS)
    return FamilyRecipe(
        encoder=EncoderRecipe(scenes=64, optimisation=replace(few, steps=80)),
        text=TextRecipe(optimisation=few),
        joint=Recipe(
            model="tiny",
            phases=(
                Phase(steps=20, batch=4, captions=True, pooled=True),
                Phase(steps=20, batch=4, pooled=True),
                Phase(steps=20, batch=4),
            ),
            lr=3e-3,
            save_every=30,
            slower=SLOW_PROJECTOR,
            muon=_BLOCKS,
        ),
        scenes=64,
        score_every=30,
        scored_scenes=8,
        members={"tiny": Member(model=tiny_emma)},
        test_scenes=10,
        lens_scenes=16,
        lens_heldout=8,
        tuned=LensRecipe(kind="tuned", fit=16, held_out=8, batch_size=4, steps=4, half=True),
    )


FAMILIES: dict[str, Callable[[], FamilyRecipe]] = {"pocket": pocket, "tiny": tiny}


def family_of(member: str) -> str:
    """The name of the family that has a member of this name."""
    return next(name for name, build in FAMILIES.items() if member in build().members)


MEMBERS: tuple[str, ...] = tuple(name for build in FAMILIES.values() for name in build().members)


def in_order(members: Iterable[str]) -> list[str]:
    """Names of members in the order of the recipes; others come last, as they came."""
    return sorted(members, key=lambda name: MEMBERS.index(name) if name in MEMBERS else len(MEMBERS))
