"""The example in docs/extending/add-a-benchmark.md works as printed, as a package that was installed."""

import re
from pathlib import Path

import pytest

from emma_viz.records.benchmarks import names, read_benchmark
from tests.installed import install

PAGE = Path(__file__).parents[3] / "docs" / "extending" / "add-a-benchmark.md"


@pytest.fixture
def page():
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (points,) = re.findall(
        r"```toml\n\[project.entry-points.\"emma_viz.benchmarks\"\]\n(.*?)```", text, flags=re.DOTALL
    )
    return code, points.replace('"', "").strip()


def test_the_page_reads_its_table(page, tmp_path, monkeypatch):
    code, points = page
    install(tmp_path, monkeypatch, "countable", code, "emma_viz.benchmarks", points)
    path = tmp_path / "things.tsv"
    path.write_text("photo\tthing\tnumber\na.jpg\tcup\t2\nb.jpg\tcup\tmany\n/etc/passwd\tcup\t1\n")
    assert "countable" in names()
    found = read_benchmark("countable", [path])
    (record,) = found.records
    assert (record.question, record.truth, record.image) == ("How many cups are there?", "2", "a.jpg")
    assert record.cluster == "a.jpg"
    assert [each.split(":")[0] for each in found.complaints] == ["things.tsv, line 3", "things.tsv, line 4"]
