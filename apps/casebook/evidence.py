"""The evidence of a case by layer, each measure with what it must exceed to say anything."""

import plotly.graph_objects as go
import streamlit as st

from apps.casebook.text import as_html
from emma_viz.cases.case import MeasuredEvidence
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.stored import StoredCase
from emma_viz.session.case_report.content import CaseContent

_UNMEASURED = "Nothing was measured of this case yet: emma-viz cases evidence."
_COLOURS = {
    "light": ("rgb(200,82,0)", "rgb(0,114,178)", "rgb(0,128,92)", "rgb(176,86,138)"),
    "dark": ("rgb(255,145,82)", "rgb(98,181,240)", "rgb(69,207,164)", "rgb(235,164,205)"),
}
"""Of models in their order, as the canvas has them."""


def draw_evidence(casebook: Casebook, found: StoredCase) -> None:
    """What the numbers say, curves of what has several layers, and a line of words for what has one number."""
    measured = found.record.evidence
    if not measured:
        st.html(f'<p class="cb-small">{as_html(_UNMEASURED)}</p>')
        return
    st.html("<h3>Evidence</h3>")
    for said in CaseContent.of(casebook, found).paragraphs:
        st.html(f"<p>{as_html(said)}</p>")
    models = [answer.model for answer in found.record.answers]
    for name in sorted({each.name for each in measured}):
        mine = [each for each in measured if each.name == name]
        if len({each.layer for each in mine}) > 1:
            st.plotly_chart(_curves(name, mine, models), width="stretch", key=f"curve-{found.id}-{name}")
        else:
            st.html("".join(f'<p class="cb-small">{_said(each)}</p>' for each in mine))


def _said(each: MeasuredEvidence) -> str:
    words = f"{as_html(each.name)}, {as_html(each.model)}: <b>{each.value:.3g}</b>"
    return words if each.control is None else f"{words}, to be held against {each.control:.3g}"


def _curves(name: str, measured: list[MeasuredEvidence], models: list[str]) -> go.Figure:
    dark = st.context.theme.type == "dark"
    colours = _COLOURS["dark" if dark else "light"]
    figure = go.Figure()
    for index, model in enumerate(models):
        mine = sorted((each for each in measured if each.model == model), key=lambda each: each.layer)
        if not mine:
            continue
        layers, colour = [each.layer for each in mine], colours[index % len(colours)]
        line = {"color": colour, "width": 2}
        figure.add_scatter(x=layers, y=[each.value for each in mine], name=model, line=line)
        if any(each.control is not None for each in mine):
            figure.add_scatter(
                x=layers,
                y=[each.control for each in mine],
                name=f"{model}, control",
                line={**line, "dash": "dot", "width": 1.3},
            )
    figure.update_layout(
        title=name,
        height=280,
        margin={"l": 50, "r": 10, "t": 40, "b": 40},
        xaxis_title="layer",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
