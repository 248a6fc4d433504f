"""The evidence of a case by layer, each measure with what it must exceed to say anything."""

import plotly.graph_objects as go
import streamlit as st

from apps.casebook.charts import dressed, model_colours
from apps.casebook.text import as_html
from emma_viz.cases.case import MeasuredEvidence
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.stored import StoredCase
from emma_viz.render.plotly_text import plotly_text
from emma_viz.session.case_report.content import CaseContent

_UNMEASURED = "Nothing was measured of this case yet: emma-viz cases evidence."


def draw_evidence(casebook: Casebook, found: StoredCase) -> None:
    """What the numbers say, curves of what has several layers, and a line of words for what has one number."""
    measured = found.record.evidence
    if not measured:
        st.html(f'<p class="cb-small">{as_html(_UNMEASURED)}</p>')
        return
    st.html("<h3>Evidence</h3>")
    content = CaseContent.of(casebook, found)
    for said in content.paragraphs:
        st.html(f"<p>{as_html(said)}</p>")
    for lacks in content.lacking:
        st.html(f'<p class="cb-small">{as_html(lacks)}</p>')
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
    figure = go.Figure()
    for model, colour in model_colours(models).items():
        mine = sorted((each for each in measured if each.model == model), key=lambda each: each.layer)
        if not mine:
            continue
        layers = [each.layer for each in mine]
        line = {"color": colour, "width": 2}
        figure.add_scatter(x=layers, y=[each.value for each in mine], name=plotly_text(model), line=line)
        if any(each.control is not None for each in mine):
            figure.add_scatter(
                x=layers,
                y=[each.control for each in mine],
                name=f"{plotly_text(model)}, control",
                line={**line, "dash": "dot", "width": 1.3},
            )
    return dressed(figure, name, height=310, xaxis_title="layer (−1: what enters block 0)")
