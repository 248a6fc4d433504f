"""Geometry: in how many directions image tokens lie, how smooth they are over the image, and how layers resemble."""

from collections.abc import Sequence

import numpy as np

from emma_viz.metrics.similarity import alignment, gram, hsic, shared_neighbours
from emma_viz.metrics.spread import (
    anisotropy,
    effective_rank,
    intrinsic_dimension,
    morans_i,
    rogue_share,
)
from probes.charts import Chart, Grids, Panel
from probes.numbers import averaged, layer_chart, layer_word
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

ROGUE = 3
OUTLIER = 5.0
"""A token whose vector is so many times as long as the median one is an outlier."""
MEANS = {
    "rank": ("geometry.rank", "effective rank of an image's tokens", "directions"),
    "dimension": ("geometry.dimension", "intrinsic dimension of an image's tokens (TwoNN)", "dimensions"),
    "anisotropy": ("geometry.anisotropy", "mean cosine of two tokens of an image", ""),
    "standardised": ("geometry.anisotropy_standardised", "the same, each dimension standardised over the image", ""),
    "rogue": ("geometry.rogue", f"share of the squared length in the {ROGUE} largest dimensions", ""),
    "outliers": ("geometry.outliers", f"share of tokens over {OUTLIER:g} × the median length", ""),
}  # fmt: skip
"""Column → name of the measure, its title, its unit: plain means over images."""


class GeometryProbe:
    """The cloud of an image's tokens at each layer."""

    name = "geometry"
    title = "How the image tokens lie"
    question = "Do the image tokens of deep layers still differ from one another, and do neighbours resemble?"
    method = (
        "For each image and layer: effective rank (exp of the entropy of the singular values), "
        "intrinsic dimension (TwoNN, of the distances to the two nearest, straight or bent), mean cosine (also after "
        "standardising, because a few dimensions can make all of it), outliers by length, and Moran's I over the "
        "grid, whose control is the same tokens in a random order. Layers are compared by debiased CKA over an "
        "image's tokens and, as a second opinion, by the share of each token's ten nearest that both layers name; the "
        "control pairs each token with a random other. None of these numbers says what "
        "the tokens are about."
    )

    def needs(self) -> Needs:
        """The residual stream of image tokens."""
        return Needs(sites=("resid_post",))

    def see(self, batch: Batch) -> Seen:
        """All numbers of each image, by layer."""
        rows, tokens = batch.patches.shape[:2]
        states = np.stack([batch.trace["resid_post", k][:, :tokens].double().numpy() for k in batch.layers])
        notes = tuple(
            f"layer {layer_word(layer)} holds values that are not finite; its geometry is not defined"
            for layer, each in zip(batch.layers, states, strict=True)
            if not np.isfinite(each).all()
        )
        columns: dict[str, list[np.ndarray]] = {}
        for row in range(rows):
            order = np.random.default_rng(batch.subjects[row].number).permutation(tokens)
            for name, values in _one(states[:, row], batch.trace.geometry[row].grid, order).items():
                columns.setdefault(name, []).append(values)
        return Seen(columns={name: np.stack(each) for name, each in columns.items()}, notes=notes)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Means over images by layer, and the alignment with the layer before and with the first."""
        found = []
        for at, layer in enumerate(gathered.layers):
            for column, (name, title, unit) in MEANS.items():
                columns, mean = averaged(gathered.columns[column][:, at])
                found.append(
                    Measure(name=name, title=title, unit=unit, layer=layer, columns=columns, statistic=mean)
                )
            columns, mean = averaged(gathered.columns["moran"][:, at])
            control, _ = averaged(gathered.columns["moran_shuffled"][:, at])
            found.append(
                Measure(
                    name="geometry.moran", title="Moran's I of the tokens over the grid", layer=layer, columns=columns,
                    statistic=mean, control=control, control_title="the same tokens in a random order",
                )
            )  # fmt: skip
            if at:
                columns, mean = averaged(gathered.columns["near"][:, at])
                found.append(
                    Measure(
                        name="geometry.neighbours_before", layer=layer,
                        title="share of a token's nearest that the layer before names", columns=columns, statistic=mean,
                        control=averaged(gathered.columns["near_shuffled"][:, at])[0],
                        control_title="each token paired with a random other",
                    )
                )  # fmt: skip
            for name, title, other in (
                ("geometry.cka_first", "debiased CKA with the first layer examined", 0),
                ("geometry.cka_before", "debiased CKA with the layer before", max(at - 1, 0)),
            ):
                if at:
                    found.append(_aligned(gathered, name, title, layer, at, other))
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Curves by layer, and each model's alignment of all layers with all."""
        drawn = [
            layer_chart(
                results, "geometry.rank", name="rank", title="Directions that image tokens lie in",
                y_title="effective rank", caption="Bands: 95 % over images.",
            ),
            layer_chart(
                results, "geometry.dimension", name="dimension", title="Numbers that tell neighbouring tokens apart",
                y_title="intrinsic dimension", caption="Bands: 95 % over images.",
            ),
            layer_chart(
                results, "geometry.neighbours_before", name="neighbours",
                title="Nearest tokens kept from the layer before",
                y_title="share", caption="Dashed: tokens paired at random.",
            ),
            layer_chart(
                results, "geometry.moran", name="moran", title="Likeness of neighbouring patches", y_title="Moran's I",
                caption="Dashed: the same tokens in a random order.",
            ),
            layer_chart(
                results, "geometry.anisotropy", name="anisotropy", title="Mean cosine of two image tokens",
                y_title="cosine", caption="Near 1: all tokens point the same way.",
            ),
            layer_chart(
                results, "geometry.cka_first", name="cka", title="Likeness to the first layer", y_title="debiased CKA",
                caption="Dashed: tokens paired at random.",
            ),
        ]  # fmt: skip
        panels = [Panel(title=result.model, values=_all_layers(result.gathered)) for result in results]
        if panels:
            drawn.append(
                Grids(
                    name="layers",
                    title="Likeness of all layers with all",
                    panels=panels,
                    columns=len(panels),
                    value_title="debiased CKA",
                    caption="Rows and columns are layers from the first examined to the last.",
                )
            )
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """How many directions are left at the end."""
        said = []
        for result in results:
            curve = [each for each in result.curve("geometry.rank") if np.isfinite(each.number.value)]
            if len(curve) > 1:
                first, last = curve[0], curve[-1]
                said.append(
                    f"The image tokens of {result.model} lie in {first.number.value:.0f} effective directions at layer "
                    f"{layer_word(first.measure.layer)} and in {last.number.value:.0f} at layer "
                    f"{layer_word(last.measure.layer)}."
                )
        return " ".join(said)


