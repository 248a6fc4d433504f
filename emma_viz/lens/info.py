"""What a lens says about itself: the model it belongs to, how it was fitted, and how good it is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError, LensMismatchError
from emma_viz.files.schema import Count, require_ranges, shape
from emma_viz.lens.controls import MOST_CONTROLS, NO_CONTROL, LayerControl, LayerVerdict, verdicts
from emma_viz.models.config import LensForm
from emma_viz.models.ranges import DEEPEST, Side

WHERE = "the description of a lens"
Layer = Annotated[int, msgspec.Meta(ge=-1, lt=DEEPEST)]
KindName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
TAPS = "taps"
"""What `LensInfo.site` says where a lens reads the states of several sites or layers together."""

HASH_DIGITS = 8
"""Digits of an image's hash that a lens keeps: chance makes another image one of 12 000 three times in a million."""


@dataclass(frozen=True, kw_only=True)
class LayerQuality:
    """How well a lens decodes one layer of images that were not used to fit it."""

    layer: Layer
    """Zero-based block; -1 is the embedding."""
    r2: float
    """R² over all pixels of all held-out images (see `emma_viz.metrics.quality.r2`)."""
    psnr: float
    """Mean over the held-out images, dB."""
    ssim: float
    """Mean over the held-out images."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict; numbers that are not finite, which JSON lacks, become text such as "nan"."""
        return _plain(self)


