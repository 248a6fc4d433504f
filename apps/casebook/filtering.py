"""The filter beside the pages: what its widgets hold is written into the address, and read from there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import streamlit as st

from apps.casebook.permalinks import EVIDENCE, MOST_CONDITIONS, evidence_of, evidence_text
from emma_viz.cases.case import LARGEST_INTEGER
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import SORTS, UNJUDGED, EvidenceFilter
from emma_viz.cases.history import CASE_VERDICTS
from emma_viz.cases.mining import MINING_RULES

_AGAINST = {None: "any", True: "above", False: "not above"}
_FIELDS = ("model", "layer", "at_least", "at_most", "beats_control")
"""Of a condition, beside the measure."""
_FRESH = 10
"""Seconds after which counts are made anew even so: evidence that is measured again may change which rules hold."""


def draw_filter(casebook: Casebook) -> None:
    """The filter's widgets."""
    offered = _offered(casebook, casebook.state())
    with st.sidebar:
        st.html("<h2>Filter</h2>")
        _pick("Show", "all", ["yes"], words={"": "what a rule found", "yes": "every question"})
        _text("Words", "text", "in a question, an answer, a note")
        _pick(
            "Why it is here",
            "rule",
            [rule for rule in MINING_RULES if offered["rule"][rule]],
            offered["rule"],
        )
        _pick("Verdict", "verdict", [UNJUDGED, *CASE_VERDICTS], offered["verdict"])
        _pick("Model", "model", sorted(offered["model"]), offered["model"])
        _pick("Its answer", "answer", ["right", "wrong"])
        _pick("Sure of it, at least", "sure", [])  # of links alone
        for label, name in (
            ("Benchmark", "benchmark"),
            ("Split", "split"),
            ("Category", "category"),
            ("Object", "object"),
            ("Tag", "tag"),
        ):
            _pick(label, name, sorted(offered[name]), offered[name])
        _evidence(offered)
        _pick("Order", "sort", list(SORTS), empty="number")


@st.cache_data(max_entries=8, ttl=_FRESH, show_spinner=False)
def _offered(_casebook: Casebook, state: str) -> dict[str, Counter[str]]:
    """What there is to filter by, counted once for each state of the casebook.

    What begins with an underscore is no part of the name under which Streamlit keeps it.
    """
    del state
    return _casebook.facets()


def _evidence(offered: Mapping[str, Counter[str]]) -> None:
    """All conditions on evidence, and a place for one more where there is evidence."""
    held = evidence_of(st.query_params.get(EVIDENCE, ""))
    for number, each in enumerate(held):
        with st.container(border=True):
            _measure(number, each.name, offered)
            _condition(number, each, offered)
    if offered["measure"] and len(held) < MOST_CONDITIONS:
        _measure(len(held), None, offered)


def _measure(number: int, now: str | None, offered: Mapping[str, Counter[str]]) -> None:
    names = sorted({*offered["measure"], *([now] if now else [])})
    _held(number, "name", now)
    st.selectbox(
        "And evidence" if number else "Evidence",
        [None, *names],
        key=_key(number, "name"),
        on_change=_take_evidence,
        format_func=lambda name: "any" if name is None else f"{name} ({offered['measure'][name]})",
    )


def _condition(number: int, held: EvidenceFilter, offered: Mapping[str, Counter[str]]) -> None:
    """The widgets of one condition, beside that of its name."""
    for field in _FIELDS:
        _held(number, field, getattr(held, field))
    models = sorted({*offered["model"], *([held.model] if held.model else [])})
    st.selectbox(
        "of",
        ["", *models],
        key=_key(number, "model"),
        on_change=_take_evidence,
        format_func=lambda name: name or "any model",
    )
    st.selectbox(
        "its control",
        list(_AGAINST),
        key=_key(number, "beats_control"),
        on_change=_take_evidence,
        format_func=lambda beats: _AGAINST[beats],
    )
    least, most, layer = st.columns(3)
    for column, label, field in ((least, "at least", "at_least"), (most, "at most", "at_most")):
        column.number_input(
            label, value=None, format="%.3g", step=0.1, key=_key(number, field), on_change=_take_evidence
        )
    layer.number_input(
        "layer",
        -1,
        LARGEST_INTEGER,
        value=None,
        step=1,
        placeholder="any",
        key=_key(number, "layer"),
        on_change=_take_evidence,
    )


def _key(number: int, field: str) -> str:
    return f"evidence-{number}-{field}"


def _held(number: int, field: str, value: object) -> None:
    """What a widget shows is what stands in the address, whatever it showed before."""
    st.session_state[_key(number, field)] = value


def _take_evidence() -> None:
    """Write what the widgets hold into the address, before the page is drawn anew."""
    held, wanted = evidence_of(st.query_params.get(EVIDENCE, "")), []
    for number in range(len(held) + 1):
        name = st.session_state.get(_key(number, "name"))
        if name is None:
            continue
        if number < len(held) and held[number].name == name:
            wanted.append(
                EvidenceFilter(name=name, **{each: st.session_state[_key(number, each)] for each in _FIELDS})
            )
        else:
            wanted.append(EvidenceFilter(name=name))
    _write(EVIDENCE, evidence_text(wanted))


def _text(label: str, name: str, hint: str) -> None:
    key = f"filter-{name}"
    st.session_state[key] = st.query_params.get(name, "")
    st.text_input(label, placeholder=hint, max_chars=500, key=key, on_change=_take, args=(name,))


def _pick(
    label: str,
    name: str,
    values: Sequence[str],
    counts: Counter[str] | None = None,
    empty: str = "",
    words: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """One of some values; nothing is drawn where there is no choice. What the address holds is one, so that it can be
    taken off, though nothing of that value is there any more."""
    now = st.query_params.get(name, empty)
    if not values and now == empty:
        return
    choices = list(values) if empty else ["", *values]
    if now not in choices:
        choices.append(now)

    def said(value: str) -> str:
        text = words.get(value) or (value.replace("-", " ") if value else "any")
        return f"{text} ({counts[value]})" if counts and counts[value] else text

    key = f"filter-{name}"
    st.session_state[key] = now
    st.selectbox(label, choices, key=key, format_func=said, on_change=_take, args=(name, empty))


def _take(name: str, empty: str = "") -> None:
    """Write what a widget holds into the address, before the page is drawn anew."""
    _write(name, st.session_state[f"filter-{name}"], empty)


def _write(name: str, value: str, empty: str = "") -> None:
    if value == st.query_params.get(name, empty):
        return
    if value == empty:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value
    st.query_params.pop("page", None)
