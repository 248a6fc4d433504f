"""Two checkpoints, state by state: do their image tokens lie alike, and can one go on from what the other holds?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from emma_viz.checkpoints import LoadedModel
from emma_viz.evidence.case import Case
from emma_viz.evidence.exchange import fit_map, paired_states
from emma_viz.evidence.patching import patches, states_of
from emma_viz.metrics.similarity import alignment, gram, hsic, shared_neighbours
from probes.causes.patching import LEAST
from probes.charts import Chart, Grids, Lines, Panel
from probes.numbers import averaged, curve_series, joined_parts, layer_chart, shared_part
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

_SITE = "resid_pre"
_WAYS = {
    "own": "its own states",
    "mapped": "the other checkpoint's states through a fitted map",
    "raw": "the other checkpoint's states as they are",
}
_SHUFFLED = "a map fitted to pairs of tokens at random, which knows the mean alone"
_APART = "each token paired with a random other"
_EVERY = 4
"""With --quick, every so manieth pair of images is patched."""


class ExchangeProbe:
    """States of the other checkpoint of a comparison, beside one's own and in their place."""

    name = "exchange"
    title = "Do two checkpoints hold the same in the same way?"
    question = (
        "Are the image tokens of both checkpoints alike at the same depth, and does one answer from states that the "
        "other made?"
    )
    method = (
        f"Both checkpoints at once. Alike: debiased CKA over an image's tokens at {_SITE} (all layers with all), and "
        "the share of each token's ten nearest that both name; the control pairs each token with a random other. "
        "Patching: the image tokens of the other checkpoint, which sees the image with the object, are put before one "
        "block of this one, which sees the image without it; share = (patched − without) / (with − without) of "
        f"logit(yes) − logit(no), pairs closer than {LEAST} nats left out. The map is a ridge regression between the "
        "states of both, of other images at the same depth; its control is fitted to shuffled pairs. As they are, "
        "states say something only between checkpoints that share their beginning. Layers of models of other depths "
        "are paired by depth. What a linear map does not bring may still be there."
    )

    def needs(self) -> Needs:
        """Both checkpoints, and twins."""
        return Needs(live=True, pairs=True, other=True, between=True)

    def see(self, batch: Batch) -> Seen:
        """How alike the states of each image are, and what each patch brings, in nats."""
        assert batch.model is not None
        assert batch.other is not None
        layers = [layer for layer in batch.layers if layer >= 0]
        theirs = _paired_layers(layers, batch.model, batch.other)
        blank = _blank(len(layers))
        if batch.model.vlm.grid != batch.other.vlm.grid:
            note = "the two checkpoints see images in other grids: their tokens cannot be paired"
            return joined_parts([blank for _ in batch.subjects], [note])
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            own, other = (
                Case.of(model, subject.image, subject.prompt, words=subject.words)
                for model in (batch.model, batch.other)
            )
            states = _states(own, layers), _states(other, theirs)
            row = blank | _alike(*states, seed=subject.number)
            if batch.spares(index, _EVERY):
                notes.append(batch.said("patches", _EVERY))
            elif not batch.others:
                notes.append("there is one image alone: no others to fit a map on")
            elif subject.twin is not None:
                without = Case.of(batch.model, subject.twin, subject.prompt, words=subject.words)
                high, low = own.changed([()])[0], without.changed([()])[0]
                if abs(high - low) >= LEAST:
                    row |= {"whole": high - low} | _patched(batch, without, low, states, (layers, theirs))
                else:
                    notes.append(f"some pairs were left out, whose answers differ by less than {LEAST} nats")
            rows.append(row)
        return joined_parts(rows, notes)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Alignment, shared neighbours, and what each patch brings, by layer."""
        columns = gathered.columns
        if not columns or not np.isfinite(columns["hsic"]).any():
            return []
        layers = [layer for layer in gathered.layers if layer >= 0]
        found = []
        for index, layer in enumerate(layers):
            found.append(_aligned(columns, index, layer))
            values, mean = averaged(columns["near"][:, index])
            found.append(
                Measure(
                    name="exchange.neighbours", title="share of each token's nearest that both checkpoints name",
                    layer=layer, columns=values, statistic=mean,
                    control=averaged(columns["near apart"][:, index])[0], control_title=_APART,
                )
            )  # fmt: skip
            for way, said in _WAYS.items():
                if np.isfinite(columns[way]).any():
                    part, statistic = shared_part(columns[way][:, index], columns["whole"])
                    control, _ = shared_part(columns["shuffled"][:, index], columns["whole"])
                    found.append(
                        Measure(
                            name=f"exchange.{way}", title=f"share of the twins' difference that comes with {said}",
                            layer=layer, columns=part, statistic=statistic, control=None if way == "own" else control,
                            control_title="" if way == "own" else _SHUFFLED,
                        )
                    )  # fmt: skip
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Likeness by layer, of all layers with all, and what each patch brings."""
        drawn: list[Chart | None] = [
            layer_chart(
                results[:1], "exchange.cka", name="cka", title="Likeness of the two checkpoints' image tokens",
                y_title="debiased CKA", of="both checkpoints", caption=f"Bands: 95 % over images. Dashed: {_APART}.",
            ),
            layer_chart(
                results[:1], "exchange.neighbours", name="neighbours", title="Nearest tokens that both name",
                y_title="share", of="both checkpoints", caption=f"Bands: 95 % over images. Dashed: {_APART}.",
            ),
        ]  # fmt: skip
        if results and results[0].findings:
            drawn.append(_all_pairs(results[0]))
        for index, result in enumerate(results):
            curves = {said: result.curve(f"exchange.{way}") for way, said in _WAYS.items()}
            drawn.append(_brought(result, index, {said: each for said, each in curves.items() if each}))
        return [each for each in drawn if each is not None]

    def summary(self, results: Sequence[Result]) -> str:
        """Where the other's states serve, through a map and as they are."""
        said = []
        for result in results:
            for way in ("mapped", "raw"):
                sure = [each for each in result.curve(f"exchange.{way}") if each.beats]
                if sure:
                    best = max(sure, key=lambda each: each.number.value)
                    said.append(
                        f"{result.model} answers from {_WAYS[way]}: {best.number.value:.2f} of the twins' difference "
                        f"at layer {best.measure.layer}."
                    )
                elif result.curve(f"exchange.{way}"):
                    said.append(
                        f"{result.model} is not shown to get more from {_WAYS[way]} than from a map that knows the "
                        "mean alone."
                    )
        return " ".join(said)


