"""Figures over all cases of a filter: how often each model is right, by category, and how sure it was."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import streamlit as st

from apps.casebook import charts
from apps.casebook.filtering import draw_filter
from apps.casebook.permalinks import filter_of
from apps.casebook.text import as_html, scrolled, shown_name
from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import CaseFilter
from emma_viz.cases.gathering import answered_of, cluster_of
from emma_viz.errors import InputError
from emma_viz.metrics.verdicts import CalibrationBin, ShareOfRows, calibration_curve, share_of_rows
from emma_viz.records.scorers import SCORERS
from emma_viz.session.benchmarks.results import answered_tables
from emma_viz.session.benchmarks.tables import Table, cell_text

MOST_OBJECTS = 20
"""Objects that are drawn."""
_WHISKERS = (
    '<p class="cb-small">Whiskers: 95 %, Wilson\'s over images; none where all rows are of one image.</p>'
)


def draw_overview(casebook: Casebook) -> None:
    """The page."""
    draw_filter(casebook)
    records = casebook.records(filter_of(st.query_params))
    st.html(
        f'<header class="cb-head"><h1>Figures</h1><p>{len(records)} cases of {as_html(shown_name(casebook))}; '
        "the filter is in the sidebar.</p></header>"
    )
    if not records:
        st.html('<section class="cb-trouble"><h2>No case passes this filter</h2></section>')
        return
    st.html(_table(records))
    _benchmarks(casebook)
    models = _models(records)
    by_category = right_shares(records)
    if len({category for category, _ in by_category}) > 1:
        st.plotly_chart(charts.right_by_category(by_category, models), width="stretch", key="categories")
        st.html(_WHISKERS)
    _confusion(records, models)
    curves = calibration_of(records, models)
    if any(curves.values()):
        st.plotly_chart(charts.calibration(curves, models), width="stretch", key="calibration")
        st.html(_WHISKERS)


def _confusion(records: Sequence[CaseRecord], models: Sequence[str]) -> None:
    made_up, missed = mistakes_by_object(records)
    objects = worst_objects(made_up, missed)
    if not objects:
        return
    known = {name for name, _ in (*made_up, *missed)}
    shown = objects[:MOST_OBJECTS]
    st.plotly_chart(
        charts.confusion_by_object(made_up, missed, shown, models), width="stretch", key="objects"
    )
    if len(shown) < len(known):
        st.html(
            f'<p class="cb-small">The {len(shown)} objects with the most mistakes, of {len(known)} that were asked '
            "about.</p>"
        )


Mistakes = dict[tuple[str, str], tuple[int, int]]
"""(object, model) → (wrong, asked)."""


def mistakes_by_object(records: Sequence[CaseRecord]) -> tuple[Mistakes, Mistakes]:
    """Of questions whose truth is no, how often yes was read; of those whose truth is yes, how often no."""
    found: tuple[Mistakes, Mistakes] = {}, {}
    for record in records:
        if not record.object or record.truth not in ("yes", "no"):
            continue
        counts, wrong = found[record.truth == "yes"], "no" if record.truth == "yes" else "yes"
        for answer in record.answers:
            before, asked = counts.get((record.object, answer.model), (0, 0))
            counts[record.object, answer.model] = (before + (answer.said == wrong), asked + 1)
    return found


def worst_objects(*mistakes: Mistakes) -> list[str]:
    """Objects by the number of mistakes about them, the most first."""
    total = Counter[str]()
    for counts in mistakes:
        for (name, _), (wrong, _) in counts.items():
            total[name] += wrong
    return sorted(total, key=lambda name: (-total[name], name))


def calibration_of(records: Sequence[CaseRecord], models: Sequence[str]) -> dict[str, list[CalibrationBin]]:
    """Model → the bins of its calibration, over yes/no questions whose probabilities were kept."""
    asked = [record for record in records if record.truth in ("yes", "no")]
    truth = np.array([record.truth == "yes" for record in asked], dtype=bool)
    cluster = _clusters(asked)
    found = {}
    for model in models:
        answers = [record.answer_of(model) for record in asked]
        leaning = [np.nan if each is None or each.leaning is None else each.leaning for each in answers]
        found[model] = calibration_curve(truth, np.array(leaning, dtype=float), cluster)
    return found


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
            tables, left_out = _tables(casebook, chosen, casebook.state())
        for table in tables:
            st.html(_as_table(table))
        if left_out:
            st.html(
                f'<p class="cb-small">Left out: {left_out} cases that ask for yes or no and whose truth is neither.</p>'
            )


@st.cache_data(max_entries=8, show_spinner=False)
def _tables(_casebook: Casebook, name: str, state: str) -> tuple[list[Table], int]:
    """The tables of the records that all models answered, once for each state of the casebook; and how many of these no
    benchmark takes.

    What begins with an underscore is no part of the name under which Streamlit keeps them.
    """
    del state
    records = _casebook.records(CaseFilter(benchmark=name))
    models = _models(records)
    whole = [record for record in records if all(record.answer_of(model) for model in models)]
    scorers = tuple(
        dict.fromkeys(answer.scorer for record in whole for answer in record.answers if answer.scorer)
    )
    known = tuple(each for each in scorers if each in SCORERS)
    answered = []
    for record in whole:
        try:
            answered.append(answered_of(record, models))
        except InputError:
            continue
    tables = answered_tables(answered, models, known, name) if answered and known else []
    return tables, len(whole) - len(answered)


def _as_table(table: Table) -> str:
    if not table.rows:
        return f"<h3>{as_html(table.title)}</h3>"
    head = "".join(f"<th scope='col'>{as_html(each)}</th>" for each in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_cell(cell_text(cell))}</td>' for cell in row)}</tr>" for row in table.rows
    )
    notes = "".join(f'<p class="cb-small">{as_html(note.removeprefix("- "))}</p>' for note in table.notes)
    body = f"<table class='cb-table'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h3>{as_html(table.title)}</h3>{scrolled(body, table.title)}{notes}"


def _cell(text: str) -> str:
    """A number with its interval below it."""
    value, sign, ends = text.partition(" [")
    if not (sign and ends.endswith("]")):
        return as_html(text)
    return f'{as_html(value)}<br><span class="cb-small">[{as_html(ends)}</span>'


def _table(records: Sequence[CaseRecord]) -> str:
    rows, clusters = [], _clusters(records).tolist()
    for model in _models(records):
        answers = [
            (found, where)
            for record, where in zip(records, clusters, strict=True)
            if (found := record.answer_of(model)) is not None
        ]
        scored = [(each.right, where) for each, where in answers if each.right is not None]
        said = [(each.said == "yes", where) for each, where in answers if each.said in ("yes", "no")]
        rows.append(
            f"<tr><th scope='row'>{as_html(model)}</th><td>{len(answers)}</td><td>{len(scored)}</td>"
            f"<td>{_share(scored)}</td><td>{_share(said)}</td></tr>"
        )
    body = (
        '<table class="cb-table"><thead><tr><th>model</th><th>answers</th><th>scored</th><th>right</th>'
        f"<th>says yes</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return (
        f'{scrolled(body, "Shares of these cases")}<p class="cb-small">Shares of these cases, with 95 % over images. A '
        "filter or a miner chose them: no estimate for a benchmark. The tables below have those, and "
        "<code>emma-viz benchmark</code> prints them.</p>"
    )


def _share(rows: Sequence[tuple[bool, int]]) -> str:
    """HTML of the share of rows, each with its cluster, for which something holds."""
    if not rows:
        return "–"
    found = _share_of(rows)
    ends = "" if np.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]"
    return _cell(f"{found.value:.3f}{ends}")


def _share_of(rows: Sequence[tuple[bool, int]]) -> ShareOfRows:
    return share_of_rows(*(np.array(each) for each in zip(*rows, strict=True)))


def _models(records: Sequence[CaseRecord]) -> list[str]:
    return list(dict.fromkeys(answer.model for record in records for answer in record.answers))


def right_shares(records: Sequence[CaseRecord]) -> dict[tuple[str, str], ShareOfRows]:
    """(category, model) → the right ones among its scored answers."""
    found: dict[tuple[str, str], list[tuple[bool, int]]] = defaultdict(list)
    for record, cluster in zip(records, _clusters(records).tolist(), strict=True):
        for answer in record.answers:
            if answer.right is not None and record.category:
                found[record.category, answer.model].append((answer.right, cluster))
    return {key: _share_of(answers) for key, answers in found.items()}


def _clusters(records: Sequence[CaseRecord]) -> np.ndarray:
    """The number of each case's cluster, as the benchmarks' tables have it: int (n,)."""
    names = [cluster_of(record) for record in records]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=int)
