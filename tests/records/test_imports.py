"""Runs of other evaluators become records with answers, whatever generation of log they come from."""

import json

import pytest

from emma_viz.errors import InputError, RecordError
from emma_viz.records.benchmarks import read_benchmark
from emma_viz.records.imports import read_lmms_log
from emma_viz.records.scorers import scorer
from emma_viz.records.vlmevalkit import read_vlmevalkit

ROWS = (("snowboard", "yes", "Yes"), ("backpack", "no", "No, none."), ("person", "yes", "yes"))
ADDED = "\nAnswer the question using a single word or phrase."


def question(name):
    return f"Is there a {name} in the image?"


@pytest.fixture
def pope(tmp_path):
    rows = [
        {"question_id": i + 1, "image": "a.jpg", "text": question(name), "label": truth}
        for i, (name, truth, _) in enumerate(ROWS)
    ]
    files = []
    for split in ("random", "adversarial"):
        files.append(tmp_path / f"coco_pope_{split}.json")
        files[-1].write_text("\n".join(map(json.dumps, rows if split == "adversarial" else rows[:1])))
    return read_benchmark("pope", files)


def sample(number, generation):
    name, truth, said = ROWS[number]
    asked = question(name) + ADDED
    if generation == 1:
        doc = {
            "question": question(name),
            "answer": truth,
            "category": "adversarial",
            "image_source": "a",
        }
        given = {
            "doc": doc,
            "arguments": [asked, {"temperature": 0}],
            "resps": [[said]],
            "filtered_resps": [said],
        }
    elif generation == 2:
        given = {"input": asked, "resps": [[said]], "filtered_resps": [said]}
    else:
        given = {"input": asked, "filtered_resps": said, "token_counts": [None]}
    return {"doc_id": number, "target": truth, **given}


def write_log(path, generation, numbers=(1, 2, 0)):
    rows = [sample(number, generation) for number in numbers]
    if generation == 1:
        path.write_text(json.dumps({"args": {"model": "llava"}, "model_configs": {}, "logs": rows}, indent=4))
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_every_generation_of_lmms_eval_is_joined_to_the_same_records(tmp_path, pope, generation):
    log = write_log(tmp_path / "log.json", generation)
    found = read_lmms_log(log, task="pope_adv", records=pope)
    assert [r.key for r in found.records] == [("adversarial", str(i + 1)) for i in range(3)]
    assert [found.answers[r.key].text for r in found.records] == [said for _, _, said in ROWS]
    assert all(r.image == "a.jpg" for r in found.records)
    assert (found.complaints, found.repeated) == ((), 0)
    right = [scorer("lmms-eval").right(r, found.answers[r.key]) for r in found.records]
    assert right == [True, False, True]


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_a_log_alone_gives_records_without_images(tmp_path, generation):
    found = read_lmms_log(write_log(tmp_path / "log.json", generation), task="pope_adv")
    assert [(r.question, r.truth, r.image, r.split) for r in found.records] == [
        (question(name), truth, None, "adversarial") for name, truth, _ in ROWS
    ]
    assert found.records[0].object == "snowboard"


def test_of_a_row_that_comes_again_the_last_counts(tmp_path, pope):
    path = write_log(tmp_path / "log.jsonl", 3)
    again = sample(0, 3) | {"filtered_resps": "no"}
    path.write_text(path.read_text() + json.dumps(again) + "\n")
    found = read_lmms_log(path, task="pope_adv", records=pope)
    assert found.repeated == 1
    assert found.answers["adversarial", "1"].text == "no"


