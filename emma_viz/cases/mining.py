"""Which questions become cases: rules that are stated in one sentence each, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emma_viz.cases.case import KNOCK_OUT, KNOCKED_OUT, PRESENCE, CaseAnswer, CaseRecord

CONFIDENT = 0.9
"""The least probability, renormalised over yes and no, that the rules call confident."""


@dataclass(frozen=True, kw_only=True)
class MiningRule:
    """One reason for a question to become a case."""

    statement: str
    """What it says, in one sentence."""
    holds: Callable[[CaseRecord], tuple[str, ...]]
    """The models for which it holds; none where it does not, or where what it needs was not kept."""


def _disagree(found: CaseRecord) -> tuple[str, ...]:
    read = [answer for answer in found.answers if answer.said in ("yes", "no")]
    return tuple(answer.model for answer in read) if len({answer.said for answer in read}) > 1 else ()


def _one_right(found: CaseRecord) -> tuple[str, ...]:
    scored = [answer for answer in found.answers if answer.right is not None]
    return tuple(each.model for each in scored) if len({each.right for each in scored}) > 1 else ()


def _makes_up(found: CaseRecord) -> tuple[str, ...]:
    return _models(found, lambda answer: bool(answer.made_up))


def _confident_and_wrong(found: CaseRecord) -> tuple[str, ...]:
    return _models(found, lambda each: _is_wrong(found, each) and (each.confidence or 0.0) >= CONFIDENT)


def _is_wrong(found: CaseRecord, answer: CaseAnswer) -> bool:
    return {found.truth, answer.said} == {"yes", "no"}


def _flips(found: CaseRecord) -> tuple[str, ...]:
    return _models(found, lambda answer: _turns(found, answer))


def _turns(found: CaseRecord, answer: CaseAnswer) -> bool:
    change, without = (found.deepest(name, answer.model) for name in (KNOCK_OUT, KNOCKED_OUT))
    before = answer.log_odds
    if change is None or change.control is None or without is None or before is None:
        return False
    return before * without.value < 0 and change.value > change.control


def _quadrant(*, saw: bool, said: bool) -> Callable[[CaseRecord], tuple[str, ...]]:
    def is_in(found: CaseRecord, answer: CaseAnswer) -> bool:
        probe = found.deepest(PRESENCE, answer.model)
        if probe is None or probe.control is None or answer.said not in ("yes", "no"):
            return False
        return (probe.value > probe.control, answer.said == "yes") == (saw, said)

    return lambda found: _models(found, lambda answer: is_in(found, answer))


def _models(found: CaseRecord, holds: Callable[[CaseAnswer], bool]) -> tuple[str, ...]:
    return tuple(answer.model for answer in found.answers if holds(answer))


# The probe is read at one layer: the largest of many layers would exceed a 5 % threshold far more often than that.
_PROBED = "the object's presence probe, at the deepest layer where it was read, is {} its 5 % false-positive threshold"
_ABOVE, _BELOW = _PROBED.format("above"), _PROBED.format("not above")

MINING_RULES: Mapping[str, MiningRule] = {
    "models-disagree": MiningRule(statement="One model says yes and another says no.", holds=_disagree),
    "one-right-one-wrong": MiningRule(
        statement="One model's answer is right and another's is wrong.", holds=_one_right
    ),
    "makes-up": MiningRule(
        statement="A description names an object that is not in the image.", holds=_makes_up
    ),
    "confident-and-wrong": MiningRule(
        statement=f"A model says the contrary of the truth with a probability of at least {CONFIDENT}, renormalised "
        "over yes and no.",
        holds=_confident_and_wrong,
    ),
    "flips-with-region": MiningRule(
        statement="Without the object's region the answer's log-odds change their sign, by more than without any of "
        "the random regions.",
        holds=_flips,
    ),
    "saw-and-said": MiningRule(
        statement=f"A model says yes and {_ABOVE}.", holds=_quadrant(saw=True, said=True)
    ),
    "saw-and-did-not-say": MiningRule(
        statement=f"A model says no and {_ABOVE}.", holds=_quadrant(saw=True, said=False)
    ),
    "did-not-see-and-said": MiningRule(
        statement=f"A model says yes and {_BELOW}.", holds=_quadrant(saw=False, said=True)
    ),
    "did-not-see-and-did-not-say": MiningRule(
        statement=f"A model says no and {_BELOW}.", holds=_quadrant(saw=False, said=False)
    ),
}
"""Name → rule."""


def mined(found: CaseRecord) -> dict[str, tuple[str, ...]]:
    """The rules that make a question a case, and the models for which each holds; empty when none does."""
    return {name: models for name, rule in MINING_RULES.items() if (models := rule.holds(found))}
