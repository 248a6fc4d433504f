"""Answers beside the truth: what a scorer reads in each, whether it is right, which objects were made up."""

from collections.abc import Sequence

from emma_viz.records.answered import ModelAnswer
from emma_viz.records.benchmarks import Benchmark, BenchmarkRecord
from emma_viz.records.scorers import Answer, scorer


def judged(
    record: BenchmarkRecord,
    answer: Answer,
    *,
    name: str,
    fingerprint: str,
    by: str,
    kind: Benchmark | None,
) -> ModelAnswer:
    """One model's answer to one record, judged.

    Args:
        record: what was asked.
        answer: what was said.
        name: the model's.
        fingerprint: of its weights.
        by: the scorer that decides what was read and whether it is right.
        kind: the benchmark, which knows objects by their words; None where it is not one of ours.
    """
    made_up, missed = objects_of(record, answer.text, kind)
    judge = scorer(by)
    return ModelAnswer(
        name=name,
        fingerprint=fingerprint,
        answer=answer.text,
        p_yes=answer.p_yes,
        p_no=answer.p_no,
        read=judge.reads(answer) if record.asked == "yes-no" else None,
        correct=None if record.asked == "description" else judge.right(record, answer),
        made_up=made_up,
        missed=missed,
    )


def mentioned(record: BenchmarkRecord, text: str, kind: Benchmark | None) -> tuple[str, ...]:
    """The objects that a description names, in order, each as often as it does; none for other answers."""
    if record.asked != "description" or kind is None or kind.mentions is None:
        return ()
    return kind.mentions(record, text)


def objects_of(
    record: BenchmarkRecord, text: str, kind: Benchmark | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of a description: the objects that are made up and those that are missed, each once."""
    if record.asked != "description":
        return (), ()
    named = dict.fromkeys(mentioned(record, text, kind))
    return (
        tuple(name for name in named if name not in record.present),
        tuple(name for name in record.present if name not in named),
    )


def require_scorers(names: Sequence[str]) -> tuple[str, ...]:
    """Scorers that a user named, each once.

    Raises:
        InputError: there is none of a name.
    """
    for name in names:
        scorer(name)
    return tuple(dict.fromkeys(names))
