"""What all visitors of a server share: its casebook, open once, and the maps of its cases."""

import json
import os

import streamlit as st

from apps.casebook.told import CASEBOOK_MODELS, CASEBOOK_PLACE
from emma_viz.cases.casebook import Casebook
from emma_viz.session.case_maps import CaseMaps


def shared_casebook() -> Casebook:
    """The casebook of this server.

    Raises:
        CasebookError: it cannot be opened.
    """
    return _opened(os.environ[CASEBOOK_PLACE])


@st.cache_resource(show_spinner=False)
def case_maps() -> CaseMaps:
    """Makes the maps of cases."""
    return CaseMaps(json.loads(os.environ.get(CASEBOOK_MODELS, "{}")))


@st.cache_resource(show_spinner="Opening the casebook", max_entries=4)
def _opened(where: str) -> Casebook:
    return Casebook.open(where)
