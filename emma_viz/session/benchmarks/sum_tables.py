"""Tables of what benchmarks sum up: groups that must be right as a whole, MME's scores, objects of descriptions."""

from collections.abc import Sequence

import numpy as np

from emma_viz.metrics.intervals import Columns, Statistic, Sums, estimate, ratio, share
from emma_viz.metrics.verdicts import VERDICTS, share_of_parts
from emma_viz.records.answered import AnsweredRecord
from emma_viz.records.benchmarks import Benchmark
from emma_viz.records.scorers import scorer
from emma_viz.session.benchmarks.judging import mentioned
from emma_viz.session.benchmarks.parts import RecordPart, kinds_of, numbered, splits_of
from emma_viz.session.benchmarks.tables import Cell, Interval, Table
from emma_viz.session.benchmarks.verdict_tables import columns_of, interval_of

DESCRIPTIONS: dict[str, tuple[str, Statistic]] = {
    "chair_i": ("CHAIRi: made-up mentions of all mentions", ratio("made_up", "mentions")),
    "chair_s": ("CHAIRs, Hal: descriptions with a made-up object", ratio("tainted", "described")),
    "recall": ("recall, Cover: objects there that are named", ratio("covered", "present")),
    "cog": ("Cog: mentions on the list of what people make up", ratio("expected", "mentions")),
    "length": ("words", ratio("words", "described")),
}
"""Name → (head, number of `description_columns`)."""


def sum_tables(
    records: Sequence[AnsweredRecord], models: Sequence[str], by: str, kind: Benchmark | None
) -> list[Table]:
    """The tables that there is something for."""
    return [
        *_groups(kinds_of(records, "yes-no"), models, by),
        *_mme(kinds_of(records, "yes-no"), models, by),
        *_descriptions(kinds_of(records, "description"), models, kind),
        *_amber(records, models, by, kind),
    ]


def group_columns(part: RecordPart, model: int, by: str, kind: str) -> Columns:
    """Sums per cluster over the groups of one kind: how many there are, and how many of which all rows are right."""
    right = part.right(model, by)
    whole: dict[str, bool] = {}
    place: dict[str, int] = {}
    for each, good, cluster in zip(part.records, right, part.cluster, strict=True):
        name = each.record.group(kind)
        if name is not None:
            whole[name] = whole.get(name, True) and bool(good)
            place[name] = int(cluster)
    clusters, won = np.array(list(place.values()), dtype=int), np.array(list(whole.values()), dtype=float)
    return {
        "asked": np.bincount(clusters, minlength=part.clusters).astype(float),
        "right": np.bincount(clusters, weights=won, minlength=part.clusters),
    }


def _group_kinds(records: Sequence[AnsweredRecord]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for each in records for kind, _ in each.record.groups))


def _groups(records: Sequence[AnsweredRecord], models: Sequence[str], by: str) -> list[Table]:
    kinds = _group_kinds(records)
    if not kinds:
        return []
    splits = splits_of(records)
    parts = [*(splits if len(splits) > 1 else []), RecordPart(name="all", records=tuple(records))]
    rows: list[tuple[Cell, ...]] = []
    for part in parts:
        for number, model in enumerate(models):
            counted: list[Columns] = [columns_of(part, number, by)]
            counted += [group_columns(part, number, by, kind) for kind in kinds]
            named = {str(place): each for place, each in enumerate(counted)}
            found = [interval_of(share(each, VERDICTS["accuracy"])) for each in counted]
            mean = share_of_parts(named, VERDICTS["accuracy"])
            counts = [int(each["asked"].sum()) for each in counted]
            cells = [cell for pair in zip(counts, found, strict=True) for cell in pair]
            rows.append((part.name, model, *cells, interval_of(mean)))
    heads = [head for kind in ("row", *kinds) for head in (f"{kind}s", f"all right by {kind}")]
    return [
        Table(
            name="groups",
            title=f"Sets of rows of which all must be right, as {by} reads them",
            columns=("part", "model", *heads, "mean of these"),
            rows=tuple(rows),
            notes=(
                "HallusionBench: aAcc is by row, fAcc by figure, qAcc by question pair; the last column is the score "
                "of VLMEvalKit. MME: acc+ is by image.",
            ),
        )
    ]


