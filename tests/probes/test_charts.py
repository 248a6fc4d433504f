"""Charts of the report: what Plotly and matplotlib are told of plain values."""

from collections.abc import Iterator

import numpy as np
import pytest

from probes.charts import Bars, Grids, Lines, Panel, Series
from probes.pages.plotly_charts import plotly_figure

ATTACK = '<a href="javascript:alert(1)">x</a> <b>&lt;i&gt;</b>'


def strings(value) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("kind", ["lines", "bars", "grids"])
def test_no_name_of_a_stranger_links_or_formats_in_a_chart(kind):
    series = (Series(name=ATTACK * 3, y=(1.0, 2.0)),)
    words = {"name": "all", "title": ATTACK}
    chart = {
        "lines": lambda: Lines(x=(ATTACK, "b"), x_title=ATTACK, y_title=ATTACK, series=series, **words),
        "bars": lambda: Bars(x=(ATTACK, "b"), x_title=ATTACK, y_title=ATTACK, series=series, **words),
        "grids": lambda: Grids(
            panels=(Panel(title=ATTACK, values=np.eye(2)),), columns=1, value_title=ATTACK, **words
        ),
    }[kind]()
    found = list(strings(plotly_figure(chart)))
    assert any("&lt;a href=" in text for text in found)
    for text in found:
        assert "<" not in text.replace("<br>", "")  # the breaks between a legend's lines are our own
        assert "&lt;i" not in text.replace("&amp;lt;i", "")
