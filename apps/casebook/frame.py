"""What all pages share: the casebook, the style, the way between them, and what is said when something is wrong."""

from collections.abc import Callable
from importlib import resources

import streamlit as st

from apps.casebook.permalinks import filter_part, renewed
from apps.casebook.shared import shared_casebook
from apps.casebook.text import as_html, shown_text
from apps.casebook.views import case, gallery, overview, pair
from emma_viz.cases.casebook import Casebook
from emma_viz.errors import EmmaVizError

_FILTER, _PAGE = "filter", "page"
"""In the visitor's state: the filter that was on the last page, and which page that was."""
_LIGHT = "--cb-right: #00674a; --cb-wrong: #a8231b; --cb-accent: #0b5c94; --cb-accent-ink: #ffffff;"
_DARK = "--cb-right: #45cfa4; --cb-wrong: #ff8a80; --cb-accent: #7cc0f2; --cb-accent-ink: #10202c;"


def show_page() -> None:
    """Draw the frame, and the page that the address names in it."""
    st.set_page_config(page_title="emma_viz casebook", layout="wide", initial_sidebar_state="auto")
    style = resources.files("apps.casebook").joinpath("casebook.css").read_text("utf-8")
    colours = _DARK if st.context.theme.type == "dark" else _LIGHT
    st.html(f"<style>:root {{ {colours} }}\n{style}</style>")
    pages = {
        "cases": st.Page(_guarded(gallery.draw_gallery), title="Cases", url_path="cases", default=True),
        "figures": st.Page(_guarded(overview.draw_overview), title="Figures", url_path="figures"),
        "case": st.Page(_guarded(case.draw_case), title="Case", url_path="case"),
        "pair": st.Page(_guarded(pair.draw_pair), title="Two cases", url_path="pair"),
    }
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="top")
    if (address := renewed(st.query_params)) != st.query_params.to_dict():
        st.query_params.from_dict(address)
    _keep_filter(page.url_path)
    page.run()
    st.session_state[_FILTER] = filter_part(st.query_params)


def _keep_filter(page: str) -> None:
    """Take the filter along to another page: the way between pages at the top leaves the address behind."""
    came, st.session_state[_PAGE] = st.session_state.get(_PAGE, page), page
    if came != page and not filter_part(st.query_params):
        for name, value in st.session_state.get(_FILTER, {}).items():
            st.query_params[name] = value


def _guarded(draw: Callable[[Casebook], None]) -> Callable[[], None]:
    """A page that says in a sentence what is wrong with the casebook, a study or a link."""

    def page() -> None:
        try:
            draw(shared_casebook())
        except EmmaVizError as error:
            said = as_html(shown_text(str(error)))
            st.html(
                f'<section class="cb-trouble" role="alert"><h1>This cannot be shown</h1><p>{said}</p></section>'
            )

    page.__name__ = draw.__module__.rpartition(".")[2]
    return page
