"""The scorers by name: how each reads an answer, and what it counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from emma_viz.errors import InputError
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.scorers import readings
from emma_viz.records.scorers.answer import Answer
from emma_viz.records.scorers.readings import ReadAnswer


def _leaning(answer: Answer) -> ReadAnswer:
    """Cobra's harness: the likelier of the tokens Yes and No as the answer's first; None where neither was kept."""
    found = answer.leaning
    return None if found is None else "yes" if found >= 0.5 else "no"


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """One way to read answers and to count them."""

    title: str
    """What it reads as yes and no."""
    reads: Callable[[Answer], ReadAnswer]
    """Answer → yes, no, or None: neither."""
    positive: Literal["yes", "no"] = "yes"
    """What precision, recall and F1 are about."""
    recalls_unparsed: bool = True
    """Whether recall counts rows whose answer is neither yes nor no."""
    forgives_unseen: bool = False
    """Whether neither yes nor no is right where there was no image to see it in (HallusionBench's judge)."""

    def right(self, record: BenchmarkRecord, answer: Answer) -> bool:
        """Whether an answer counts as right.

        A short answer is right when it is the truth, but for case, full stops and white space.
        """
        if record.asked != "yes-no":
            return plain(answer.text) == plain(record.truth)
        verdict = self.reads(answer)
        if verdict is None:
            return self.forgives_unseen and record.image is None and record.split == "VS"
        return verdict == record.truth


def plain(text: str) -> str:
    """A short answer as it is compared."""
    return " ".join(text.lower().split()).rstrip(".").strip()


def _of_text(read: Callable[[str], ReadAnswer]) -> Callable[[Answer], ReadAnswer]:
    return lambda answer: read(answer.text)


def _scorer(read: Callable[[str], ReadAnswer], **changes) -> Scorer:
    return Scorer(title=" ".join((read.__doc__ or "").split()), reads=_of_text(read), **changes)


SCORERS: dict[str, Scorer] = {
    "first-word": _scorer(readings.first_word),
    "pope": _scorer(readings.pope),
    "opera": _scorer(readings.opera),
    "lmms-eval": _scorer(readings.lmms_eval, recalls_unparsed=False),
    "vlmevalkit": _scorer(readings.vlmevalkit),
    "cobra": Scorer(title=" ".join((_leaning.__doc__ or "").split()), reads=_leaning),
    "mme": _scorer(readings.mme),
    "lmms-mme": _scorer(readings.lmms_mme),
    "amber": _scorer(readings.amber, positive="no"),
    "lmms-amber": _scorer(readings.lmms_amber, positive="no"),
    "hallusionbench-rule": _scorer(readings.first_word, forgives_unseen=True),
}
"""Name → scorer."""


def scorer(name: str) -> Scorer:
    """A scorer by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SCORERS:
        raise InputError(f"There is no scorer {name!r}; choose among {', '.join(SCORERS)}.")
    return SCORERS[name]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A row that scorers read differently."""

    record: BenchmarkRecord
    text: str
    """The answer."""
    verdicts: tuple[tuple[str, ReadAnswer], ...]
    """(scorer, what it reads)."""


def disagreements(
    pairs: Sequence[tuple[BenchmarkRecord, Answer]], names: Sequence[str]
) -> tuple[Disagreement, ...]:
    """The yes/no rows that not all scorers read alike; one that has nothing to read (no probabilities) has no voice.

    Args:
        pairs: records with their answers.
        names: of scorers.
    """
    found = []
    for record, answer in pairs:
        if record.asked != "yes-no":
            continue
        heard = [name for name in names if name != "cobra" or answer.leaning is not None]
        verdicts = tuple((name, scorer(name).reads(answer)) for name in heard)
        if len({verdict for _, verdict in verdicts}) > 1:
            found.append(Disagreement(record=record, text=answer.text, verdicts=verdicts))
    return tuple(found)
