"""Between the address of a page and the cases that it shows: everything that is chosen stands in the address."""

from collections.abc import Mapping
from typing import Any

from emma_viz.cases.filters import AnswerFilter, CaseFilter, EvidenceFilter

PLAIN = ("text", "benchmark", "split", "category", "object", "rule", "verdict", "sort")
"""Fields of a filter that are one text, by the same names in the address."""
_RIGHT = {"right": True, "wrong": False}


def filter_of(address: Mapping[str, str]) -> CaseFilter:
    """The filter that an address names; what is not there lets all pass.

    Raises:
        InputError: a value is none of its kind.
    """
    answers = ()
    if address.get("model") or address.get("answer") or address.get("sure"):
        answers = (
            AnswerFilter(
                model=address.get("model", ""),
                right=_RIGHT.get(address.get("answer", "")),
                least_confidence=_number(address.get("sure", "")) or 0.0,
            ),
        )
    evidence = ()
    if address.get("measure"):
        beats = {"beats": True, "does-not": False}.get(address.get("control", ""))
        evidence = (EvidenceFilter(name=address["measure"], beats_control=beats),)
    plain: dict[str, Any] = {name: address[name] for name in PLAIN if address.get(name)}
    tags = (address["tag"],) if address.get("tag") else ()
    mined = address.get("all") != "yes"
    return CaseFilter(**plain, mined=mined, tags=tags, answers=answers, evidence=evidence)


def filter_part(address: Mapping[str, str]) -> dict[str, str]:
    """The part of an address that names a filter, for links to other pages."""
    names = (*PLAIN, "model", "answer", "sure", "tag", "measure", "control", "all")
    return {name: address[name] for name in names if address.get(name)}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
