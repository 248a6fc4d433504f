"""Flow: the way from the image to the answer, edge by edge: to the question, to the answer, from one to the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emma_viz.capture import record
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.mixers.paths import leak
from emma_viz.evidence.replacements import placebo
from emma_viz.models import Block
from probes.causes.regions import case_of, elsewhere, region, window
from probes.charts import Bars, Chart
from probes.numbers import joined_parts, layer_chart, mean_measure, series_of
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

_WAYS = {
    "image to answer": "the image's tokens are hidden from the answer's position",
    "image to question": "the image's tokens are hidden from the prompt's",
    "question to answer": "the prompt's tokens are hidden from the answer's position",
    "object to answer": "the object's tokens are hidden from the answer's position",
}
LEAKY = "image to question"
"""The way along which the convolution leaks: its ends touch."""
_EVERY = 8
"""With --quick, every so manieth image."""


class Flow:
    """Edges cut between groups of tokens, at single layers, in windows of layers, and at all."""

    name = "flow"
    title = "By which way the image reaches the answer"
    question = "Does the answer's position read the image itself, or what the prompt's tokens took from it, and where?"
    method = (
        "Intervention: edge. At the layers named, readers see a state and a convolution that the tokens gave nothing "
        "to; all others see everything. The fall of logit(word) − logit(rival), nats. Beside it a placebo, as large a "
        "change of each mixer's output in a random direction; for the object the same shape elsewhere. The leak is the "
        "share of an edge's effect that stays when the state's path alone is cut, through the convolution. What is "
        "hidden from one reader may reach it by another."
    )

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True, scan=("delta", "B", "C"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """Falls of each way, at each layer and window, for each image."""
        layers = tuple(layer for layer in batch.layers if layer >= 0)
        blank: dict[str, Any] = {"leak": np.full(len(layers), np.nan)}
        for way in _WAYS:
            blank |= {f"{way}{end}": np.nan for end in (" all", " all control", " flip")}
            blank |= {f"{way}{end}": np.full(len(layers), np.nan) for end in ("", " control", " window")}
        rows, notes = [], []
        for index in range(len(batch.subjects)):
            if batch.spares(index, _EVERY):
                notes.append(batch.said("all ways", _EVERY))
                rows.append(blank)
            else:
                rows.append(blank | self._cut(batch, index, layers))
        return joined_parts(rows, notes)

    def _cut(self, batch: Batch, index: int, layers: tuple[int, ...]) -> dict[str, Any]:
        case, subject = case_of(batch, index), batch.subjects[index]
        (score,) = case.changed([()])
        last = (case.length - 1,)
        image, text = tuple(range(case.count)), tuple(range(case.count, case.length - 1))
        edges = {
            "image to answer": (image, last),
            "image to question": (image, text),
            "question to answer": (text, last),
        }
        place, other = region(subject, batch.trace.geometry[index]), None
        if place is not None:
            edges["object to answer"] = (tuple(np.flatnonzero(place).tolist()), last)
            other = tuple(np.flatnonzero(elsewhere(place)).tolist())
        row: dict[str, Any] = {}
        for way, (tokens, readers) in edges.items():
            if tokens and readers:
                cut = Intervention(kind="edge", tokens=tokens, readers=readers)
                control = Intervention(kind="edge", tokens=other, readers=readers) if other else None
                row |= _along(case, way, cut, control if way == "object to answer" else None, layers, score,
                              subject.name)  # fmt: skip
        if text:
            row["leak"] = np.array(self._leaks(batch, index, layers, *edges[LEAKY]))
        return row

    def _leaks(
        self,
        batch: Batch,
        index: int,
        layers: tuple[int, ...],
        tokens: Sequence[int],
        readers: Sequence[int],
    ) -> list[float]:
        model, subject = batch.model, batch.subjects[index]
        assert model is not None
        trace = record(model, subject.image, subject.prompt, sites=("mixer_in",), layers=layers, tokens="all",
                       generate=False)  # fmt: skip
        found = []
        for layer in layers:
            block = model.vlm.llm.backbone.layers[layer]
            assert isinstance(block, Block)
            normed = trace["mixer_in", layer][0].to(model.vlm.device)
            found.append(leak(block.mixer, normed, tokens, readers))
        return found

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Falls by layer, by window and over all layers; flips; the leak."""
        columns = gathered.columns
        if not columns:
            return []
        layers = [layer for layer in gathered.layers if layer >= 0]
        wide = len(window(0, gathered.model.n_layer))
        found = []
        for way, said in _WAYS.items():
            name = f"flow.{way.replace(' ', '-')}"
            given = {"unit": "nats", "control_title": _control(way)}
            found += [
                mean_measure(
                    columns[f"{way} all"], columns[f"{way} all control"],
                    name=f"{name}.all", title=f"fall when {said} at all layers", **given,
                ),
                mean_measure(
                    columns[f"{way} flip"],
                    name=f"{name}.flip", title=f"share of answers that turn over when {said} at all layers",
                ),
            ]  # fmt: skip
            for index, layer in enumerate(layers):
                found += [
                    mean_measure(
                        columns[way][:, index], columns[f"{way} control"][:, index],
                        name=name, title=f"fall when {said}", layer=layer, **given,
                    ),
                    mean_measure(
                        columns[f"{way} window"][:, index], unit="nats", layer=layer,
                        name=f"{name}.window", title=f"fall when {said} at {wide} layers about this one",
                    ),
                ]  # fmt: skip
        for index, layer in enumerate(layers):
            found.append(
                mean_measure(
                    columns["leak"][:, index],
                    name="flow.leak",
                    title=f"leak through the convolution, {LEAKY}",
                    layer=layer,
                )
            )
        return [each for each in found if each.columns["count"].any()]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Each way by layer, and all ways over all layers."""
        charts: list[Chart] = []
        for index, result in enumerate(results):
            known = {way: each for way in _WAYS if (each := result.one(f"flow.{way.replace(' ', '-')}.all"))}
            if known:
                charts.append(
                    Bars(
                        name=f"ways-{index}",
                        title=f"Fall when a way is cut at all layers: {result.model}",
                        x=list(known),
                        y_title="fall, nats",
                        series=[
                            series_of("cut", index, [each.number for each in known.values()]),
                            series_of(
                                "control", index, [each.control for each in known.values()], control=True
                            ),
                        ],
                        caption="Intervention: edge. Pale: a placebo; for the object the same shape elsewhere.",
                    )
                )
        for way, said in _WAYS.items():
            name = way.replace(" ", "-")
            for end, where in (("", "at one layer"), (".window", "in a window of layers about it")):
                chart = layer_chart(
                    results, f"flow.{name}{end}", name=f"{name}{end.replace('.', '-')}",
                    title=f"{way.capitalize()}, {where}", y_title="fall, nats",
                    caption=f"Intervention: edge; {said}." + (f" Dashed: {_control(way)}." if not end else ""),
                )  # fmt: skip
                charts += [chart] if chart else []
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Which way costs most."""
        said = []
        for result in results:
            known = {way: each for way in _WAYS if (each := result.one(f"flow.{way.replace(' ', '-')}.all"))}
            if len(known) < 2:
                continue
            parts = [
                f"{each.number.value:.1f} from {way}{'' if each.beats else ' (not shown to be more than its control)'}"
                for way, each in known.items()
            ]
            said.append(f"Cut at all layers, {result.model} loses {', '.join(parts)} nats.")
        return " ".join(said)


