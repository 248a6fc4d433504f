"""What a training run is made of: frozen settings, each with the reason for its existence."""

from dataclasses import asdict, dataclass

from emma_viz.errors import TrainingError
from emma_viz.files.schema import Positive, Seed, Share, Size, require_ranges


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How the parameters move, however long a run is."""

    lr: Positive
    """Peak learning rate."""
    warmup: Share = 0.03
    """Share of the steps over which the rate rises from zero."""
    final: Share = 0.02
    """Share of the peak rate that is left at the end of the cosine; 1 keeps it constant."""
    weight_decay: float = 0.1
    """On matrices only; never on biases and one-dimensional parameters."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's running mean and square of the gradient."""
    seed: Seed = 0
    """Start of every random stream of the run."""
    save_every: Size = 200
    """Steps between two checkpoints of the run."""
    constant: Share = 0.0
    """Share of the steps at the peak rate, after the warm-up and before the cosine."""
    slower: tuple[tuple[str, float], ...] = ()
    """(prefix of parameter names, share of the rate that they get)."""
    muon: tuple[str, ...] = ()
    """Parts of names: weight matrices whose name has one of them move by Muon, at the same rate."""

    def __post_init__(self):
        require_ranges(self, error=TrainingError, options={})


@dataclass(frozen=True, kw_only=True)
class Optimisation(Rates):
    """How the parameters of one run of the loop move."""

    steps: Size
    """Optimizer steps."""
    batch: Size
    """Samples per step."""

    def identity(self) -> dict:
        """What must be the same in a run that resumes: all but how often it is saved."""
        return {name: value for name, value in asdict(self).items() if name != "save_every"}


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe:
    """Pre-training of the pocket vision encoder on labelled patches and pixels."""

    optimisation: Optimisation
    scenes: int
    """Training scenes that are drawn; each is seen as it is and mirrored."""
    noise: float = 0.05
    """Standard deviation of the noise on the input pixels ([0, 1]); the target has none."""
    color_weight: float = 0.5
    center_weight: float = 5.0
    """Weight of the heat map of object centres."""


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """Pre-training of the language model on text alone."""

    optimisation: Optimisation
    """`batch` is the number of described scenes in a step."""
    prompt_weight: float = 0.1
    """Weight of the loss on descriptions and questions, beside 1 for answers."""


def as_record(recipe: object) -> dict:
    """A recipe as plain data, for config.json."""
    return asdict(recipe)  # ty: ignore[invalid-argument-type]
