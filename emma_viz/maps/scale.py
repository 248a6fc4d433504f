"""From values to colours: the one rule for the limits of a colour scale, and for where a value lies on it.

Figures, pages and the canvas take their limits from here. The canvas's script repeats `normalise` and `levels` in a
few lines; a property test holds the two to the same colours. Numpy alone, so that drawing needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int16

PERCENTILES = (2.0, 98.0)
"""What the limits of a scale cut off on either side: a single odd patch does not set the colours of all."""

LEAST_SHARE = 0.4
"""The percentiles stand where they span at least this share of the values' whole range; else the range is the scale."""

FLAT = 1 / 8
"""A map whose whole scale is less than this share of its largest size is flat: it is shown from its rest."""

UNSEEN_DIFFERENCE = 1 / 64
"""A difference of brightness, of 1, that nobody sees: four of 255 steps."""

FAINT_DIFFERENCE = 1 / 16
"""The difference of brightness at which the scale of a flat map ends at the earliest."""

NEGLIGIBLE = 0.01
"""Nats by which a word's log-probability changes when its chance does by 1 %; also a share of the log-probability."""

LEAST_EVIDENCE = 0.05
"""Nats, and `EVIDENCE_SHARE` of the word's log-probability: the scale of a word's evidence never ends earlier."""
EVIDENCE_SHARE = 0.1
EVIDENCE_PERCENTILE = 99.0

LEVELS = 256
"""Colours of a table."""


@dataclass(frozen=True, kw_only=True)
class Rest:
    """How the values of one kind of map are shown where they hardly differ."""

    low: float
    """Lower end of a flat map's scale, at the latest: the value of nothing to see."""
    high: float
    """Upper end of a flat map's scale, at the least."""
    seen: float
    """The smallest extent of a scale: smaller differences are invisible in the pixels."""


def limits_of(values: Float[np.ndarray, "..."], rest: Rest) -> Float32[np.ndarray, "2"]:
    """The limits of a colour scale for these values; the first of three that is wide enough.

    1. their 2–98 %, where that is at least `LEAST_SHARE` of their range (photographs);
    2. their whole range, where it is at least `FLAT` of its larger end and `rest.seen` (one object in a plain image);
    3. from `rest.low` to `rest.high`, widened to the values where they lie beyond (two tones, one tone).

    Returns:
        The lower and the upper limit; the upper is larger. Values that are not finite do not count.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return np.array([rest.low, rest.high], np.float32)
    bottom, top = float(finite.min()), float(finite.max())
    low, high = (float(end) for end in np.percentile(finite, PERCENTILES))
    if high - low < LEAST_SHARE * (top - bottom):
        low, high = bottom, top
    if high - low < max(FLAT * max(abs(low), abs(high)), rest.seen):
        low, high = min(rest.low, bottom), max(rest.high, top)
    return np.array([low, high], np.float32)


def difference_limit(differences: Float[np.ndarray, "..."], rest: Rest) -> float:
    """Half the width of a difference's scale, which is centred on zero: the upper limit of the sizes.

    Args:
        differences: of all layers that are compared, raw values.
        rest: of the kind of map that was subtracted.
    """
    return float(limits_of(np.abs(differences), Rest(low=0.0, high=rest.seen, seen=rest.seen))[1])


@dataclass(frozen=True, kw_only=True)
class EvidenceScale:
    """How the evidence for a word is shown, for all models alike."""

    limit: float
    """Half the width of the colour scale, which is centred on zero, nats."""
    most: float
    """The largest change for an image token in any model, nats."""
    share: float | None
    """Of the word's log-probability in that model; None where this is zero or not known."""
    negligible: bool
    """Whether no change reaches `NEGLIGIBLE` nats and that share of the log-probability."""


def evidence_scale(
    changes: Sequence[Float[np.ndarray, "..."]], scores: Sequence[float | None]
) -> EvidenceScale:
    """The scale of a word's evidence: what hardly changes its probability is drawn pale.

    Args:
        changes: per model, the change of the word's log-probability for each image token, nats.
        scores: per model, the word's log-probability, nats; None where it is not known.
    """
    sizes = [np.abs(each[np.isfinite(each)]).astype(np.float64) for each in changes]
    whole = [abs(score) if score is not None and np.isfinite(score) else 0.0 for score in scores]
    most = [float(each.max(initial=0.0)) for each in sizes]
    top = int(np.argmax(most))
    every = np.concatenate(sizes)
    usual = float(np.percentile(every, EVIDENCE_PERCENTILE)) if every.size else 0.0
    return EvidenceScale(
        limit=max(usual, EVIDENCE_SHARE * whole[top], LEAST_EVIDENCE),
        most=most[top],
        share=most[top] / whole[top] if whole[top] else None,
        negligible=all(
            size < max(NEGLIGIBLE, NEGLIGIBLE * score) for size, score in zip(most, whole, strict=True)
        ),
    )


def normalise(
    values: Float[np.ndarray, "*axes R C"], limits: Float[np.ndarray, "*axes 2"]
) -> Float64[np.ndarray, "*axes R C"]:
    """Values on a colour scale, clipped to [0, 1]; where the scale has no extent: 0 up to it, 1 above; NaN stays.

    Values count in single precision, as every file and page holds them.
    """
    values = values.astype(np.float32).astype(np.float64)
    limits = np.asarray(limits, np.float64)
    low, high = limits[..., 0, None, None], limits[..., 1, None, None]
    extent = high - low
    scaled = (np.clip(values, low, high) - low) / np.where(extent > 0, extent, 1)
    flat = np.where(np.isnan(values), np.nan, values > low)
    return np.where(extent > 0, scaled, flat)


def levels(
    values: Float[np.ndarray, "*axes R C"], limits: Float[np.ndarray, "*axes 2"]
) -> Int16[np.ndarray, "*axes R C"]:
    """The entry of the colour table that each value is painted with; -1 for NaN."""
    shares = normalise(values, limits)
    entries = np.floor(np.nan_to_num(shares) * (LEVELS - 1) + 0.5)
    return np.where(np.isnan(shares), -1, entries).astype(np.int16)
