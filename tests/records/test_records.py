"""The table of a data set: what it holds, what it leaves out, and when it is made anew."""

import io
import json
import shutil

import numpy as np
import pytest

from emma_viz.errors import RecordError, TrainingError
from emma_viz.records.llava import read_records
from emma_viz.records.tables import open_records
from tests.records.llava_set import records, talk


def table(llava, path, cache, limit=0, **rules):
    return open_records(path, llava.images, llava.rules(**rules), cache, broken_limit=limit)


def test_rows_are_the_records_of_the_file(llava, tmp_path):
    found = table(llava, llava.data, tmp_path)
    wanted = list(read_records(llava.data))
    assert [found.read(row) for row in range(len(found))] == wanted
    assert found.has_image.tolist() == [record.image is not None for record in wanted]
    for row, record in enumerate(wanted):
        ids, answers = llava.rules().tokens(record)
        assert found.columns["tokens"][row] == len(ids)
        assert found.columns["answers"][row] == sum(answers) > 0


def test_images_have_one_number_each(llava, tmp_path):
    found = table(llava, llava.data, tmp_path)
    first = found.first_of_each_image()
    assert [found.read(row).image for row in first] == [f"{number}.png" for number in range(6)]
    rest = found.without_images_of(first[:2])
    assert {found.read(row).image for row in rest} == {"2.png", "3.png", "4.png", "5.png", None}
    assert len(rest) == 16 - 4


