"""Speckle: do the maps of deep layers fall into isolated patches, more than their smoothness alone would give?"""

from collections.abc import Sequence

import numpy as np

from emma_viz.metrics.specks import euler_curve, specks, surrogate
from probes.charts import Chart
from probes.numbers import averaged, layer_chart
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

OUTLIERS = 0.02
"""Of the tokens, those with the longest vectors."""
MEASURES = {
    "specks": ("share of patches that stand alone above their neighbours", ""),
    "pieces": ("most pieces less holes over the thresholds of a map", "pieces"),
}


class Speckle:
    """Isolated patches and pieces of each layer's map, against surrogates."""

    name = "speckle"
    title = "Specks in the maps"
    question = "Do the maps of deep layers fall into isolated patches, and are these the longest vectors?"
    method = (
        "The map of a layer is each token's distance to the median token. Counted: patches that are the highest of "
        "their neighbourhood, far above the median, with low neighbours; and the most pieces less holes over 32 "
        "thresholds (the Euler curve). The control is a random map of the same values and nearly the same spectrum "
        "(IAAFT): what it shows as well is a matter of smoothness. Whether specks are the longest vectors is asked "
        "against as many random patches."
    )

    def needs(self) -> Needs:
        """The residual stream of image tokens."""
        return Needs(sites=("resid_post",))

    def see(self, batch: Batch) -> Seen:
        """The counts of each image, by layer."""
        tokens = batch.patches.shape[1]
        names = ("specks", "pieces", "long")
        columns = {
            f"{name}{end}": np.full((len(batch.subjects), len(batch.layers)), np.nan)
            for name in names
            for end in ("", "_control")
        }
        states = np.stack([batch.trace["resid_post", k][:, :tokens].double().numpy() for k in batch.layers])
        for row, subject in enumerate(batch.subjects):
            known = np.flatnonzero(np.isfinite(states[:, row]).all(axis=(1, 2)))
            found = _counted(states[known, row], batch.trace.geometry[row].grid, seed=subject.number)
            for name, values in found.items():
                columns[name][row, known] = values
        return Seen(columns=columns)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Means over images by layer."""
        found = []
        titles = {
            **MEASURES,
            "long": (f"share of the specks among the {OUTLIERS:.0%} of tokens with the longest vectors", ""),
        }
        for at, layer in enumerate(gathered.layers):
            for name, (title, unit) in titles.items():
                values, control = (gathered.columns[f"{name}{end}"][:, at] for end in ("", "_control"))
                columns, mean = averaged(values)
                found.append(
                    Measure(
                        name=f"speckle.{name}",
                        title=title,
                        unit=unit,
                        layer=layer,
                        columns=columns,
                        statistic=mean,
                        control=averaged(control)[0],
                        control_title="as many random patches"
                        if name == "long"
                        else "a map of the same values and spectrum",
                    )
                )
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Specks and pieces by layer."""
        caption = "Bands: 95 % over images. Dashed: a random map of the same values and spectrum."
        drawn = [
            layer_chart(
                results,
                "speckle.specks",
                name="specks",
                title="Isolated patches",
                y_title="share",
                caption=caption,
            ),
            layer_chart(
                results,
                "speckle.pieces",
                name="pieces",
                title="Pieces of a map",
                y_title="pieces less holes",
                caption=caption,
            ),
        ]
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """At how many layers there are more specks than in surrogates."""
        said = []
        for result in results:
            curve = result.curve("speckle.specks")
            more = sum(bool(each.beats) for each in curve)
            if curve:
                said.append(
                    f"Maps of {result.model} have more isolated patches than random maps of the same values and "
                    f"spectrum at {more} of {len(curve)} layers."
                )
        return " ".join(said)


def _counted(states: np.ndarray, grid: tuple[int, int], *, seed: int) -> dict[str, np.ndarray]:
    """The counts of one image at each of some layers, from its states (Y, T, D)."""
    away = np.linalg.norm(states - np.median(states, axis=1, keepdims=True), axis=-1)
    fields = away.reshape(-1, *grid)
    found = {}
    for end, maps in (("", fields), ("_control", surrogate(fields, seed=seed))):
        found[f"specks{end}"] = np.array([specks(each).mean() for each in maps])
        found[f"pieces{end}"] = np.array([euler_curve(each).max() for each in maps])
    size = max(1, round(OUTLIERS * grid[0] * grid[1]))
    longest = np.argsort(-np.linalg.norm(states, axis=-1), axis=1, kind="stable")[:, :size]
    alone = [np.flatnonzero(specks(each)) for each in fields]
    pairs = list(zip(alone, longest, strict=True))
    found["long"] = np.array([np.isin(some, few).mean() if len(some) else np.nan for some, few in pairs])
    found["long_control"] = np.where([len(some) > 0 for some in alone], size / (grid[0] * grid[1]), np.nan)
    return found
