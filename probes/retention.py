"""Retention: how much of the picture a linear lens reads from the image tokens of each layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from emma_viz.metrics.folded_ridge import Products, fold_of, held_out_error, products
from emma_viz.metrics.intervals import Sums
from emma_viz.metrics.quality import r2_of_sums
from probes.charts import Chart
from probes.numbers import drop, layer_chart, layer_word
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

WIDEST = 256
"""Wider states are projected to this many random directions, which keeps the sums small."""


class Retention:
    """A ridge lens per layer, fitted on some groups of images and judged on the others."""

    name = "retention"
    title = "What a linear lens reads of the picture"
    question = "How much of the picture do the image tokens of each layer still hold, for a linear reader?"
    method = (
        "A ridge lens per layer, from sums alone: fitted on four fifths of the images, judged on the rest, λ chosen "
        "inside the training part. R² of the pixels about the mean colour. The control knows each token's position "
        "at most, and nothing of its state. What a linear lens does not read may still be there in another form."
    )

    def needs(self) -> Needs:
        """The residual stream of image tokens."""
        return Needs(sites=("resid_post",))

    def see(self, batch: Batch) -> Seen:
        """XᵀX, XᵀY and what a lens of positions needs."""
        rows, tokens = batch.patches.shape[:2]
        pixels = batch.patches.reshape(rows, tokens, -1, 3).astype(np.float64)
        flat = pixels.reshape(rows, tokens, -1)
        sums: dict[str, np.ndarray] = {
            "count": np.array(float(rows)),
            "place": flat.sum(axis=0),
            "colour": pixels.sum(axis=(0, 1, 2)),
        }
        notes = []
        for layer in batch.layers:
            states = batch.trace["resid_post", layer][:, :tokens]
            if not torch.isfinite(states).all():
                notes.append(
                    f"layer {layer_word(layer)} holds values that are not finite; nothing is read from it"
                )
            found = products(_narrow(states.reshape(rows * tokens, -1)), flat.reshape(rows * tokens, -1))
            sums |= {f"xx{layer}": found["xx"], f"xy{layer}": found["xy"], "yy": found["yy"]}
        if batch.trace.model.d_model > WIDEST:
            notes.append(f"states were projected to {WIDEST} random directions")
        return Seen(sums=sums, notes=tuple(notes))

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """R² by layer; none of fewer than two groups of images."""
        sums = gathered.sums
        if not sums or len(sums["count"]) < 2:
            return []
        shared = {
            "squares": sums["yy"],
            "pixels": sums["count"] * sums["place"].shape[1] * sums["place"].shape[2] / 3,
            **{f"colour{index}": sums["colour"][:, index] for index in range(3)},
        }
        control = {**shared, "residual": _blind(sums)}
        found = []
        for layer in gathered.layers:
            parts = Products(xx=sums[f"xx{layer}"], xy=sums[f"xy{layer}"], yy=sums["yy"])
            found.append(
                Measure(
                    name="retention.r2",
                    title="share of the pixels' variance that a linear lens reads on held-out images",
                    layer=layer,
                    unit="R²",
                    columns={**shared, "residual": held_out_error(parts)},
                    statistic=_r2,
                    control=control,
                    control_title="a lens that sees no state, the position alone",
                )
            )
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """The curve by layer."""
        chart = layer_chart(
            results,
            "retention.r2",
            name="r2",
            title="Picture read by a linear lens",
            y_title="held-out R²",
            caption="Bands: 95 % over images. Dashed: a lens that sees no state, the position alone.",
        )
        return [chart] if chart else []

    def summary(self, results: Sequence[Result]) -> str:
        """Where the picture is lost."""
        said = []
        for result in results:
            curve = [each for each in result.curve("retention.r2") if np.isfinite(each.number.value)]
            if not curve:
                continue
            first, last = curve[0], curve[-1]
            text = (
                f"A linear lens reads {first.number.value:.2f} of the pixels' variance from the image tokens of "
                f"{result.model} at layer {layer_word(first.measure.layer)} and {last.number.value:.2f} at layer "
                f"{layer_word(last.measure.layer)}"
            )
            if where := drop(curve):
                text += f"; the largest loss is at layer {layer_word(where.measure.layer)}"
            if not last.beats:
                text += ", where it does not beat a lens that sees no state, the position alone"
            said.append(text + ".")
        return " ".join(said)


def _r2(sums: Sums) -> np.ndarray | np.floating:
    between = sum(np.square(sums[f"colour{index}"]) for index in range(3)) / sums["pixels"]
    return r2_of_sums(sums["residual"], sums["squares"] - between, sums["pixels"] * 3)


def _narrow(states: torch.Tensor) -> np.ndarray:
    """At most WIDEST directions of the states, the same in every run."""
    flat = states.double().numpy()
    width = flat.shape[1]
    if width <= WIDEST:
        return flat
    return flat @ np.random.default_rng(width).standard_normal((width, WIDEST)) / np.sqrt(width)


def _blind(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Error of each group when tokens are decoded without a look at their states: as the mean patch of their place
    over the other folds, or as that of all places where few images make the first one worse."""
    by_place, by_all = _mean_error(sums, each_place=True), _mean_error(sums, each_place=False)
    return by_place if by_place.sum() < by_all.sum() else by_all


def _mean_error(sums: Mapping[str, np.ndarray], *, each_place: bool) -> np.ndarray:
    fold = fold_of(len(sums["count"]))
    errors = np.empty(len(fold))
    for held in range(fold.max() + 1):
        train, rows = fold != held, fold == held
        mean = sums["place"][train].sum(axis=0) / sums["count"][train].sum()
        if not each_place:
            mean = np.broadcast_to(mean.mean(axis=0), mean.shape)
        crossed = (sums["place"][rows] * mean).sum(axis=(1, 2))
        errors[rows] = sums["yy"][rows] - 2 * crossed + sums["count"][rows] * np.square(mean).sum()
    return errors
