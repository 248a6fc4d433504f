"""What a document says of a case, whatever it is drawn with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from emma_viz.cases.casebook import Casebook
from emma_viz.cases.history import CASE_VERDICTS
from emma_viz.cases.mining import MINING_RULES
from emma_viz.cases.pictures import CasePicture
from emma_viz.cases.stored import StoredCase
from emma_viz.errors import InputError
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, CaseNumber, EvidenceSentence

_UNMEASURED = "Nothing was measured of it yet (emma-viz cases evidence)."


@dataclass(frozen=True, kw_only=True)
class CaseContent:
    """One case, ready to be laid out."""

    case: StoredCase
    """Question, answers, history."""
    picture: CasePicture | None
    """The image; None where the casebook has none."""
    evidence: tuple[CaseEvidence, ...]
    """Of each model of which something was measured, in the order of the answers."""

    @classmethod
    def of(cls, casebook: Casebook, case: StoredCase) -> "CaseContent":
        """Read what belongs to a case; evidence that another version or a stranger wrote is left out."""
        kept = casebook.evidence(case.id)
        found = []
        for answer in case.record.answers:
            if answer.model not in kept:
                continue
            try:
                found.append(CaseEvidence.from_json(kept[answer.model][1]))
            except InputError:
                continue
        picture = casebook.picture(case.record.image) if case.record.image else None
        return cls(case=case, picture=picture, evidence=tuple(found))

    @property
    def truth(self) -> str:
        """What is true, in words."""
        record = self.case.record
        if record.asked == "description":
            return f"In the image: {', '.join(record.present) or 'none of the listed objects'}."
        return f"Truth: {record.truth}." if record.truth else ""

    @property
    def facts(self) -> str:
        """Whence the question is."""
        record = self.case.record
        parts = [record.benchmark, record.split, record.category, record.row and f"row {record.row}"]
        parts += [record.image_name, *(f"flagged: {flag}" for flag in record.flags)]
        return " · ".join(part for part in parts if part)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is a case, a sentence each."""
        return tuple(
            f"{MINING_RULES[rule].statement} ({', '.join(models)})"
            for rule, models in self.case.reasons.items()
            if rule in MINING_RULES
        )

    @property
    def judged(self) -> str:
        """The verdict, tags, and who gave it."""
        review = self.case.review
        standing = [
            event
            for event in self.case.history
            if event.kind == "verdict" and event.id not in review.undone and event.value == review.verdict
        ]
        parts = []
        if review.verdict and standing:
            last = standing[-1]
            parts.append(
                f"Verdict: {review.verdict} ({CASE_VERDICTS[review.verdict]}), by {last.author}, {last.at[:10]}."
            )
        if review.tags:
            parts.append(f"Tags: {', '.join(review.tags)}.")
        return " ".join(parts)

    @property
    def curves(self) -> tuple[tuple[str, str, tuple[CaseCurve | None, ...]], ...]:
        """(name, title, curves) for each measure by layer that some model has: its curve of each of `evidence` in turn,
        None where it was not measured, so that the place of a model, and with it its colour, is everywhere the same."""
        names = dict.fromkeys(curve.name for each in self.evidence for curve in each.curves)
        found = []
        for name in names:
            row = tuple(each.curve(name) for each in self.evidence)
            first = next(each for each in row if each is not None)
            unit = f" ({first.unit})" if first.unit else ""
            found.append((name, f"{name}{unit}: {first.title}", row))
        return tuple(found)

    @property
    def numbers(self) -> tuple[tuple[CaseNumber, tuple[CaseNumber | None, ...]], ...]:
        """Each number without layers that some model has: as it is of the first, and as it is of each in turn."""
        names = dict.fromkeys(number.name for each in self.evidence for number in each.numbers)
        rows = (tuple(each.number(name) for each in self.evidence) for name in names)
        return tuple((next(each for each in row if each is not None), row) for row in rows)

    @property
    def paragraphs(self) -> tuple[tuple[EvidenceSentence, ...], ...]:
        """What each model's numbers say, or one sentence that nothing was measured."""
        return tuple(each.sentences for each in self.evidence) or (
            (EvidenceSentence(text=_UNMEASURED, numbers=()),),
        )

    def place(self, name: str) -> str:
        """Where a curve or number stands in a document, of whatever cases: links lead there."""
        return f"{re.sub(r'[^0-9A-Za-z]+', '-', name)}-{self.case.id[:8]}"

    def lead(self, sentence: EvidenceSentence) -> str:
        """The `place` of the first number of a sentence that a document shows; "" where it shows none of them."""
        shown = {*(name for name, _, _ in self.curves), *(first.name for first, _ in self.numbers)}
        return next((self.place(name) for name in sentence.numbers if name in shown), "")

    @property
    def lacking(self) -> tuple[str, ...]:
        """What was not measured and why, with the models that it was not measured of."""
        models: dict[str, list[str]] = {}
        for each in self.evidence:
            for sentence in each.lacking:
                models.setdefault(sentence, []).append(each.model)
        return tuple(f"{', '.join(names)}: {sentence}" for sentence, names in models.items())

    @property
    def provenance(self) -> tuple[str, ...]:
        """What made it, a line each."""
        record = self.case.record
        lines = [f"case {self.case.id}, image {record.image[:16] or 'none'}"]
        lines += [
            f"{answer.model}: weights {answer.fingerprint[:16] or 'unknown'}, read by {answer.scorer or 'nobody'}"
            for answer in record.answers
        ]
        lines += [f"{each.model}: evidence {each.recipe[:16]}" for each in self.evidence]
        return tuple(lines)


def contents(casebook: Casebook, ids: Sequence[str]) -> list[CaseContent]:
    """The content of some cases, in their order.

    Raises:
        InputError: there is none.
    """
    found = [CaseContent.of(casebook, case) for case in casebook.cases(ids)]
    if not found:
        raise InputError("expected at least one case for a document, got none.")
    return found


def number_words(number: CaseNumber | None) -> tuple[str, str]:
    """A number in words, and what it is against its control; a dash and "" where it was not measured."""
    if number is None:
        return "–", ""
    if number.control is None:
        return f"{number.value:.3g}", ""
    beats = "above" if number.value > number.control else "not above"
    return f"{number.value:.3g}", f"{beats} {number.control_title or 'its control'}, {number.control:.3g}"
