"""Links to other pages that stand in HTML: many of them cost no more than their text."""

from collections.abc import Mapping
from importlib import resources
from urllib.parse import urlencode

import streamlit as st

from apps.casebook.text import as_html


def open_link(page: str, label: str, address: Mapping[str, str]) -> str:
    """HTML of a link.

    Args:
        page: the last part of its path.
        label: what stands there.
        address: name → value.
    """
    return f'<a class="cb-open" href="{page}?{as_html(urlencode(address))}">{as_html(label)}</a>'


def follow_links() -> None:
    """Let the links of this page be followed without the whole page being loaded anew.

    By a script of the page and not as a component, which is loaded after the links stand: who presses one at once
    would wait for the whole page.
    """
    script = resources.files("apps.casebook").joinpath("links.js").read_text("utf-8")
    st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)
