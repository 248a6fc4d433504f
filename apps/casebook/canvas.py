"""The layer canvas on a case: the explorer's own script, as a component of Streamlit."""

from importlib import resources
from typing import Any

import streamlit as st

from apps.casebook.shared import case_maps
from apps.casebook.text import as_html, shown_text
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.stored import StoredCase
from emma_viz.render.script import canvas_script, canvas_style

_HTML = '<div class="cb-canvas"></div>'


def draw_canvas(casebook: Casebook, found: StoredCase) -> None:
    """The canvas of a case, and a sentence for each model whose maps lack."""
    record = found.record
    picture = casebook.picture(record.image) if record.image else None
    image = None if picture is None else picture.image()
    with st.spinner("Decoding what the image tokens hold"):
        shown = case_maps().of(record, image)
    for note in shown.notes:
        st.html(f'<p class="cb-small">{as_html(shown_text(note))}</p>')
    if shown.payload is None:
        return
    dark = st.context.theme.type == "dark"
    _component()(key=f"canvas-{found.id}", data={"payload": shown.payload, "stamp": found.id, "dark": dark})


def _component() -> Any:
    glue = resources.files("apps.casebook").joinpath("canvas.js").read_text("utf-8")
    style = resources.files("apps.casebook").joinpath("casebook.css").read_text("utf-8")
    return st.components.v2.component(
        "emma_viz_canvas",
        html=_HTML,
        css=canvas_style() + style,
        js=canvas_script() + glue,
        isolate_styles=False,
    )
