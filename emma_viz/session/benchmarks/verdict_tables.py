"""Tables of yes/no and short answers: numbers of each model and part with intervals, by each scorer, and differences.

Intervals draw clusters (images), not rows; models are compared on the same draws.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from emma_viz.metrics.intervals import Columns, Estimate, Statistic, difference, estimate, share
from emma_viz.metrics.paired import cluster_p, mcnemar
from emma_viz.metrics.trust import holm
from emma_viz.metrics.verdicts import (
    CALIBRATION_STATISTICS,
    VERDICTS,
    calibration_columns,
    mean_of_parts,
    ranking,
    ranking_difference,
    share_of_parts,
    verdict_columns,
)
from emma_viz.records.answered import AnsweredRecord
from emma_viz.records.scorers import disagreements, scorer
from emma_viz.session.benchmarks.parts import RecordPart, kinds_of, parts_of, splits_of
from emma_viz.session.benchmarks.tables import Cell, Interval, Table

COMPARED = ("accuracy", "f1", "yes_rate")
"""Numbers whose differences between models are shown."""
MEAN_OVER_SPLITS = "mean over splits"
"""The part that Cobra's harness reports."""
_HEADS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "yes_rate": "yes rate",
    "unparsed": "neither",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier",
    "ece": "ECE",
}


def verdict_tables(
    records: Sequence[AnsweredRecord], models: Sequence[str], scorers: Sequence[str]
) -> list[Table]:
    """The tables of yes/no answers; none where there are no such records."""
    asked = kinds_of(records, "yes-no")
    if not asked:
        return []
    parts = parts_of(asked)
    return [
        _main(asked, parts, models, scorers[0]),
        _by_scorer(parts, models, scorers),
        *_differences(parts, models, scorers[0]),
        _disagreements(asked, models, scorers),
    ]


def short_tables(records: Sequence[AnsweredRecord], models: Sequence[str], by: str) -> list[Table]:
    """The tables of short answers: accuracy alone."""
    asked = kinds_of(records, "short")
    if not asked:
        return []
    rows: list[tuple[Cell, ...]] = []
    for part in parts_of(asked):
        for number, model in enumerate(models):
            found = share(_right_columns(part, number, by), VERDICTS["accuracy"])
            rows.append((part.name, model, len(part), part.clusters, interval_of(found)))
    return [
        Table(
            name="short",
            title="Answers of a word or two: right when they are the truth",
            columns=("part", "model", "rows", "images", "accuracy"),
            rows=tuple(rows),
        )
    ]


def interval_of(found: Estimate) -> Interval:
    """A number with its interval over clusters."""
    return Interval(value=found.value, low=found.low, high=found.high)


def columns_of(part: RecordPart, model: int, by: str) -> dict[str, np.ndarray]:
    """Sums per cluster of a model's answers as a scorer reads them."""
    judge = scorer(by)
    return verdict_columns(
        part.truth,
        part.said(model, by),
        part.right(model, by),
        part.cluster,
        part.clusters,
        positive=judge.positive == "yes",
        recalls_unparsed=judge.recalls_unparsed,
    )


def _right_columns(part: RecordPart, model: int, by: str) -> Columns:
    right = part.right(model, by)
    return {
        "asked": np.bincount(part.cluster, minlength=part.clusters).astype(float),
        "right": np.bincount(part.cluster, weights=right, minlength=part.clusters),
    }


