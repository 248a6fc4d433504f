"""The evidence of one model at one case, as it is kept: curves by layer, numbers, and the sentences made of them."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from emma_viz.cases.case import MeasuredEvidence, require_drawable
from emma_viz.data.provenance import jsonable
from emma_viz.errors import InputError
from emma_viz.files.schema import Count, shape
from emma_viz.files.versions import require_version

EVIDENCE_FORMAT = 1
"""Of the document."""
RegionKind = Literal["mask", "box", "probe"]
"""Whence it is known where the object is: its mask, its box, or, where it is not there or not known, the place that the
presence probe takes for it."""


@dataclass(frozen=True, kw_only=True)
class CaseCurve:
    """One number by layer, and what it is compared with."""

    name: str
    """Names it among the curves."""
    title: str
    """What it is."""
    unit: str
    """Of the values; "" for none."""
    layers: tuple[int, ...]
    """Zero-based; −1 for what enters block 0."""
    values: tuple[float | None, ...]
    """One a layer; None where it is not defined."""
    control: tuple[float | None, ...] = ()
    """What each must exceed; empty where there is no control."""
    control_title: str = ""
    """What the control is."""

    def at(self, layer: int) -> tuple[float | None, float | None]:
        """Value and control at a layer; None where they are not defined."""
        place = self.layers.index(layer)
        return self.values[place], self.control[place] if self.control else None

    @property
    def beats(self) -> tuple[int, ...]:
        """The layers at which the value exceeds its control."""
        pairs = zip(self.layers, self.values, self.control, strict=False)
        return tuple(
            layer
            for layer, value, control in pairs
            if value is not None and control is not None and value > control
        )


@dataclass(frozen=True, kw_only=True)
class CaseNumber:
    """One number that belongs to no layer."""

    name: str
    """Names it among the numbers."""
    title: str
    """What it is."""
    unit: str
    """Of the value."""
    value: float
    control: float | None = None
    """What it is compared with."""
    control_title: str = ""
    """What that is."""


@dataclass(frozen=True, kw_only=True)
class EvidenceSentence:
    """One sentence of the paragraph, and the numbers that it is made of."""

    text: str
    numbers: tuple[str, ...]
    """Names of curves and numbers."""


@dataclass(frozen=True, kw_only=True)
class CaseEvidence:
    """What was measured of one model at one case."""

    format: int = EVIDENCE_FORMAT
    """EVIDENCE_FORMAT."""
    model: str
    """Its name."""
    fingerprint: str
    """Of its weights."""
    recipe: str
    """A digest of all that the numbers depend on beside the weights."""
    image: str
    """`image_hash` of the image."""
    prompt: str
    """What was asked."""
    object: str
    """What it asks about; "" where that is not known."""
    grid: tuple[Count, Count]
    """Rows and columns of image tokens."""
    region: tuple[Count, ...]
    """The tokens of the object, row by row from 0; empty where nobody knows."""
    region_from: RegionKind | None
    """Whence it is known; None where it is not."""
    curves: tuple[CaseCurve, ...]
    numbers: tuple[CaseNumber, ...]
    lacking: tuple[str, ...]
    """What could not be measured, a sentence each with the reason."""
    sentences: tuple[EvidenceSentence, ...] = ()

    def curve(self, name: str) -> CaseCurve | None:
        """The curve of a name; None where it was not measured."""
        return next((each for each in self.curves if each.name == name), None)

    def number(self, name: str) -> CaseNumber | None:
        """The number of a name; None where it was not measured."""
        return next((each for each in self.numbers if each.name == name), None)

    @property
    def paragraph(self) -> str:
        """All sentences."""
        return " ".join(each.text for each in self.sentences)

    def measured(self, model: str = "") -> Iterator[MeasuredEvidence]:
        """Each number by itself, as cases are filtered and mined by.

        Args:
            model: the name under which the case has the model's answer; "" is the model's own.
        """
        name = model or self.model
        for curve in self.curves:
            controls = curve.control or (None,) * len(curve.layers)
            for layer, value, control in zip(curve.layers, curve.values, controls, strict=True):
                if value is not None:
                    yield MeasuredEvidence(
                        name=curve.name, model=name, layer=layer, value=value, control=control
                    )
        for each in self.numbers:
            yield MeasuredEvidence(
                name=each.name, model=name, layer=-1, value=each.value, control=each.control
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return jsonable(asdict(self))

    @classmethod
    def from_json(cls, record: Any, *, where: str = "evidence of a case") -> "CaseEvidence":
        """Read what `to_json` gave.

        Raises:
            InputError: it is no such document, of another format, or see `require_drawable`.
        """
        require_version(record, "format", EVIDENCE_FORMAT, where=where, error=InputError, absent=1)
        require_drawable(record, where=where)
        found = shape(record, cls, where=where, error=InputError)
        for curve in found.curves:
            if len(curve.values) != len(curve.layers) or len(curve.control) not in (0, len(curve.layers)):
                raise InputError(f"{where}: the curve {curve.name!r:.80} has not one value for each layer.")
        return found


def finite(value: float) -> float | None:
    """A number that JSON can hold; None for one that is not defined."""
    return float(value) if math.isfinite(value) else None
