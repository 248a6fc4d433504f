"""Which detail of a picture a linear lens reads: by spatial frequency, and at edges."""

from collections.abc import Mapping, Sequence

import numpy as np
from einops import rearrange

from emma_viz.metrics.coherence import coherence, cross_spectra, edge_agreement, half_band
from emma_viz.metrics.intervals import Statistic, Sums, ratio
from emma_viz.metrics.readouts.folded_ridge import Products, held_out_values
from emma_viz.metrics.spectrum import OCTAVES
from emma_viz.shapes import CHANNELS
from probes.charts import Chart, Lines, Series
from probes.ledger import once
from probes.numbers import averaged, layer_chart, layer_word
from probes.protocol import Batch, Gathered, Measure, Result

_PARTS = ("real", "imaginary", "decoded", "true")
OTHER = "another image's truth"


def kept_pictures(batch: Batch, states: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """The states (T, d) at each layer and the brightness (H, W) of a group's first image; of later batches nothing."""
    grid = batch.trace.geometry[0].grid
    bright = rearrange(batch.patches[0].mean(axis=-1), "(R C) i j -> (R i) (C j)", R=grid[0])
    kept = {f"rows{layer}": each[0].astype(np.float32) for layer, each in states.items()}
    return once(batch, kept | {"bright": bright.astype(np.float64)})


def detail_measures(gathered: Gathered, layer: int, sums: Products) -> list[Measure]:
    """Power and coherence by octave, k½ and edges of the kept images, as a lens decodes them that never saw them."""
    rows, bright = gathered.sums[f"rows{layer}"].astype(np.float64), gathered.sums["bright"]
    count, tokens = rows.shape[:2]
    values = held_out_values(sums, rows.reshape(count * tokens, -1), np.repeat(np.arange(count), tokens))
    side = round((values.shape[1] / CHANNELS) ** 0.5)
    decoded = rearrange(
        values.reshape(count, tokens, side, side, CHANNELS).mean(axis=-1),
        "g (R C) i j -> g (R i) (C j)", R=bright.shape[1] // side,
    )  # fmt: skip
    other = np.roll(bright, 1, axis=0)
    if not np.isfinite(decoded).all():
        decoded = np.full_like(bright, np.nan)
    own, crossed = cross_spectra(decoded, bright), cross_spectra(decoded, other)
    columns, mean = averaged(edge_agreement(decoded, bright))
    found = [
        Measure(
            name="retention.edges", title="correlation of decoded with true strength of edges", layer=layer,
            columns=columns, statistic=mean, control=averaged(edge_agreement(decoded, other))[0],
            control_title=OTHER,
        ),
        Measure(
            name="retention.k_half", title="frequency at which the coherence of the decoded picture falls below ½",
            unit="cycles a side", layer=layer, columns=_by_ring(own), statistic=_half(own["real"].shape[1]),
            control=_by_ring(crossed), control_title=OTHER,
        ),
    ]  # fmt: skip
    for low, rings in octaves(own["real"].shape[1]):
        words = f"{low} to {rings.stop} cycles a side"
        found += [
            Measure(
                name=f"retention.coherence.{low}", title=f"coherence of the decoded with the true picture, {words}",
                layer=layer, columns=_pooled(own, rings), statistic=_coherent,
            ),
            Measure(
                name=f"retention.power.{low}", title=f"power of the decoded picture over that of the true, {words}",
                layer=layer, columns=_pooled(own, rings), statistic=ratio("decoded", "true"),
            ),
        ]  # fmt: skip
    return found


def octaves(rings: int) -> list[tuple[int, slice]]:
    """The lowest frequency of each octave that there is, and its rings (ring 0 is one cycle a side)."""
    return [(low, slice(low - 1, min(2 * low - 1, rings))) for low in OCTAVES if low <= rings]


def _pooled(spectra: Mapping[str, np.ndarray], rings: slice) -> dict[str, np.ndarray]:
    return {part: spectra[part][:, rings].sum(axis=1) for part in _PARTS}


def _by_ring(spectra: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        f"{part}{ring}": spectra[part][:, ring] for part in _PARTS for ring in range(spectra[part].shape[1])
    }


def _coherent(sums: Sums) -> np.ndarray:
    return coherence({part: np.asarray(sums[part])[..., None] for part in _PARTS})[..., 0]


def _half(rings: int) -> Statistic:
    """k½ of sums by ring; the highest frequency there is where coherence never falls below one half."""

    def statistic(sums: Sums) -> np.ndarray:
        curve = coherence(
            {part: np.stack([sums[f"{part}{ring}"] for ring in range(rings)], axis=-1) for part in _PARTS}
        )
        found = half_band(curve)
        return np.where(np.isnan(found) & np.isfinite(curve).all(axis=-1), float(rings), found)

    return statistic


def detail_charts(results: Sequence[Result]) -> list[Chart]:
    """Coherence and power by frequency at both ends of the model; k½ and edges by layer."""
    drawn = [
        _by_frequency(
            results, "coherence", title="Detail that is in its place, by frequency", y_title="coherence",
            caption="1: all of it, whatever its contrast; 0: none.",
        ),
        _by_frequency(
            results, "power", title="Contrast that is left, by frequency", y_title="decoded over true power",
            caption="1: as sharp as the picture; it says nothing about the place.",
        ),
        layer_chart(
            results, "retention.k_half", name="k_half", title="Finest detail in its place (k½)",
            y_title="cycles a side", caption="Bands: 95 % over images. Dashed: another image's truth.",
        ),
        layer_chart(
            results, "retention.edges", name="edges", title="Edges where they are", y_title="correlation",
            caption="Dashed: another image's truth.",
        ),
    ]  # fmt: skip
    return [each for each in drawn if each is not None]


def _by_frequency(
    results: Sequence[Result], measure: str, *, title: str, y_title: str, caption: str
) -> Lines | None:
    """A measure by octave: after the last layer with its interval, at the first dashed."""
    series, lows = [], []
    for index, result in enumerate(results):
        curves = {low: result.curve(f"retention.{measure}.{low}") for low in OCTAVES}
        lows = [low for low, curve in curves.items() if curve] or lows
        ends = [(at, [curves[low][at] for low in lows if curves[low]]) for at in (-1, 0)]
        for at, found in ends:
            if not found or (at == 0 and len(curves[lows[0]]) == 1):
                continue
            numbers = [each.number for each in found]
            series.append(
                Series(
                    name=f"{result.model}: layer {layer_word(found[0].measure.layer)}",
                    y=[each.value for each in numbers],
                    low=[each.low for each in numbers],
                    high=[each.high for each in numbers],
                    model=index,
                    control=at == 0,
                )
            )
    if not series:
        return None
    return Lines(
        name=measure, title=title, x=[f"{low}–{2 * low}" for low in lows], x_title="cycles a side", y_title=y_title,
        series=series, caption=f"{caption} Dashed: at the first layer examined.",
    )  # fmt: skip
