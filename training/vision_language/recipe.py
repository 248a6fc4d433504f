"""How a vision-language model is trained, whatever its data; the paper's recipes, and one for small models."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from emma_viz.errors import TrainingError
from emma_viz.files.schema import Size, require_ranges
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.family import lead_of
from emma_viz.models.families.table import family_named
from emma_viz.models.presets import PRESETS
from emma_viz.models.sizes import language_model_parameters
from training.loop.config import Optimisation, Rates
from training.vision_language.objective import Objective, model_config

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run. The losses are the model's own in each of them."""

    batch: Size
    """Records, or images with all that is asked of them, a step: over all processes and accumulated parts together."""
    steps: Size | None = None
    """Optimizer steps, in place of `epochs`."""
    epochs: Size | None = None
    """Passes over the data, in place of `steps`."""
    captions: bool = False
    """Ask for captions alone. They are the plainest signal of what is in an image: a word for every object, where a
    question has one word that depends on image and question together."""
    pooled: bool = False
    """Run on 2×2-averaged image tokens: four times fewer, so that many steps are affordable."""

    def __post_init__(self):
        require_ranges(self, error=TrainingError, options={})
        if (self.steps is None) == (self.epochs is None):
            raise TrainingError(
                f"A phase lasts either steps (--steps) or epochs (--epochs); got steps={self.steps} and "
                f"epochs={self.epochs}."
            )

    @property
    def length(self) -> int:
        """Optimizer steps.

        Raises:
            TrainingError: it lasts epochs, and the size of the data is not known.
        """
        if self.steps is None:
            raise TrainingError(
                f"A phase lasts {self.epochs} epochs, and how long the data is is not known; see Recipe.lasting."
            )
        return self.steps


@dataclass(frozen=True, kw_only=True)
class Recipe(Rates):
    """How a vision-language model is trained; the data and the weights it starts from are given beside it."""

    model: str
    """A preset, or the member of a family."""
    phases: tuple[Phase, ...]
    """What is trained on, in order."""
    objective: Objective = field(default_factory=Objective)
    """The losses."""
    micro: Size = 1
    """Records that a process computes at once."""
    precision: Precision = "fp32"
    """Type that layers compute in; parameters and optimizer are kept in fp32."""
    gradient_checkpointing: bool = False
    """Recompute each block of the language model in the backward pass instead of keeping its activations."""

    def config(self) -> VLMConfig:
        """The model that is trained: its preset with what the losses change in it.

        Raises:
            TrainingError: there is no such preset, its prompt has text before the image, or the losses do not fit it.
        """
        if self.model not in PRESETS:
            raise TrainingError(f"model must be one of {', '.join(PRESETS)}; got {self.model!r}.")
        config = PRESETS[self.model]()
        if lead_of(family_named(config.family), config):
            raise TrainingError(
                f"expected a model whose sequence begins with its image, as the training loop has it; {self.model} has "
                f"text before it ({config.prompt_style} prompts). Choose a member of another family (emma-viz models "
                "--all: image tokens first)."
            )
        return model_config(config, self.objective)

    def of_member(self, name: str, config: VLMConfig, *, seed: int, fusion: bool = True) -> "Recipe":
        """A family's recipe as one of its members has it: with the losses that its model is made for.

        Args:
            name: the member's.
            config: its model.
            seed: of the run.
            fusion: False for −MFF.
        """
        losses = replace(self.objective, pixels=config.lens_form or "none", fusion=fusion)
        return replace(self, model=name, seed=seed, objective=losses)

    def lasting(self, steps_per_epoch: int) -> "Recipe":
        """The recipe with the length of every phase in steps, the size of the data being known."""
        phases = [
            each if each.epochs is None else replace(each, steps=each.epochs * steps_per_epoch, epochs=None)
            for each in self.phases
        ]
        return replace(self, phases=tuple(phases))

    def settings(self) -> Optimisation:
        """The loop's settings; the batch is the first phase's.

        Raises:
            TrainingError: a phase lasts epochs, and the size of the data is not known yet.
        """
        rates = {each.name: getattr(self, each.name) for each in fields(Rates)}
        return Optimisation(
            steps=sum(phase.length for phase in self.phases), batch=self.phases[0].batch, **rates
        )

    def phase_of(self, step: int) -> tuple[int, int]:
        """The number of the phase that a step belongs to, and the step's place in it."""
        for number, phase in enumerate(self.phases):
            if step < phase.length:
                return number, step
            step -= phase.length
        raise TrainingError(
            f"The recipe of {self.model} ends {step + 1} steps before the one that was asked for."
        )

    def record(self) -> dict[str, Any]:
        """As plain data, for config.json."""
        return asdict(
            self, dict_factory=lambda pairs: {name: value for name, value in pairs if value is not None}
        )

    def identity(self) -> dict[str, Any]:
        """What must be the same in a run that resumes, besides settings, data and first weights."""
        named = ("model", "phases", "objective", "precision")
        return {name: value for name, value in self.record().items() if name in named}


FULL_SIZE = 10**9
"""Parameters of a language model from which on a preset is trained as the papers say: the smallest of theirs has
1.4e9, the largest of those that a CPU trains 3e6."""


def training_recipe(model: str) -> Recipe:
    """The recipe of a preset, with the paper's pixel loss where it has taps.

    Full size (`FULL_SIZE`), whatever the family, is trained as the papers of Cobra and EMMA say: 2 epochs, AdamW 2e-5,
    decay 0.1, warm-up 0.03, cosine, clip 1, batch 128, bf16; the released code keeps torch's betas. Others are trained
    as a CPU can: large steps, few records a step, fp32.

    Raises:
        TrainingError: there is no such preset.
    """
    if model not in PRESETS:
        raise TrainingError(f"model must be one of {', '.join(PRESETS)}; got {model!r}.")
    config = PRESETS[model]()
    objective = Objective(pixels="paper" if config.taps else "none")
    if language_model_parameters(config.llm) < FULL_SIZE:
        phases = (Phase(epochs=2, batch=8),)
        return Recipe(model=model, objective=objective, phases=phases, micro=8, lr=2e-3, save_every=100)
    return Recipe(
        model=model,
        objective=objective,
        phases=(Phase(epochs=2, batch=128),),
        lr=2e-5,
        final=0.0,
        betas=(0.9, 0.999),
        precision="bf16",
        gradient_checkpointing=True,
        save_every=500,
    )
