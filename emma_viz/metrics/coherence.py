"""Coherence: how much of each spatial frequency of a picture is in another, whatever the gain."""

import numpy as np
from jaxtyping import Float


def cross_spectra(
    decoded: Float[np.ndarray, "B S S"], true: Float[np.ndarray, "B S S"]
) -> dict[str, Float[np.ndarray, "B k"]]:
    """Sums per image and ring of one cycle per side, 1 … S/2: real part of the cross spectrum, and both powers.

    The mean is taken off and a Hann window laid on, so that borders do not look like detail.
    """
    side = true.shape[-1]
    window = np.outer(np.hanning(side), np.hanning(side))
    one, two = (
        np.fft.fft2((each - each.mean(axis=(1, 2), keepdims=True)) * window) for each in (decoded, true)
    )
    frequency = np.fft.fftfreq(side, 1 / side)
    ring = np.round(np.hypot(frequency[:, None], frequency[None])).astype(int)
    rings = range(1, side // 2 + 1)

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


def half_band(curve: Float[np.ndarray, " k"]) -> float:
    """The first frequency, cycles per side, at which coherence is below one half; NaN where it never is."""
    below = np.flatnonzero(curve < 0.5)
    return float(below[0] + 1) if len(below) else float("nan")
