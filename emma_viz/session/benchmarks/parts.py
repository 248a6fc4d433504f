"""The parts of a benchmark that have lines of their own, and the columns of numbers of each model in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emma_viz.metrics.verdicts import NEITHER
from emma_viz.records.answered import AnsweredRecord
from emma_viz.records.benchmarks.record import DISPUTED
from emma_viz.records.scorers import Answer, scorer

ALL, UNDISPUTED = "all", "all without disputed labels"
"""Parts over all splits; of records that ask the same, the first counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordPart:
    """Some records of a run."""

    name: str
    """What its lines are called."""
    records: tuple[AnsweredRecord, ...]
    """In the run's order."""
    numbers: Mapping[str, int] | None = None
    """Cluster → its number, for parts that are summed together; None numbers its own."""

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def truth(self) -> np.ndarray:
        """Whether yes is true, for each record: bool (n,)."""
        return np.array([each.record.truth == "yes" for each in self.records])

    @cached_property
    def _clusters(self) -> Mapping[str, int]:
        return numbered(self.records) if self.numbers is None else self.numbers

    @cached_property
    def cluster(self) -> np.ndarray:
        """The number of each record's cluster: int (n,)."""
        return np.array([self._clusters[each.record.cluster] for each in self.records], dtype=int)

    @property
    def clusters(self) -> int:
        """How many there are."""
        return len(self._clusters)

    def answers(self, model: int) -> list[Answer]:
        """What one model said, by its number in the run."""
        return [each.models[model].said for each in self.records]

    def said(self, model: int, by: str) -> np.ndarray:
        """What a scorer reads in each answer: 1 yes, 0 no, NEITHER; int (n,)."""
        reads = scorer(by).reads
        numbers = {"yes": 1, "no": 0, None: NEITHER}
        return np.array([numbers[reads(answer)] for answer in self.answers(model)], dtype=int)

    def right(self, model: int, by: str) -> np.ndarray:
        """Whether a scorer counts each answer as right: bool (n,)."""
        judge = scorer(by)
        pairs = zip(self.records, self.answers(model), strict=True)
        return np.array([judge.right(each.record, answer) for each, answer in pairs], dtype=bool)

    def leaning(self, model: int) -> np.ndarray:
        """P(Yes) / (P(Yes) + P(No)) of each answer, NaN where it is not known: float (n,)."""
        found = [answer.leaning for answer in self.answers(model)]
        return np.array([np.nan if each is None else each for each in found], dtype=float)


def numbered(records: Sequence[AnsweredRecord]) -> dict[str, int]:
    """The clusters of some records, numbered as they come."""
    names = dict.fromkeys(each.record.cluster for each in records)
    return {name: number for number, name in enumerate(names)}


def kinds_of(records: Sequence[AnsweredRecord], asked: str) -> list[AnsweredRecord]:
    """Those that want one kind of answer."""
    return [each for each in records if each.record.asked == asked]


def splits_of(records: Sequence[AnsweredRecord], *, common: bool = False) -> list[RecordPart]:
    """The splits, in their order.

    Args:
        records: of all splits.
        common: number the clusters of all alike, to sum over splits.
    """
    numbers = numbered(records) if common else None
    found: dict[str, list[AnsweredRecord]] = {}
    for each in records:
        found.setdefault(each.record.split, []).append(each)
    return [RecordPart(name=name, records=tuple(some), numbers=numbers) for name, some in found.items()]


def parts_of(records: Sequence[AnsweredRecord]) -> list[RecordPart]:
    """Each split, then all splits together, without repetition, and these without disputed labels."""
    splits = splits_of(records)
    distinct: dict[tuple[str, str, str], AnsweredRecord] = {}
    for each in records:
        distinct.setdefault(each.record.same, each)
    whole = RecordPart(name=ALL, records=tuple(distinct.values()))
    found = splits if len(splits) > 1 else []
    found = [*found, whole]
    undisputed = tuple(each for each in whole.records if DISPUTED not in each.record.flags)
    if len(undisputed) < len(whole):
        found.append(RecordPart(name=UNDISPUTED, records=undisputed))
    return found
