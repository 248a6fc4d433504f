"""Patching between prompts: the same image asked about what is there and about what is not."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emma_viz.evidence.case import Case
from emma_viz.evidence.patching import patches, states_of
from probes.causes.patching import LEAST
from probes.charts import Chart
from probes.numbers import curve_chart, joined_parts, shared_part
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

_SETS = {
    "image": "all image tokens",
    "question": "the prompt's tokens but the last",
    "last": "the prompt's last token",
}
_EVERY = 4
"""With --quick, every so manieth image."""


class Prompts:
    """At which layer, and at which tokens, what was asked is held."""

    name = "prompts"
    title = "Where what was asked is held"
    question = (
        "One image is asked about an object that is there and about one that is not. At which layer do the prompt's "
        "tokens hold the difference, and when does its last token alone?"
    )
    method = (
        "Intervention: replace at resid_pre of one layer, states of the run that asks for what is there, in the run "
        "that asks for what is not; text tokens are paired from the end. Share = (patched − asked of what is not) / "
        "(asked of what is − asked of what is not) of logit(yes) − logit(no), as sums over images; images whose two "
        f"scores are closer than {LEAST} nats are left out. Image tokens come before the prompt and cannot know it: "
        "their share is 0, or the model is not causal; but where the instruction is mixed into them "
        "(emma-text-fusion), it is what they hold of it."
    )

    def needs(self) -> Needs:
        """Questions about what is not there, which come with twins; and the model."""
        return Needs(live=True, pairs=True, between=True)

    def see(self, batch: Batch) -> Seen:
        """What each patch brings, for each image, in nats; and the whole difference."""
        layers = [layer for layer in batch.layers if layer >= 0]
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            row: dict[str, Any] = {name: np.full(len(layers), np.nan) for name in _SETS} | {"whole": np.nan}
            assert batch.model is not None
            if batch.spares(index, _EVERY):
                notes.append(batch.said("patches", _EVERY))
            elif subject.absent and subject.words:
                there, absent = (
                    Case.of(batch.model, subject.image, prompt, words=subject.words)
                    for prompt in (subject.prompt, subject.absent)
                )
                high, low = there.changed([()])[0], absent.changed([()])[0]
                if abs(high - low) >= LEAST:
                    row |= {"whole": high - low} | _patched(there, absent, low, layers)
                else:
                    notes.append(f"some images were left out, whose answers differ by less than {LEAST} nats")
            rows.append(row)
        return joined_parts(rows, notes)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """The share that each patch brings, by layer."""
        columns = gathered.columns
        if not columns or not np.isfinite(columns["whole"]).any():
            return []
        found = []
        for name, what in _SETS.items():
            for index, layer in enumerate(layer for layer in gathered.layers if layer >= 0):
                part, statistic = shared_part(columns[name][:, index], columns["whole"])
                found.append(
                    Measure(
                        name=f"prompts.{name}", title=f"share of the two questions' difference in {what}",
                        layer=layer, columns=part, statistic=statistic,
                    )
                )  # fmt: skip
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Shares by layer, one chart a model."""
        charts = []
        for index, result in enumerate(results):
            curves = {said: result.curve(f"prompts.{name}") for name, said in _SETS.items()}
            if not all(curves.values()):
                continue
            charts.append(
                curve_chart(
                    curves,
                    name=f"shares-{index}",
                    title=f"What holds the question: {result.model}",
                    x_title="patched before block",
                    y_title="share of the difference",
                    caption="Intervention: replace at resid_pre, by the run that asks for what is there.",
                )
            )
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """From which layer on the last token holds the question."""
        said = []
        for result in results:
            curve = result.curve("prompts.last")
            held = [each for each in curve if each.number.value >= 0.5]
            if curve:
                said.append(
                    f"From block {held[0].measure.layer} on the prompt's last token alone holds most of what "
                    f"{result.model} was asked."
                    if held
                    else f"In {result.model} the prompt's last token never holds half of what was asked."
                )
        return " ".join(said)


def _patched(there: Case, absent: Case, low: float, layers: Sequence[int]) -> dict[str, np.ndarray]:
    """What every patch brings the run that asks for what is not there, in nats."""
    image = range(there.count)
    size = min(there.length, absent.length) - there.count
    places = {
        "image": (image, image),
        "question": tuple(range(each.length - size, each.length - 1) for each in (absent, there)),
        "last": ([absent.length - 1], [there.length - 1]),
    }
    states = states_of(there, ("resid_pre",), layers)
    runs = [
        [change]
        for into, taken in places.values()
        for change in patches(states, into, taken=taken, source="the other prompt").values()
    ]
    found = np.array(absent.changed(runs)).reshape(len(places), len(layers)) - low
    return dict(zip(places, found, strict=True))
