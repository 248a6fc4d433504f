"""Patching between twins: states of the image with the object, put into a run of the image without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emma_viz.evidence.case import Case
from emma_viz.evidence.patching import estimated_effects, patches, states_of, verify
from probes.causes.regions import elsewhere, region
from probes.charts import Chart, Lines
from probes.findings import shown
from probes.numbers import curve_chart, joined_parts, mean_measure, shared_part
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

LEAST = 0.5
"""A pair whose logit differences lie closer than this many nats says nothing, and is left out."""
_SETS = {
    "image": "all image tokens",
    "region": "the object's tokens",
    "elsewhere": "the same shape elsewhere",
    "text": "the text's tokens",
}


_WAYS = {"": "that comes with", "noise ": "that goes with"}
"""With the object's states in the run without it, and the other way round."""
ESTIMATED = ("resid_pre", "mixer_out", "x", "z", "B", "C", "delta")
"""Sites whose patches are estimated."""
TOP, DRAWN = 10, 50
POINTS = 5
"""On the way between the twins at which the better estimates take a gradient (EAP-IG)."""
_EVERY, _ESTIMATED_EVERY = 4, 8
"""With --quick, every so manieth pair is patched, and fewer are estimated."""


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
        f"than {LEAST} nats are left out. 1: the answer follows; 0: it does not. The other way round (noise), states "
        "of the image without the object go into the run with it: the share that the answer loses. What comes with "
        "a patch is enough, what goes with one is needed. Patching the last layers' text tokens carries the answer "
        "itself. Estimates: attribution patching at seven sites, its correlation with real patches beside it, and "
        f"that of the mean gradient at {POINTS} points between the twins."
    )

    def needs(self) -> Needs:
        """Twins, and the model."""
        return Needs(live=True, pairs=True, scan=("mixer_out", "x", "B", "C", "delta"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """What each patch recovers or takes, for each pair, in nats; estimates of it; and the whole difference."""
        layers = [layer for layer in batch.layers if layer >= 0]
        blank: dict[str, Any] = {"whole": np.nan, "correlation": np.nan, "correlation_between": np.nan}
        blank |= {f"{way}{name}": np.full(len(layers), np.nan) for way in _WAYS for name in _SETS}
        blank |= {
            f"{site}{end}": np.full(len(layers), np.nan) for site in ESTIMATED for end in ("", " elsewhere")
        }
        rows, notes = [], []
        for index, subject in enumerate(batch.subjects):
            row = blank
            place = region(subject, batch.trace.geometry[index])
            assert batch.model is not None
            if batch.spares(index, _EVERY):
                notes.append(batch.said("patches", _EVERY))
            elif subject.twin is not None and place is not None:
                clean = Case.of(batch.model, subject.image, subject.prompt, words=subject.words)
                without = Case.of(batch.model, subject.twin, subject.prompt, words=subject.words)
                high, low = clean.changed([()])[0], without.changed([()])[0]
                if abs(high - low) >= LEAST:
                    row = blank | {"whole": high - low} | _patched(clean, without, (high, low), place, layers)
                    if batch.spares(index, _ESTIMATED_EVERY):
                        notes.append(batch.said("estimates", _ESTIMATED_EVERY))
                    else:
                        row |= _estimated(clean, without, place, layers)
                else:
                    notes.append(f"some pairs were left out, whose answers differ by less than {LEAST} nats")
            rows.append(row)
        return joined_parts(rows, notes)

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """The share that each patch recovers or takes, by layer; what was estimated, and how well."""
        columns = gathered.columns
        if not columns or not np.isfinite(columns["whole"]).any():
            return []
        layers = [layer for layer in gathered.layers if layer >= 0]

        def share(name: str, title: str, column: str, index: int, control: str | None = None) -> Measure:
            part, statistic = shared_part(columns[column][:, index], columns["whole"])
            beside = None if control is None else shared_part(columns[control][:, index], columns["whole"])[0]
            return Measure(
                name=name,
                title=title,
                layer=layers[index],
                columns=part,
                statistic=statistic,
                control=beside,
                control_title="" if control is None else _SETS["elsewhere"],
            )

        found = []
        for way, said in _WAYS.items():
            end = "" if not way else ".noise"
            for name, what in _SETS.items():
                found += [
                    share(f"patching.{name}{end}", f"share of the twins' difference {said} {what}", f"{way}{name}",
                          index, f"{way}elsewhere" if name == "region" else None)
                    for index in range(len(layers))
                ]  # fmt: skip
        if np.isfinite(columns["correlation"]).any():
            found.append(
                mean_measure(
                    columns["correlation"],
                    name="patching.correlation",
                    title=f"correlation of estimates with real patches ({TOP} largest and {DRAWN} random of each pair)",
                )
            )
            found.append(
                mean_measure(
                    columns["correlation_between"],
                    name="patching.correlation_between",
                    title=f"the same of estimates from the mean gradient at {POINTS} points between the twins (EAP-IG)",
                )
            )
            for site in ESTIMATED:
                found += [
                    share(f"patching.estimate.{site}", f"estimated share of the difference in the object's {site}",
                          site, index, f"{site} elsewhere")
                    for index in range(len(layers))
                ]  # fmt: skip
        return found

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Shares by layer, one chart a model and direction; estimates by site."""
        charts = []
        for index, result in enumerate(results):
            for end, title, caption in (
                ("", "What carries the difference", "by the twin with the object"),
                (".noise", "What the answer cannot do without", "by the twin without the object"),
            ):
                known = {_SETS[name]: result.curve(f"patching.{name}{end}") for name in _SETS}
                if known[_SETS["image"]]:
                    name = f"shares{end.replace('.', '-')}-{index}"
                    caption = f"Intervention: replace at resid_pre, {caption}. Dashed: control."
                    charts.append(_chart(name, f"{title}: {result.model}", known, caption))
            known = {site: result.curve(f"patching.estimate.{site}") for site in ESTIMATED}
            agreed = result.one("patching.correlation")
            if all(known.values()) and agreed:
                title = f"Estimated effect of the object's states: {result.model}"
                caption = (
                    "Attribution patching, by one gradient; its correlation with real patches is "
                    f"{shown(agreed.number)}."
                )
                charts.append(_chart(f"estimates-{index}", title, known, caption))
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


def _patched(
    clean: Case, without: Case, scores: tuple[float, float], place: np.ndarray, layers: Sequence[int]
) -> dict[str, np.ndarray]:
    """What every patch brings the run without the object, and takes from the run with it, in nats."""
    high, low = scores
    places = {
        "image": range(without.count),
        "region": np.flatnonzero(place).tolist(),
        "elsewhere": np.flatnonzero(elsewhere(place)).tolist(),
        "text": range(without.count, without.length),
    }
    row = {}
    for way, source, target, said in (
        ("", clean, without, "the image with the object"),
        ("noise ", without, clean, "the image without the object"),
    ):
        states = states_of(source, ("resid_pre",), layers)
        runs = [
            [change] for where in places.values() for change in patches(states, where, source=said).values()
        ]
        found = np.array(target.changed(runs)).reshape(len(places), len(layers))
        moved = found - low if target is without else high - found
        row |= {f"{way}{name}": each for name, each in zip(places, moved, strict=True)}
    return row


def _estimated(clean: Case, without: Case, place: np.ndarray, layers: Sequence[int]) -> dict[str, Any]:
    found = estimated_effects(clean, without, ESTIMATED, layers)
    between = estimated_effects(clean, without, ESTIMATED, layers, points=POINTS)
    compared = verify(clean, without, found, top=TOP, drawn=DRAWN)
    row: dict[str, Any] = {
        "correlation": compared.correlation,
        "correlation_between": compared.beside(between).correlation,
    }
    for end, where in (("", place), (" elsewhere", elsewhere(place))):
        tokens = np.flatnonzero(where)
        row |= {
            f"{site}{end}": np.array([found.effects[site, layer][tokens].sum() for layer in layers])
            for site in ESTIMATED
        }
    return row


def _chart(name: str, title: str, curves: Mapping[str, Sequence[Finding]], caption: str) -> Lines:
    return curve_chart(
        curves,
        name=name,
        title=title,
        x_title="patched before block" if "estimates" not in name else "layer",
        y_title="share of the difference",
        caption=caption,
        control=_SETS["elsewhere"],
    )