def test_rows_that_do_not_belong_are_named(tmp_path, pope):
    rows = [
        sample(0, 3),
        sample(1, 3) | {"target": "yes"},
        sample(2, 3) | {"input": "Is there a dog?"},
        sample(2, 3) | {"doc_id": 9},
        sample(2, 3) | {"doc_id": "x"},
        sample(2, 3) | {"filtered_resps": []},
        sample(2, 1) | {"doc": {"image_source": "b"}},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"doc_id": 2, "tar')
    found = read_lmms_log(path, task="pope_adv", records=pope)
    assert [r.id for r in found.records] == ["1"]
    assert [each.split(":")[0] for each in found.complaints] == [f"log.jsonl, line {n}" for n in range(2, 9)]
    path.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(InputError, match="give the records that the log was made with"):
        read_lmms_log(path, task="pope_adv", records=pope)
    path.write_text('{"args": {}}')
    with pytest.raises(RecordError, match="'logs'"):
        read_lmms_log(path, task="pope_adv")


def test_a_table_without_the_rows_that_have_no_image_is_joined_to_those_that_have_one(tmp_path):
    rows = [
        {
            "category": "VS",
            "subcategory": kind,
            "visual_input": figure,
            "set_id": topic,
            "figure_id": figure,
            "question_id": number,
            "question": f"Is it {number}?",
            "gt_answer": "1",
            "filename": None if figure == "0" else f"./VS/{kind}/{topic}_{figure}.png",
        }
        for kind, topic in (("chart", "9"), ("chart", "10"), ("map", "0"))
        for figure in ("0", "1", "2")
        for number in ("0", "1")
    ]
    (tmp_path / "HallusionBench.json").write_text(json.dumps(rows))
    records = read_benchmark("hallusionbench", [tmp_path / "HallusionBench.json"])
    shown = [each for each in records.records if each.image]
    table = [
        {
            "index": f"x_VS_{each.id.replace('/', '_')}",
            "question": each.question,
            "answer": "Yes",
            "category": "VS",
            "prediction": each.id,
        }
        for each in shown
    ]
    (tmp_path / "m_HallusionBench.json").write_text(json.dumps(table))
    found = read_vlmevalkit(tmp_path / "m_HallusionBench.json", dataset="hallusionbench", records=records)
    assert list(found.records) == shown
    assert all(found.answers[each.key].text == each.id for each in shown)
    assert not found.complaints


ASKED = {
    "random": ("a cup yes", "a cat no", "a dog no", "b cup no", "b cat yes", "b pot no"),
    "popular": ("a cup yes", "a cat no", "a car no", "b cup no", "b cat yes", "b dog no"),
    "adversarial": ("a cup yes", "a car no", "a pot no", "b car no", "b cat yes", "b dog no"),
}


@pytest.fixture
def three_splits(tmp_path):
    """POPE, whose splits share rows."""
    files = []
    for split, rows in ASKED.items():
        files.append(tmp_path / f"coco_pope_{split}.json")
        parts = [row.split() for row in rows]
        lines = [
            {"question_id": i, "image": f"{image}.jpg", "text": question(name), "label": truth}
            for i, (image, name, truth) in enumerate(parts, start=1)
        ]
        files[-1].write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return read_benchmark("pope", files)


def table_without_repetition(path, order):
    """As VLMEvalKit keeps POPE: what several splits ask stands once, with all their names; no image is named."""
    splits = {}
    for split in order:
        for row in ASKED[split]:
            splits.setdefault(row, []).append(split)
    rows = [
        {
            "index": i,
            "question": question(row.split()[1]),
            "answer": row.split()[2].capitalize(),
            "category": ",".join(sorted(names)),
            "prediction": f"said of {row}",
        }
        for i, (row, names) in enumerate(splits.items())
    ]
    path.write_text(json.dumps(rows))
    return rows


def assert_joined(found, records):
    """Each record is there, with the answer that was said of it."""
    assert not found.complaints
    assert set(found.records) == set(records.records)
    for record in found.records:
        asked = f"{record.image[0]} {record.object} {record.truth}"
        assert found.answers[record.key].text == f"said of {asked}"


@pytest.mark.parametrize(
    "order", [("adversarial", "popular", "random"), ("random", "popular", "adversarial")], ids="-".join
)
def test_a_table_without_repetition_is_joined_to_the_records_of_all_splits(tmp_path, three_splits, order):
    path = tmp_path / "m_POPE.json"
    table_without_repetition(path, order)
    found = read_vlmevalkit(path, dataset="pope", records=three_splits)
    assert_joined(found, three_splits)


def test_no_row_of_a_table_gets_the_record_of_another_image(tmp_path, three_splits):
    path = tmp_path / "m_POPE.json"
    rows = table_without_repetition(path, ("adversarial", "popular", "random"))
    # No image is named, and the rows are in another order than any of the splits, one is fewer, or they are others.
    for wrong in (
        rows[::2] + rows[1::2],
        rows[:3] + rows[4:],
        [row | {"question": "Is it?"} for row in rows],
    ):
        path.write_text(json.dumps([row | {"index": i} for i, row in enumerate(wrong)]))
        with pytest.raises(
            InputError, match=r"does not name its images.* To mend it, .* let the column image_path"
        ):
            read_vlmevalkit(path, dataset="pope", records=three_splits)
    # A table of one split, by its places: a row that lacks would shift those behind it.
    rows = [row | {"category": "random"} for row in rows if "random" in row["category"]]
    path.write_text(json.dumps(rows[1:]))
    with pytest.raises(InputError, match="5 of 5 that are others"):
        read_vlmevalkit(path, dataset="pope", records=three_splits)


@pytest.mark.parametrize("column", ["image_path", "image"])
@pytest.mark.parametrize("place", ["", "/data/LMUData/images/"])
def test_rows_that_name_their_images_are_joined_in_any_order(tmp_path, three_splits, column, place):
    path = tmp_path / "m_POPE.json"
    rows = table_without_repetition(path, ("random", "popular", "adversarial"))
    for row in rows:
        row[column] = f"{place}{row['prediction'][len('said of ')]}.jpg"
    for order in (rows[::-1], rows[::2] + rows[1::2]):
        path.write_text(json.dumps([row | {"index": i} for i, row in enumerate(order)]))
        found = read_vlmevalkit(path, dataset="pope", records=three_splits)
        assert_joined(found, three_splits)
    # One that is of no record is left out, and it shifts no other; of several the table is none of these records'.
    (one, *_) = (row for row in rows if row["category"] == "random")
    one[column] = "z.jpg"
    path.write_text(json.dumps(rows[::-1]))
    found = read_vlmevalkit(path, dataset="pope", records=three_splits)
    assert len(found.records) == len(three_splits.records) - 1
    assert "no row of the split 'random' of the image 'z.jpg' that asks this" in found.complaints[0]
    path.write_text(json.dumps([row | {column: "z.jpg"} for row in rows[:2]] + rows[2:]))
    with pytest.raises(InputError, match=r"It names images, and 12 of its rows are found by their image"):
        read_vlmevalkit(path, dataset="pope", records=three_splits)
    # Names of none of the records' images: in whatever order, the rows are not joined by it.
    for order in (rows, rows[::-1]):
        path.write_text(json.dumps([row | {column: "z.jpg"} for row in order]))
        with pytest.raises(InputError, match=r"It names images, and 0 of its rows are found by their image"):
            read_vlmevalkit(path, dataset="pope", records=three_splits)
    # Without records, answers about one image are one cluster.
    alone = read_vlmevalkit(path, dataset="pope")
    assert {each.cluster for each in alone.records} == {"z.jpg"}


def test_an_image_in_base64_names_none(tmp_path, three_splits):
    path = tmp_path / "m_POPE.json"
    rows = table_without_repetition(path, ("random", "popular", "adversarial"))
    path.write_text(json.dumps([row | {"image": "/9j/4AAQSkZJRg=="} for row in rows]))
    assert set(read_vlmevalkit(path, dataset="pope", records=three_splits).records) == set(
        three_splits.records
    )
    assert {each.image for each in read_vlmevalkit(path, dataset="pope").records} == {None}


def test_records_that_ask_the_same_twice_have_a_row_each(tmp_path):
    rows = [{"question_id": i, "image": "a.jpg", "text": question("cup"), "label": "no"} for i in range(2)]
    (tmp_path / "coco_pope_random.json").write_text("\n".join(map(json.dumps, rows)))
    records = read_benchmark("pope", [tmp_path / "coco_pope_random.json"])
    table = [
        {"index": i, "question": question("cup"), "answer": "No", "prediction": "no", "image_path": "a.jpg"}
        for i in range(2)
    ]
    (tmp_path / "m_POPE.json").write_text(json.dumps(table))
    found = read_vlmevalkit(tmp_path / "m_POPE.json", dataset="pope", records=records)
    assert found.records == records.records


def test_a_table_that_fits_in_several_orders_is_refused(tmp_path):
    files = []
    for split, images in (("random", "ab"), ("popular", "ba")):
        files.append(tmp_path / f"coco_pope_{split}.json")
        row = {"text": question("cup"), "label": "no"}
        lines = [row | {"question_id": i, "image": f"{image}.jpg"} for i, image in enumerate(images)]
        files[-1].write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    row = {"question": question("cup"), "answer": "No", "category": "popular,random", "prediction": "no"}
    path = tmp_path / "m_POPE.json"
    path.write_text(json.dumps([row | {"index": i} for i in range(2)]))
    with pytest.raises(InputError, match="fit in several"):
        read_vlmevalkit(path, dataset="pope", records=read_benchmark("pope", files))


@pytest.mark.parametrize("suffix", [".tsv", ".json"])
def test_vlmevalkit_tables_are_exploded_by_category(tmp_path, suffix):
    rows = [
        {
            "index": 0,
            "question": question("cup"),
            "answer": "Yes",
            "category": "adversarial,popular",
            "prediction": "yes",
        },
        {
            "index": 1,
            "question": question("car"),
            "answer": "No",
            "category": "adversarial",
            "prediction": "",
        },
        {"index": 2, "question": question("car"), "answer": "", "category": "adversarial", "prediction": ""},
    ]
    path = tmp_path / f"m_POPE{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    found = read_vlmevalkit(path, dataset="POPE")
    assert [(r.key, r.truth, found.answers[r.key].text) for r in found.records] == [
        (("adversarial", "0"), "yes", "yes"),
        (("popular", "0"), "yes", "yes"),
        (("adversarial", "1"), "no", ""),
    ]
    assert len(found.complaints) == 1
    assert scorer("vlmevalkit").reads(found.answers["adversarial", "1"]) is None