def _main(
    asked: Sequence[AnsweredRecord], parts: Sequence[RecordPart], models: Sequence[str], by: str
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for part in parts:
        for number, model in enumerate(models):
            counted = columns_of(part, number, by)
            found = {name: interval_of(share(counted, each)) for name, each in VERDICTS.items()}
            rows.append(
                (part.name, model, len(part), part.clusters, *(found | _leaning(part, number)).values())
            )
        rows += [
            (part.name, f"always {word}", len(part), part.clusters, *_always(part, word, by))
            for word in ("yes", "no")
        ]
    if len(splits_of(asked)) > 1:
        for number, model in enumerate(models):
            rows.append((MEAN_OVER_SPLITS, model, len(asked), None, *_means(asked, number, by)))
    about = scorer(by).positive
    return Table(
        name="verdicts",
        title=f"Yes and no, as {by} reads them",
        columns=("part", "model", "rows", "images", *_HEADS.values()),
        rows=tuple(rows),
        notes=(
            "Intervals (95 %) are over images, not rows: Wilson's for shares, a bootstrap's for the others. “all” has "
            "of rows that ask the same of the same image the first. "
            f"Precision, recall and F1 are about “{about}”. AUROC, AUPRC, Brier and ECE are of P(Yes) against P(No) "
            "of the answer's first token.",
        ),
    )


def _leaning(part: RecordPart, model: int) -> dict[str, Interval]:
    leaning = part.leaning(model)
    ranked = ranking(part.truth, leaning, part.cluster, part.clusters)
    found = {name: Interval(value=v, low=low, high=high) for name, (v, low, high) in ranked.items()}
    counted = calibration_columns(part.truth, leaning, part.cluster, part.clusters)
    return found | {
        name: interval_of(estimate([counted], each)) for name, each in CALIBRATION_STATISTICS.items()
    }


def _always(part: RecordPart, word: str, by: str) -> tuple[Interval | None, ...]:
    """What whoever says one word only would have."""
    said = np.full(len(part), int(word == "yes"))
    counted = verdict_columns(
        part.truth, said, part.truth == (word == "yes"), part.cluster, part.clusters,
        positive=scorer(by).positive == "yes",
    )  # fmt: skip
    found = [interval_of(share(counted, each)) for each in VERDICTS.values()]
    return (*found, *[None] * (len(_HEADS) - len(found)))


def _means(asked: Sequence[AnsweredRecord], model: int, by: str) -> list[Interval | None]:
    """The mean over splits of each number; of what is ranked, the mean alone, without an interval."""
    splits = splits_of(asked, common=True)
    counted = {part.name: columns_of(part, model, by) for part in splits}
    found = {name: interval_of(share_of_parts(counted, each)) for name, each in VERDICTS.items()}
    calibrated = {part.name: _calibrated(part, model) for part in splits}
    for name, statistic in CALIBRATION_STATISTICS.items():
        joined, mean = mean_of_parts(calibrated, statistic)
        found[name] = interval_of(estimate([joined], mean))
    for name in ("auroc", "auprc"):
        each = [ranking_value(part, model)[name] for part in splits]
        found[name] = Interval(value=float(np.mean(each)))
    return [found[name] for name in _HEADS]


def ranking_value(part: RecordPart, model: int) -> Mapping[str, float]:
    """AUROC and AUPRC alone."""
    found = ranking(part.truth, part.leaning(model), part.cluster, part.clusters)
    return {name: value for name, (value, _, _) in found.items()}


def _calibrated(part: RecordPart, model: int) -> Columns:
    return calibration_columns(part.truth, part.leaning(model), part.cluster, part.clusters)


def _by_scorer(parts: Sequence[RecordPart], models: Sequence[str], scorers: Sequence[str]) -> Table:
    shown: tuple[tuple[str, Statistic], ...] = tuple((name, VERDICTS[name]) for name in ("accuracy", "f1"))
    rows: list[tuple[Cell, ...]] = []
    for part in parts:
        for number, model in enumerate(models):
            cells: list[Cell] = []
            for by in scorers:
                counted = columns_of(part, number, by)
                cells += [interval_of(share(counted, statistic)) for _, statistic in shown]
            rows.append((part.name, model, *cells))
    heads = tuple(f"{by} {_HEADS[name]}" for by in scorers for name, _ in shown)
    titles = tuple(f"- {by}: {scorer(by).title}" for by in scorers)
    return Table(
        name="scorers",
        title="The same answers by each scorer",
        columns=("part", "model", *heads),
        rows=tuple(rows),
        notes=titles,
    )


def _differences(parts: Sequence[RecordPart], models: Sequence[str], by: str) -> list[Table]:
    if len(models) < 2:
        return []
    rows: list[list[Cell]] = []
    p: list[tuple[float, float]] = []
    for part in parts:
        right = [part.right(number, by) for number in range(len(models))]
        counted = [columns_of(part, number, by) for number in range(len(models))]
        for one, other in combinations(range(len(models)), 2):
            gaps = [
                interval_of(difference([counted[one]], [counted[other]], VERDICTS[name])) for name in COMPARED
            ]
            gaps.append(_ranking_gap(part, one, other))
            only = [int((right[a] & ~right[b]).sum()) for a, b in ((one, other), (other, one))]
            rows.append([part.name, f"{models[one]} − {models[other]}", *gaps, *only])
            p.append((mcnemar(right[one], right[other]), cluster_p(right[one], right[other], part.cluster)))
    adjusted = [holm(np.array(column)) for column in zip(*p, strict=True)]
    for number, row in enumerate(rows):
        row += [Interval(value=float(value)) for value in (*p[number], *(each[number] for each in adjusted))]
    return [
        Table(
            name="differences",
            title=f"Differences between models on the same images, as {by} reads them",
            columns=(
                "part",
                "models",
                *(_HEADS[name] for name in (*COMPARED, "auroc")),
                "first alone right",
                "second alone right",
                "McNemar p",
                "p by images",
                "McNemar p (Holm)",
                "p by images (Holm)",
            ),
            rows=tuple(map(tuple, rows)),
            notes=(
                "McNemar's test takes rows to be independent; “p by images” swaps the models for whole images. Holm's "
                f"correction is over the {len(rows)} rows of this table.",
            ),
        )
    ]


def _ranking_gap(part: RecordPart, one: int, other: int) -> Interval:
    """The difference of two models' AUROC."""
    value, low, high = ranking_difference(
        part.truth, part.leaning(one), part.leaning(other), part.cluster, part.clusters
    )
    return Interval(value=value, low=low, high=high)


def _disagreements(asked: Sequence[AnsweredRecord], models: Sequence[str], scorers: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for number, model in enumerate(models):
        pairs = [(each.record, each.models[number].said) for each in asked]
        for found in disagreements(pairs, scorers):
            heard = dict(found.verdicts)
            read = [heard[by] or "neither" if by in heard else None for by in scorers]
            record = found.record
            rows.append((model, record.split, record.id, record.question, record.truth, found.text, *read))
    return Table(
        name="disagreements",
        title=f"Rows that scorers read differently: {len(rows)} of {len(asked) * len(models)}",
        columns=("model", "split", "id", "question", "truth", "answer", *scorers),
        rows=tuple(rows),
    )
