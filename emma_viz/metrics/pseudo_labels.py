"""Classes of patches by their pixels alone: for images of which nobody says what they show, and for controls."""

import numpy as np
from jaxtyping import Float, Int

CONTRASTS = (0.02, 0.08)
"""Mean deviation of a patch's brightness from its own mean: flat below the first, an edge above the second."""
_LEVELS = 4
"""Of each colour channel, and of what a type is made of."""
TYPES = _LEVELS**3 * (len(CONTRASTS) + 1)


def tint(patches: Float[np.ndarray, "*n p p c"], palette: Float[np.ndarray, "K c"]) -> Int[np.ndarray, "*n"]:
    """The colour of a palette that is nearest to a patch's mean.

    Args:
        patches: pixels in [0, 1].
        palette: colours in [0, 1].
    """
    means = patches.mean(axis=(-3, -2))
    return np.square(means[..., None, :] - palette).sum(axis=-1).argmin(axis=-1)


def edge(patches: Float[np.ndarray, "*n p p c"]) -> Int[np.ndarray, "*n"]:
    """0 for a flat patch, 1 for a textured one, 2 for one with an edge."""
    bright = patches.mean(axis=-1)
    contrast = np.abs(bright - bright.mean(axis=(-2, -1), keepdims=True)).mean(axis=(-2, -1))
    return np.digitize(contrast, CONTRASTS)


def patch_type(patches: Float[np.ndarray, "*n p p c"]) -> Int[np.ndarray, "*n"]:
    """A cell of mean colour and contrast, 0…TYPES−1: patches that look alike are of one type."""
    means = patches.mean(axis=(-3, -2))
    level = np.clip((means * _LEVELS).astype(np.int64), 0, _LEVELS - 1)
    cell = (level[..., 0] * _LEVELS + level[..., 1]) * _LEVELS + level[..., 2]
    return cell * (len(CONTRASTS) + 1) + edge(patches)


def control_label(types: Int[np.ndarray, "*n"], classes: int, *, seed: int) -> Int[np.ndarray, "*n"]:
    """A class drawn once for each type (Hewitt & Liang 2019): it can be learnt, and stands for nothing.

    What a probe gets right of it, it has learnt by heart.
    """
    return np.random.default_rng([seed, classes]).integers(0, classes, TYPES)[types]