def _paired_layers(layers: Sequence[int], model: LoadedModel, other: LoadedModel) -> list[int]:
    """For each of a model's layers the other's layer at the same depth."""
    deepest, theirs = max(model.info.n_layer - 1, 1), other.info.n_layer - 1
    return [round(layer * theirs / deepest) for layer in layers]


def _blank(layers: int) -> dict[str, Any]:
    row: dict[str, Any] = {"whole": np.nan}
    row |= {name: np.full(layers, np.nan) for name in (*_WAYS, "shuffled", "near", "near apart", "apart")}
    row |= {name: np.full(layers, np.nan) for name in ("first", "second")}
    return row | {"hsic": np.full((layers, layers), np.nan)}


def _states(case: Case, layers: Sequence[int]) -> list[torch.Tensor]:
    """(T, D) of the image tokens before each of some layers."""
    found = states_of(case, (_SITE,), tuple(dict.fromkeys(layers)))
    return [found[_SITE, layer][: case.count] for layer in layers]


def _alike(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], *, seed: int) -> dict[str, Any]:
    """HSIC₁ of all layers with all, and shared neighbours at the same depth, of one image."""
    one, two = ([each.double().cpu().numpy() for each in states] for states in (first, second))
    if len(one[0]) < 4 or not all(np.isfinite(each).all() for each in (*one, *two)):
        return {}
    order = np.random.default_rng(seed).permutation(len(one[0]))
    ours, theirs = ([gram(each) for each in states] for states in (one, two))
    return {
        "hsic": np.array([[hsic(a, b, kernels=True) for b in theirs] for a in ours]),
        "apart": np.array(
            [hsic(a, b[np.ix_(order, order)], kernels=True) for a, b in zip(ours, theirs, strict=True)]
        ),
        "first": np.array([hsic(each, each, kernels=True) for each in ours]),
        "second": np.array([hsic(each, each, kernels=True) for each in theirs]),
        "near": np.array([shared_neighbours(a, b) for a, b in zip(one, two, strict=True)]),
        "near apart": np.array([shared_neighbours(a, b[order]) for a, b in zip(one, two, strict=True)]),
    }


