"""Between the address of a page and the cases that it shows: everything that is chosen stands in the address."""

import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from emma_viz.cases.filters import AnswerFilter, CaseFilter, EvidenceFilter
from emma_viz.errors import InputError

PLAIN = ("text", "benchmark", "split", "category", "object", "rule", "verdict", "sort")
"""Fields of a filter that are one text, by the same names in the address."""
EVIDENCE = "evidence"
"""The name, in the address, of conditions on evidence."""
MOST_CONDITIONS = 6
"""Conditions on evidence of one address: each has widgets of its own and a part of the query."""
_CONTROL = {"beats": True, "does-not": False}
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
    evidence = evidence_of(address.get(EVIDENCE, ""))
    plain: dict[str, Any] = {name: address[name] for name in PLAIN if address.get(name)}
    tags = (address["tag"],) if address.get("tag") else ()
    mined = address.get("all") != "yes"
    return CaseFilter(**plain, mined=mined, tags=tags, answers=answers, evidence=evidence)


def filter_part(address: Mapping[str, str]) -> dict[str, str]:
    """The part of an address that names a filter, for links to other pages."""
    names = (*PLAIN, "model", "answer", "sure", "tag", EVIDENCE, "all")
    return {name: address[name] for name in names if address.get(name)}


def evidence_of(text: str) -> tuple[EvidenceFilter, ...]:
    """Conditions on evidence as `evidence_text` writes them.

    Raises:
        InputError: it is no such text, or has more than MOST_CONDITIONS.
    """
    parts = [each for each in text.split(";") if each]
    if len(parts) > MOST_CONDITIONS:
        raise InputError(f"evidence: expected at most {MOST_CONDITIONS} conditions, got {len(parts)}.")
    return tuple(_condition(each) for each in parts)


def _condition(text: str) -> EvidenceFilter:
    parts = [unquote(each) for each in text.split(",")]
    try:
        name, model, layer, control, least, most = parts
        if (
            not name
            or int(layer or 0) < -1
            or not all(math.isfinite(float(each)) for each in (least, most) if each)
        ):
            raise ValueError("a name or a number is none")
        return EvidenceFilter(
            name=name,
            model=model,
            layer=int(layer) if layer else None,
            at_least=float(least) if least else None,
            at_most=float(most) if most else None,
            beats_control={"": None, **_CONTROL}[control],
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"evidence={text:.80}: expected name,model,layer,control,least,most, where control is one of "
            f"{', '.join(_CONTROL)} and any but the name may be empty."
        ) from error


def evidence_text(wanted: Iterable[EvidenceFilter]) -> str:
    """Conditions on evidence as one text: name,model,layer,control,least,most of each."""
    said = {held: word for word, held in _CONTROL.items()} | {None: ""}
    found = []
    for each in wanted:
        numbers = [
            "" if value is None else f"{value:.12g}" for value in (each.layer, each.at_least, each.at_most)
        ]
        parts = [each.name, each.model, numbers[0], said[each.beats_control], *numbers[1:]]
        found.append(",".join(quote(part, safe=" ") for part in parts))
    return ";".join(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
