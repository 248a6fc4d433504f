"""Linear probes of patches: what a linear reader tells apart at each layer, fitted for all layers in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emma_viz.metrics.intervals import ratio
from emma_viz.metrics.masks import won_pairs
from emma_viz.metrics.readouts.folded_discriminant import UNKNOWN, held_out_classes, hits, one_hot
from emma_viz.metrics.readouts.folded_ridge import Products, held_out_values, products
from emma_viz.metrics.readouts.logistic_probe import held_out_logistic, online_bits
from probes.charts import Bars, Chart, Lines, Series
from probes.content.patch_labels import (
    SEED,
    TASKS,
    WIDEST,
    asked,
    classes_of,
    image_labels,
    narrow,
    patch_labels,
    spaces,
)
from probes.ledger import once
from probes.numbers import layer_chart, layer_tick, layer_word, series_of
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

BESIDE = {
    "pixels": "the patch's raw pixels",
    "tower": "the vision tower",
    "position": "the patch's position alone",
}
"""Spaces that are read in the same way."""


class PatchClasses:
    """One discriminant per layer and question, all fitted from one pass."""

    name = "patches"
    title = "What a linear reader tells apart, patch by patch"
    question = "What of a patch, and of the image, is linearly readable from the image tokens of each layer?"
    method = (
        "A linear discriminant per layer, fitted from sums on the images of four folds and asked about some patches of "
        "those of the fifth (of up to 8 images a group); balanced accuracy. The control is the same model with the "
        "numbers of each weight in a random order. Beside it, read in the same way: raw pixels, the vision tower and "
        "the position alone. Selectivity compares with labels that were drawn once for each look of a patch, which can "
        "only be learnt by heart. Readable does not mean used."
    )

    def needs(self) -> Needs:
        """The residual stream of image tokens, and the model for the vision tower and the random weights."""
        return Needs(sites=("resid_post",), live=True)

    def see(self, batch: Batch) -> Seen:
        """Sums to fit on, and the states that are asked about."""
        assert batch.model is not None
        rows, tokens = batch.patches.shape[:2]
        labels = patch_labels(batch)
        chosen = np.stack(
            [asked(each, subject) for each, subject in zip(labels["object"], batch.subjects, strict=True)]
        )
        take = np.arange(rows)[:, None], chosen
        columns: dict[str, np.ndarray] = {"group": np.full(rows, batch.group), **image_labels(batch.subjects)}
        kept = {f"label {name}": each[take] for name, each in labels.items()}
        sums, notes = {}, []
        for space, states in spaces(batch).items():
            rows_of = narrow(states)
            if not np.isfinite(rows_of).all():
                notes.append(f"{space}: values that are not finite; nothing is read from it")
            names = [name for name in labels if name in TASKS or space.startswith("layer")]
            y = np.concatenate([one_hot(labels[name].ravel(), classes_of(name)) for name in names], axis=1)
            found = products(rows_of.reshape(rows * tokens, -1), y)
            sums |= {f"xx {space}": found["xx"], f"xy {space}": found["xy"]}
            kept[f"rows {space}"] = rows_of[take].astype(np.float32)
            columns[f"mean {space}"] = rows_of.mean(axis=1).astype(np.float32)
        if batch.trace.model.d_model > WIDEST:
            notes.append(f"states were projected to {WIDEST} random directions")
        return Seen(columns=columns, sums=sums | once(batch, kept), notes=tuple(notes))

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Accuracies by layer and of what stands beside them; none of fewer than two groups of images."""
        if not gathered.sums or gathered.groups < 2:
            return []
        read = _Reader(gathered)
        found: list[Measure] = []
        for task in (name for name in TASKS if read.known(name)):
            found += _of_task(read, task)
        if read.known("object"):
            found += _last_word(read)
        if (gathered.columns["count"] != UNKNOWN).any():
            found += _about_images(read)
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """A curve for each question, with what stands beside it, and selectivity."""
        charts: list[Chart] = []
        for name in (*TASKS, "count", "present"):
            said = TASKS[name].said if name in TASKS else _IMAGES[name]
            chart = layer_chart(
                results,
                f"patches.{name}",
                name=name,
                title=f"Read: {said}",
                y_title=IMAGE_UNITS.get(name, "balanced accuracy"),
                caption="Bands: 95 % over images. Dashed: the same model with random weights, and what stands beside.",
            )
            if chart:
                charts.append(_with_levels(chart, results, name))
        for task in TASKS:
            bars = _selectivity_bars(results, task)
            if bars:
                charts.append(bars)
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Where the kind of object, or else the colour of a patch, is read best and at the end."""
        said = []
        for result in results:
            task = "kind" if result.curve("patches.kind") else "tint"
            curve = [each for each in result.curve(f"patches.{task}") if np.isfinite(each.number.value)]
            if not curve:
                continue
            best, last = max(curve, key=lambda each: each.number.value), curve[-1]
            text = (
                f"A linear reader tells {TASKS[task].said} best at layer {layer_word(best.measure.layer)} of "
                f"{result.model} (balanced accuracy {best.number.value:.2f}; {last.number.value:.2f} at the last)"
            )
            if not any(each.beats for each in curve):
                text += "; at no layer better than from the same model with random weights"
            pixels = result.one(f"patches.{task}.pixels")
            if pixels is not None:
                text += f"; raw pixels give {pixels.number.value:.2f}"
            said.append(text + ".")
        return " ".join(said)


_IMAGES = {"count": "how many objects there are", "present": "whether a kind of object is there"}
IMAGE_UNITS = {"present": "AUROC"}


@dataclass
class _Reader:
    """Held-out answers from what was gathered."""

    gathered: Gathered

    def __post_init__(self):
        sums, columns = self.gathered.sums, self.gathered.columns
        self.group = np.searchsorted(np.unique(columns["group"]), columns["group"])
        """Of each image."""
        self.names = [name.removeprefix("label ") for name in sums if name.startswith("label ")]

    def asked(self, name: str) -> np.ndarray:
        """What was kept of the patches that are asked about, image by image, the groups one after another."""
        kept = self.gathered.sums[name]
        return kept.reshape(-1, *kept.shape[2:])

    def known(self, task: str) -> bool:
        """Whether anybody knows the labels, and there is more than one."""
        labels = self.gathered.sums[f"label {task}"]
        return len(np.unique(labels[labels != UNKNOWN])) > 1

    def has(self, space: str) -> bool:
        """Whether states of that kind were kept."""
        return f"xx {space}" in self.gathered.sums

    def patches(self, space: str, name: str) -> dict[str, np.ndarray]:
        """Columns of the balanced accuracy of one question."""
        sums = self.gathered.sums
        names = [each for each in self.names if each in TASKS or space.startswith("layer")]
        start = sum(classes_of(each) for each in names[: names.index(name)])
        xy = sums[f"xy {space}"][..., start : start + classes_of(name)]
        rows, labels = self.asked(f"rows {space}").astype(np.float64), self.asked(f"label {name}")
        group = np.repeat(np.arange(len(xy)), len(rows) // len(xy))
        return hits(held_out_classes(sums[f"xx {space}"], xy, rows, group), labels)

    def images(self, space: str, name: str) -> dict[str, np.ndarray]:
        """The same of a question about whole images, from the mean of their tokens."""
        means, labels = (
            self.gathered.columns[f"mean {space}"].astype(np.float64),
            self.gathered.columns[name],
        )
        groups = self.group.max() + 1
        y = one_hot(labels, 6) if labels.ndim == 1 else labels.astype(np.float64)
        parts = [products(means[self.group == each], y[self.group == each]) for each in range(groups)]
        sums = Products(**{key: np.stack([part[key] for part in parts]) for key in ("xx", "xy", "yy")})
        if labels.ndim == 1:
            found = held_out_classes(sums.xx, sums.xy, means[:, None], self.group)
            return hits(found, labels[:, None])
        return won_pairs(held_out_values(sums, means, self.group), labels.astype(bool))


def _of_task(read: _Reader, task: str) -> list[Measure]:
    said, statistic = TASKS[task].said, ratio("hit", "count")
    found = [
        Measure(
            name=f"patches.{task}.{space}",
            title=f"{said}, from {words}: balanced accuracy",
            columns=read.patches(space, task),
            statistic=statistic,
        )
        for space, words in BESIDE.items()
        if read.has(space)
    ]
    for layer in read.gathered.layers:
        columns = read.patches(f"layer {layer}", task)
        found.append(
            Measure(
                name=f"patches.{task}",
                title=f"{said}: balanced accuracy on held-out images",
                layer=layer,
                columns=columns,
                statistic=statistic,
                control=read.patches(f"random {layer}", task),
                control_title="the same model with random weights",
            )
        )
        if TASKS[task].controls:
            for kind, words in (
                ("by_look", "labels drawn once for each look of a patch"),
                ("by_patch", "labels drawn for each patch alone"),
            ):
                found.append(
                    Measure(
                        name=f"patches.{task}.{kind}",
                        title=f"{said}: balanced accuracy on held-out images",
                        layer=layer,
                        columns=columns,
                        statistic=statistic,
                        control=read.patches(f"layer {layer}", f"{task} {kind}"),
                        control_title=words,
                    )
                )
    return found


def _last_word(read: _Reader) -> list[Measure]:
    """Logistic regression and the online code of whether a patch shows an object."""
    labels = read.asked("label object")
    order = np.random.default_rng(SEED).permutation(len(labels))
    found = []
    for layer in read.gathered.layers:
        rows, other = (read.asked(f"rows {space} {layer}") for space in ("layer", "random"))
        found.append(
            Measure(
                name="patches.object.logistic",
                title="whether a patch shows an object, by logistic regression: balanced accuracy",
                layer=layer,
                columns=hits(held_out_logistic(rows, labels), labels),
                statistic=ratio("hit", "count"),
                control=hits(held_out_logistic(other, labels), labels),
                control_title="the same model with random weights",
            )
        )
        coded, control = (online_bits(each[order], labels[order], 2) for each in (rows, other))
        found.append(
            Measure(
                name="patches.object.code",
                title="compression of whether a patch shows an object, by an online code",
                unit="×",
                layer=layer,
                columns=coded,
                statistic=ratio("uniform", "bits"),
                control=control,
                control_title="the same model with random weights",
            )
        )
    return found


def _about_images(read: _Reader) -> list[Measure]:
    found = []
    for name, words in _IMAGES.items():
        above, unit = ("sum", "AUROC") if name == "present" else ("hit", "balanced accuracy")
        for space, beside in BESIDE.items():
            if read.has(space) and space != "position":
                found.append(
                    Measure(
                        name=f"patches.{name}.{space}",
                        title=f"{words}, from the mean of {beside}: {unit}",
                        columns=read.images(space, name),
                        statistic=ratio(above, "count"),
                    )
                )
        for layer in read.gathered.layers:
            found.append(
                Measure(
                    name=f"patches.{name}",
                    title=f"{words}, from the mean of the image's tokens: {unit}",
                    layer=layer,
                    columns=read.images(f"layer {layer}", name),
                    statistic=ratio(above, "count"),
                    control=read.images(f"random {layer}", name),
                    control_title="the same model with random weights",
                )
            )
    return found


def _with_levels(chart: Lines, results: Sequence[Result], name: str) -> Lines:
    """The same chart with what stands beside the layers as flat lines."""
    flat = []
    places = [place for each in chart.series for place in each.at or ()]
    ends = [min(places), max(places)]
    for index, result in enumerate(results):
        for space, words in BESIDE.items():
            level: Finding | None = result.one(f"patches.{name}.{space}")
            if level is not None and (index == 0 or space == "tower"):
                said = words if space != "tower" else f"{result.model}: {words}"
                flat.append(Series(name=said, y=[level.number.value] * 2, at=ends, model=index, control=True))
    return replace(chart, series=[*chart.series, *flat])


def _selectivity_bars(results: Sequence[Result], task: str) -> Bars | None:
    """Accuracy less that of labels by look, at each layer."""
    overs = [
        {each.measure.layer: each.over for each in result.curve(f"patches.{task}.by_look") if each.over}
        for result in results
    ]
    layers = sorted({layer for over in overs for layer in over if layer is not None})
    if not layers:
        return None
    series = [
        series_of(result.model, index, [over.get(layer) for layer in layers])
        for index, (result, over) in enumerate(zip(results, overs, strict=True))
        if over
    ]
    return Bars(
        name=f"selectivity-{task}",
        title=f"Selectivity: {TASKS[task].said}",
        x=[layer_tick(layer) for layer in layers],
        x_title="layer",
        y_title="accuracy over control's",
        series=series,
        caption="Control labels are drawn once for each look of a patch: they can only be learnt by heart.",
    )
