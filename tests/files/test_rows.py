"""A name in a row begins no row of its own."""

from emma_viz.files.rows import rows


def test_a_name_begins_no_row():
    assert rows(["model", "evil\nemma  0.99\r", "b"]).splitlines() == ["model", "evil\\nemma  0.99\\r", "b"]
