"""What a training run is made of: frozen settings, each with the reason for its existence."""

from dataclasses import asdict, dataclass

from emma_viz.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the parameters move."""

    steps: int
    """Optimizer steps."""
    batch: int
    """Samples per step."""
    lr: float
    """Peak learning rate."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises from zero."""
    final: float = 0.02
    """Share of the peak rate that is left at the end of the cosine; 1 keeps it constant."""
    weight_decay: float = 0.1
    """On matrices only; never on biases and one-dimensional parameters."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Start of every random stream of the run."""
    save_every: int = 200
    """Steps between two checkpoints of the run."""

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise TrainingError(f"A run needs steps ≥ 1 and batch ≥ 1; got {self.steps} and {self.batch}.")


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe:
    """Pre-training of the pocket vision encoder on labelled patches and pixels."""

    optimisation: Optimisation
    scenes: int
    """Training scenes that are drawn; each is seen turned and mirrored."""
    noise: float = 0.05
    """Standard deviation of the noise on the input pixels ([0, 1]); the target has none."""
    color_weight: float = 0.5
    center_weight: float = 5.0
    """Weight of the heat map of object centres."""


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """Pre-training of the language model on text alone."""

    optimisation: Optimisation


@dataclass(frozen=True, kw_only=True)
class JointRecipe:
    """Training of a VLM on conversations about images."""

    model: str
    """Preset of the model, e.g. "cobra-pocket"."""
    optimisation: Optimisation
    scenes: int
    """Training scenes whose encoder features are kept; a pass over all of them is an epoch."""
    pooled_steps: int = 0
    """First steps that run on 2×2-averaged image tokens: four times fewer, so four times faster. The losses are the
    model's own from the first of them."""
    position_std: float = 0.6
    """Initial standard deviation of row and of column embeddings; that of the image's share of a token is 1."""
    pixel_weight: float = 1.0
    """Weight of the pixel loss; used by models with a pixel decoder alone."""


def as_record(recipe: object) -> dict:
    """A recipe as plain data, for config.json."""
    return asdict(recipe)  # ty: ignore[invalid-argument-type]
