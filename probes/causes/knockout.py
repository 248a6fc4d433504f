"""Knock-out, by name: what the answer loses when an object's tokens are taken from the model, in several meanings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.provenance import ModelInfo
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import READ, Intervention
from emma_viz.evidence.replacements import blurred, image_tokens, placebo, random_like
from probes.causes.regions import DRAWS, Means, case_of, elsewhere, random_sets, region, window
from probes.charts import Bars, Chart
from probes.numbers import joined_parts, layer_chart, mean_measure, series_of, signed
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen

EMBEDDED = {
    "replace": "replaced by the mean token of other images",
    "resample": "replaced by those of other images at the same places",
    "blur": "replaced by those of the blurred image",
}
_INSIDE = {
    "write": "kept from writing to any state (B := 0; skip path and convolution stay)",
    "skip": "passed over by every state (Δ := 0; the convolution stays)",
    "edge": "hidden from the answer's position alone, in states and convolutions",
    "cut": "taken off what the answer's position read, exactly, with the routing held",
    "delete": "deleted from every mixer's sequence",
}
_KINDS = EMBEDDED | _INSIDE
_NO_SCAN = (
    f"{', '.join(_INSIDE)} were left out: they act at B, delta and the output of a Mamba's mixers, and an attention "
    "transformer has no such site"
)
_STATES = ("write", "skip")
"""Kinds that act at sites inside mixers, which a hybrid has in some blocks."""
CONTROLS = {
    "random": f"{DRAWS} random sets of as many tokens",
    "elsewhere": "the same shape elsewhere",
    "placebo": "as large a change in a random direction",
}
_EVERY = {"replace": 1, "write": 4}
"""With --quick, every so manieth image is asked a kind; of `write` its curves over layers too."""
_OTHERS = 8
"""The same of the other kinds."""
CURVES = ("layer", "window")
RULES = {"quarter": (0.25, "by a quarter"), "any": (0.0, "at all")}
"""Other rules of which patches are an object's, beside that by half: they say whether the number hangs on the rule."""


