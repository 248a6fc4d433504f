"""Knock-out, by name: what the answer loses when an object's tokens are taken from the "
"model, in several meanings."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from probes.charts import Bars, Chart, Series
from probes.numbers import averaged, layer_chart, signed
from probes.protocol import Batch, Gathered, Measure, Needs, Result, Seen
from probes.regions import DRAWS, Means, case_of, elsewhere, random_sets, region

KINDS = {
    "replace": "replaced by the mean token of other images",
    "write": "kept from writing to any state (B := 0; skip path and convolution stay)",
    "skip": "passed over by every state (Δ := 0; the convolution stays)",
}
CONTROLS = {
    "random": f"{DRAWS} random sets of as many tokens",
    "elsewhere": "the same shape elsewhere",
    "placebo": "as large a change in a random direction",
}


class Knockout:
    """The object's tokens against random ones, the same area elsewhere, and a placebo; "
    "necessity and sufficiency."""

    name = "knockout"
    title = "What the answer loses without the object's tokens"
    question = "Does the answer depend on the image tokens of what was asked about, through which path, at which layer?"
    method = (
        "The fall of logit(word) − logit(rival), in nats. A knock-out has several meanings in a "
        "state-space model, so "
        "each is named: "
        + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
        + ". Region: patches that the "
        "object covers by half, and those beside them. Sufficiency: what comes back when the "
        "region alone is left and "
        "all other tokens are replaced. Routing may change, unlike in the frozen decomposition."
    )

    def __init__(self):
        self._means = Means()

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True)

    def see(self, batch: Batch) -> Seen:
        """Effects of each kind on the region and on its controls, for each image."""
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            place = region(subject, batch.trace.geometry[index])
            case = case_of(batch, index)
            if not batch.others:
                notes.append("there is one image alone: no mean token of others to put in its place")
            if place is None:
                notes.append("of images without a mask all tokens were taken, and no region")
            rows.append(self._effects(batch, case, place, seed=subject.name))
        return Seen(
            columns={name: np.array([row[name] for row in rows], np.float64) for name in rows[0]},
            notes=tuple(dict.fromkeys(notes)),
        )

    def _effects(
        self, batch: Batch, case: Case, place: np.ndarray | None, *, seed: str
    ) -> dict[str, float | list]:
        layers = [layer for layer in batch.layers if layer >= 0]
        nothing = float("nan")
        row: dict[str, float | list] = dict.fromkeys(_names(), nothing)
        row |= {"layer": [nothing] * len(layers), "layer_elsewhere": [nothing] * len(layers)}
        (score,) = case.changed([()])
        row["score"] = score
        image = tuple(range(case.count))
        for kind in ("write", "skip"):
            row[f"{kind}_all"] = score - case.changed([[_whole(kind, image)]])[0]
        if batch.others and batch.model is not None:
            mean = self._means.of(batch.model, batch.others)
            row["replace_all"] = score - case.scores([case.with_tokens(image, mean)])[0]
            if place is not None:
                row |= _replaced(case, place, mean, score, seed)
        if place is not None:
            sets = [np.flatnonzero(place), np.flatnonzero(elsewhere(place)), *random_sets(place, seed=seed)]
            for kind in ("write", "skip"):
                found = case.changed([[_whole(kind, each.tolist())] for each in sets])
                row |= {
                    kind: score - found[0],
                    f"{kind}_elsewhere": score - found[1],
                    f"{kind}_random": score - float(np.mean(found[2:])),
                }
            runs = [
                [Intervention(kind="write", tokens=tuple(each.tolist()), layers=(layer,))]
                for each in sets[:2]
                for layer in layers
            ]
            found = score - np.array(case.changed(runs))
            row |= {
                "layer": found[: len(layers)].tolist(),
                "layer_elsewhere": found[len(layers) :].tolist(),
            }
        return row

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Each kind against each of its controls, sufficiency, and the state path by layer."""
        columns = gathered.columns
        if not columns:
            return []
        found = [_mean("knockout.score", "the answer's logit difference as it is", columns["score"])]
        for kind, what in KINDS.items():
            found.append(
                _mean(
                    f"knockout.{kind}.all",
                    f"fall when all image tokens are {what}",
                    columns[f"{kind}_all"],
                )
            )
            for control, said in CONTROLS.items():
                if f"{kind}_{control}" in columns:
                    found.append(
                        _mean(
                            f"knockout.{kind}.{control}",
                            f"fall when the object's tokens are {what}",
                            columns[kind],
                            columns[f"{kind}_{control}"],
                            said,
                        )
                    )
        found.append(
            _mean(
                "knockout.sufficient",
                "what comes back when the object's tokens alone are left",
                columns["kept"],
                columns["kept_random"],
                "as many random tokens left",
            )
        )
        layers = [layer for layer in gathered.layers if layer >= 0]
        for index, layer in enumerate(layers):
            found.append(
                _mean(
                    "knockout.layer",
                    "fall when the object's tokens write nothing to this layer's state",
                    columns["layer"][:, index],
                    columns["layer_elsewhere"][:, index],
                    "the same shape elsewhere",
                    layer=layer,
                )
            )
        return [each for each in found if each.columns["count"].any()]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Kinds beside their controls, and the state path by layer."""
        charts: list[Chart] = []
        for index, result in enumerate(results):
            bars = [
                (kind, {control: result.one(f"knockout.{kind}.{control}") for control in CONTROLS})
                for kind in KINDS
            ]
            bars = [(kind, found) for kind, found in bars if any(found.values())]
            if not bars:
                continue
            own = [next(each for each in found.values() if each) for _, found in bars]
            series = [
                Series(
                    name="the object's tokens",
                    y=[each.number.value for each in own],
                    low=[each.number.low for each in own],
                    high=[each.number.high for each in own],
                    model=index,
                )
            ]
            for control, said in CONTROLS.items():
                numbers = [each.control if (each := found[control]) else None for _, found in bars]
                series.append(
                    Series(
                        name=said,
                        y=[each.value if each else float("nan") for each in numbers],
                        low=[each.low if each else float("nan") for each in numbers],
                        high=[each.high if each else float("nan") for each in numbers],
                        model=index,
                        control=True,
                    )
                )
            charts.append(
                Bars(
                    name=f"kinds-{index}",
                    title=f"Fall of the logit difference: {result.model}",
                    x=[kind for kind, _ in bars],
                    y_title="fall, nats",
                    series=series,
                    caption="The object's tokens, "
                    + "; ".join(f"{k}: {w}" for k, w in KINDS.items())
                    + ". Pale: controls. Whiskers: 95 % over images.",
                )
            )
        chart = layer_chart(
            results,
            "knockout.layer",
            name="layer",
            title="Without the object's writes to one layer's state",
            y_title="fall, nats",
            caption="Intervention at one layer: write at B, the object's tokens. Dashed: the same shape elsewhere.",
        )
        return [*charts, chart] if chart else charts

    def summary(self, results: Sequence[Result]) -> str:
        """Whether the answer needs the object."""
        said = []
        for result in results:
            found = result.one("knockout.replace.random")
            if found is None or found.control is None:
                continue
            verb = "falls by" if found.beats else "does not fall more than for random tokens:"
            line = (
                f"Without the object's tokens the logit difference of {result.model} {verb} "
                f"{found.number.value:.1f} nats "
                f"({signed(found.control.value)} without as many random ones)"
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


def _names() -> list[str]:
    kinds = [f"{kind}{end}" for kind in ("write", "skip") for end in ("", "_all", "_random", "_elsewhere")]
    replaced = ["replace", "replace_all", *(f"replace_{control}" for control in CONTROLS)]
    return ["score", *kinds, *replaced, "kept", "kept_random"]


def _whole(kind, tokens: Sequence[int]) -> Intervention:
    return Intervention(kind=kind, tokens=tuple(tokens))


def _replaced(
    case: Case, place: np.ndarray, mean: torch.Tensor, score: float, seed: str
) -> dict[str, float | list]:
    where, other = np.flatnonzero(place), np.flatnonzero(elsewhere(place))
    drawn = random_sets(place, seed=seed)
    away = mean - case.tokens[0, where.tolist()]
    noise = torch.randn(away.shape, generator=torch.Generator().manual_seed(zlib.crc32(seed.encode()))).to(
        away
    )
    placebo = case.tokens[0, where.tolist()] + noise * (away.norm(dim=1) / noise.norm(dim=1))[:, None]
    whole = mean.expand(case.count, -1)
    kept = [_keeping(case, whole, each) for each in (where, *drawn)]
    found = np.array(
        case.scores(
            [
                case.with_tokens(where.tolist(), mean),
                case.with_tokens(other.tolist(), mean),
                case.with_tokens(where.tolist(), placebo),
                whole,
                *(case.with_tokens(each.tolist(), mean) for each in drawn),
                *kept,
            ]
        )
    )
    back = found[4 + len(drawn) :] - found[3]
    return {
        "replace": score - found[0],
        "replace_elsewhere": score - found[1],
        "replace_placebo": score - found[2],
        "replace_random": score - found[4 : 4 + len(drawn)].mean(),
        "kept": back[0],
        "kept_random": back[1:].mean(),
    }


def _keeping(case: Case, whole: torch.Tensor, where: np.ndarray) -> torch.Tensor:
    kept = whole.clone()
    kept[where.tolist()] = case.tokens[0, where.tolist()]
    return kept


def _mean(
    name: str,
    title: str,
    values: np.ndarray,
    control: np.ndarray | None = None,
    control_title: str = "",
    *,
    layer: int | None = None,
) -> Measure:
    columns, statistic = averaged(values)
    return Measure(
        name=name,
        title=title,
        unit="nats",
        layer=layer,
        columns=columns,
        statistic=statistic,
        control=None if control is None else averaged(control)[0],
        control_title=control_title,
    )
