"""The evidence of a case: what its numbers say, each sentence a link to them; curves by layer; a table of the others.

Each measure stands beside what it must exceed to say anything.
"""

from collections import defaultdict

import plotly.graph_objects as go
import streamlit as st

from apps.casebook.charts import dressed, model_colours
from apps.casebook.text import as_html, scrolled
from emma_viz.cases.case import MeasuredEvidence
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.stored import StoredCase
from emma_viz.render.footer import number
from emma_viz.render.plotly_text import plotly_text
from emma_viz.session.case_report.content import CaseContent
from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, CaseNumber

_UNMEASURED = "Nothing was measured of this case yet: emma-viz cases evidence."


def draw_evidence(casebook: Casebook, found: StoredCase, *, across: int = 2) -> None:
    """Sentences, curves, and a table.

    Args:
        casebook: where it is kept.
        found: the case.
        across: curves side by side.
    """
    if not found.record.evidence:
        st.html(f'<p class="cb-small">{as_html(_UNMEASURED)}</p>')
        return
    content = CaseContent.of(casebook, found)
    st.html("<h3>Evidence</h3>" + "".join(_paragraph(each, content) for each in content.evidence))
    if content.lacking:
        st.html("".join(f'<p class="cb-small">{as_html(each)}</p>' for each in content.lacking))
    models = [answer.model for answer in found.record.answers]
    by_layer, alone = _measures(found)
    named = _named(content)
    for begin in range(0, len(by_layer), across):
        row = list(by_layer.items())[begin : begin + across]
        for column, (name, mine) in zip(st.columns(across, gap="large"), row, strict=False):
            column.html(_heading(name, named.get(name), content))
            column.plotly_chart(_curves(mine, models), width="stretch", key=f"curve-{found.id}-{name}")
    if alone:
        st.html(_table(alone, models, named, content))


def _measures(
    found: StoredCase,
) -> tuple[dict[str, list[MeasuredEvidence]], dict[str, dict[str, MeasuredEvidence]]]:
    """Name → the numbers of what has several layers; name → model → the number of what has one."""
    every: defaultdict[str, list[MeasuredEvidence]] = defaultdict(list)
    for each in found.record.evidence:
        every[each.name].append(each)
    layered = {name: some for name, some in every.items() if len({each.layer for each in some}) > 1}
    alone = {name: {each.model: each for each in some} for name, some in every.items() if name not in layered}
    return dict(sorted(layered.items())), dict(sorted(alone.items()))


def _named(content: CaseContent) -> dict[str, CaseCurve | CaseNumber]:
    """Name → a measure of that name, which says what it is."""
    return {each.name: each for model in content.evidence for each in (*model.curves, *model.numbers)}


def _paragraph(evidence: CaseEvidence, content: CaseContent) -> str:
    """The sentences of one model; each leads to the first of its numbers."""
    said = (
        f'<a class="cb-said" href="#{content.place(each.numbers[0])}" '
        f'title="{as_html(", ".join(each.numbers))}">{as_html(each.text)}</a>'
        if each.numbers
        else as_html(each.text)
        for each in evidence.sentences
    )
    return f'<p class="cb-paragraph">{" ".join(said)}</p>'


def _heading(name: str, about: CaseCurve | CaseNumber | None, content: CaseContent) -> str:
    words = f"<b>{as_html(name)}</b>"
    if about is not None:
        unit = f", {about.unit}" if about.unit and about.unit not in about.title else ""
        words += f' <span class="cb-small">{as_html(about.title + unit)}</span>'
        if about.control_title:
            words += f'<br><span class="cb-small">dotted: {as_html(about.control_title)}</span>'
    return f'<p class="cb-measure" id="{content.place(name)}">{words}</p>'


def _table(
    alone: dict[str, dict[str, MeasuredEvidence]],
    models: list[str],
    named: dict[str, CaseCurve | CaseNumber],
    content: CaseContent,
) -> str:
    rows = []
    for name, by_model in alone.items():
        about = named.get(name)
        unit = f", {about.unit}" if about is not None and about.unit else ""
        title = "" if about is None else f'<br><span class="cb-small">{as_html(about.title + unit)}</span>'
        cells = "".join(f"<td>{_cell(by_model.get(model), about)}</td>" for model in models)
        rows.append(f'<tr id="{content.place(name)}"><th scope="row">{as_html(name)}{title}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{as_html(model)}</th>' for model in models)
    table = f'<table class="cb-table cb-numbers"><thead><tr><th>number</th>{head}</tr></thead>'
    return scrolled(f"{table}<tbody>{''.join(rows)}</tbody></table>", "Numbers of the evidence")


def _cell(each: MeasuredEvidence | None, about: CaseCurve | CaseNumber | None) -> str:
    if each is None:
        return "–"
    words = f"<b>{number(each.value)}</b>"
    if each.control is None:
        return words
    title = "its control" if about is None or not about.control_title else about.control_title
    beats = "above" if each.value > each.control else "not above"
    return f'{words}<br><span class="cb-small">{beats} {as_html(title)}, {number(each.control)}</span>'


def _curves(measured: list[MeasuredEvidence], models: list[str]) -> go.Figure:
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
                mode="lines",
                line={**line, "dash": "dot", "width": 1.3},
                showlegend=False,
            )
    return dressed(figure, "", height=250, xaxis_title="layer (−1: what enters block 0)")
