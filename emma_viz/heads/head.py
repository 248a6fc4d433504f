"""Fusion and decoder together: what EMMA trains beside the language model, and what a native lens stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.errors import InputError, LensError
from emma_viz.files.schema import shape
from emma_viz.heads.config import PaperConfig, ReleasedConfig
from emma_viz.heads.decoder import PaperDecoder
from emma_viz.heads.fusion import MFF
from emma_viz.heads.losses import feature_loss, paper_loss, released_loss
from emma_viz.heads.patch_embedding import PatchEmbedding
from emma_viz.heads.pixels import from_units
from emma_viz.heads.released import ReleasedDecoder, ReleasedFusion
from emma_viz.models.config import LensForm


class PaperHead(nn.Module):
    """MFF and pixel decoder in the paper's form.

    The taps are the mixer outputs of the model's tap blocks, shallow to deep, then the hidden state after the
    final norm: image tokens alone, "B T D" each.
    """

    form: LensForm = "paper"

    def __init__(self, config: PaperConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.fusion = MFF(config.fusion, backend=backend)
        self.decoder = PaperDecoder(config.decoder, backend=backend)

    @property
    def depths(self) -> tuple[int, ...]:
        """Taps (from 0) at which the chain can be decoded; the last is the trained output."""
        return self.fusion.depths

    @property
    def makes_pictures(self) -> bool:
        """Whether pixels come out, and not an encoder's features (AVF)."""
        return self.config.decoder.target == "pixels"

    def forward(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "B T P"]:
        """The decoded pixels, in the units of `paper_loss`; or features, in those of `feature_target`."""
        return self.decoder(self.fusion(taps))

    def loss(
        self,
        taps: Sequence[Float[Tensor, "B T D"]],
        *,
        patches: Float[Tensor, "B T p p c"] | None = None,
        features: Float[Tensor, "B T F"] | None = None,
    ) -> Float[Tensor, ""]:
        """What training adds to the text loss: `paper_loss`, or `feature_loss` where features are the target.

        Args:
            taps: as in `forward`.
            patches: the true pixels in [0, 1]; needed for pixels.
            features: the frozen encoders' features of the same images; needed for features.

        Raises:
            InputError: the target that this head predicts was not given.
        """
        if self.makes_pictures:
            return paper_loss(self(taps), required(patches, "patches", "pixels"))
        target = required(features, "features", "the encoders' features")
        return feature_loss(self(taps), target, widths=self.config.decoder.feature_widths)

    def pictures(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "B T p p c"]:
        """Pixels on the scale of [0, 1] from the chain up to the last tap given; fewer than all taps: a
        prefix.

        Raises:
            LensError: this head predicts features, which are no pixels.
        """
        if not self.makes_pictures:
            raise LensError(
                "This head was trained on an encoder's features (AVF) and cannot show pixels; decode its model "
                "with a ridge or tuned lens."
            )
        return from_units(self.decoder(self.fusion.prefixes(taps)[-1]), self.config.decoder.patch)


class ReleasedHead(nn.Module):
    """Fusion and decoder in the released form, with the patch embedding that is their target."""

    form: LensForm = "released"
    makes_pictures = True

    def __init__(self, config: ReleasedConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.fusion = ReleasedFusion(config)
        self.decoder = ReleasedDecoder(config, backend=backend)
        self.embedding = PatchEmbedding(width=config.target_width, patch=config.patch, grid=config.grid)

    @property
    def depths(self) -> tuple[int, ...]:
        """Only the final one: every slice mixes all taps, so there is no prefix."""
        return (self.config.n_taps - 1,)

    def forward(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "B T F"]:
        """The predicted patch embedding, in regrouped order, as `released_loss` takes it."""
        return self.decoder(self.fusion(taps))

    def loss(
        self,
        taps: Sequence[Float[Tensor, "B T D"]],
        *,
        patches: Float[Tensor, "B T p p c"] | None = None,
        features: Float[Tensor, "B T F"] | None = None,
    ) -> Float[Tensor, ""]:
        """What training adds to the text loss: `released_loss` per image, so that micro-batches do not matter.

        Args:
            taps: as in `forward`.
            patches: the true pixels in [0, 1]; the target is the embedding of these.
            features: not used; there so that every head is called alike.

        Raises:
            InputError: no patches were given, or the embedding holds no encoder's weights yet.
        """
        target = self.embedding.target_of_patches(required(patches, "patches", "patch embeddings"))
        return released_loss(self(taps), target, reduction="image")

    def pictures(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "B T p p c"]:
        """Pixels on the scale of [0, 1]: see `PatchEmbedding.pictures` for what is lost."""
        return self.embedding.pictures(self(taps))


Head = PaperHead | ReleasedHead


def required(target: Tensor | None, name: str, what: str) -> Tensor:
    """The target of a loss.

    Raises:
        InputError: it was not given.
    """
    if target is None:
        raise InputError(f"This head predicts {what}; pass {name}=… to its loss.")
    return target


def build_head(config: PaperConfig | ReleasedConfig, *, backend: str = "auto") -> Head:
    """The head that a config describes, with fresh weights."""
    if isinstance(config, PaperConfig):
        return PaperHead(config, backend=backend)
    return ReleasedHead(config, backend=backend)


def head_to_json(config: PaperConfig | ReleasedConfig) -> dict[str, Any]:
    """A config with the name of its form, as the lens file stores it."""
    return {"form": "paper" if isinstance(config, PaperConfig) else "released", "sizes": config.to_json()}


@dataclass(frozen=True, kw_only=True)
class _StoredHead:
    """What `head_to_json` writes."""

    form: LensForm
    sizes: dict[str, Any]


def head_from_json(value: dict[str, Any]) -> PaperConfig | ReleasedConfig:
    """Undo `head_to_json`.

    Raises:
        LensError: the form is unknown or a size is missing or unknown.
    """
    stored = shape(value, _StoredHead, where="the sizes of the decoder in this lens", error=LensError)
    kind = PaperConfig if stored.form == "paper" else ReleasedConfig
    try:
        return kind.from_json(stored.sizes)
    except InputError as error:
        raise LensError(f"The sizes of the decoder in this lens cannot be read: {error}") from error