def _mme(records: Sequence[AnsweredRecord], models: Sequence[str], by: str) -> list[Table]:
    """MME's scores: 100 · (accuracy + accuracy by image) a task, summed over perception and cognition."""
    if not records or any(each.record.benchmark != "mme" for each in records):
        return []
    rows: list[tuple[Cell, ...]] = []
    for number, model in enumerate(models):
        cells: list[Cell] = []
        for category in ("perception", "cognition"):
            tasks = splits_of([each for each in records if each.record.category == category])
            cells += [len(tasks), Interval(value=sum(_mme_score(task, number, by) for task in tasks))]
        rows.append((model, *cells))
    return [
        Table(
            name="mme",
            title="MME's scores: 100 · (acc + acc+) a task, summed",
            columns=("model", "tasks", "perception (of 2000)", "tasks", "cognition (of 800)"),
            rows=tuple(rows),
        )
    ]


def _mme_score(task: RecordPart, model: int, by: str) -> float:
    right = float(task.right(model, by).mean())
    sums = group_columns(task, model, by, "image")
    return 100 * (right + float(sums["right"].sum() / sums["asked"].sum()))


def description_columns(part: RecordPart, model: int, kind: Benchmark | None) -> Columns:
    """Sums per cluster over descriptions: mentions, made-up ones, objects that are there and named, words."""
    found = {
        name: np.zeros(part.clusters)
        for name in ("described", "mentions", "made_up", "tainted", "present", "covered", "expected", "words")
    }
    for each, cluster in zip(part.records, part.cluster, strict=True):
        record, text = each.record, each.models[model].answer
        named = mentioned(record, text, kind)
        made_up = sum(name not in record.present for name in named)
        sums = {
            "described": 1,
            "mentions": len(named),
            "made_up": made_up,
            "tainted": made_up > 0,
            "present": len(set(record.present)),
            "covered": len(set(record.present) & set(named)),
            "expected": sum(name in record.absent for name in named),
            "words": len(text.split()),
        }
        for name, value in sums.items():
            found[name][cluster] += value
    return found


def _descriptions(
    records: Sequence[AnsweredRecord], models: Sequence[str], kind: Benchmark | None
) -> list[Table]:
    if not records or kind is None or kind.mentions is None:
        return []
    shown = dict(DESCRIPTIONS)
    if not any(each.record.absent for each in records):
        del shown["cog"]
    whole = RecordPart(name="all", records=tuple(records))
    rows = []
    for number, model in enumerate(models):
        counted = description_columns(whole, number, kind)
        numbers = [
            interval_of(estimate([counted], each) if name == "length" else share(counted, each))
            for name, (_, each) in shown.items()
        ]
        rows.append((model, len(whole), whole.clusters, *numbers))
    return [
        Table(
            name="descriptions",
            title="Objects of descriptions",
            columns=("model", "rows", "images", *(head for head, _ in shown.values())),
            rows=tuple(rows),
            notes=("Objects are found by words alone; the published scores find them by other lists.",),
        )
    ]


def _amber(
    records: Sequence[AnsweredRecord], models: Sequence[str], by: str, kind: Benchmark | None
) -> list[Table]:
    """AMBER's score of both its tasks: 100 · (1 − CHAIR + F1) / 2, where F1 is about "no"."""
    said, described = kinds_of(records, "yes-no"), kinds_of(records, "description")
    if not said or not described or any(each.record.benchmark != "amber" for each in records):
        return []
    numbers = numbered(records)
    parts = [RecordPart(name="", records=tuple(some), numbers=numbers) for some in (said, described)]
    rows = []
    for model, name in enumerate(models):
        sums = {**columns_of(parts[0], model, by), **description_columns(parts[1], model, kind)}
        rows.append((name, interval_of(estimate([sums], _amber_score))))
    return [
        Table(
            name="amber",
            title=f"AMBER's score, 100 · (1 − CHAIR + F1) / 2, F1 about “{scorer(by).positive}”",
            columns=("model", "score"),
            rows=tuple(rows),
        )
    ]


def _amber_score(sums: Sums) -> np.ndarray | np.floating:
    chair = DESCRIPTIONS["chair_i"][1]
    return 50 * (1 - chair(sums) + VERDICTS["f1"](sums))
