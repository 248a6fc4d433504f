"""One case: the image, the answers, the evidence inside, and what people judged."""

import os
from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from apps.casebook.canvas import draw_canvas
from apps.casebook.documents import document_links
from apps.casebook.evidence import draw_evidence
from apps.casebook.exploring import explorer_part
from apps.casebook.keys import NEXT, PREVIOUS, UNDO, VERDICT_KEYS, pressed_key
from apps.casebook.permalinks import filter_of, filter_part
from apps.casebook.pictures import framed
from apps.casebook.text import as_html, as_label, chip, cut, judged_chip, leaning_bar, marked, shown_text
from apps.casebook.told import CASEBOOK_PERSON
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.history import CASE_VERDICTS, CaseEvent, EventKind
from emma_viz.cases.mining import MINING_RULES
from emma_viz.cases.stored import StoredCase
from emma_viz.errors import CasebookError, InputError

_SEEN = "seen"
"""In the visitor's state: id of the case on the page → the version that stands there."""
_NAME, _NAME_FIELD = "name", "author"
"""In the visitor's state: the author's name, and what the field for it holds, which Streamlit forgets with the page."""


def draw_case(casebook: Casebook) -> None:
    """The page of the case that the address names; where it names none, the one that was open last, or the first that
    passes the filter."""
    ids = casebook.ids(filter_of(st.query_params))
    seen = next((each for each in st.session_state.get(_SEEN, {}) if each in ids), ids[0] if ids else "")
    id = st.query_params.get("id") or seen
    if not id:
        st.html('<section class="cb-trouble"><h2>There is no case to show</h2></section>')
        return
    st.query_params["id"] = id
    found = casebook.case(id)
    _act(casebook, found, ids, pressed_key())
    _head(found, ids)
    left, right = st.columns([2, 3], gap="large")
    with left:
        draw_picture(casebook, found)
    with right:
        draw_answers(found)
        _review(casebook, found)
    draw_canvas(casebook, found)
    if part := explorer_part(found.record):
        st.html(part)
    draw_evidence(casebook, found)
    left, right = st.columns(2, gap="large")
    with left:
        _words(casebook, found)
    with right:
        _history(found)
    st.html(document_links("this case", f"case-{found.id[:8]}", {"id": found.id}))
    st.session_state[_SEEN] = {found.id: found.version}


def _go(id: str) -> None:
    st.query_params["id"] = id
    st.rerun()


def _beside(ids: Sequence[str], id: str, step: int) -> str | None:
    """The next case of the filter, or the one before; None at its ends."""
    if id not in ids:
        return ids[0] if ids else None
    at = ids.index(id) + step
    return ids[at] if 0 <= at < len(ids) else None


def _act(casebook: Casebook, found: StoredCase, ids: Sequence[str], key: str | None) -> None:
    if key in (NEXT, PREVIOUS):
        other = _beside(ids, found.id, 1 if key == NEXT else -1)
        if other is not None:
            _go(other)
    elif key == UNDO:
        _undo(casebook, found)
    elif key is not None and key in VERDICT_KEYS:
        _write(casebook, found, "verdict", VERDICT_KEYS[key])


def _write(casebook: Casebook, found: StoredCase, kind: EventKind, value: str) -> None:
    """Write, and show the case as it is then."""
    _written(casebook, found, kind, value)
    st.rerun()


def _written(casebook: Casebook, found: StoredCase, kind: EventKind, value: str) -> None:
    """Write; a verdict is only written over what was seen. What went wrong is said on the page as it is drawn next."""
    lost = f" Not written: {value}" if kind in ("note", "tag") else ""
    if not (author := _author()):
        _say(f"Write your name first, below the verdicts: this casebook is shared.{lost}")
        return
    # Not `found.version`: every press reads the case anew, and shows it only afterwards.
    seen = st.session_state.get(_SEEN, {}).get(found.id, found.version)
    version = seen if kind in ("verdict", "undo") else None
    try:
        casebook.write(found.id, kind, value, author=author, version=version)
    except (CasebookError, InputError) as error:
        _say(f"{shown_text(str(error))}{lost}")


def _say(text: str) -> None:
    """Say it on the page as it is drawn next, below what is to be said there already."""
    before = st.session_state.get("said")
    st.session_state["said"] = f"{before}\n{text}" if before else text


def _author() -> str:
    return st.session_state.get(_NAME, "").strip() or os.environ.get(CASEBOOK_PERSON, "")


def _take_name() -> None:
    st.session_state[_NAME] = st.session_state[_NAME_FIELD]


def _last(found: StoredCase) -> CaseEvent | None:
    standing = [
        each
        for each in found.history
        if each.id not in found.review.undone and each.kind not in ("undo", "answer")
    ]
    return standing[-1] if standing else None


def _undo(casebook: Casebook, found: StoredCase) -> None:
    if (last := _last(found)) is not None:
        _write(casebook, found, "undo", last.id)


def _head(found: StoredCase, ids: Sequence[str]) -> None:
    record = found.record
    whence = dict.fromkeys((record.benchmark, record.split, record.category, record.row))
    facts = [chip(each) for each in whence if each]
    facts += [chip(f"odd: {flag}", "cb-rule") for flag in record.flags]
    at = f"{ids.index(found.id) + 1} of {len(ids)}" if found.id in ids else "not among the filtered cases"
    st.html(
        f'<header class="cb-head"><p class="cb-small">{as_html(at)}</p><h1>{as_html(record.prompt)}</h1>'
        f"<p>truth: <b>{as_html(record.truth or 'a description')}</b> {''.join(facts)}</p></header>"
    )
    row = st.container(horizontal=True, vertical_alignment="center")
    for label, step in (("Previous (p)", -1), ("Next (n)", 1)):
        other = _beside(ids, found.id, step)
        if row.button(label, disabled=other is None) and other:
            _go(other)
    _hold(found, row)
    row.page_link(
        st.session_state["pages"]["cases"], label="All cases", query_params=filter_part(st.query_params)
    )
    place = st.container()  # always there: what stands below would be made anew, under a hand that presses it
    if said := st.session_state.pop("said", None):
        place.html(f'<p class="cb-warn" role="alert">{as_html(said)}</p>')


