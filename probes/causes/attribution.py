"""Attribution: gradients of three kinds, groups of tokens taken away, and which maps name the tokens that matter."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from emma_viz.evidence.case import Case
from emma_viz.evidence.integrated import CLOSE, Integrated, integrate
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.evidence.superpatches import Shapley, ablate, occlude, shapley, superpatches
from emma_viz.metrics.trust import histogram_entropy, rise, spearman
from probes.causes.cascade import STAGES, forgetful, stage_said
from probes.causes.regions import DRAWS, Means, case_of, region
from probes.charts import Bars, Chart, Series
from probes.numbers import joined_parts, mean_measure, series_of
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

_METHODS = {
    "integrated": "integrated gradients",
    "frozen": "frozen × (e − mean)",
    "gradient": "gradient × (e − mean)",
    "occlusion": "occlusion",
    "ablation": "feature ablation",
    "shapley": "Shapley values",
}
_PARTS = 4
"""Of each side of the image: groups of tokens that are ablated, and whose Shapley values are estimated."""
WINDOW = 3
"""Side of what occludes, tokens; it moves by one, or with --quick by two."""
PAIRS, QUICK_PAIRS = 8, 3
"""Of orders, for Shapley values."""
DELETED = 0.1
"""Of the tokens, those that a map ranks highest."""
FIRST = 64
"""Points that integrated gradients begin with."""
_EVERY, _SHUFFLED_EVERY = 4, 8
"""With --quick, every so manieth image; and the images whose maps are made again of shuffled weights."""
SHUFFLED = ("integrated", "occlusion", "ablation", "shapley")
"""Maps that are made again of shuffled weights; the others are in `trust`, step by step."""


class AttributionProbe:
    """Maps of the same score, each judged by what happens without the tokens it names."""

    name = "attribution"
    title = "Which map names the tokens that matter"
    question = "Of several attribution maps, which ones name tokens without which the answer's logit difference falls?"
    method = (
        f"Each map ranks the image tokens; the highest {DELETED:.0%} are replaced by the mean token of other images, "
        f"and the fall is compared with {DRAWS} random sets of as many. Integrated gradients (Captum) run from that "
        f"mean token, {FIRST} points, doubled until the sum is within {CLOSE:.0%} of the difference, else marked "
        "incomplete. Occlusion, ablation and Shapley values (Captum) put that token in the place of windows of "
        f"{WINDOW} × {WINDOW} tokens, or of {_PARTS} × {_PARTS} groups; Shapley values are the mean over {2 * PAIRS} "
        f"orders ({2 * QUICK_PAIRS} with --quick), each with its reverse. A map that "
        "does not beat random sets here should not be shown. Integrated gradients, occlusion, ablation and Shapley "
        "values are made again of the model with all weights shuffled, each within its tensor (MPRT), and without "
        "--quick with those of its last blocks, from the top down: a map that stays "
        f"like itself does not show what was learnt; {FIRST} points then, complete or not."
    )

    def __init__(self):
        self._means = Means()

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True, scan=("delta", "B", "C"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """Falls and shares of each map, for each image."""
        names = ["random", "area", "complete", "points", "shapley error", "shapley gap"]
        names += [f"{name}{end}" for name in _METHODS for end in ("", "_inside")]
        names += [f"{name}_rise" for name in SHUFFLED]
        names += [f"{name}_like {stage}" for name in SHUFFLED for stage in range(1, STAGES + 1)]
        rows, notes = [], []
        for index in range(len(batch.subjects)):
            row = dict.fromkeys(names, float("nan"))
            if not batch.others:
                notes.append("there is one image alone: no mean token of others to begin from")
            elif batch.spares(index, _EVERY):
                notes.append(batch.said("all maps", _EVERY))
            else:
                spared = batch.spares(index, _SHUFFLED_EVERY)
                row |= self._judged(batch, index, shuffled=not spared)
                if spared:
                    notes.append(batch.said("maps of shuffled weights", _SHUFFLED_EVERY))
            rows.append(row)
        return joined_parts(rows, notes)

    def _judged(self, batch: Batch, index: int, *, shuffled: bool) -> dict[str, float]:
        assert batch.model is not None
        subject, case = batch.subjects[index], case_of(batch, index)
        mean = self._means.of(batch.model, batch.others)
        away = (case.tokens[0] - mean).float().cpu().numpy()
        found, shares, dear = _dear_maps(batch, case, mean, most=256 if batch.quick else 512)
        held = decompose(batch.model, subject.image, subject.prompt, word=[case.word], against=[case.against])
        maps = {
            "integrated": dear["integrated"],
            "frozen": (held.slope * away).sum(axis=1),
            "gradient": (_slope(case) * away).sum(axis=1),
        }
        maps |= dear
        sign = 1.0 if found.score >= found.baseline else -1.0
        size = max(1, round(DELETED * case.count))
        sets = [np.argsort(-sign * each, kind="stable")[:size] for each in maps.values()]
        draw = np.random.default_rng(zlib.crc32(subject.name.encode()))
        drawn = [draw.permutation(case.count)[:size] for _ in range(DRAWS)]
        scores = np.array(case.scores([case.with_tokens(each.tolist(), mean) for each in (*sets, *drawn)]))
        falls = sign * (found.score - scores)
        row = {name: float(fall) for name, fall in zip(maps, falls, strict=False)}
        row |= {"random": float(falls[len(maps) :].mean()), "complete": float(found.complete)}
        row["points"] = float(found.points)
        row["shapley gap"] = abs(shares.gap)
        size = np.abs(shares.values).mean()
        row["shapley error"] = float(shares.errors.mean() / size) if size else float("nan")
        if shuffled:
            for stage in (STAGES,) if batch.quick else range(1, STAGES + 1):
                with forgetful(case.vlm.llm, stage):
                    _, _, again = _dear_maps(batch, case, mean, most=FIRST)
                row |= {f"{name}_like {stage}": spearman(dear[name], again[name]) for name in SHUFFLED}
            for name in SHUFFLED:
                row[f"{name}_rise"] = rise(histogram_entropy(dear[name]), histogram_entropy(again[name]))
        where = region(subject, batch.trace.geometry[index])
        if where is not None:
            row["area"] = float(where.mean())
            for name, each in maps.items():
                total = np.abs(each).sum()
                row[f"{name}_inside"] = float(np.abs(each)[where.ravel()].sum() / total) if total else np.nan
        return row

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Falls against random sets, and shares on the object against its area."""
        columns = gathered.columns
        if not columns or not np.isfinite(columns["random"]).any():
            return []
        found = [
            mean_measure(
                columns["complete"],
                name="attribution.complete",
                title=f"share of images whose integrated gradients were complete to {CLOSE:.0%}",
            ),
            mean_measure(
                columns["shapley error"],
                name="attribution.shapley_error",
                title="standard error of a Shapley value, of their mean size",
            ),
            mean_measure(
                columns["shapley gap"],
                name="attribution.shapley_gap",
                title="gap between the sum of the Shapley values and the difference that they share out",
                unit="nats",
            ),
        ]
        for name, said in _METHODS.items():
            found.append(
                mean_measure(
                    columns[name],
                    columns["random"],
                    name=f"attribution.deletion.{name}",
                    title=f"fall without the {DELETED:.0%} of tokens that {said} ranks highest",
                    unit="nats",
                    control_title=f"{DRAWS} random sets of as many",
                )
            )
            if np.isfinite(columns["area"]).any():
                found.append(
                    mean_measure(
                        columns[f"{name}_inside"],
                        columns["area"],
                        name=f"attribution.inside.{name}",
                        title=f"share of the map's sizes on the object: {said}",
                        control_title="the object's share of the area",
                    )
                )
        return [*found, *_randomised_maps(columns)]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Falls, beside those of random sets; shares on the object, beside its area."""
        charts = []
        for kind, title, y_title in (
            ("deletion", f"Fall without the {DELETED:.0%} of tokens that a map ranks highest", "fall, nats"),
            ("inside", "Share of a map that lies on the object", "share"),
        ):
            series = []
            for index, result in enumerate(results):
                found = [result.one(f"attribution.{kind}.{name}") for name in _METHODS]
                known = [each for each in found if each is not None]
                if len(known) == len(_METHODS):
                    series += _bars(result, index, known)
            if series:
                charts.append(
                    Bars(
                        name=kind,
                        title=title,
                        x=list(_METHODS.values()),
                        y_title=y_title,
                        series=series,
                        caption="Pale: controls. Whiskers: 95 % over images.",
                    )
                )
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Which maps can be trusted."""
        said = []
        for result in results:
            found = {name: result.one(f"attribution.deletion.{name}") for name in _METHODS}
            known = {name: each for name, each in found.items() if each is not None}
            if not known:
                continue
            good = [_METHODS[name] for name, each in known.items() if each.beats]
            said.append(
                f"For {result.model}, maps shown to name tokens that matter more than random ones: "
                f"{', '.join(good) if good else 'none'}."
            )
            stay = [
                _METHODS[name]
                for name in SHUFFLED
                if (each := result.one(f"attribution.like.{name}")) and each.number.low > 0
            ]
            if stay:
                said.append(f"Still like themselves when all weights are shuffled: {', '.join(stay)}.")
        return " ".join(said)