class Knockout:
    """The object's tokens against random ones, the same area elsewhere, and a placebo; necessity and sufficiency."""

    name = "knockout"
    title = "What the answer loses without the object's tokens"
    question = "Does the answer depend on the image tokens of what was asked about, through which path, at which layer?"
    method = (
        "The fall of logit(word) − logit(rival), in nats. A knock-out has several meanings in a state-space model, so "
        "each is named: "
        + "; ".join(f"{kind}: {what}" for kind, what in _KINDS.items())
        + ". Region: patches that the object covers by half, and those beside them. Sufficiency: what comes back when "
        "the region alone is left and all other image tokens are taken. Placebo of a kind inside mixers: added to each "
        "mixer's output, token by token as long as what the kind changes there. Routing may change, unlike in the "
        "frozen decomposition (but for cut)."
    )

    def __init__(self, kinds: Sequence[str] = tuple(_KINDS)):
        self._means, self._kinds = Means(), tuple(kinds)

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True)

    def see(self, batch: Batch) -> Seen:
        """Effects of each kind on the region and on its controls, for each image."""
        rows, notes = [], []
        others: list[Tensor] = []
        for index, subject in enumerate(batch.subjects):
            place = region(subject, batch.trace.geometry[index])
            if not batch.others:
                notes.append("there is one image alone: no mean token of others to put in its place")
            if place is None:
                notes.append("of images without a mask all tokens were taken, and no region")
            there, lacking = _of_model(self._kinds, batch.trace.model)
            notes += lacking
            kinds = [kind for kind in there if not batch.spares(index, _EVERY.get(kind, _OTHERS))]
            for every in {_EVERY.get(kind, _OTHERS): None for kind in there if kind not in kinds}:
                alike = [kind for kind in there if _EVERY.get(kind, _OTHERS) == every]
                notes.append(batch.said(", ".join(alike), every))
            if batch.model and not others and "resample" in kinds:
                others = [image_tokens(batch.model, each.image, each.prompt) for each in batch.others]
            rows.append(self._effects(batch, index, place, others, kinds))
        return joined_parts(rows, notes)

    def _effects(
        self,
        batch: Batch,
        index: int,
        place: np.ndarray | None,
        others: Sequence[Tensor],
        kinds: Sequence[str],
    ) -> dict[str, Any]:
        layers = [layer for layer in batch.layers if layer >= 0]
        case, seed = case_of(batch, index), batch.subjects[index].name
        row: dict[str, Any] = dict.fromkeys(_names(), np.nan)
        row |= {f"{curve}{end}": [np.nan] * len(layers) for curve in CURVES for end in ("", "_elsewhere")}
        (score,) = case.changed([()])
        row["score"] = score
        assert batch.model is not None
        values: dict[str, list[Float[Tensor, "T D"]]] = {}
        if batch.others:
            mean = self._means.of(batch.model, batch.others)
            values = {"replace": [mean.expand(case.count, -1)]} | (
                {"resample": list(others)} if others else {}
            )
        if "blur" in kinds:
            values["blur"] = [blurred(batch.model, batch.subjects[index].image, batch.subjects[index].prompt)]
        for kind in kinds:
            if kind in EMBEDDED and kind not in values:
                continue
            fall = (
                _replacing(case, values[kind], score) if kind in values else _intervening(case, kind, score)
            )
            row |= _necessary_and_sufficient(kind, case.count, place, batch.trace.geometry[index], fall, seed)
            if kind == "replace":
                row |= _by_rule(batch, index, fall)
            if place is not None:
                where = batch.trace.geometry[index].with_coarser(np.flatnonzero(place))
                row[f"{kind}_placebo"] = (
                    _replaced_placebo(case, values[kind][0], where, score, seed)
                    if kind in values
                    else _inner_placebo(case, kind, where, score, seed)
                )
        if place is not None and "write" in kinds:
            row |= _by_layer(case, place, layers, batch.model.info.mixer_layers, score)
        return row

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Each kind against each of its controls, sufficiency, and the state path by layer and by window."""
        columns = gathered.columns
        if not columns:
            return []
        found = [
            _nats("knockout.score", "the answer's logit difference as it is", columns["score"]),
            *(_nats(f"knockout.{kind}.all", f"fall when all image tokens are {what}", columns[f"{kind}_all"])
              for kind, what in _KINDS.items()),
        ]  # fmt: skip
        for kind, what in _KINDS.items():
            found += [
                _nats(
                    f"knockout.{kind}.{control}",
                    f"fall when the object's tokens are {what}",
                    columns[kind],
                    columns[f"{kind}_{control}"],
                    control_title=said,
                )
                for control, said in CONTROLS.items()
            ]
            found.append(
                _nats(
                    f"knockout.{kind}.sufficient",
                    f"what comes back when all image tokens but the object's are {what}",
                    columns[f"{kind}_kept"],
                    columns[f"{kind}_kept_random"],
                    control_title="as many random tokens left",
                )
            )
        found += [
            _nats(
                f"knockout.rule.{rule}",
                f"fall when patches that the object covers {said}, and those beside, are {EMBEDDED['replace']}",
                columns[f"rule {rule}"],
                columns[f"rule {rule}_elsewhere"],
                control_title=CONTROLS["elsewhere"],
            )
            for rule, (_, said) in RULES.items()
        ]
        layers = [layer for layer in gathered.layers if layer >= 0]
        wide = len(window(0, gathered.model.n_layer))
        for curve, said in zip(CURVES, ("this layer's state", f"the states of {wide} layers"), strict=True):
            found += [
                _nats(
                    f"knockout.{curve}",
                    f"fall when the object's tokens write nothing to {said}",
                    columns[curve][:, index],
                    columns[f"{curve}_elsewhere"][:, index],
                    control_title=CONTROLS["elsewhere"],
                    layer=layer,
                )
                for index, layer in enumerate(layers)
            ]
        return [each for each in found if each.columns["count"].any()]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Kinds beside their controls, what comes back, and the state path by layer and by window."""
        charts: list[Chart] = []
        for index, result in enumerate(results):
            charts += [each for each in (_kinds(result, index), _sufficient(result, index)) if each]
        for curve, title in zip(
            CURVES, ("one layer's state", "the states of a window of layers"), strict=True
        ):
            chart = layer_chart(
                results,
                f"knockout.{curve}",
                name=curve,
                title=f"Without the object's writes to {title}",
                y_title="fall, nats",
                caption="Intervention: write at B, the object's tokens. Dashed: the same shape elsewhere."
                + ("" if curve == "layer" else " At its middle layer."),
            )
            charts += [chart] if chart else []
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Whether the answer needs the object."""
        said = []
        for result in results:
            found = result.one("knockout.replace.random")
            if found is None or found.control is None:
                continue
            verb = "falls by" if found.beats else "is not shown to fall more than for random tokens:"
            line = (
                f"Without the object's tokens the logit difference of {result.model} {verb} "
                f"{found.number.value:.1f} nats ({signed(found.control.value)} without as many random ones)"
            )
            write = result.one("knockout.write.random")
            if write is not None:
                line += f"; {write.number.value:.1f} when they are only kept from the state"
            curve = [each for each in result.curve("knockout.layer") if each.beats]
            if curve:
                top = max(curve, key=lambda each: each.number.value)
                line += (
                    f"; of single layers, the state of layer {top.measure.layer} matters most "
                    f"({top.number.value:.1f})"
                )
            said.append(line + ".")
        return " ".join(said)


def _of_model(kinds: Sequence[str], model: ModelInfo) -> tuple[tuple[str, ...], list[str]]:
    """The kinds that a model has the sites for, and a sentence about the others."""
    if model.mixers_alone:
        return tuple(kinds), []
    if not model.mixer_layers:
        return tuple(kind for kind in kinds if kind in EMBEDDED), [_NO_SCAN]
    others = [kind for kind in _INSIDE if kind not in _STATES]
    note = (
        f"{', '.join(others)} were left out: they take a Mamba's block apart, and those of a hybrid are not made so; "
        f"{' and '.join(_STATES)} act in the {len(model.mixer_layers)} of {model.n_layer} blocks that have a state"
    )
    return tuple(kind for kind in kinds if kind not in others), [note]


def _names() -> list[str]:
    ends = ("", "_all", *(f"_{control}" for control in CONTROLS), "_kept", "_kept_random")
    rules = [f"rule {rule}{end}" for rule in RULES for end in ("", "_elsewhere")]
    return ["score", *rules, *(f"{kind}{end}" for kind in _KINDS for end in ends)]


def _by_rule(batch: Batch, index: int, fall) -> dict[str, float]:
    """The falls when an object's tokens are chosen by other rules, and of the same shapes elsewhere."""
    places = {
        rule: region(batch.subjects[index], batch.trace.geometry[index], covered=covered)
        for rule, (covered, _) in RULES.items()
    }
    known = {rule: place for rule, place in places.items() if place is not None}
    if not known:
        return {}
    shown = batch.trace.geometry[index].with_coarser
    sets = [shown(np.flatnonzero(each)) for place in known.values() for each in (place, elsewhere(place))]
    names = [f"rule {rule}{end}" for rule in known for end in ("", "_elsewhere")]
    return dict(zip(names, fall(sets, []).tolist(), strict=True))