def _patched(
    batch: Batch,
    without: Case,
    low: float,
    states: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
    layers: tuple[Sequence[int], Sequence[int]],
) -> dict[str, np.ndarray]:
    """What each patch adds to the score of the run without the object, nats, by layer."""
    fitted = [
        [Case.of(model, each.image, each.prompt, words=each.words) for each in batch.others]
        for model in (batch.other, batch.model)
        if model is not None
    ]
    runs: dict[str, list[list]] = {}
    every = range(without.count)
    paired = paired_states(fitted[0], fitted[1], layers[1], layers[0])
    for own, given, layer, pairs in zip(*states, layers[0], paired, strict=True):
        put = {
            "own": own,
            "mapped": fit_map(*pairs)(given),
            "shuffled": fit_map(*pairs, shuffle=batch.subjects[0].number)(given),
        }
        if given.shape == own.shape:
            put["raw"] = given
        for way, value in put.items():
            made = patches({(_SITE, layer): value}, every, source="another checkpoint")
            runs.setdefault(way, []).append([*made.values()])
    found = np.array(without.changed([run for each in runs.values() for run in each])) - low
    return dict(zip(runs, found.reshape(len(runs), -1), strict=True))


def _aligned(columns: Mapping[str, np.ndarray], index: int, layer: int) -> Measure:
    both, first, second, apart = (
        columns["hsic"][:, index, index], *(columns[name][:, index] for name in ("first", "second", "apart")),
    )  # fmt: skip
    known = np.isfinite(both).astype(np.float64)
    shared = {"first": np.nan_to_num(first), "second": np.nan_to_num(second), "count": known}
    return Measure(
        name="exchange.cka",
        title="debiased CKA of the image tokens of both checkpoints",
        layer=layer,
        columns={**shared, "both": np.nan_to_num(both)},
        statistic=lambda sums: alignment(sums["both"], sums["first"], sums["second"]),
        control={**shared, "both": np.nan_to_num(apart)},
        control_title=_APART,
    )


def _all_pairs(result: Result) -> Grids:
    sums = {name: np.nansum(result.gathered.columns[name], axis=0) for name in ("hsic", "first", "second")}
    values = alignment(sums["hsic"], sums["first"][:, None], sums["second"][None, :])
    return Grids(
        name="layers",
        title="Likeness of all layers with all of the other checkpoint",
        panels=[Panel(title=f"{result.model} down, the other across", values=np.asarray(values, np.float64))],
        columns=1,
        value_title="debiased CKA",
        caption=f"Rows: layers of {result.model}, the first on top; columns: those of the other at the same depths.",
    )


def _brought(result: Result, index: int, curves: Mapping[str, Sequence[Finding]]) -> Lines | None:
    if not curves:
        return None
    series = [curve_series(said, index, curve) for said, curve in curves.items()]
    series.append(curve_series(_SHUFFLED, index, result.curve("exchange.mapped"), controls=True))
    return Lines(
        name=f"patched-{index}",
        title=f"What the other checkpoint's image tokens bring: {result.model}",
        x_title="layer",
        y_title="share of the difference",
        series=series,
        caption=f"Intervention: replace at {_SITE} by another checkpoint's states. 1: the answer follows. Dashed: "
        "control. Bands: 95 % over images.",
    )
