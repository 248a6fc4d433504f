"""What passes the door for JSON, and what does not."""

import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.errors import CheckpointError
from emma_viz.files.json_door import Budget, parse_json, read_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def parse(data, **options):
    return parse_json(data, where="it", error=CheckpointError, **options)


@given(PLAIN)
def test_json_comes_through_as_it_was_written(value):
    text = json.dumps(value)
    assert parse(text, infinite=True) == value
    assert parse(b"\xef\xbb\xbf" + text.encode(), infinite=True) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000 + "]" * 100_000, "deep"),
        ("[" * 33 + "]" * 33, "deep"),
        ("[" + "0," * 300_000 + "0]", "values"),
        (f'{{"a": {"9" * 5000}}}', "digits"),
        ('{"a": NaN}', "finite"),
        ('{"a": -Infinity}', "finite"),
        ('{"a": 1e999}', "finite"),
        ('{"a": ', "none"),
        ("", "none"),
        (b"\xff\xfe", "text"),
        ('"' + "x" * 5_000_000 + '"', "MB"),
        ('{"a": "' + "x" * 100, "none"),
    ],
)
def test_json_that_does_not_pass_is_refused_with_its_reason(text, said):
    with pytest.raises(CheckpointError, match=said):
        parse(text)


def test_brackets_and_commas_inside_a_text_are_no_structure():
    text = '[[[,,,\\"' * 50
    assert parse(json.dumps({"a": text}), budget=Budget(depth=2, nodes=3)) == {"a": text}


def test_infinity_passes_where_it_is_expected_and_not_a_number_never():
    assert parse("[Infinity, -Infinity]", infinite=True) == [float("inf"), float("-inf")]
    with pytest.raises(CheckpointError, match="finite"):
        parse("[NaN]", infinite=True)


def test_lone_surrogates_pass_because_file_names_have_them():
    assert parse(b'"caf\xed\xb3\xa9"') == "caf\udce9" == parse('"caf\\udce9"')


def test_a_file_holds_an_object(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    assert read_json(path, error=CheckpointError) == {"a": 1}
    path.write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json.*object.*array"):
        read_json(path, error=CheckpointError)


@pytest.mark.parametrize("what", ["missing", "folder", "device", "sparse", "name"])
def test_what_is_no_small_regular_file_is_refused(tmp_path, what):
    path = tmp_path / "config.json"
    if what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "sparse":
        with path.open("wb") as file:
            file.truncate(20 * 2**30)
    elif what == "name":
        path = tmp_path / ("x" * 300)
    with pytest.raises(CheckpointError, match=path.name[:8]):
        read_json(path, error=CheckpointError)


def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "config.json"
    os.mkfifo(path)
    said = []

    def read():
        try:
            read_json(path, error=CheckpointError)
        except CheckpointError as error:
            said.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert said
    assert "pipe" in said[0]