def _necessary_and_sufficient(
    kind: str, count: int, place: np.ndarray | None, geometry: ImageGrid, fall, seed: str
) -> dict[str, float]:
    """Falls without a region, without all, and without all but the region; with random sets, and elsewhere.

    Where an image becomes several grids, the tokens of coarser ones that see any of a region go with it.
    """
    every = np.arange(count)
    if place is None:
        return {f"{kind}_all": float(fall([every], [])[0])}
    own, beside, *drawn = (
        geometry.with_coarser(each)
        for each in (
            np.flatnonzero(place),
            np.flatnonzero(elsewhere(place)),
            *random_sets(place, seed=seed),
        )
    )
    others = [np.setdiff1d(every, each) for each in (own, *drawn)]
    found = fall([every, own, beside, others[0]], [*drawn, *others[1:]])
    whole, without, moved, left = found[:4]
    random, random_left = found[4:].reshape(2, len(drawn))
    return {
        f"{kind}_all": whole,
        kind: without,
        f"{kind}_elsewhere": moved,
        f"{kind}_random": random.mean(),
        f"{kind}_kept": whole - left,
        f"{kind}_kept_random": (whole - random_left).mean(),
    }


def _replacing(case: Case, values: Sequence[Float[Tensor, "T D"]], score: float):
    """The falls when sets of tokens are replaced, the mean over what replaces them.

    Of random sets each is replaced by one of the values, the next by the next: their mean is over both.
    """

    def fall(sets: Sequence[np.ndarray], drawn: Sequence[np.ndarray]) -> np.ndarray:
        pairs = [(each, value) for value in values for each in sets]
        pairs += [(each, values[index % len(values)]) for index, each in enumerate(drawn)]
        runs = [case.with_tokens(each.tolist(), value[each.tolist()]) for each, value in pairs]
        found = score - np.array(case.scores(runs))
        named = found[: len(values) * len(sets)].reshape(len(values), len(sets)).mean(axis=0)
        return np.concatenate([named, found[len(values) * len(sets) :]])

    return fall