def _one(states: np.ndarray, grid: tuple[int, int], order: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of one image: (Y,) each, but `hsic` (Y, Y) and `hsic_shuffled` (Y, Y)."""
    found: dict[str, np.ndarray] = {}
    for at, tokens in enumerate(states):
        numbers = dict.fromkeys((*MEANS, "moran", "moran_shuffled", "near", "near_shuffled"), float("nan"))
        if np.isfinite(tokens).all():
            lengths = np.linalg.norm(tokens, axis=1)
            spread = tokens.std(axis=0)
            standard = (tokens - tokens.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            numbers = {
                "rank": effective_rank(tokens),
                "dimension": intrinsic_dimension(tokens),
                "anisotropy": anisotropy(tokens),
                "standardised": anisotropy(standard),
                "rogue": rogue_share(tokens, ROGUE),
                "outliers": float((lengths > OUTLIER * np.median(lengths)).mean()),
                "moran": morans_i(tokens, grid),
                "moran_shuffled": morans_i(tokens[order], grid),
            }
            if at and len(tokens) >= 4 and np.isfinite(states[at - 1]).all():
                before = states[at - 1]
                numbers["near"] = shared_neighbours(before, tokens)
                numbers["near_shuffled"] = shared_neighbours(before, tokens[order])
        for name, value in numbers.items():
            found.setdefault(name, np.full(len(states), np.nan))[at] = value
    return found | _alignments(states, order)


def _alignments(states: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
    count, tokens = states.shape[:2]
    found = {name: np.full((count, count), np.nan) for name in ("hsic", "hsic_shuffled")}
    if tokens < 4:
        return found
    kernels = [gram(each) if np.isfinite(each).all() else None for each in states]
    for i, one in enumerate(kernels):
        for j, two in enumerate(kernels[: i + 1]):
            if one is None or two is None:
                continue
            found["hsic"][i, j] = found["hsic"][j, i] = hsic(one, two, kernels=True)
            shuffled = hsic(one, two[np.ix_(order, order)], kernels=True)
            found["hsic_shuffled"][i, j] = found["hsic_shuffled"][j, i] = shuffled
    return found


def _aligned(gathered: Gathered, name: str, title: str, layer: int, at: int, other: int) -> Measure:
    whole, shuffled = gathered.columns["hsic"], gathered.columns["hsic_shuffled"]
    parts = [whole[:, at, other], whole[:, at, at], whole[:, other, other]]
    known = np.isfinite(np.stack(parts)).all(axis=0).astype(np.float64)
    both, first, second = [np.asarray(np.nan_to_num(each) * known) for each in parts]
    shared = {"first": first, "second": second, "count": np.asarray(known)}
    return Measure(
        name=name,
        title=title,
        layer=layer,
        columns={**shared, "both": both},
        statistic=lambda sums: alignment(sums["both"], sums["first"], sums["second"]),
        control={**shared, "both": np.asarray(np.nan_to_num(shuffled[:, at, other]) * known)},
        control_title="each token paired with a random other",
    )


def _all_layers(gathered: Gathered) -> np.ndarray:
    sums = np.nansum(gathered.columns["hsic"], axis=0)
    own = np.diag(sums)
    return np.asarray(alignment(sums, own[:, None], own[None, :]), dtype=np.float64)
