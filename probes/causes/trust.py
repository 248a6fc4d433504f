"""Trust: do attribution maps depend on what the model learnt, and do they lie where the object is?"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from emma_viz.evidence.case import Case
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.metrics import mask_on_grid
from emma_viz.metrics.trust import (
    centre_prior,
    energy_inside,
    histogram_entropy,
    overlap,
    points_at,
    rise,
    spearman,
    structural_likeness,
)
from probes.causes.cascade import STAGES, forgetful, stage_said
from probes.causes.regions import Means, case_of
from probes.charts import Bars, Chart, Lines, Series
from probes.numbers import mean_measure, series_of
from probes.protocol import Batch, Finding, Gathered, Measure, Needs, Result, Seen

METHODS = {
    "gradient": "gradient × (e − mean)",
    "smooth": "gradient × (e − mean), mean over noise",
    "frozen": "frozen × (e − mean)",
}
NOISE = 0.1
"""Of the range of the image's tokens: the deviation of the noise that a smooth map is the mean over."""
_DRAWS, QUICK_DRAWS = 16, 4
_EVERY = 4
"""With --quick, every so manieth image."""
_TOGETHER = 8
"""Variants of an image's tokens that go through the model at once."""
_COVERED = 0.5


class Trust:
    """Maps of a model whose weights are shuffled from the top down, and maps against masks."""

    name = "trust"
    title = "Can the maps be trusted?"
    question = "Do the maps change when the model forgets what it learnt, and do they lie on the object?"
    method = (
        "Weights are shuffled within each tensor, from the last blocks down (MPRT); rank correlation of signed maps "
        "with those of the trained model, and their SSIM on one scale: a map that stays does not show what was learnt. "
        "eMPRT is the rise of a map's "
        "entropy (100 bins) when all weights are shuffled. Where masks are known: whether the highest patch is the "
        "object's or beside it, and the share above 0 that lies on it, against a Gaussian about the middle and against "
        "the same map of the shuffled model."
    )

    def __init__(self):
        self._means = Means()

    def needs(self) -> Needs:
        """The model itself."""
        return Needs(live=True, scan=("delta", "B", "C"), apart=True)

    def see(self, batch: Batch) -> Seen:
        """What is asked of each image's maps."""
        found, notes = [], []
        for index in range(len(batch.subjects)):
            if not batch.others:
                notes.append("there is one image alone: no mean token of others to compare with")
            elif batch.spares(index, _EVERY):
                notes.append(batch.said("all maps", _EVERY))
            else:
                found.append((index, self._judged(batch, index)))
        columns = {name: np.full(len(batch.subjects), np.nan) for name in _names()}
        for index, row in found:
            for name, value in row.items():
                columns[name][index] = value
        return Seen(columns=columns, notes=tuple(dict.fromkeys(notes)))

    def _judged(self, batch: Batch, index: int) -> dict[str, float]:
        assert batch.model is not None
        llm, case = batch.model.vlm.llm, case_of(batch, index)
        mean = self._means.of(batch.model, batch.others)
        plain = self._maps(batch, index, case, mean)
        found = {}
        for stage in range(1, STAGES + 1):
            with forgetful(llm, stage):
                maps = self._maps(batch, index, case, mean)
            found |= {f"{name} stage {stage}": spearman(plain[name], maps[name]) for name in METHODS}
            for name in METHODS:
                both = (each[name].reshape(case.vlm.grid) for each in (plain, maps))
                found[f"{name} ssim {stage}"] = structural_likeness(*both)
        found["agree"] = spearman(plain["gradient"], plain["frozen"])
        found["overlap"] = overlap(plain["gradient"], plain["frozen"])
        order = np.random.default_rng(zlib.crc32(batch.subjects[index].name.encode())).permutation(case.count)
        found["overlap of none"] = overlap(plain["gradient"], plain["frozen"][order])
        for name in METHODS:
            found[f"{name} rise"] = rise(histogram_entropy(plain[name]), histogram_entropy(maps[name]))
        return found | _on_object(batch, index, plain, maps)

    def _maps(self, batch: Batch, index: int, case: Case, mean: torch.Tensor) -> dict[str, np.ndarray]:
        assert batch.model is not None
        subject = batch.subjects[index]
        away = (case.tokens[0] - mean).float().cpu().numpy()
        draw = torch.Generator().manual_seed(zlib.crc32(subject.name.encode()))
        size = NOISE * float(case.tokens.max() - case.tokens.min())
        count = QUICK_DRAWS if batch.quick else _DRAWS
        noise = [torch.randn(case.tokens[0].shape, generator=draw) * size for _ in range(count)]
        plain, *slopes = _slopes(
            case, [case.tokens[0], *(case.tokens[0] + each.to(case.tokens) for each in noise)]
        )
        held = decompose(batch.model, subject.image, subject.prompt, word=[case.word], against=[case.against])
        return {
            "gradient": (plain * away).sum(axis=1),
            "smooth": (np.mean(slopes, axis=0) * away).sum(axis=1),
            "frozen": (held.slope * away).sum(axis=1),
        }

    def measures(self, gathered: Gathered) -> Sequence[Measure]:
        """Likeness by how much is shuffled; rise of entropy; and what maps must beat."""
        columns = gathered.columns
        if not columns or not np.isfinite(columns["agree"]).any():
            return []
        found = [*_randomised(gathered), *_agreement(columns)]
        return [*found, *_against_masks(columns)]

    def plots(self, results: Sequence[Result]) -> Sequence[Chart]:
        """Likeness by how much is shuffled, and shares on the object."""
        charts: list[Chart] = []
        steps = [f"last {100 * stage // STAGES} %" for stage in range(1, STAGES)] + ["all weights"]
        for kind, y_title in (("like", "Spearman's ρ"), ("ssim", "SSIM")):
            if series := _cascade(results, kind):
                charts.append(
                    Lines(
                        name="cascade" if kind == "like" else f"cascade-{kind}",
                        title=f"Likeness of maps to those of the trained model ({y_title})",
                        x=steps,
                        x_title="blocks that were shuffled",
                        y_title=y_title,
                        series=series,
                        caption="Near 0 is good: the map shows what was learnt. Bands: 95 % over images.",
                    )
                )
        for kind, title in (
            ("energy", "Share of a map above 0 on the object"),
            ("points", "Highest patch on the object"),
        ):
            if bars := _bars(results, kind, title):
                charts.append(bars)
        return charts

    def summary(self, results: Sequence[Result]) -> str:
        """Which maps lie on the object better than a prior, and which ones forget."""
        said = []
        for result in results:
            known = {name: result.one(f"trust.energy.{name}") for name in METHODS}
            good = [METHODS[name] for name, each in known.items() if each and each.beats]
            stay = [
                METHODS[name]
                for name in METHODS
                if (each := result.one(f"trust.like.{name}.{STAGES}")) and each.number.low > 0
            ]
            if any(known.values()):
                said.append(
                    f"Maps of {result.model} shown to lie on the object more than a Gaussian about the middle: "
                    f"{', '.join(good) if good else 'none'}."
                )
            if stay:
                said.append(f"Still like themselves when all weights are shuffled: {', '.join(stay)}.")
        return " ".join(said)


