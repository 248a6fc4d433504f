"""Whether what a lens draws of a layer beats its controls, and what is said where the picture is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from scipy.special import stdtr, stdtrit

from emma_viz.errors import LensError
from emma_viz.files.schema import Share
from emma_viz.metrics.intervals import LEVEL, Columns, difference
from emma_viz.metrics.sums import pooled_r2
from emma_viz.metrics.trust import bootstrap_p, holm
from emma_viz.models.ranges import DEEPEST

ControlName = Literal["place", "untrained"]
LENS_CONTROLS: Mapping[ControlName, str] = {
    "place": "a lens that sees no state",
    "untrained": "the same lens on the same model untrained",
}
"""Control → what it is. `place`: the one picture that fits all held-out images best, their mean at each place.
`untrained`: a lens fitted alike on the model with the numbers of each weight in a random order."""
NO_CONTROL = "no control is stored with the lens: fit it again (emma-viz fit)"
_SURE = 0.05
FEWEST_UNTRAINED = 3
"""Untrained models that a spread can be told from."""
MOST_CONTROLS = (DEEPEST + 1) * len(LENS_CONTROLS)
"""Records that a lens has."""


@dataclass(frozen=True, kw_only=True)
class LayerControl:
    """What one control draws in the place of a layer, on the same held-out images."""

    layer: Annotated[int, msgspec.Meta(ge=-1, lt=DEEPEST)]
    """Zero-based block; -1 is the embedding."""
    name: ControlName
    """Which control."""
    r2: float
    """Its R² over all pixels of all held-out images."""
    gap: float
    """The lens's R² less that."""
    low: float
    """Lower end of the gap's 95 % interval: images drawn with replacement, or weights (`against_untrained`)."""
    high: float
    """Its upper end."""
    p: Share
    """One-sided, of the same draws, not yet adjusted for the layers."""


@dataclass(frozen=True, kw_only=True)
class LayerVerdict:
    """Whether a layer's maps beat their controls."""

    layer: int
    beats: bool | None
    """Whether all controls that were measured are beaten; None where there is none."""
    against: tuple[ControlName, ...]
    """The controls that are not beaten; where all are, all that were measured."""
    why: str = NO_CONTROL
    """Where it is not known, why."""

    @property
    def said(self) -> str:
        """In a few words, for a picture."""
        if self.beats is None:
            return f"not known whether it beats a control: {self.why}"
        return f"{'beats' if self.beats else 'does not beat'} {_listed(self.against)}"


def against_control(layer: int, name: ControlName, own: Columns, control: Columns) -> LayerControl:
    """Compare a layer's decodings with a control's, image by image.

    Args:
        layer: of the decodings.
        name: of the control.
        own: `residual_columns` of the held-out images.
        control: the same of what the control draws.
    """
    gap = difference([own], [control], pooled_r2)
    whole = {key: np.asarray(column).sum() for key, column in control.items()}
    return LayerControl(
        layer=layer,
        name=name,
        r2=float(pooled_r2(whole)),
        gap=gap.value,
        low=gap.low,
        high=gap.high,
        p=bootstrap_p(own, control, pooled_r2),
    )


def against_untrained(layer: int, r2: float, drawn: Sequence[float]) -> LayerControl:
    """Compare a layer's R² with that of a lens on the same model untrained, of which some were drawn.

    The draws are of weights, and the spread between them is what the lens must stand out of: the interval and p are
    those of one more draw (Student's t).

    Args:
        layer: of the decodings.
        r2: of the lens, on held-out images.
        drawn: the R² of the same lens, fitted alike, on each untrained model and the same images.

    Raises:
        LensError: there are fewer draws than a spread can be told from.
    """
    if len(drawn) < FEWEST_UNTRAINED:
        raise LensError(f"expected at least {FEWEST_UNTRAINED} untrained models, got {len(drawn)}.")
    known, middle = len(drawn) - 1, float(np.mean(drawn))
    gap, spread = r2 - middle, float(np.std(drawn, ddof=1) * np.sqrt(1 + 1 / len(drawn)))
    half = float(stdtrit(known, (1 + LEVEL) / 2)) * spread
    p = float(stdtr(known, -gap / spread)) if spread > 0 else float(not gap > 0)
    return LayerControl(
        layer=layer,
        name="untrained",
        r2=middle,
        gap=gap,
        low=gap - half,
        high=gap + half,
        p=p if np.isfinite(p) else 1.0,
    )


def verdicts(
    controls: Sequence[LayerControl], layers: Sequence[int], *, why_unknown: str = NO_CONTROL
) -> tuple[LayerVerdict, ...]:
    """The verdict of each of some layers.

    A control is beaten where the interval of the gap excludes 0 and Holm's p, the family being all of the lens's
    layers, is below .05 (docs/decisions/0025-lens-controls.md).

    Args:
        controls: of all layers of a lens.
        layers: those that are asked for.
        why_unknown: said of layers without a control.
    """
    beaten: dict[int, dict[ControlName, bool]] = {}
    for name in get_args(ControlName):
        family = [each for each in controls if each.name == name]
        adjusted = holm(np.array([each.p for each in family]))
        for each, p in zip(family, adjusted, strict=True):
            beaten.setdefault(each.layer, {})[name] = bool(each.low > 0 and p <= _SURE)
    found = []
    for layer in layers:
        known = beaten.get(layer, {})
        lost = tuple(name for name, won in known.items() if not won)
        beats = not lost if known else None
        found.append(LayerVerdict(layer=layer, beats=beats, against=lost or tuple(known), why=why_unknown))
    return tuple(found)


def _listed(names: Sequence[ControlName]) -> str:
    return " and ".join(LENS_CONTROLS[name] for name in names)
