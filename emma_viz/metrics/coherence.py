"""How much of a picture's detail is in another: coherence by spatial frequency, whatever the gain, and edges."""

import numpy as np
from jaxtyping import Float

from emma_viz.metrics.quality import correlation


def cross_spectra(
    decoded: Float[np.ndarray, "B H W"], true: Float[np.ndarray, "B H W"]
) -> dict[str, Float[np.ndarray, "B k"]]:
    """Sums per image and ring of one cycle per side, 1 … half the shorter side: the cross spectrum, and both powers.

    The mean is taken off and a Hann window laid on, so that borders do not look like detail.
    """
    height, width = true.shape[-2:]
    window = np.outer(np.hanning(height), np.hanning(width))
    one, two = (
        np.fft.fft2((each - each.mean(axis=(1, 2), keepdims=True)) * window) for each in (decoded, true)
    )
    frequency = np.hypot(np.fft.fftfreq(height, 1 / height)[:, None], np.fft.fftfreq(width, 1 / width))
    ring = np.round(frequency).astype(int)
    rings = range(1, min(height, width) // 2 + 1)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.stack([values[:, ring == each].sum(axis=1) for each in rings], axis=1)

    crossed = one * two.conj()
    return {
        "real": summed(crossed.real),
        "imaginary": summed(crossed.imag),
        "decoded": summed(np.square(np.abs(one))),
        "true": summed(np.square(np.abs(two))),
    }


def coherence(sums: dict[str, Float[np.ndarray, "*n k"]]) -> Float[np.ndarray, "*n k"]:
    """|cross spectrum|² over both powers, of sums over images: 1 for the same but for gain, about 0 for independent."""
    crossed = np.square(sums["real"]) + np.square(sums["imaginary"])
    power = sums["decoded"] * sums["true"]
    return np.where(power > 0, crossed / np.where(power > 0, power, 1.0), np.nan)


def half_band(curve: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n"]:
    """k½: the first frequency, cycles per side, at which coherence is below one half; NaN where it never is."""
    below = np.asarray(curve) < 0.5
    return np.where(below.any(axis=-1), below.argmax(axis=-1) + 1.0, np.nan)


def edge_agreement(
    decoded: Float[np.ndarray, "B H W"], true: Float[np.ndarray, "B H W"]
) -> Float[np.ndarray, " B"]:
    """Correlation of the lengths of both pictures' gradients, of each image; NaN where one picture has no edges."""
    one, two = (np.hypot(*np.gradient(each, axis=(1, 2))) for each in (decoded, true))
    return np.array([correlation(*pair) for pair in zip(one, two, strict=True)])
