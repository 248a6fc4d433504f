"""Power of pictures by octave of spatial frequency."""

import numpy as np
from jaxtyping import Float

from emma_viz.metrics.intervals import Statistic, ratio

OCTAVES = (1, 2, 4, 8, 16, 32)
"""Lower ends of the octaves of spatial frequency, cycles per image side; the last is open above."""


def octave_power(images: Float[np.ndarray, "B height width c"]) -> np.ndarray:
    """Power of each image in each octave of spatial frequency: |2-D Fourier transform|² of the pixels as decoded (not
    clipped, no window), summed over colours and over all frequencies whose length √(fx² + fy²), in cycles per image
    side, lies in the octave. The mean (frequency 0) is in none.

    Returns:
        float64 (B, octaves).
    """
    height, width = images.shape[1:3]
    power = np.square(np.abs(np.fft.rfft2(images, axes=(1, 2)))).sum(axis=-1)
    # rfft2 keeps one of two mirrored frequencies; the first column, and the last for an even width, stand alone.
    twice = np.full(power.shape[2], 2.0)
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    length = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    number = np.digitize(length, OCTAVES)
    weighted = power * twice
    return np.stack([weighted[:, number == octave + 1].sum(axis=1) for octave in range(len(OCTAVES))], axis=1)


def spectrum(low: int) -> Statistic:
    """Power of the decoded images in the octave from `low` on, over that of the true ones; both summed over images. 1
    is a picture as sharp as the truth, 0 one without detail of that size; it says nothing about whether the detail
    is in the right place (R² does)."""
    return ratio(f"power{low}", f"true_power{low}")