def _control(way: str) -> str:
    return (
        "the same shape elsewhere" if way == "object to answer" else "as large a change in a random direction"
    )


def _along(
    case: Case,
    way: str,
    cut: Intervention,
    control: Intervention | None,
    layers: tuple[int, ...],
    score: float,
    seed: str,
) -> dict[str, Any]:
    """Falls of one way at each layer, in each window, and at all; and those of its control."""
    depth = case.vlm.config.llm.n_layer
    if control is None:
        made = {each.layers[0]: each for each in placebo(case, cut, seed=seed) if each.layers}
        beside, whole = [[made[layer]] for layer in layers], list(made.values())
    else:
        beside, whole = [[_at(control, (layer,))] for layer in layers], [control]
    runs = [
        *([_at(cut, (layer,))] for layer in layers),
        *beside,
        *([_at(cut, window(layer, depth))] for layer in layers),
        [cut],
        whole,
    ]
    after = np.array(case.changed(runs))
    single, controls, windows = (score - after[:-2]).reshape(3, len(layers))
    return {
        way: single,
        f"{way} control": controls,
        f"{way} window": windows,
        f"{way} all": score - after[-2],
        f"{way} all control": score - after[-1],
        f"{way} flip": float(np.sign(after[-2]) != np.sign(score)),
    }


def _at(change: Intervention, layers: tuple[int, ...]) -> Intervention:
    return Intervention(kind=change.kind, tokens=change.tokens, readers=change.readers, layers=layers)
