"""Charts of the report: what Plotly and matplotlib are told of plain values."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from emma_viz.render.depth import RELATIVE
from probes.charts import Bars, Grids, Lines, Panel, Series, beyond_scale, scale_end
from probes.content.patch_classes import TASKS, _selectivity_bars
from probes.numbers import layer_chart
from probes.pages import paper_charts
from probes.pages.plotly_charts import plotly_figure
from probes.pages.report import Report, Section, write_report
from probes.protocol import Number, Result

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


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_on_paper_no_name_is_a_formula_and_none_is_hidden(kind, tmp_path, monkeypatch):
    odd = ("$\\frac$ of $", "_hidden", "$a$")
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **o: (drawn.append(figure), save(figure, *a, **o))
    )
    series = tuple(Series(name=name, y=(1.0, 2.0), control=name == "$a$") for name in odd)
    chart = kind(name="all", title=odd[0], x=odd[:2], x_title=odd[0], y_title=odd[0], series=series)
    assert all(path.stat().st_size for path in paper_charts.write_charts(chart, tmp_path / "all"))
    (legend,) = drawn[0].legends
    assert tuple(each.get_text() for each in legend.get_texts()) == odd
    assert not any(each.get_parse_math() for each in drawn[0].findobj(Text))


def result(name: str, n_layer: int, layers, known=None, control=False) -> Result:
    """The numbers of a model at some layers; each is its layer's number over 100."""
    findings = []
    for layer in layers if known is None else known:
        number = Number(value=layer / 100, low=layer / 100 - 1, high=layer / 100 + 1)
        measure = SimpleNamespace(name="m", layer=layer, control_title="control")
        findings.append(
            SimpleNamespace(measure=measure, number=number, control=number if control else None, over=number)
        )
    gathered = SimpleNamespace(model=SimpleNamespace(name=name, n_layer=n_layer), layers=tuple(layers))
    return Result(gathered=gathered, findings=tuple(findings))


def lines_of(*results: Result) -> Lines:
    chart = layer_chart(results, "m", name="m", title="M", y_title="m")
    assert chart is not None
    return chart


def drawn(chart: Lines) -> tuple[dict[str, list[tuple]], dict[str, list[tuple]]]:
    """(x, y) of every line, by Plotly and on paper; gaps are left out."""
    web = {
        each["name"]: [(x, y) for x, y in zip(each["x"], each["y"], strict=True) if y is not None]
        for each in plotly_figure(chart)["data"]
        if "name" in each
    }
    figure = Figure()
    paper_charts._axes(figure, chart)
    paper = {
        str(line.get_label()): [(x, y) for x, y in line.get_xydata().tolist() if np.isfinite(y)]
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_")
    }
    return web, paper


def test_models_of_other_depths_stand_by_depth(unchecked):
    deep, shallow = (-1, 0, 21, 42, 63), (-1, 0, 15, 31, 47)
    chart = lines_of(result("deep", 64, deep), result("shallow", 48, shallow))
    assert chart.x_title == RELATIVE
    for found in drawn(chart):
        np.testing.assert_allclose(found["deep"], [(layer / 63, layer / 100) for layer in deep], atol=1e-6)
        np.testing.assert_allclose(
            found["shallow"], [(layer / 47, layer / 100) for layer in shallow], atol=1e-6
        )


def test_a_layer_that_is_missing_shifts_nothing_and_leaves_a_gap(unchecked):
    whole, some = range(-1, 12), [-1, 0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    chart = lines_of(result("whole", 12, whole), result("some", 12, whole, some, control=True))
    assert chart.x_title == "layer"
    assert chart.ticks[:2] == [(-1.0, "emb."), (2.0, "2")]
    for found in drawn(chart):
        for name in ("some", "some: control"):
            assert found[name] == [(layer, layer / 100) for layer in some]
        assert found["whole"] == [(layer, layer / 100) for layer in whole]
    figure = plotly_figure(chart)
    (line,) = (each for each in figure["data"] if each.get("name") == "some")
    assert line["y"][4:6] == [None, None]
    bands = [each["x"] for each in figure["data"] if each["meta"].get("band") and each["meta"]["model"] == 1]
    assert bands == [[-1, 0, 1, 2, 2, 1, 0, -1], [*range(5, 12), *range(11, 4, -1)]]
    assert figure["layout"]["xaxis"]["type"] == "linear"


def test_a_series_needs_a_place_for_each_value():
    with pytest.raises(ValueError, match="a place for each of 2 values"):
        Lines(name="m", title="", x_title="", y_title="", series=(Series(name="a", y=(1.0, 2.0), at=(0.0,)),))


def test_bars_of_selectivity_stand_at_their_own_layers(unchecked):
    task = next(iter(TASKS))
    both = [result("deep", 64, (0, 32, 63)), result("shallow", 48, (0, 47))]
    for each in both:
        for finding in each.findings:
            finding.measure.name = f"patches.{task}.by_look"
    chart = _selectivity_bars(both, task)
    assert chart is not None
    assert chart.x == ["0", "32", "47", "63"]
    np.testing.assert_array_equal(chart.series[1].y, [0, np.nan, 0.47, np.nan])


def test_colours_that_end_before_the_largest_size_say_what_lies_beyond():
    values = np.arange(100.0).reshape(10, 10)
    panels = (Panel(title="p", values=values),)
    loud = Grids(name="g", title="", panels=panels, columns=1, value_title="nats")
    end = scale_end(loud)
    assert beyond_scale(loud) == f"{(values > end).sum()} patches beyond {end:.3g}"
    title = plotly_figure(loud)["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert title == f"nats, {beyond_scale(loud)}"
    figure = Figure()
    paper_charts._grids(figure, loud)
    assert figure.axes[-1].get_ylabel() == title
    even = Grids(
        name="g", title="", panels=(Panel(title="p", values=np.ones((2, 2))),), columns=1, value_title=""
    )
    assert beyond_scale(even) == ""


def test_a_report_leaves_no_figure_of_an_earlier_one_and_touches_no_file_of_others(unchecked, tmp_path):
    def report(*names: str) -> Report:
        said = {"title": "T", "question": "Q", "method": "M", "summary": lambda results: ""}
        charts = [Lines(name=each, title="", x=("a",), x_title="", y_title="", series=()) for each in names]
        probe = SimpleNamespace(name="toy", plots=lambda results: charts, **said)
        about = {"name": "m", "family": "f", "ssm": "s", "n_layer": 1, "d_model": 1, "dtype": "d"}
        model = SimpleNamespace(**about, fingerprint="0", to_json=lambda: about)
        return Report(
            models=(model,), checks=((),), images="some", seen=1, asked=1, notes=(), minutes=0.0,
            sections=(Section(probe=probe, results=()),),
        )  # fmt: skip

    write_report(report("one", "two"), tmp_path)
    (tmp_path / "figures/mine.png").write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"")
    numbers = tmp_path / "report.json"
    listed = json.loads(numbers.read_text())
    assert listed["files"] == ["figures/toy-one.pdf", "figures/toy-one.png", "figures/toy-two.pdf",
                               "figures/toy-two.png", "tables/findings.csv"]  # fmt: skip
    listed["files"] += ["../secret.png", "secret.png", "figures/../secret.png"]
    numbers.write_text(json.dumps(listed))
    write_report(report("two"), tmp_path)
    left = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert left == ["mine.png", "toy-two.pdf", "toy-two.png"]
    assert (tmp_path / "secret.png").exists()
