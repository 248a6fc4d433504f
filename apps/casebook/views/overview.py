"""Figures over all cases of a filter: how often each model is right, by category, and how sure it was."""

from collections import defaultdict
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from apps.casebook.permalinks import filter_of
from apps.casebook.text import as_html, shown_name
from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import CaseFilter
from emma_viz.cases.gathering import answered_of
from emma_viz.records.scorers import SCORERS
from emma_viz.session.benchmarks.results import answered_tables
from emma_viz.session.benchmarks.tables import Table, cell_text


def draw_overview(casebook: Casebook) -> None:
    """The page."""
    records = casebook.records(filter_of(st.query_params))
    st.html(
        f'<header class="cb-head"><h1>Figures</h1><p>{len(records)} cases of {as_html(shown_name(casebook))}; '
        "the filter stands in the address.</p></header>"
    )
    if not records:
        st.html('<section class="cb-trouble"><h2>No case passes this filter</h2></section>')
        return
    st.html(_table(records))
    _benchmarks(casebook)
    by_category = _right_by(records, "category")
    if len({category for category, _ in by_category}) > 1:
        st.plotly_chart(_bars(by_category), width="stretch", key="categories")


def _benchmarks(casebook: Casebook) -> None:
    """The tables of whole benchmarks, whatever the filter chose."""
    names = sorted(casebook.facets()["benchmark"])
    if not names:
        return
    chosen = st.selectbox(
        "Numbers of the whole benchmark", ["", *names], format_func=lambda name: name or "none"
    )
    if chosen:
        with st.spinner("Drawing intervals"):
            tables = _tables(casebook, chosen, casebook.count(CaseFilter(benchmark=chosen)))
        for table in tables:
            st.html(_as_table(table))


@st.cache_data(max_entries=8, show_spinner=False)
def _tables(_casebook: Casebook, name: str, _count: int) -> list[Table]:
    """The tables of the records that all models answered, once for each state of the casebook."""
    records = _casebook.records(CaseFilter(benchmark=name))
    models = _models(records)
    whole = [record for record in records if all(record.answer_of(model) for model in models)]
    scorers = tuple(
        dict.fromkeys(answer.scorer for record in whole for answer in record.answers if answer.scorer)
    )
    known = tuple(each for each in scorers if each in SCORERS)
    if not whole or not known:
        return []
    return answered_tables([answered_of(record, models) for record in whole], models, known, name)


def _as_table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{as_html(each)}</th>" for each in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{as_html(cell_text(cell))}</td>' for cell in row)}</tr>" for row in table.rows
    )
    notes = "".join(f'<p class="cb-small">{as_html(note)}</p>' for note in table.notes)
    return (
        f"<h3>{as_html(table.title)}</h3><div class='cb-wide'><table class='cb-table'><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{notes}"
    )


def _table(records: Sequence[CaseRecord]) -> str:
    rows = []
    for model in _models(records):
        answers = [found for record in records if (found := record.answer_of(model)) is not None]
        scored = [each for each in answers if each.right is not None]
        said = [each for each in answers if each.said in ("yes", "no")]
        right = f"{sum(bool(each.right) for each in scored) / len(scored):.3f}" if scored else "–"
        yes = f"{sum(each.said == 'yes' for each in said) / len(said):.3f}" if said else "–"
        rows.append(
            f"<tr><th scope='row'>{as_html(model)}</th><td>{len(answers)}</td><td>{len(scored)}</td><td>{right}</td>"
            f"<td>{yes}</td></tr>"
        )
    return (
        '<table class="cb-table"><thead><tr><th>model</th><th>answers</th><th>scored</th><th>right</th>'
        f"<th>says yes</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        '<p class="cb-small">Shares of these cases, which a filter or a miner chose: no estimate for a benchmark. '
        "<code>emma-viz benchmark</code> prints those, with intervals.</p>"
    )


def _models(records: Sequence[CaseRecord]) -> list[str]:
    return list(dict.fromkeys(answer.model for record in records for answer in record.answers))


def _right_by(records: Sequence[CaseRecord], field: str) -> dict[tuple[str, str], list[bool]]:
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for record in records:
        for answer in record.answers:
            if answer.right is not None and getattr(record, field):
                found[getattr(record, field), answer.model].append(answer.right)
    return found


def _bars(found: dict[tuple[str, str], list[bool]]) -> go.Figure:
    figure = go.Figure()
    categories = sorted({category for category, _ in found})
    for model in dict.fromkeys(model for _, model in found):
        held = [found.get((category, model), []) for category in categories]
        figure.add_bar(
            x=categories,
            y=[sum(each) / len(each) if each else None for each in held],
            customdata=[len(each) for each in held],
            hovertemplate="%{x}: %{y:.3f} of %{customdata}<extra>%{fullData.name}</extra>",
            name=model,
        )
    figure.update_layout(
        title="Right answers by category",
        height=360,
        yaxis_range=[0, 1],
        barmode="group",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
