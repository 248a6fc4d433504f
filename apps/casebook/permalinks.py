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
_FILTER = (*PLAIN, "model", "answer", "sure", "tag", EVIDENCE, "all")
MOST_CONDITIONS = 6
"""Conditions on evidence of one address: each has widgets of its own and a part of the query."""
_CONTROL = {"beats": True, "does-not": False}
_RIGHT = {"right": True, "wrong": False}
_ALL = {"": True, "yes": False}
_OTHER = ("id", "other", "page")
"""Names in an address that are no part of a filter."""
_MEASURE, _MEASURE_CONTROL = "measure", "control"
"""How addresses named the one condition on evidence, of any model at any layer, before they could have several."""


def filter_of(address: Mapping[str, str]) -> CaseFilter:
    """The filter that an address names; what is not there lets all pass.

    Raises:
        InputError: a value is none of its kind, or a name is none that an address has.
    """
    address = renewed(address)
    names = (*_FILTER, *_OTHER)
    if unknown := [name for name in address if name not in names]:
        raise InputError(
            f"This address has {', '.join(unknown):.200}, which no address of a casebook has. Known are "
            f"{', '.join(names)}; take the others out of it."
        )
    answers = ()
    if address.get("model") or address.get("answer") or address.get("sure"):
        answers = (
            AnswerFilter(
                model=address.get("model", ""),
                right=_one_of(address, "answer", {"": None, **_RIGHT}),
                least_confidence=_share(address.get("sure", "")),
            ),
        )
    evidence = evidence_of(address.get(EVIDENCE, ""))
    plain: dict[str, Any] = {name: address[name] for name in PLAIN if address.get(name)}
    tags = (address["tag"],) if address.get("tag") else ()
    mined = _one_of(address, "all", _ALL)
    return CaseFilter(**plain, mined=mined, tags=tags, answers=answers, evidence=evidence)


def filter_part(address: Mapping[str, str]) -> dict[str, str]:
    """The part of an address that names a filter, for links to other pages."""
    held = dict(address)  # Streamlit's own looks every single name up at some length
    return {name: held[name] for name in _FILTER if held.get(name)}


def renewed(address: Mapping[str, str]) -> dict[str, str]:
    """An address in the names of today, where it was kept when a part had another name."""
    found = dict(address)
    measure, control = found.pop(_MEASURE, ""), found.pop(_MEASURE_CONTROL, "")
    if measure:
        before = EvidenceFilter(name=measure, beats_control=_CONTROL.get(control))
        found[EVIDENCE] = ";".join(
            each for each in (found.get(EVIDENCE, ""), evidence_text([before])) if each
        )
    return found


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
        if not name or not all(math.isfinite(float(each)) for each in (least, most) if each):
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


def _one_of(address: Mapping[str, str], name: str, values: Mapping[str, bool | None]) -> Any:
    text = address.get(name, "")
    if text not in values:
        raise InputError(f"{name}={text:.80}: expected {' or '.join(filter(None, values))}, or nothing.")
    return values[text]


def _share(text: str) -> float:
    try:
        found = float(text or 0)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise InputError(f"sure={text:.80}: expected a probability from 0 to 1.")
    return found
