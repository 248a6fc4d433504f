"""Retention: how much of the picture a lens reads from the image tokens of each layer, and how much of its detail."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from emma_viz.metrics.readouts.folded_ridge import Products, fold_of, held_out_error, products
from emma_viz.metrics.sums import pooled_r2
from emma_viz.shapes import CHANNELS
from probes.charts import Chart
from probes.content.decoded_detail import detail_charts, detail_measures, kept_pictures
from probes.numbers import drop, layer_chart, layer_word
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

_WIDEST = 192
"""Wider states are projected to this many random directions, which keeps the sums small."""
FEATURES = 256
"""Directions and random features together, at most."""


class Retention:
    """A ridge lens per layer, fitted on some groups of images and judged on the others; and a nonlinear one."""

    name = "retention"
    title = "What a lens reads of the picture"
    question = (
        "How much of the picture, and which of its detail, do the image tokens of each layer still hold?"
    )
    method = (
        "A ridge lens per layer, from sums alone: fitted on four fifths of the images, judged on the rest, λ chosen "
        "inside the training part. R² of the pixels about the mean colour. The control knows each token's position "
        "at most, and nothing of its state. The nonlinear lens is given random rectified features of each state as "
        "well (as standardised over its image); its control is the linear lens: what it reads beyond it is there, "
        "but not linearly. Detail is judged on the linear lens's pictures of one image a group, never fitted on it, in "
        "brightness: power and coherence by spatial frequency (coherence is blind to gain, power to place), k½, where "
        "coherence falls below one half, and whether edges lie where they are. The control is another "
        "image's truth. What neither lens reads may still be there in another form."
    )

    def needs(self) -> Needs:
        """The residual stream of image tokens."""
        return Needs(sites=("resid_post",))

    def see(self, batch: Batch) -> Seen:
        """XᵀX, XᵀY, what a lens of positions needs, and the states of one image a group."""
        rows, tokens = batch.patches.shape[:2]
        pixels = batch.patches.reshape(rows, tokens, -1, CHANNELS).astype(np.float64)
        flat = pixels.reshape(rows, tokens, -1)
        sums: dict[str, np.ndarray] = {
            "count": np.array(float(rows)),
            "place": flat.sum(axis=0),
            "colour": pixels.sum(axis=(0, 1, 2)),
        }
        notes, states = [], {}
        for layer in batch.layers:
            whole = batch.trace["resid_post", layer][:, :tokens]
            if not torch.isfinite(whole).all():
                notes.append(
                    f"layer {layer_word(layer)} holds values that are not finite; nothing is read from it"
                )
            states[layer] = _narrow(whole)
            features = np.concatenate([states[layer], _rectified(states[layer])], axis=-1)
            found = products(features.reshape(rows * tokens, -1), flat.reshape(rows * tokens, -1))
            sums |= {f"xx{layer}": found["xx"], f"xy{layer}": found["xy"], "yy": found["yy"]}
        if batch.trace.model.d_model > _WIDEST:
            notes.append(f"states were projected to {_WIDEST} random directions")
        return Seen(sums=sums | kept_pictures(batch, states), notes=tuple(notes))

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """R² of both lenses and what of detail is kept, by layer; none of fewer than two groups of images."""
        sums = gathered.sums
        if not sums or len(sums["count"]) < 2:
            return []
        shared = {
            "squares": sums["yy"],
            "pixels": sums["count"] * sums["place"].shape[1] * sums["place"].shape[2] / CHANNELS,
            **{f"sum{index}": sums["colour"][:, index] for index in range(CHANNELS)},
        }
        blind = {**shared, "residual": _blind(sums)}
        found = []
        for layer in gathered.layers:
            both = Products(xx=sums[f"xx{layer}"], xy=sums[f"xy{layer}"], yy=sums["yy"])
            linear = _of_states(both, sums[f"rows{layer}"].shape[-1])
            columns = {**shared, "residual": held_out_error(linear)}
            found.append(
                Measure(
                    name="retention.r2",
                    title="share of the pixels' variance that a linear lens reads on held-out images",
                    layer=layer,
                    unit="R²",
                    columns=columns,
                    statistic=pooled_r2,
                    control=blind,
                    control_title="a lens that sees no state, the position alone",
                )
            )
            found.append(
                Measure(
                    name="retention.r2_nonlinear",
                    title="share of the pixels' variance that a small nonlinear lens reads on held-out images",
                    layer=layer,
                    unit="R²",
                    columns={**shared, "residual": held_out_error(_standardised(both))},
                    statistic=pooled_r2,
                    control=columns,
                    control_title="the linear lens",
                )
            )
            found += detail_measures(gathered, layer, linear)
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """R² by layer, and detail by frequency and layer."""
        drawn = [
            layer_chart(
                results, "retention.r2", name="r2", title="Picture read by a linear lens", y_title="held-out R²",
                caption="Bands: 95 % over images. Dashed: a lens that sees no state, the position alone.",
            ),
            layer_chart(
                results, "retention.r2_nonlinear", name="nonlinear", title="Picture read by a nonlinear lens",
                y_title="held-out R²", caption="Dashed: the linear lens.",
            ),
        ]  # fmt: skip
        return [*(each for each in drawn if each is not None), *detail_charts(results)]

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
            said.append(f"{text}.{_detail_said(result, last)}")
        return " ".join(said)


def _detail_said(result: Result, last: Finding) -> str:
    """What the nonlinear lens and the frequencies add, at the same layer."""
    text = ""
    other = {each.measure.layer: each for each in result.curve("retention.r2_nonlinear")}
    if (more := other.get(last.measure.layer)) and more.beats:
        text += f" A nonlinear lens reads {more.number.value:.2f} there."
    band = [each for each in result.curve("retention.k_half") if np.isfinite(each.number.value)]
    if len(band) > 1:
        text += (
            f" Detail is in its place up to {band[0].number.value:.0f} cycles a side at layer "
            f"{layer_word(band[0].measure.layer)}, and up to {band[-1].number.value:.0f} at layer "
            f"{layer_word(band[-1].measure.layer)}."
        )
    return text


def _narrow(states: torch.Tensor) -> np.ndarray:
    """At most _WIDEST directions of the states (B, T, D), the same in every run."""
    whole = states.double().numpy()
    width = whole.shape[-1]
    if width <= _WIDEST:
        return whole
    return whole @ np.random.default_rng(width).standard_normal((width, _WIDEST)) / np.sqrt(width)


def _rectified(states: np.ndarray) -> np.ndarray:
    """Random rectified features of states (B, T, d): as many as dimensions, FEATURES with them at most.

    Half of them see the states about their image's mean with one scale, half see each dimension with its own: where few
    dimensions are loud, the first would be deaf to the others, and the second to loud ones among many silent.
    """
    width = states.shape[-1]
    draw = np.random.default_rng([width, FEATURES])
    weight = draw.standard_normal((width, min(width, FEATURES - width)))
    with np.errstate(invalid="ignore"):
        centred = states - states.mean(axis=1, keepdims=True)
        spread = centred.std(axis=1, keepdims=True)
        whole = np.sqrt(np.square(spread).mean(axis=-1, keepdims=True))
        halves = np.array_split(weight / np.sqrt(width), 2, axis=1)
        seen = [
            centred / np.where(each > 0, each, 1.0) @ half
            for each, half in zip((whole, spread), halves, strict=True)
        ]
        return np.maximum(np.concatenate(seen, axis=-1) + draw.standard_normal(weight.shape[1]), 0.0)


def _of_states(sums: Products, width: int) -> Products:
    """The sums of the states and the constant alone."""
    kept = np.r_[:width, -1]
    return Products(xx=sums.xx[:, kept[:, None], kept], xy=sums.xy[:, kept], yy=sums.yy)


def _standardised(sums: Products) -> Products:
    """The same of features that are each divided by their spread over all images: one λ is as strict to all."""
    whole = sums.xx.sum(axis=0)
    power, mean = np.diag(whole) / whole[-1, -1], whole[-1] / whole[-1, -1]
    spread = np.sqrt(np.maximum(power - np.square(mean), 0.0))
    spread[-1] = 1.0
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
    return Products(xx=sums.xx * np.outer(scale, scale), xy=sums.xy * scale[:, None], yy=sums.yy)


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
