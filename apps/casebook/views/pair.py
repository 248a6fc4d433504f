"""Two cases side by side."""

import streamlit as st

from apps.casebook.evidence import draw_evidence
from apps.casebook.text import as_html
from apps.casebook.views.case import draw_answers, draw_picture
from emma_viz.cases.casebook import Casebook


def draw_pair(casebook: Casebook) -> None:
    """The page of the two cases that the address names, `id` and `other`."""
    ids = [st.query_params.get("id", ""), st.query_params.get("other", "")]
    if not all(ids):
        st.html(
            '<section class="cb-trouble"><h2>Two cases side by side</h2><p>Open a case, press “Hold to compare”, open '
            "another one, and press “Compare with the held case”.</p></section>"
        )
        return
    st.html('<header class="cb-head"><h1>Two cases</h1></header>')
    for column, id in zip(st.columns(2, gap="large"), ids, strict=True):
        found = casebook.case(id)
        with column:
            st.html(f"<h2>{as_html(found.record.prompt)}</h2>")
            st.page_link(st.session_state["pages"]["case"], label="Open the case", query_params={"id": id})
            draw_picture(casebook, found)
            draw_answers(found)
            draw_evidence(casebook, found, across=1)
