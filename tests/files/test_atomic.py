"""Files are written whole or not at all, under any name that the file system takes."""

import pytest

from emma_viz.files.atomic import write_file


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".png", "図" * 78 + ".png", "caf\udce9.png", "é" * 120 + ".png"]
)
def test_long_and_odd_names_are_written(tmp_path, name):
    write_file(tmp_path / name, lambda part: part.write_bytes(b"content"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"]
    assert (tmp_path / name).is_file()