def _hold(found: StoredCase, row: DeltaGenerator) -> None:
    """Keep this case to compare another one with, compare it with the one that was kept, or let that go."""
    held = st.session_state.get("held")
    if held and held != found.id and row.button("Compare with the held case"):
        st.switch_page(st.session_state["pages"]["pair"], query_params={"id": held, "other": found.id})
    if row.button("Let go of the held case" if held else "Hold to compare"):
        st.session_state["held"] = None if held else found.id
        st.rerun()


def draw_picture(casebook: Casebook, found: StoredCase) -> None:
    """The image with the object's box."""
    record = found.record
    picture = casebook.picture(record.image) if record.image else None
    if picture is None:
        st.html('<div class="cb-thumb cb-blank">no image kept</div>')
        return
    st.html(framed(picture, record.box, alt=as_html(record.image_name or "the image that was asked about")))
    st.html(f'<p class="cb-small">{as_html(record.image_name)} · {picture.width} × {picture.height}</p>')


def draw_answers(found: StoredCase) -> None:
    """What each model said, and why it is a case."""
    cards = []
    for answer in found.record.answers:
        missed = (
            f'<p class="cb-small">not named: {as_html(", ".join(answer.missed))}</p>' if answer.missed else ""
        )
        cards.append(
            f'<article class="cb-answer"><h3>{as_html(answer.model)} {judged_chip(answer)}</h3>'
            f"<blockquote>{marked(answer.text, answer.made_up) or '(no answer)'}</blockquote>"
            f"{leaning_bar(answer)}{missed}</article>"
        )
    st.html(f'<section class="cb-answers">{"".join(cards)}</section>')
    reasons = "".join(
        f"<li>{as_html(MINING_RULES[rule].statement)} <b>{as_html(', '.join(models))}</b></li>"
        for rule, models in found.reasons.items()
        if rule in MINING_RULES
    )
    if reasons:
        st.html(f'<section class="cb-why"><h3>Why it is here</h3><ul>{reasons}</ul></section>')


def _review(casebook: Casebook, found: StoredCase) -> None:
    review = found.review
    st.html("<h3>Verdict</h3>")
    row = st.container(horizontal=True)  # wraps where the page is narrow
    for key, name in VERDICT_KEYS.items():
        look = "primary" if review.verdict == name else "secondary"
        pressed = row.button(f"{name} ({key})", help=CASE_VERDICTS[name], type=look, key=f"verdict-{name}")
        if pressed:
            _write(casebook, found, "verdict", "" if review.verdict == name else name)
    name, undo = st.columns([3, 1], vertical_alignment="bottom")
    st.session_state.setdefault(_NAME_FIELD, _author())
    name.text_input("Your name", max_chars=120, key=_NAME_FIELD, on_change=_take_name)
    if undo.button("Undo (u)", disabled=_last(found) is None, width="stretch"):
        _undo(casebook, found)


def _words(casebook: Casebook, found: StoredCase) -> None:
    """Notes and tags, and a form for more."""
    review = found.review
    st.html("<h3>Notes and tags</h3>")
    notes, tags = st.container(), st.container()  # always there, so that the form below stays what it is
    for each in review.notes:
        notes.html(
            f'<p class="cb-note">{as_html(each.value)}<span class="cb-small">{as_html(each.author)}, '
            f"{_when(each)}</span></p>"
        )
    if review.tags:
        key = f"tags-{found.id}-{found.version}"
        tags.pills(
            "Press a tag to take it off",
            review.tags,
            format_func=as_label,
            key=key,
            on_change=_take_off,
            args=(casebook, found, key),
        )
    with st.form(f"note-{found.id}", clear_on_submit=True, border=False):
        note = st.text_area("Note", max_chars=20_000, height=80)
        tag = st.text_input("Tag", max_chars=80)
        if st.form_submit_button("Write"):
            for kind, value in (("note", note), ("tag", tag)):
                if value.strip():
                    _written(casebook, found, kind, value.strip())
            st.rerun()


def _take_off(casebook: Casebook, found: StoredCase, key: str) -> None:
    """Take off the tag that was pressed. It is pressed no longer then: where it could not be written, it would be
    taken for pressed anew at every drawing of the page."""
    if gone := st.session_state[key]:
        _written(casebook, found, "untag", gone)
        st.session_state[key] = None


def _history(found: StoredCase) -> None:
    if not found.history:
        return
    rows = "".join(_line(each, undone=each.id in found.review.undone) for each in reversed(found.history))
    st.html(f'<h3>History</h3><ol class="cb-history">{rows}</ol>')


def _line(event: CaseEvent, *, undone: bool) -> str:
    look = ' class="cb-undone"' if undone else ""
    value = "" if event.kind == "undo" else f" {as_html(cut(event.value, 200))}"
    return f"<li{look}>{_when(event)} {as_html(event.author)}: {event.kind}{value}</li>"


def _when(event: CaseEvent) -> str:
    return as_html(event.at[:16].replace("T", " "))
