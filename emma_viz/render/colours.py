"""The palette: colour maps for values, line colours for models, greys for words."""

import numpy as np
from jaxtyping import Float, UInt8

from emma_viz.errors import InputError
from emma_viz.maps.scale import LEVELS, levels

COLORMAPS = ("viridis", "magma", "inferno", "cividis", "jet", "RdBu")
"""Names that every picture and page offers; jet is there for parity with papers. A figure takes any of matplotlib's."""

DIFFERENCE = "RdBu"
"""The colour map of differences: diverging, and its two ends can be told apart by colour-blind readers."""

MODELS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#8c6d1f", "#56b4e9", "#444444", "#b2182b")
"""Line colours by order of the models, after Okabe and Ito: colour-blind readers can tell them apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Markers by order of the models, so that colour is never the only sign."""

INK = "#1b1b1b"
SOFT = "#5c5c5c"
FAINT = "#8a8a8a"
HAIR = "#d4d4d4"
UNSEEN = "#f0f0f0"
UNSEEN_HATCH = "#bdbdbd"
WARNING = "#b3261e"


def require_colormap(name: str) -> None:
    """Refuse a name that is no colour map's.

    Raises:
        InputError: matplotlib has none of that name.
    """
    if name in COLORMAPS:
        return
    import matplotlib

    if name not in matplotlib.colormaps:
        raise InputError(f"unknown colormap {name[:60]!r}; expected one of {', '.join(COLORMAPS)}.")


def colour_table(name: str, count: int = LEVELS) -> UInt8[np.ndarray, "count 3"]:
    """A colour map as numbers.

    Args:
        name: one of `COLORMAPS`, or any other of matplotlib's.
        count: how many entries.

    Returns:
        The entries, lowest value first.
    """
    import matplotlib

    colours = matplotlib.colormaps[name](np.linspace(0.0, 1.0, count))[:, :3]
    return np.round(colours * 255).astype(np.uint8)


def paint(
    values: Float[np.ndarray, "R C"], limits: tuple[float, float], name: str
) -> UInt8[np.ndarray, "R C 4"]:
    """The colours of values, red, green, blue and opacity: transparent where a value is NaN.

    Args:
        values: raw.
        limits: of the colour scale.
        name: one of `COLORMAPS`, or any other of matplotlib's.
    """
    entries = levels(values, np.array(limits))
    opacity = np.where(entries < 0, 0, 255).astype(np.uint8)
    return np.dstack([np.where(entries[..., None] < 0, 0, colour_table(name)[entries]), opacity]).astype(
        np.uint8
    )
