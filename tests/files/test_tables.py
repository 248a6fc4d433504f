"""Comma-separated text that a spreadsheet only shows."""

import csv
import io

import pytest

from emma_viz.files.tables import csv_text


@pytest.mark.parametrize("said", ['=HYPERLINK("x")', "+1", "-2 dogs", "@a", "\tx", "\n=1", "\r=1"])
def test_a_text_that_would_be_computed_is_shown(said):
    text = csv_text([("answer", "value"), (said, -0.5), ("plain, with a comma", None)])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["answer", "value"],
        [f"'{said}".replace("\r", "\n"), "-0.5"],
        ["plain, with a comma", ""],
    ]