@dataclass(frozen=True, kw_only=True)
class LensInfo:
    """Everything a picture must print about the lens behind it."""

    kind: KindName
    """How the lens came about, as `emma_viz.lens.kinds` names it: `ridge` (closed form), `tuned` (trained on the frozen
    model), `native` (trained with the model), or the kind of an installed package."""
    model_name: str
    """Name of the model that the lens belongs to."""
    model_fingerprint: str
    """Fingerprint of that model's projector and language model."""
    site: str
    """Hook site whose states the lens reads; TAPS where it reads several together."""
    layers: Annotated[tuple[Layer, ...], msgspec.Meta(min_length=1, max_length=DEEPEST + 1)]
    """Layers that the lens can decode, ascending."""
    patch: Side
    """Side of a decoded patch, pixels."""
    grid: tuple[Side, Side] | None
    """Rows and columns of patches of the model's view; None where they differ from image to image."""
    fitted_on: str
    """The images that the lens was fitted on, in words."""
    n_fit: Count
    """How many images those were."""
    n_heldout: Count
    """How many other images its quality was measured on; 0 when it was not measured."""
    quality: tuple[LayerQuality, ...] = ()
    """One record per measured layer."""
    controls: Annotated[tuple[LayerControl, ...], msgspec.Meta(max_length=MOST_CONTROLS)] = ()
    """What the quality of each layer is compared with; empty: nothing, as in files of older versions."""
    form: LensForm | None = None
    """Form of a decoder: the paper's, or the released code's; None for lenses without one."""
    created: str = ""
    """UTC time of the fit, ISO 8601."""
    fit_images: tuple[str, ...] = ()
    """The first HASH_DIGITS digits of the `image_hash` of each image that it was fitted on; empty: not kept."""
    notes: tuple[str, ...] = ()
    """What a reader of the pictures should know besides."""
    part: Literal["thumbnail"] | None = None
    """Which image tokens it was fitted on, as of `ModelInfo`."""

    def __post_init__(self):
        require_ranges(self, error=LensError)
        if list(self.layers) != sorted(set(self.layers)):
            raise LensError(f"LensInfo.layers must be ascending without repeats: {self.layers}.")

    def __repr__(self) -> str:
        return self.line("LensInfo")

    def line(self, name: str) -> str:
        """The lens in one line, without its lists.

        Args:
            name: what it is called in front, such as its class.
        """
        layers = f"{self.layers[0]} to {self.layers[-1]}" if self.layers else "none"
        return f"{name}({self.model_name}, {self.describe()}, {len(self.layers)} layers, {layers})"

    def index_of(self, layer: int) -> int:
        """The place of a layer among `layers`, for lenses with parameters of each layer's own.

        Raises:
            LensMismatchError: the lens was not fitted on that layer.
        """
        if layer not in self.layers:
            raise LensMismatchError(
                f"This lens was fitted on layers {list(self.layers)} of {self.model_name}; layer {layer} was "
                "asked for. Choose one of those, or fit the lens on that layer too."
            )
        return self.layers.index(layer)

    def require_width(self, found: int, expected: int) -> None:
        """Refuse states of another width than the lens reads.

        Raises:
            LensMismatchError: they have one.
        """
        if found != expected:
            raise LensMismatchError(
                f"The lens of {self.model_name} reads states of width {expected}; these have {found}. No option "
                "can mend that: fit a lens on the model that the states come from."
            )

    def require_patch(self, found: int) -> None:
        """Refuse a decoder of other patches than this description says.

        Raises:
            LensError: it makes such.
        """
        if found != self.patch:
            raise LensError(
                f"The lens of {self.model_name} says it decodes patches of {self.patch} pixels a side, and its decoder "
                f"makes {found}. The file was changed; fit the lens again."
            )

    def saw(self, image_hash: str) -> bool:
        """Whether the lens is known to have been fitted on that image."""
        return image_hash[:HASH_DIGITS] in self.fit_images

    def notes_on(self, image_hashes: Iterable[str]) -> tuple[str, ...]:
        """A note where the lens was fitted on an image that it decodes: its quality there says little.

        Args:
            image_hashes: of the images that are decoded.
        """
        if self.n_fit and not self.fit_images:
            return (
                "the lens's fit images are not recorded: it may have been fitted on what it decodes here",
            )
        found = dict.fromkeys(each for each in image_hashes if self.saw(each))
        if not found:
            return ()
        return (
            f"the lens was fitted on {len(found)} of these images ({', '.join(each[:8] for each in found)})",
        )

    def quality_of(self, layer: int) -> LayerQuality | None:
        """The held-out quality at one layer, or None when it was not measured."""
        return next((record for record in self.quality if record.layer == layer), None)

    def verdicts(self, layers: Sequence[int]) -> tuple[LayerVerdict, ...]:
        """Per layer, whether what the lens draws of it beats its controls, or why that is not known."""
        return verdicts(self.controls, layers, why_unknown=self._why_no_control())

    def _why_no_control(self) -> str:
        """Fitting again helps where the file is of an older version alone."""
        if not self.quality or self.controls:
            return NO_CONTROL
        if self.n_heldout < 2:
            return "its quality was measured on fewer than two images, which is too few for a control"
        if self.grid is None:
            return (
                "its held-out images became grids of several shapes, and a control needs images of one shape"
            )
        return NO_CONTROL

    def mismatch(self, model: ModelInfo) -> tuple[str, ...]:
        """The reasons why states of this model do not fit this lens; empty when they do."""
        reasons = []
        if model.fingerprint != self.model_fingerprint:
            reasons.append(
                f"it was fitted on {self.model_name} ({self.model_fingerprint[:12]}), the states come from "
                f"{model.name} ({model.fingerprint[:12]})"
            )
        if model.part != self.part:
            own, theirs = (f"{each or 'tile'} tokens" for each in (self.part, model.part))
            reasons.append(f"it was fitted on {own}, the states are of {theirs}")
        return tuple(reasons)

    def nearest_layer(self, layer: int) -> int:
        """The fitted layer closest to `layer` (the shallower one of two)."""
        return min(self.layers, key=lambda fitted: (abs(fitted - layer), fitted))

    def describe(self) -> str:
        """One line for the foot of a picture, such as `ridge lens, resid_post, held-out R² .85–.88 (150
        images)`."""
        form = f" ({self.form} form)" if self.form else ""
        known = [record.r2 for record in self.quality]
        if not known:
            return f"{self.kind} lens{form}, {self.site}, quality not measured"
        low, high = f"{min(known):.2f}", f"{max(known):.2f}"
        span = low if low == high else f"{low} to {high}"
        return f"{self.kind} lens{form}, {self.site}, held-out R² {span} ({self.n_heldout} images)"

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        value = {name: each for name, each in asdict(self).items() if name != "part" or each}
        return value | {
            "quality": [record.to_json() for record in self.quality],
            "controls": [_plain(record) for record in self.controls],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LensInfo":
        """Undo `to_json`.

        Raises:
            LensError: a field is missing, unknown, of another type or out of its range.
        """
        plain = shape(value, dict[str, Any], where=WHERE, error=LensError)
        records = {}
        for field in ("quality", "controls"):
            measured = shape(plain.get(field, []), list[dict[str, Any]], where=WHERE, error=LensError)
            records[field] = [{name: _number(item) for name, item in each.items()} for each in measured]
        return shape(plain | records, cls, where=WHERE, error=LensError)


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields; numbers that JSON lacks become text."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(record).items()
    }


def _number(value: Any) -> Any:
    """Undo what `_plain` does to numbers that JSON lacks."""
    return float(value) if value in ("nan", "inf", "-inf") else value


def require_fit(reasons: tuple[str, ...], *, force: bool) -> None:
    """Refuse a lens that does not belong to the states, unless forced.

    Raises:
        LensMismatchError: there are reasons and `force` is False.
    """
    if reasons and not force:
        raise LensMismatchError(
            "This lens does not fit these states: "
            + "; ".join(reasons)
            + ". Use the lens of this model and site "
            "(fit one with fit_ridge), or pass force=True: the pictures will then say that the lens was "
            "forced."
        )
