"""The cases that pass a filter, as cards."""

from collections.abc import Mapping

import streamlit as st

from apps.casebook.documents import MOST_SENT, document_links
from apps.casebook.filtering import draw_filter
from apps.casebook.links import follow_links, open_link
from apps.casebook.permalinks import filter_of, filter_part
from apps.casebook.pictures import address_of
from apps.casebook.text import as_html, chip, cut, judged_chip, shown_name
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.stored import StoredCase

ON_A_PAGE = 12


def draw_gallery(casebook: Casebook) -> None:
    """The gallery."""
    draw_filter(casebook)
    wanted = filter_of(st.query_params)
    page = max(_whole(st.query_params.get("page", "1")), 1)
    ids, total = casebook.page(wanted, start=(page - 1) * ON_A_PAGE, count=ON_A_PAGE)
    pages = max(1, -(-total // ON_A_PAGE))
    if page > pages:
        page = pages
        ids, _ = casebook.page(wanted, start=(page - 1) * ON_A_PAGE, count=ON_A_PAGE)
    shown = casebook.cases(ids)
    st.html(
        f'<header class="cb-head"><h1>Cases</h1><p>{total} of {casebook.count()} in {as_html(shown_name(casebook))}</p>'
        "</header>"
    )
    st.page_link(
        st.session_state["pages"]["figures"],
        label="Figures of these cases",
        query_params=filter_part(st.query_params),
    )
    if not shown:
        _nothing(casebook)
        return
    pictures = casebook.thumbnails([each.record.image for each in shown if each.record.image])
    # One element, and not some for each card: the browser takes its time over every one.
    address = filter_part(st.query_params)
    cards = "".join(_card(each, pictures.get(each.record.image), address) for each in shown)
    st.html(f'<div class="cb-cards">{cards}</div>')
    if pages > 1:
        _turn(page, pages)
    what = "this case" if total == 1 else f"these {min(total, MOST_SENT)} cases"
    st.html(document_links(what, "cases", address))
    follow_links()


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _turn(page: int, pages: int) -> None:
    before, middle, after = st.columns([1, 2, 1])
    if before.button("Previous", disabled=page == 1, width="stretch"):
        st.query_params["page"] = str(page - 1)
        st.rerun()
    middle.html(f'<p class="cb-middle">page {page} of {pages}</p>')
    if after.button("Next", disabled=page == pages, width="stretch"):
        st.query_params["page"] = str(page + 1)
        st.rerun()


def _nothing(casebook: Casebook) -> None:
    if not casebook.count():
        st.html(
            '<section class="cb-trouble"><h2>This casebook is empty</h2><p>Run a benchmark, and gather its answers:</p>'
            "<pre>emma-viz benchmark tabletop --out run\nemma-viz cases mine run</pre></section>"
        )
        return
    wider = "Widen it in the sidebar" + ("." if st.query_params.get("all") else ", or show every question.")
    st.html(f'<section class="cb-trouble"><h2>No case passes this filter</h2><p>{wider}</p></section>')
    if not st.query_params.get("all"):
        every = {**filter_part(st.query_params), "all": "yes"}
        st.page_link(st.session_state["pages"]["cases"], label="Show every question", query_params=every)


def _card(found: StoredCase, thumbnail: bytes | None, address: Mapping[str, str]) -> str:
    record, review = found.record, found.review
    photo = (
        f'<img class="cb-thumb" alt="" src="{address_of(thumbnail, "image/webp")}">'
        if thumbnail
        else '<div class="cb-thumb cb-blank">no image kept</div>'
    )
    answers = "".join(
        f"<li><b>{as_html(each.model)}</b> {as_html(cut(each.text, 120))} {judged_chip(each)}</li>"
        for each in record.answers
    )
    whence = dict.fromkeys((record.benchmark, record.split, record.category))
    facts = [chip(each) for each in whence if each]
    facts += [chip(rule.replace("-", " "), "cb-rule") for rule in found.reasons]
    if review.verdict:
        facts.append(chip(review.verdict, "cb-verdict"))
    facts += [chip(tag, "cb-tag") for tag in review.tags]
    return (
        f'<article class="cb-card">{photo}<h3>{as_html(cut(record.prompt, 200))}</h3>'
        f'<p class="cb-small">truth: {as_html(record.truth or "a description")}</p><ul>{answers}</ul>'
        f"<p>{''.join(facts)}</p><p>{open_link('case', 'Open the case', {**address, 'id': found.id})}</p></article>"
    )
