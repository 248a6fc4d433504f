"""The example in docs/extending/add-a-benchmark.md works as printed, as a package that was installed."""

import re
import sys
from pathlib import Path

import pytest

from emma_viz.errors import InputError
from emma_viz.records.benchmarks import benchmark, names, read_benchmark

PAGE = Path(__file__).parents[3] / "docs" / "extending" / "add-a-benchmark.md"


def install(folder, monkeypatch, code, points):
    """What pip leaves of a package with one module."""
    (folder / "countable.py").write_text(code)
    facts = folder / "countable-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: countable\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[emma_viz.benchmarks]\n{points}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "countable", raising=False)


@pytest.fixture
def page():
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (points,) = re.findall(
        r"```toml\n\[project.entry-points.\"emma_viz.benchmarks\"\]\n(.*?)```", text, flags=re.DOTALL
    )
    return code, points.replace('"', "").strip()


def test_the_page_reads_its_table(page, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, *page)
    path = tmp_path / "things.tsv"
    path.write_text("photo\tthing\tnumber\na.jpg\tcup\t2\nb.jpg\tcup\tmany\n/etc/passwd\tcup\t1\n")
    assert "countable" in names()
    found = read_benchmark("countable", [path])
    (record,) = found.records
    assert (record.question, record.truth, record.image) == ("How many cups are there?", "2", "a.jpg")
    assert record.cluster == "a.jpg"
    assert [each.split(":")[0] for each in found.complaints] == ["things.tsv, line 3", "things.tsv, line 4"]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("countable = countable:READ", "which fails"),
        ("countable = countable:read", "expected a Benchmark there"),
    ],
)
def test_a_package_that_brings_none_is_named(page, tmp_path, monkeypatch, points, said):
    install(tmp_path, monkeypatch, page[0], points)
    with pytest.raises(InputError, match=said):
        benchmark("countable")


def test_ours_are_not_replaced(page, tmp_path, monkeypatch, caplog):
    install(tmp_path, monkeypatch, page[0], "pope = countable:BENCHMARK")
    assert names().count("pope") == 1
    assert benchmark("pope").title != "how many things are there"
    assert "passed over" in caplog.text
