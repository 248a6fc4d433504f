"""What a model is trained to do besides answering: the pixel losses and the paper's ablations, as switches."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from emma_viz.errors import TrainingError
from emma_viz.files.schema import Positive, require_ranges
from emma_viz.heads.config import MixerSize, PaperConfig, ReleasedConfig, paper_config, released_config
from emma_viz.models.config import VLMConfig

PixelForm = Literal["paper", "released", "none"]
Ablation = Literal["pal", "mff", "la", "avf", "csm"]

ABLATIONS: dict[Ablation, str] = {
    "pal": "no pixel loss: text alone",
    "mff": "no fusion: the decoder reads the final layer alone",
    "la": "linear attention in the fusion",
    "avf": "the decoder predicts the encoders' features in place of pixels",
    "csm": "scan the features in four orders before the projector",
}
"""The paper's ablations (docs/decisions/0006-ablations.md)."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The losses of a run. The text loss is always there."""

    pixels: PixelForm = "none"
    """The loss that is added: `paper` (decoded pixels against pixels, mean squared), `released` (the released code's:
    normalised patch embeddings, sum of squares × 1e-5), or none (Cobra; the ablation −PAL)."""
    weight: Positive = 1.0
    """Factor of that loss."""
    fusion: bool = True
    """False: the ablation −MFF."""
    linear_attention: bool = False
    """The ablation LA."""
    features: bool = False
    """The ablation AVF."""
    cross_scan: bool = False
    """The ablation CSM."""

    def __post_init__(self):
        if self.pixels not in ("paper", "released", "none"):
            raise TrainingError(f"Objective.pixels must be paper, released or none; got {self.pixels!r}.")
        require_ranges(
            self, error=TrainingError, options={"pixels": "--pixel-loss", "weight": "--pixel-weight"}
        )
        changed = [name for name in ("linear_attention", "features") if getattr(self, name)]
        changed += [] if self.fusion else ["fusion=False"]
        if changed and self.pixels != "paper":
            raise TrainingError(
                f"{', '.join(changed)} changes the paper's fusion and decoder, and this run has "
                f'pixels={self.pixels!r}: set pixels="paper", or leave it out.'
            )
        if self.linear_attention and not self.fusion:
            raise TrainingError(
                "linear_attention changes the attention of the fusion, and fusion=False leaves that out; choose one."
            )

    def ablated(self, names: Iterable[Ablation]) -> "Objective":
        """The objective with the paper's ablations.

        Raises:
            TrainingError: two of them, or one and the form of the loss, exclude each other.
        """
        changes = {
            "mff": {"fusion": False},
            "la": {"linear_attention": True},
            "avf": {"features": True},
            "csm": {"cross_scan": True},
            "pal": {"pixels": "none"},
        }
        merged: dict = {}
        for name in names:
            merged |= changes[name]
        return replace(self, **merged)


def model_config(config: VLMConfig, objective: Objective) -> VLMConfig:
    """The model that is trained: a preset with what the objective changes in it.

    Raises:
        TrainingError: a pixel loss is asked of a model without taps.
    """
    projector = replace(config.projector, cross_scan=objective.cross_scan or config.projector.cross_scan)
    config = replace(config, projector=projector)
    if objective.pixels == "none":
        return replace(config, taps=(), lens_form=None)
    if not config.taps:
        raise TrainingError(
            f"{config.model_id} has no taps that a decoder could read, so it takes no pixel loss; use an emma "
            'preset, or pixels="none".'
        )
    return replace(config, lens_form=objective.pixels)


NARROW = 256
"""Width below which a model's head is small, too."""


def head_config(config: VLMConfig, objective: Objective) -> PaperConfig | ReleasedConfig | None:
    """The fusion and decoder that are trained beside the model; None without a pixel loss.

    The paper's sizes; beside a model narrower than NARROW a fusion of Eq. 7 to the letter (one block fewer than taps)
    and a decoder of two layers, of Mamba-1 with the model's state size.

    Args:
        config: from `model_config`.

    Raises:
        TrainingError: image tokens are not those of the encoder, so no token has pixels of its own; or there is no
            SigLIP, whose patch embedding the released form predicts.
        InputError: the released form does not fit the grid.
    """
    if objective.pixels == "none":
        return None
    vision, width, n_taps = config.vision, config.llm.d_model, len(config.taps) + 1
    if config.grid != vision.grid:
        raise TrainingError(
            f"The projector {config.projector.kind} turns {vision.grid[0]}×{vision.grid[1]} tokens into "
            f"{config.grid[0]}×{config.grid[1]}, which have no patches of their own; use one that keeps them."
        )
    if objective.pixels == "paper":
        sizes = paper_config(
            width=width,
            patch=vision.patch,
            n_taps=n_taps,
            n_blocks=None if objective.fusion else 0,
            attention="linear" if objective.linear_attention else "softmax",
            feature_widths=tuple(tower.width for tower in vision.towers) if objective.features else (),
        )
        return sizes if width >= NARROW else _small(sizes, config.llm.d_state)
    target = next((tower.width for tower in vision.towers if tower.kind == "siglip"), None)
    if target is None:
        raise TrainingError(
            f"The released form predicts SigLIP's patch embedding; {config.model_id} has no SigLIP. Use paper."
        )
    return released_config(
        width=width, patch=vision.patch, grid=config.grid, target_width=target, n_taps=n_taps
    )


def _small(sizes: PaperConfig, d_state: int) -> PaperConfig:
    mixer, fusion = MixerSize(ssm="mamba1", d_state=d_state), sizes.fusion
    blocks = fusion.n_taps - 1 if fusion.n_blocks else 0
    return PaperConfig(
        fusion=replace(fusion, n_blocks=blocks, mixer=mixer),
        decoder=replace(sizes.decoder, n_layers=2, mixer=mixer),
    )