def _names() -> list[str]:
    names = ["agree", "overlap", "overlap of none", "energy of prior", "points of prior"]
    for name in METHODS:
        names += [f"{name} {what} {stage}" for stage in range(1, STAGES + 1) for what in ("stage", "ssim")]
        names += [f"{name} {end}" for end in ("rise", "energy", "points", "energy shuffled")]
    return names


def _slopes(case: Case, variants: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """∂score/∂e of each image token, (T, D), of each variant (T, D) of the tokens."""
    found: list[np.ndarray] = []
    for start in range(0, len(variants), _TOGETHER):
        with torch.enable_grad():
            tokens = torch.stack(list(variants[start : start + _TOGETHER])).detach().requires_grad_()
            (slopes,) = torch.autograd.grad(case.score(tokens).sum(), tokens)
        found += list(slopes.float().cpu().numpy())
    return found


def _on_object(
    batch: Batch, index: int, plain: Mapping[str, np.ndarray], shuffled: Mapping[str, np.ndarray]
) -> dict[str, float]:
    subject, place = batch.subjects[index], batch.trace.geometry[index]
    if subject.mask is None or not subject.target:
        return {}
    share = np.nan_to_num(mask_on_grid(subject.mask == subject.target, place))
    if share.max() == 0:
        return {}
    mask, prior = (share >= _COVERED) | (share == share.max()), centre_prior(place.grid)
    found = {"energy of prior": energy_inside(prior, mask), "points of prior": points_at(prior, mask)}
    for name in METHODS:
        found[f"{name} energy"] = energy_inside(plain[name].reshape(place.grid), mask)
        found[f"{name} points"] = points_at(plain[name].reshape(place.grid), mask)
        found[f"{name} energy shuffled"] = energy_inside(shuffled[name].reshape(place.grid), mask)
    return found


def _mean(columns: Mapping[str, np.ndarray], column: str, control: str | None = None, **given) -> Measure:
    return mean_measure(columns[column], None if control is None else columns[control], **given)


def _randomised(gathered: Gathered) -> list[Measure]:
    columns, found = {**gathered.columns}, []
    columns["nothing"] = np.zeros(gathered.images)
    for name, method in METHODS.items():
        for stage in range(1, STAGES + 1):
            end = f"of {method} to itself when {stage_said(stage)} are shuffled"
            for what, kind, title in (
                ("stage", "like", "likeness (Spearman's ρ)"),
                ("ssim", "ssim", "likeness (SSIM)"),
            ):
                if np.isfinite(columns[f"{name} {what} {stage}"]).any():
                    found.append(
                        _mean(
                            columns,
                            f"{name} {what} {stage}",
                            name=f"trust.{kind}.{name}.{stage}",
                            title=f"{title} {end}",
                        )
                    )
        title = f"eMPRT, the rise of the entropy of {method} when all weights are shuffled"
        found.append(
            _mean(
                columns,
                f"{name} rise",
                "nothing",
                name=f"trust.rise.{name}",
                title=title,
                control_title="no rise",
            )
        )
    return found


def _agreement(columns: Mapping[str, np.ndarray]) -> list[Measure]:
    title = "rank correlation of gradient and frozen maps"
    return [
        _mean(columns, "agree", name="trust.agree", title=title),
        _mean(
            columns,
            "overlap",
            "overlap of none",
            name="trust.overlap",
            title="overlap (IoU) of the tenth of patches that gradient and frozen maps rank highest",
            control_title="one map with its patches in a random order",
        ),
    ]


def _against_masks(columns: Mapping[str, np.ndarray]) -> list[Measure]:
    if not np.isfinite(columns["energy of prior"]).any():
        return []
    found = []
    for name, said in METHODS.items():
        for kind, title in (
            ("energy", "share above 0 that lies on the object"),
            ("points", "highest patch is the object's"),
        ):
            found.append(
                _mean(
                    columns,
                    f"{name} {kind}",
                    f"{kind} of prior",
                    name=f"trust.{kind}.{name}",
                    title=f"{title}: {said}",
                    control_title="a Gaussian about the middle",
                )
            )
        found.append(
            _mean(
                columns,
                f"{name} energy",
                f"{name} energy shuffled",
                name=f"trust.learnt.{name}",
                title=f"share above 0 that lies on the object: {said}",
                control_title="the same map of shuffled weights",
            )
        )
    return found


def _series(name: str, model: int, found: Sequence[Finding], *, control: bool = False) -> Series:
    return series_of(
        name, model, [each.control if control else each.number for each in found], control=control
    )


def _cascade(results: Sequence[Result], kind: str) -> list[Series]:
    series = []
    for index, result in enumerate(results):
        for name, method in METHODS.items():
            numbers = [result.one(f"trust.{kind}.{name}.{stage}") for stage in range(1, STAGES + 1)]
            known = [each for each in numbers if each is not None]
            if len(known) == STAGES:
                series.append(_series(f"{result.model}: {method}", index, known))
    return series


def _bars(results: Sequence[Result], kind: str, title: str) -> Bars | None:
    series = []
    for index, result in enumerate(results):
        known = [each for name in METHODS if (each := result.one(f"trust.{kind}.{name}")) is not None]
        if len(known) == len(METHODS):
            series.append(_series(result.model, index, known))
            series.append(_series(f"{result.model}: a Gaussian about the middle", index, known, control=True))
    caption = "Pale: a Gaussian about the middle. Whiskers: 95 % over images."
    return (
        Bars(
            name=kind, title=title, x=list(METHODS.values()), y_title="share", series=series, caption=caption
        )
        if series
        else None
    )
