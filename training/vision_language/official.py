"""Recipes for training a preset on a LLaVA data set: the paper's full-size ones, and one for small models."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from emma_viz.errors import TrainingError
from emma_viz.files.schema import Count, Positive, Seed, Share, Size, require_ranges
from emma_viz.models.presets import PRESETS
from training.loop.config import Optimisation
from training.vision_language.objective import Objective

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class VisionLanguageRecipe:
    """How a vision-language model is trained; the data and the weights it starts from are given beside it."""

    model: str
    """Preset of the model."""
    objective: Objective = field(default_factory=Objective)
    """The losses."""
    epochs: Size = 2
    """Passes over the data."""
    steps: Size | None = None
    """Optimizer steps; None: what the epochs come to."""
    batch: Size = 128
    """Records of a step, over all processes and accumulated parts together."""
    micro: Size = 1
    """Records that a process computes at once."""
    lr: Positive = 2e-5
    """Peak learning rate."""
    warmup: Share = 0.03
    """Share of the steps over which the rate rises from zero."""
    final: Share = 0.0
    """Share of the peak rate that is left at the end of the cosine."""
    weight_decay: float = 0.1
    """On matrices only; never on biases and one-dimensional parameters."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's running mean and square of the gradient (the released code keeps torch's)."""
    precision: Precision = "bf16"
    """Type that layers compute in; parameters and optimizer are kept in fp32."""
    gradient_checkpointing: bool = True
    """Recompute each block of the language model in the backward pass instead of keeping its activations."""
    seed: Seed = 0
    """Start of every random stream of the run."""
    save_every: Size = 500
    """Steps between two checkpoints of the run."""
    held_out: Count = 64
    """Images kept from training, on which the trained decoder is measured as a lens; their records are left out."""
    broken_limit: Count = 100
    """Records that may be skipped because they cannot be used."""

    def __post_init__(self):
        if self.model not in PRESETS:
            raise TrainingError(f"model must be one of {', '.join(PRESETS)}; got {self.model!r}.")
        require_ranges(self, error=TrainingError, options={})

    def optimisation(self, steps_per_epoch: int) -> Optimisation:
        """The loop's settings, the data's size being known."""
        return Optimisation(
            steps=self.epochs * steps_per_epoch if self.steps is None else self.steps,
            batch=self.batch,
            lr=self.lr,
            warmup=self.warmup,
            final=self.final,
            weight_decay=self.weight_decay,
            clip=self.clip,
            betas=self.betas,
            seed=self.seed,
            save_every=self.save_every,
        )


def cobra_3b_recipe() -> VisionLanguageRecipe:
    """Cobra as the paper trains it: 2 epochs, AdamW 2e-5, decay 0.1, warm-up 0.03, cosine, clip 1, batch 128, bf16."""
    return VisionLanguageRecipe(model="cobra-3b")


def emma_v1_3b_recipe() -> VisionLanguageRecipe:
    """EMMA-V1: Cobra's recipe with the paper's pixel loss; projector, language model, fusion and decoder trained."""
    return VisionLanguageRecipe(model="emma-v1-3b", objective=Objective(pixels="paper"))


def emma_v2_3b_recipe() -> VisionLanguageRecipe:
    """EMMA-V2: the same on Mamba-2."""
    return VisionLanguageRecipe(model="emma-v2-3b", objective=Objective(pixels="paper"))


def small(model: str) -> VisionLanguageRecipe:
    """For presets that a CPU can train: large steps, few records a step, fp32."""
    if model not in PRESETS:
        raise TrainingError(f"model must be one of {', '.join(PRESETS)}; got {model!r}.")
    return VisionLanguageRecipe(
        model=model,
        objective=Objective(pixels="paper" if PRESETS[model]().taps else "none"),
        batch=8,
        micro=8,
        lr=2e-3,
        final=0.02,
        betas=(0.9, 0.95),
        precision="fp32",
        gradient_checkpointing=False,
        save_every=100,
    )


FULL_SIZE: dict[str, Callable[[], VisionLanguageRecipe]] = {
    "cobra-3b": cobra_3b_recipe,
    "emma-v1-3b": emma_v1_3b_recipe,
    "emma-v2-3b": emma_v2_3b_recipe,
}


def training_recipe(model: str) -> VisionLanguageRecipe:
    """The recipe of a preset."""
    return FULL_SIZE[model]() if model in FULL_SIZE else small(model)