def _bars(result: Result, index: int, found: Sequence[Finding]) -> list[Series]:
    rows = [(result.model, [each.number for each in found], False)]
    controls = [each.control for each in found if each.control is not None]
    rows.append((f"{result.model}: {found[0].measure.control_title}", controls, True))
    return [series_of(name, index, numbers, control=control) for name, numbers, control in rows]


def _dear_maps(
    batch: Batch, case: Case, mean: torch.Tensor, *, most: int
) -> tuple[Integrated, Shapley, dict[str, np.ndarray]]:
    """Maps that need many runs, of the model as it is now, and what two of them say of themselves."""
    grid = case.vlm.grid
    groups = superpatches(grid, _PARTS)
    sizes = np.bincount(groups.ravel())
    found = integrate(case, mean, points=FIRST, most=most)
    shares = shapley(case, mean, groups, pairs=QUICK_PAIRS if batch.quick else PAIRS)
    return found, shares, {
        "integrated": found.values,
        "occlusion": _occluded(case, mean, grid, quick=batch.quick),
        "ablation": (ablate(case, mean, groups) / sizes)[groups].ravel(),
        "shapley": (shares.values / sizes)[groups].ravel(),
    }  # fmt: skip


def _randomised_maps(columns: Mapping[str, np.ndarray]) -> list[Measure]:
    """How like themselves maps are as more weights are shuffled, and by how much their entropy rises at the end."""
    found = []
    for name in SHUFFLED:
        for stage in range(1, STAGES + 1):
            if np.isfinite(columns[f"{name}_like {stage}"]).any():
                title = f"likeness (Spearman's ρ) to itself of {_METHODS[name]} when {stage_said(stage)} are shuffled"
                end = "" if stage == STAGES else f".{stage}"
                found.append(
                    mean_measure(
                        columns[f"{name}_like {stage}"], name=f"attribution.like.{name}{end}", title=title
                    )
                )
        if np.isfinite(more := columns[f"{name}_rise"]).any():
            found.append(
                mean_measure(
                    more, np.zeros(len(more)), name=f"attribution.rise.{name}",
                    title=f"eMPRT, the rise of the entropy of {_METHODS[name]} when all weights are shuffled",
                    control_title="no rise",
                )
            )  # fmt: skip
    return found


def _occluded(case: Case, mean: torch.Tensor, grid: tuple[int, int], *, quick: bool) -> np.ndarray:
    side = min(WINDOW, *grid)
    return occlude(case, mean, grid, side=side, stride=min(2, side) if quick else 1).ravel()


def _slope(case: Case) -> np.ndarray:
    """∂score/∂e of each image token."""
    with torch.enable_grad():
        tokens = case.tokens.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(case.score(tokens).sum(), tokens)
    return slope[0].float().cpu().numpy()
