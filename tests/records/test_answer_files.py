"""Files of answers alone are joined to POPE's rows, and score as the evaluators' own code scores them."""

import json

import pytest

from emma_viz.errors import InputError
from emma_viz.records.answer_files import read_answer_file
from emma_viz.records.benchmarks import read_benchmark
from emma_viz.records.scorers import scorer

ROWS = (
    ("snowboard", "yes", "yes"),
    ("backpack", "no", "No, there is no dining table in the image."),
    ("person", "yes", "Yes"),
    ("car", "no", "no"),
    ("skis", "no", "Yes, it is."),
    ("dog", "no", "Not visible."),
    ("truck", "no", "yes."),
    ("bus", "yes", ""),
)
ASKED_ALSO = "\nAnswer the question using a single word or phrase."


def question(name):
    return f"Is there a {name} in the image?"


def write(path, rows, *, array=False):
    path.write_text(json.dumps(rows, indent=1) if array else "".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def labels(tmp_path):
    """Three splits, whose ids begin at 1 in each."""
    for turn, split in enumerate(("adversarial", "popular", "random")):
        rows = [
            {"question_id": i, "image": f"{split}.jpg", "text": question(name), "label": truth}
            for i, (name, truth, _) in enumerate(ROWS[turn:], start=1)
        ]
        write(tmp_path / f"coco_pope_{split}.json", rows)
    return read_benchmark("pope", sorted(tmp_path.glob("coco_pope_*.json")))


@pytest.fixture
def questions(tmp_path):
    """All splits in one file, without labels, under ids that go on."""
    rows = []
    for turn, split in enumerate(("adversarial", "popular", "random")):
        for name, _, _ in ROWS[turn:]:
            asked = question(name) + ASKED_ALSO
            rows.append({"question_id": len(rows), "image": f"{split}.jpg", "text": asked, "category": split})
    return write(tmp_path / "llava_pope_test.jsonl", rows)


def official_confusion(path_of_labels, path_of_answers):
    """(TP, FP, TN, FN) as POPE's evaluate.py counts them: joined by order, read up to the first full stop."""
    counts = [0, 0, 0, 0]
    labels = [json.loads(line)["label"] for line in path_of_labels.read_text().splitlines()]
    answers = [json.loads(line)["answer"] for line in path_of_answers.read_text().splitlines()]
    for label, answer in zip(labels, answers, strict=True):
        words = answer.split(".")[0].replace(",", "").split(" ")
        said = "no" if {"No", "not", "no"} & set(words) else "yes"
        counts[
            ("yes", "no").index(label) * (3 if said == "no" else 1) if said != label else 2 * (said == "no")
        ] += 1
    return counts


@pytest.mark.parametrize("array", [False, True])
def test_answers_in_the_order_of_a_split_score_as_the_official_script_scores_them(labels, tmp_path, array):
    rows = [{"question": question(name), "answer": said} for name, _, said in ROWS]
    path = write(tmp_path / "answers_adversarial.json", rows, array=array)
    found = read_answer_file(path, records=labels)
    assert (found.complaints, found.repeated, len(found.records)) == ((), 0, len(ROWS))
    read = scorer("pope")
    counts = [0, 0, 0, 0]
    for record in found.records:
        said = read.reads(found.answers[record.key])
        names = {("yes", "yes"): 0, ("no", "yes"): 1, ("no", "no"): 2, ("yes", "no"): 3}
        counts[names[record.truth, said]] += 1
    lines = write(tmp_path / "lines.jsonl", rows)
    assert counts == official_confusion(tmp_path / "coco_pope_adversarial.json", lines) == [3, 3, 2, 0]


def test_one_answer_as_in_the_published_example(tmp_path):
    labels = write(
        tmp_path / "a.json", [{"question_id": 1, "image": "a", "text": "is there a bird?", "label": "no"}]
    )
    path = tmp_path / "answer_example.json"
    path.write_text('{"question": "is there a bird?", "answer": "yes"}')
    found = read_answer_file(path, records=read_benchmark("pope", [labels]))
    assert [answer.text for answer in found.answers.values()] == ["yes"]


def test_answers_by_the_ids_of_a_split_may_come_in_any_order(labels, tmp_path):
    rows = [
        {"question_id": i, "prompt": question(name) + ASKED_ALSO, "text": said, "model_id": "m"}
        for i, (name, _, said) in enumerate(ROWS[1:], start=1)
    ]
    path = write(tmp_path / "llava-popular.jsonl", rows[::-1])
    found = read_answer_file(path, records=labels)
    assert [found.answers["popular", str(i)].text for i in range(1, 8)] == [said for _, _, said in ROWS[1:]]
    again = read_answer_file(write(tmp_path / "m.jsonl", [*rows, rows[0]]), records=labels, split="popular")
    assert again.repeated == 1


def test_answers_to_all_splits_are_joined_as_llava_evaluates_them(labels, questions, tmp_path):
    asked = [json.loads(line) for line in questions.read_text().splitlines()]
    rows = [
        {"question_id": each["question_id"], "prompt": each["text"], "text": f"No, {each['question_id']}"}
        for each in asked
    ]
    found = read_answer_file(write(tmp_path / "llava.jsonl", rows), records=labels, questions=questions)
    assert found.complaints == ()
    category = {each["question_id"]: each["category"] for each in asked}
    for split in ("adversarial", "popular", "random"):
        # As eval_pope.py: the answers of a category, in their order, beside the lines of its labels.
        theirs = [row["text"] for row in rows if category[row["question_id"]] == split]
        ours = [found.answers[record.key].text for record in labels.records if record.split == split]
        assert ours == theirs


def test_the_images_of_the_questions_tell_the_records_of_another_version(tmp_path):
    rows = [("a.jpg", "cup", "yes"), ("a.jpg", "cat", "no"), ("b.jpg", "cup", "no"), ("b.jpg", "cat", "yes")]
    labels = [
        {"question_id": i, "image": image, "text": question(name), "label": truth}
        for i, (image, name, truth) in enumerate(rows, start=1)
    ]
    records = read_benchmark("pope", [write(tmp_path / "coco_pope_random.json", labels)])
    # A version without the first row, as LLaVA's random split lacks 90: by their places two rows would be others'.
    asked = [
        {"question_id": i, "image": image, "text": question(name) + ASKED_ALSO, "category": "random"}
        for i, (image, name, _) in enumerate([*rows[2:], rows[1], ("c.jpg", "cat", "no")])
    ]
    asked[0]["text"] = asked[0]["text"].replace("image", "imange")
    said = [{"question_id": i, "text": f"No, {i}"} for i in range(len(asked))]
    found = read_answer_file(
        write(tmp_path / "llava.jsonl", said),
        records=records,
        questions=write(tmp_path / "questions.jsonl", asked),
    )
    assert [(each.image, each.truth, found.answers[each.key].text) for each in found.records] == [
        ("a.jpg", "no", "No, 2"),
        ("b.jpg", "no", "No, 0"),
        ("b.jpg", "yes", "No, 1"),
    ]
    (complaint,) = found.complaints
    assert "about 'c.jpg', and no record of 'random' does" in complaint


def test_rows_that_do_not_belong_are_named(labels, questions, tmp_path):
    path = tmp_path / "answers_random.json"
    rows = [json.dumps({"question": question(name), "answer": said}) for name, _, said in ROWS[2:]]
    rows[1], rows[2] = '{"question": "Is there', json.dumps({"question": question("cat"), "answer": "no"})
    rows[3] = json.dumps({"question": question(ROWS[5][0]), "answer": None})
    path.write_text("\n".join([*rows, rows[0]]))
    found = read_answer_file(path, records=labels)
    assert [record.id for record in found.records] == ["1", "5", "6"]
    assert [each.split(":")[0] for each in found.complaints] == [
        f"answers_random.json, line {number}" for number in (2, 3, 4, 7)
    ]
    rows = [{"question_id": 99, "text": "no"}, {"question_id": 8, "prompt": question("cat"), "text": "no"}]
    rows += [{"question_id": 0, "text": "yes"}]
    found = read_answer_file(write(tmp_path / "m.jsonl", rows), records=labels, questions=questions)
    assert [record.key for record in found.records] == [("adversarial", "1")]
    assert "no id '99'" in found.complaints[0]
    assert "give the records that were asked" in found.complaints[1]
    with pytest.raises(InputError, match=r"no row of it could be used.*--questions"):
        read_answer_file(write(tmp_path / "m.jsonl", rows[:1]), records=labels, split="random")
    with pytest.raises(InputError, match="one split of the records"):
        read_answer_file(path.rename(tmp_path / "answers.json"), records=labels)
