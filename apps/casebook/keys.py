"""Keys of a review: next and previous case, a verdict, undo."""

from importlib import resources
from types import MappingProxyType

import streamlit as st

from emma_viz.cases.history import CASE_VERDICTS

VERDICT_KEYS = MappingProxyType({str(number): name for number, name in enumerate(CASE_VERDICTS, start=1)})
"""Key → the verdict that it writes."""
NEXT, PREVIOUS, UNDO = "n", "p", "u"


def pressed_key() -> str | None:
    """The key of a review that was pressed just now; None for none."""
    script = resources.files("apps.casebook").joinpath("keys.js").read_text("utf-8")
    listen = st.components.v2.component("emma_viz_keys", js=script, isolate_styles=False)
    result = listen(
        key="keys",
        data={"keys": [*VERDICT_KEYS, NEXT, PREVIOUS, UNDO]},
        on_pressed_change=lambda: None,
    )
    return result.pressed
