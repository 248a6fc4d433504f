"""Sizes of the fusion and the decoder, in the paper's form and in the released code's."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.errors import InputError
from emma_viz.files.schema import require_ranges, shape
from emma_viz.models.config import SSM
from emma_viz.models.ranges import Side, Width
from emma_viz.shapes import CHANNELS

_Target = Literal["pixels", "features"]
_Layers = Annotated[int, msgspec.Meta(ge=1, le=128)]
"""Taps, or layers of a decoder: the paper has four."""
Blocks = Annotated[int, msgspec.Meta(ge=0, le=128)]


@dataclass(frozen=True, kw_only=True)
class MixerSize:
    """Sizes of one Mamba layer of a fusion block or decoder."""

    ssm: SSM
    """Which state-space layer."""
    d_state: Width
    """State size: 16 in Mamba-1, 128 in Mamba-2 at full size."""
    headdim: Width = 64
    """Channels of a Mamba-2 head; Mamba-1 has no heads."""

    def __post_init__(self):
        require_ranges(self, error=InputError)


MAMBA1 = MixerSize(ssm="mamba1", d_state=16)
MAMBA2 = MixerSize(ssm="mamba2", d_state=128)


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """The paper's multi-scale feature fusion (MFF, Eq. 6 and 7)."""

    width: Width = 2560
    """Width D of the taps, of the attention and of the output."""
    n_taps: _Layers = 4
    """Features that are fused: the intermediate layers, shallow to deep, and the final one."""
    n_blocks: Blocks = 4
    """Fusion blocks. n_taps: the first fuses the earliest tap with itself. n_taps − 1: the chain of Eq. 7, to
    the letter. 0: no fusion (the ablation −MFF): the decoder sees the final layer alone."""
    n_heads: Width = 40
    """Heads of the cross-attention."""
    mixer: MixerSize = MAMBA2
    """The Mamba layer of a block."""
    norms: bool = True
    """Normalise what attention and Mamba read. The paper's equations show no norm; without one, taps of
    different scale (a mixer output and a final norm) do not train well together."""
    attention: Literal["softmax", "linear"] = "softmax"
    """How the cross-attention weighs a tap's tokens; "linear" is the ablation LA. Same parameters."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        _check_heads("FusionConfig", self.width, self.n_heads)
        if self.n_blocks not in (0, self.n_taps - 1, self.n_taps):
            raise InputError(
                f"FusionConfig: n_taps={self.n_taps} can be fused by {self.n_taps - 1} blocks (Eq. 7), "
                f"{self.n_taps} (the first fuses the earliest tap with itself) or 0 (final layer alone); "
                f"n_blocks={self.n_blocks} is none of these."
            )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The paper's pixel decoder: Mamba layers, then two linear layers (Eq. 8)."""

    width: Width = 2560
    """Width D of what is decoded."""
    patch: Side = 14
    """Side of a patch; the decoder predicts 3·patch² pixel values per token."""
    n_layers: Blocks = 4
    """Mamba layers."""
    mixer: MixerSize = MAMBA1
    """The Mamba layer."""
    norms: bool = True
    """Normalise what each Mamba layer and the linear layers read."""
    target: _Target = "pixels"
    """What is predicted: the patch's pixels, or the encoder's features of it (the ablation AVF)."""
    feature_widths: Annotated[tuple[Width, ...], msgspec.Meta(max_length=8)] = ()
    """Channels of each encoder's features, in order, where those are the target: (1024, 1152) at full size."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if (self.target == "features") != bool(self.feature_widths):
            raise InputError(
                f'DecoderConfig: target="features" needs feature_widths, the channels of each encoder, and '
                f'target="pixels" takes none; got target={self.target!r} and '
                f"feature_widths={self.feature_widths}."
            )

    @property
    def out_width(self) -> int:
        """Numbers predicted per token."""
        return sum(self.feature_widths) if self.target == "features" else CHANNELS * self.patch**2


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Fusion and decoder in the paper's form."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How the taps become one feature per token."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """How that feature becomes pixels."""

    def __post_init__(self):
        if self.fusion.width != self.decoder.width:
            raise InputError(
                f"PaperConfig: the fusion gives {self.fusion.width} channels (fusion.width) and the decoder "
                f"reads {self.decoder.width} (decoder.width); make them equal."
            )

    @property
    def n_taps(self) -> int:
        """Features that the head takes."""
        return self.fusion.n_taps

    @property
    def width(self) -> int:
        """Width D of those features."""
        return self.fusion.width

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return self.decoder.patch

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "PaperConfig":
        """Undo `to_json`.

        Raises:
            InputError: a field is missing, unknown, of another type or out of its range.
        """
        parts = shape(value, _PaperParts, where="the sizes of the decoder", error=InputError)
        return cls(fusion=parts.fusion, decoder=parts.decoder)


@dataclass(frozen=True, kw_only=True)
class _PaperParts:
    """What a file must say; in Python the parts have defaults."""

    fusion: FusionConfig
    decoder: DecoderConfig


@dataclass(frozen=True, kw_only=True)
class ReleasedConfig:
    """Fusion and decoder in the form of the released code, whose target is a patch embedding, not pixels."""

    width: Width = 2560
    """Width D of the taps and of the decoder."""
    n_taps: _Layers = 4
    """Taps; also the number of decoder blocks, since each block reads one slice of the fused taps."""
    grid: tuple[Side, Side] = (27, 27)
    """Rows and columns of image tokens; both multiples of 3."""
    n_heads: Width = 40
    """Heads of the cross-attention."""
    mixer: MixerSize = MAMBA2
    """The Mamba layer of a block."""
    target_width: Width = 1152
    """Channels of the patch embedding that is predicted (1152: SigLIP)."""
    patch: Side = 14
    """Side of the patches that the embedding was computed from, pixels."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        _check_heads("ReleasedConfig", self.width, self.n_heads)
        rows, columns = self.grid
        if rows % 3 or columns % 3 or rows < 3 or columns < 3:
            raise InputError(
                "The released decoder regroups tokens in 3×3 neighbourhoods, so rows and columns must be "
                f"multiples of 3; this grid is {rows}×{columns}. Use the paper form, or an image size of 3·k "
                "patches a side."
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ReleasedConfig":
        """Undo `to_json`.

        Raises:
            InputError: a field is missing, unknown, of another type or out of its range.
        """
        return shape(value, cls, where="the sizes of the decoder", error=InputError)


def paper_config(
    *,
    width: int,
    patch: int,
    n_taps: _Layers = 4,
    n_blocks: int | None = None,
    attention: Literal["softmax", "linear"] = "softmax",
    feature_widths: Annotated[tuple[Width, ...], msgspec.Meta(max_length=8)] = (),
) -> PaperConfig:
    """The paper's form at any width: heads of 64 channels where the width allows, else of the next size that
    divides it.

    Args:
        width: channels of the language model.
        patch: side of a patch, pixels.
        n_taps: layers of the language model that are fused.
        n_blocks: fusion blocks; n_taps when None.
        attention: "linear" for the ablation LA.
        feature_widths: channels of the encoders whose features are predicted (the ablation AVF); none for
            pixels.
    """
    head = head_width(width)
    fusion = FusionConfig(
        width=width,
        n_taps=n_taps,
        n_blocks=n_taps if n_blocks is None else n_blocks,
        n_heads=width // head,
        mixer=MixerSize(ssm="mamba2", d_state=min(128, width), headdim=head),
        attention=attention,
    )
    target: _Target = "features" if feature_widths else "pixels"
    decoder = DecoderConfig(width=width, patch=patch, target=target, feature_widths=feature_widths)
    return PaperConfig(fusion=fusion, decoder=decoder)


def released_config(
    *, width: int, patch: int, grid: tuple[int, int], target_width: int, n_taps: int = 4
) -> ReleasedConfig:
    """The released form at any width; heads as in `paper_config`."""
    head = head_width(width)
    mixer = MixerSize(ssm="mamba2", d_state=min(128, width), headdim=head)
    return ReleasedConfig(
        width=width,
        n_taps=n_taps,
        grid=grid,
        n_heads=width // head,
        mixer=mixer,
        target_width=target_width,
        patch=patch,
    )


def head_width(width: int) -> int:
    """Channels of a head: the largest of 64, 48, 32, 16, 8, 4, 2, 1 that divides the width."""
    return next(size for size in (64, 48, 32, 16, 8, 4, 2, 1) if width % size == 0)


def _check_heads(where: str, width: int, n_heads: int) -> None:
    if n_heads < 1 or width % n_heads:
        raise InputError(
            f"{where}: width={width} does not split into n_heads={n_heads} heads; choose a divisor."
        )
