"""Patching between twins: states of the image with the object, put into a run of the image without it."""

from collections.abc import Sequence

import numpy as np

from emma_viz.capture import record
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from emma_viz.metrics.intervals import ratio
from probes.charts import Chart, Lines
from probes.numbers import joined, layer_word, series_of
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen
from probes.regions import elsewhere, region

LEAST = 0.5
"""A pair whose logit differences lie closer than this many nats says nothing, and is left out."""
SETS = {
    "image": "all image tokens",
    "region": "the object's tokens",
    "elsewhere": "the same shape elsewhere",
    "text": "the text's tokens",
}


class Patching:
    """At which layer, and at which tokens, the answer's difference between twins is held."""

    name = "patching"
    title = "Where the difference between twins is held"
    question = (
        "Two images differ in one object alone. At which layer, and at which tokens, must the states of one be put "
        "into the run of the other for the answer to follow?"
    )
    method = (
        "Intervention: replace at resid_pre of one layer, states of the image with the object in the run without it. "
        "Share = (patched − without) / (with − without) of logit(yes) − logit(no), as sums over pairs; pairs closer "
        f"than {LEAST} nats are left out. 1: the answer follows; 0: it does not. Patching the last layers' text tokens "
        "carries the answer itself."
    )

    def needs(self) -> Needs:
        """Twins, and the model."""
        return Needs(live=True, pairs=True)

    def see(self, batch: Batch) -> Seen:
        """What each patch recovers, for each pair, in nats; and the whole difference."""
        layers = [layer for layer in batch.layers if layer >= 0]
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            row = dict.fromkeys(SETS, [np.nan] * len(layers)) | {"whole": np.nan}
            place = region(subject, batch.trace.geometry[index])
            assert batch.model is not None
            if subject.twin is not None and place is not None:
                clean = Case.of(batch.model, subject.image, subject.prompt, words=subject.words)
                without = Case.of(batch.model, subject.twin, subject.prompt, words=subject.words)
                high, low = clean.changed([()])[0], without.changed([()])[0]
                if abs(high - low) >= LEAST:
                    row = self._patched(batch, index, without, low, place, layers) | {"whole": high - low}
                else:
                    notes.append(f"some pairs were left out, whose answers differ by less than {LEAST} nats")
            rows.append(row)
        return joined(rows, notes)

    def _patched(
        self, batch: Batch, index: int, without: Case, low: float, place: np.ndarray, layers: Sequence[int]
    ) -> dict[str, list[float]]:
        subject = batch.subjects[index]
        assert batch.model is not None
        trace = record(
            batch.model,
            subject.image,
            subject.prompt,
            sites=("resid_pre",),
            layers=tuple(layers),
            tokens="all",
            generate=False,
        )
        places = {
            "image": np.arange(without.count),
            "region": np.flatnonzero(place),
            "elsewhere": np.flatnonzero(elsewhere(place)),
            "text": np.arange(without.count, without.length),
        }
        runs = [
            [
                Intervention(
                    kind="replace",
                    site="resid_pre",
                    tokens=tuple(where.tolist()),
                    layers=(layer,),
                    value=trace["resid_pre", layer][0].numpy()[where],
                    source="the image with the object",
                )
            ]
            for where in places.values()
            for layer in layers
        ]
        found = np.array(without.changed(runs)).reshape(len(places), len(layers)) - low
        return {name: row.tolist() for name, row in zip(places, found, strict=True)}

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """The share that each patch recovers, by layer."""
        columns = gathered.columns
        known = np.isfinite(columns["whole"]) if columns else np.zeros(0, bool)
        if not known.any():
            return []
        layers = [layer for layer in gathered.layers if layer >= 0]

        def part(name: str, index: int) -> dict[str, np.ndarray]:
            sign = np.sign(np.where(known, columns["whole"], 1))
            values = np.where(known, columns[name][:, index], 0)
            return {"part": sign * values, "whole": np.where(known, np.abs(columns["whole"]), 0)}

        return [
            Measure(
                name=f"patching.{name}",
                title=f"share of the twins' difference in {what}",
                layer=layer,
                columns=part(name, index),
                statistic=ratio("part", "whole"),
                control=part("elsewhere", index) if name == "region" else None,
                control_title=SETS["elsewhere"] if name == "region" else "",
            )
            for name, what in SETS.items()
            for index, layer in enumerate(layers)
        ]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Shares by layer, one chart a model."""
        charts = []
        for index, result in enumerate(results):
            curves = {name: result.curve(f"patching.{name}") for name in SETS}
            if not curves["image"]:
                continue
            series = [
                series_of(SETS[name], number, [each.number for each in curve], control=name == "elsewhere")
                for number, (name, curve) in enumerate(curves.items())
            ]
            charts.append(
                Lines(
                    name=f"shares-{index}",
                    title=f"What carries the difference: {result.model}",
                    x=[layer_word(each.measure.layer) for each in curves["image"]],
                    x_title="patched before block",
                    y_title="share of the difference",
                    series=series,
                    caption="Intervention: replace at resid_pre, by the twin with the object. Dashed: control.",
                )
            )
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Until which layer image tokens carry the difference."""
        said = []
        for result in results:
            curve = result.curve("patching.image")
            held = [each for each in curve if each.number.value >= 0.5]
            if not curve:
                continue
            if held:
                last = held[-1].measure.layer or 0
                said.append(
                    f"In {result.model} the image tokens carry most of what tells twins apart until block "
                    f"{last}{'' if held[-1] is curve[-1] else '; after it the text tokens do'}."
                )
            else:
                said.append(
                    f"In {result.model} no layer's image tokens carry half of what tells twins apart."
                )
        return " ".join(said)
