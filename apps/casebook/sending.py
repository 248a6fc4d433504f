"""Cases to take away: a PDF, or one HTML page; made when they are asked for."""

from collections.abc import Sequence

import streamlit as st

from apps.casebook.canvas import case_maps
from emma_viz.cases.casebook import Casebook
from emma_viz.session.case_report.content import CaseContent, contents
from emma_viz.session.case_report.page import cases_page
from emma_viz.session.case_report.pdf import cases_pdf

MOST_SENT = 200
"""Cases of one document."""


def offer_document(casebook: Casebook, ids: Sequence[str], *, name: str) -> None:
    """Two buttons that save cases; a page of one case has its layer canvas inside.

    Args:
        casebook: where the cases are.
        ids: of the cases.
        name: of the files, without their endings.
    """
    sent = list(ids[:MOST_SENT])

    def pdf() -> bytes:
        return cases_pdf(contents(casebook, sent))

    def page() -> bytes:
        found = contents(casebook, sent)
        payload = _payload(found[0]) if len(found) == 1 else None
        return cases_page(found, payload=payload).encode("utf-8")

    what = "this case" if len(sent) == 1 else f"these {len(sent)} cases"
    left, right = st.columns(2)
    left.download_button(f"Save {what} as PDF", pdf, f"{name}.pdf", "application/pdf", width="stretch")
    right.download_button(f"Save {what} as HTML", page, f"{name}.html", "text/html", width="stretch")


def _payload(content: CaseContent):
    image = None if content.picture is None else content.picture.image()
    return case_maps().of(content.case.record, image).payload