BROKEN = {
    "there is no image": {"id": "a", "image": "absent.png", "conversations": talk("Q", "A.")},
    "expected it from 'human'": {"id": "b", "conversations": [{"from": "gpt", "value": "A"}] * 2},
    "turn 1: the answer is empty": {"id": "c", "conversations": talk("Q", "  ")},
    "expected a list of turns": {"id": "d"},
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_broken_record_is_named_counted_and_skipped_up_to_the_limit(llava, tmp_path, sentence):
    bad = BROKEN[sentence]
    path = llava.write([*records()[:3], bad, *records()[3:]], f"{bad['id']}.json")
    found = table(llava, path, tmp_path / "one", limit=1)
    assert len(found) == 16
    assert len(found.broken) == 1
    assert "record 3" in found.broken[0]
    assert sentence in found.broken[0]
    assert [found.read(row).id for row in range(len(found))] == [record["id"] for record in records()]
    again = table(llava, path, tmp_path / "one", limit=1)
    assert again.broken == found.broken
    with pytest.raises(TrainingError, match=r"1 records that cannot be used; at most 0.*") as error:
        table(llava, path, tmp_path / "none")
    assert sentence in str(error.value)
    with pytest.raises(TrainingError, match="at most 0"):
        table(llava, path, tmp_path / "one")


@pytest.fixture
def copies(llava, tmp_path):
    """Its images in a folder of their own."""
    folder = tmp_path / "copies"
    shutil.copytree(llava.images, folder)
    return folder


def test_images_that_come_back_are_taken_in_and_said(llava, copies, tmp_path, caplog):
    def opened(**more):
        return open_records(llava.data, copies, llava.rules(), tmp_path / "cache", broken_limit=9, **more)

    kept = (copies / "1.png").read_bytes()
    (copies / "1.png").unlink()
    (copies / "4.png").rename(copies / "away.png")
    few = opened()
    assert (len(few), len(few.broken)) == (12, 4)
    caplog.clear()
    assert opened().digest == few.digest
    assert "4 of 16 records are left out: record 1 (id '1'): there is no image '1.png'" in caplog.text
    (copies / "1.png").write_bytes(kept)
    caplog.clear()
    assert opened(look_again=False).digest == few.digest
    more = opened()
    assert (len(more), len(more.broken)) == (14, 2)
    assert "2 records have their images now" in caplog.text
    assert more.digest != few.digest
    assert [more.read(row).index for row in range(len(more))] == [
        each for each in range(16) if each not in (4, 10)
    ]
    assert opened(look_again=False).digest == more.digest, "kept for the other processes"
    (copies / "away.png").rename(copies / "4.png")
    caplog.clear()
    assert not opened().broken
    assert "left out" not in caplog.text


def test_a_damaged_table_is_named_with_what_to_do(llava, tmp_path):
    table(llava, llava.data, tmp_path)
    (kept,) = tmp_path.glob("records-*.npz")
    whole = kept.read_bytes()
    other = io.BytesIO()
    np.savez(other, broken=np.array("[]"))
    for damaged in (b"", whole[: len(whole) // 2], other.getvalue()):
        kept.write_bytes(damaged)
        with pytest.raises(RecordError, match=rf"{kept.name} .*Delete it, and the records are read anew"):
            table(llava, llava.data, tmp_path)


def test_where_the_data_is_does_not_matter_and_what_the_images_are_does(llava, copies, tmp_path):
    first = table(llava, llava.data, tmp_path)
    moved = open_records(llava.data, copies, llava.rules(), tmp_path, broken_limit=0)
    assert moved.digest == first.digest
    with (copies / "0.png").open("ab") as file:
        file.write(b"another picture")
    other = open_records(llava.data, copies, llava.rules(), tmp_path / "other", broken_limit=0)
    assert other.digest != first.digest


@pytest.mark.parametrize("name", ["./0.png", "folder/../0.png", "copy.png", "link.png", "absolute"])
def test_a_held_out_image_is_not_learned_from_under_another_name(llava, copies, tmp_path, name):
    shutil.copy(copies / "0.png", copies / "copy.png")
    (copies / "link.png").symlink_to("0.png")
    (copies / "folder").mkdir()
    name = str(copies / "0.png") if name == "absolute" else name
    path = llava.write([*records(), {"image": name, "conversations": talk("<image>Q", "A.")}], "named.json")
    found = open_records(path, copies, llava.rules(), tmp_path, broken_limit=0)
    rest = found.without_images_of(found.first_of_each_image()[:1])
    assert [found.read(row).index for row in rest] == [each for each in range(16) if each not in (0, 6)]


def test_images_that_cannot_be_read_are_copies_of_none(llava, copies, tmp_path):
    found = open_records(llava.data, copies, llava.rules(), tmp_path, broken_limit=0)
    first = found.first_of_each_image()
    for path in copies.iterdir():
        path.unlink()
    assert len(found.without_images_of(first[:1])) == 14


def test_one_odd_record_costs_itself_alone(llava, tmp_path):
    odd = [
        '{"image": "' + "QUJD" * 1300 + '", "conversations": []}',
        '{"conversations": [{"from": "human", "value": "\\ud800"}, {"from": "gpt", "value": "A."}]}',
        '{"n": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"image": "caf\\udce9.png", "conversations": '
        '[{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A."}]}',
    ]
    path = tmp_path / "odd.jsonl"
    lines = [json.dumps(record) for record in records()]
    path.write_text("\n".join([*lines[:3], *odd, *lines[3:]]))
    found = table(llava, path, tmp_path, limit=5)
    assert (len(found), len(found.broken)) == (16, 5)
    assert table(llava, path, tmp_path, limit=5).broken == found.broken
    assert "there is no image 'caf\\udce9.png'" in found.broken[4]


def test_a_conversation_whose_answers_are_all_cut_off_is_left_out(llava, tmp_path):
    long = {"id": "long", "conversations": talk("word " * 200, "A.")}
    path = llava.write([long, *records()], "long.json")
    found = table(llava, path, tmp_path, limit=1, max_length=60)
    assert len(found) == 16
    assert "no answer begins within 60 tokens" in found.broken[0]
    assert found.columns["tokens"].max() <= 60


def test_nothing_left_is_an_error(llava, tmp_path):
    path = llava.write([BROKEN["there is no image"]], "nothing.json")
    with pytest.raises(TrainingError, match="no record that can be trained on"):
        table(llava, path, tmp_path, limit=5)
    with pytest.raises(RecordError, match="there is no such file"):
        table(llava, path.with_name("absent.json"), tmp_path)


def test_a_table_is_kept_and_made_anew_when_something_changed(llava, tmp_path):
    first = table(llava, llava.data, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    before = kept.stat().st_mtime_ns
    assert table(llava, llava.data, tmp_path).digest == first.digest
    assert kept.stat().st_mtime_ns == before
    other = table(llava, llava.data, tmp_path, max_length=30)
    assert other.digest != first.digest
    changed = llava.write(records()[1:], "changed.json")
    assert table(llava, changed, tmp_path).digest not in (first.digest, other.digest)
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_records_stay_on_disk(llava, tmp_path):
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for number in range(2000):
            record = {"id": number, "conversations": talk("Q", "A."), "ballast": "x" * 2000}
            file.write(json.dumps(record) + "\n")
    found = table(llava, path, tmp_path)
    assert len(found) == 2000
    assert sum(column.nbytes for column in found.columns.values()) < 0.05 * path.stat().st_size
    assert found.read(1999).id == "1999"
    assert np.all(np.diff(found.columns["start"]) > 2000)