def _intervening(case: Case, kind: Any, score: float):
    """The falls when something is done inside every mixer to sets of tokens."""

    def fall(sets: Sequence[np.ndarray], drawn: Sequence[np.ndarray]) -> np.ndarray:
        return score - np.array(case.changed([[_inside(case, kind, each)] for each in (*sets, *drawn)]))

    return fall


def _inside(case: Case, kind: Any, where: np.ndarray, layers: tuple[int, ...] | None = None) -> Intervention:
    readers = (case.length - 1,) if kind in READ else None
    return Intervention(kind=kind, tokens=tuple(where.tolist()), readers=readers, layers=layers)


def _replaced_placebo(
    case: Case, value: Float[Tensor, "T D"], where: np.ndarray, score: float, seed: str
) -> float:
    own = case.tokens[0, where.tolist()]
    moved = own + random_like(value[where.tolist()].to(own) - own, seed=seed)
    return score - case.scores([case.with_tokens(where.tolist(), moved)])[0]


def _inner_placebo(case: Case, kind: str, where: np.ndarray, score: float, seed: str) -> float:
    return score - case.changed([placebo(case, _inside(case, kind, where), seed=seed)])[0]


def _by_layer(
    case: Case, place: np.ndarray, layers: Sequence[int], mixers: Sequence[int], score: float
) -> dict[str, list[float]]:
    """The fall without the writes to one layer's state, or to those of the window about it; NaN where there is none."""
    depth = case.vlm.config.llm.n_layer
    near = [*((layer,) for layer in layers), *(window(layer, depth) for layer in layers)]
    chosen = [tuple(layer for layer in some if layer in mixers) for some in near]
    runs = [
        [_inside(case, "write", np.flatnonzero(each), layers=some)] if some else []
        for each in (place, elsewhere(place))
        for some in chosen
    ]
    with torch.no_grad():
        found = (score - np.array(case.changed(runs))).reshape(2, len(chosen))
    found[:, [not some for some in chosen]] = np.nan
    found = found.reshape(2, len(CURVES), len(layers))
    return {
        f"{curve}{end}": found[row, column].tolist()
        for column, curve in enumerate(CURVES)
        for row, end in enumerate(("", "_elsewhere"))
    }


def _kinds(result: Result, index: int) -> Bars | None:
    found = {kind: {each: result.one(f"knockout.{kind}.{each}") for each in CONTROLS} for kind in _KINDS}
    found = {kind: row for kind, row in found.items() if all(row.values())}
    if not found:
        return None
    own = [row["random"].number for row in found.values() if row["random"]]
    series = [series_of("the object's tokens", index, own)]
    for control, said in CONTROLS.items():
        numbers = [each.control for row in found.values() if (each := row[control])]
        series.append(series_of(said, index, numbers, control=True))
    return Bars(
        name=f"kinds-{index}",
        title=f"Fall of the logit difference: {result.model}",
        x=list(found),
        y_title="fall, nats",
        series=series,
        caption="The object's tokens, "
        + "; ".join(f"{kind}: {_KINDS[kind]}" for kind in found)
        + ". Pale: controls. Whiskers: 95 % over images.",
    )


def _sufficient(result: Result, index: int) -> Bars | None:
    found = {kind: result.one(f"knockout.{kind}.sufficient") for kind in _KINDS}
    known = {kind: each for kind, each in found.items() if each is not None}
    if not known:
        return None
    return Bars(
        name=f"sufficient-{index}",
        title=f"What the object's tokens alone bring back: {result.model}",
        x=list(known),
        y_title="nats",
        series=[
            series_of("the object's tokens", index, [each.number for each in known.values()]),
            series_of("as many random ones", index, [each.control for each in known.values()], control=True),
        ],
        caption="Against the run in which all image tokens are taken. Pale: controls. Whiskers: 95 % over images.",
    )


def _nats(name: str, title: str, values: np.ndarray, control: np.ndarray | None = None, **given) -> Measure:
    return mean_measure(values, control, name=name, title=title, unit="nats", **given)
