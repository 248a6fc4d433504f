"""Every published form of a benchmark's files becomes one kind of record; what is broken is named with its line."""

import json

import pytest

from emma_viz.errors import InputError, RecordError
from emma_viz.records.benchmarks import answers_beside, benchmark, names, picture, read_benchmark
from emma_viz.records.benchmarks.record import CONTRADICTORY, DISPUTED, DUPLICATE, MISSPELLED

COCO = "COCO_val2014_000000310196.jpg"


def pope_row(number, name="snowboard", label="yes", image=COCO, word="image"):
    article = "an" if name[0] in "aeiou" else "a"
    return {
        "question_id": number,
        "image": image,
        "text": f"Is there {article} {name} in the {word}?",
        "label": label,
    }


def write_lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def write_array(path, rows, indent=4):
    path.write_text(json.dumps(rows, indent=indent))
    return path


def test_pope_reads_lines_and_arrays_alike(tmp_path):
    rows = [pope_row(1), pope_row(2, "umbrella", "no")]
    lines = read_benchmark("pope", [write_lines(tmp_path / "coco_pope_random.json", rows)])
    array = read_benchmark("pope", [write_array(tmp_path / "pope_random_array.json", rows)])
    assert [r.key for r in lines.records] == [("random", "1"), ("random", "2")]
    assert [(r.object, r.truth, r.image) for r in lines.records] == [
        ("snowboard", "yes", COCO),
        ("umbrella", "no", COCO),
    ]
    assert [(r.same, r.truth) for r in array.records] == [(r.same, r.truth) for r in lines.records]
    assert [r.where for r in lines.records] == [
        "coco_pope_random.json, line 1",
        "coco_pope_random.json, line 2",
    ]
    assert array.records[1].where == "pope_random_array.json, line 8, record 1"


def test_pope_splits_share_positives_and_are_told_apart(tmp_path):
    files = []
    for split, absent in (("random", "cat"), ("popular", "car"), ("adversarial", "car")):
        rows = [pope_row(1), pope_row(2, absent, "no")]
        files.append(write_lines(tmp_path / f"coco_pope_{split}.json", rows))
    files.append(write_array(tmp_path / "gqa_pope_seem_random.json", [pope_row(1, image="g.jpg")]))
    found = read_benchmark("pope", files)
    assert found.splits == ("random", "popular", "adversarial", "gqa random")
    assert len(found) == 7
    assert [r.object for r in found.distinct] == ["snowboard", "cat", "car", "snowboard"]
    assert not found.complaints


def test_pope_flags_known_faults(tmp_path):
    rows = [
        pope_row(1, word="imange"),
        pope_row(2),
        pope_row(1271, "bicycle", "yes", "COCO_val2014_000000244455.jpg"),
        pope_row(1272, "bicycle", "yes"),
        pope_row(5, "dog", "no"),
        pope_row(6, "dog", "yes"),
    ]
    found = {r.id: r.flags for r in read_benchmark("pope", [write_lines(tmp_path / "a.json", rows)]).records}
    assert found["1"] == (MISSPELLED,)
    assert found["2"] == (DUPLICATE,), "the same question, spelled right"
    assert found["1271"] == (DISPUTED,)
    assert found["1272"] == ()
    assert found["5"] == (CONTRADICTORY,)
    assert found["6"] == (DUPLICATE, CONTRADICTORY)


def test_malformed_rows_are_named_with_line_and_reason(tmp_path):
    path = write_lines(
        tmp_path / "random.jsonl",
        [
            pope_row(1),
            {"question_id": 2, "text": "Is there a cat in the image?", "label": "yes"},
            pope_row(3, label="unknown"),
            pope_row(4, image=None),
            pope_row(1, "cat"),
            [1],
            pope_row(6, image="../../secret.png"),
        ],
    )
    with path.open("a") as file:
        file.write('\n{"question_id": 9, "text": "Is there')
    told = []
    found = read_benchmark("pope", [path], on_error=told.append)
    assert [r.id for r in found.records] == ["1"]
    assert [str(each) for each in told] == list(found.complaints)
    for line, reason in (
        (2, "expected 'image'"),
        (3, "expected yes or no as 'label', got 'unknown'"),
        (4, "expected 'image'"),
        (5, "the id '1' stands in random already, at random.jsonl, line 1"),
        (6, "expected an object, got list"),
        (7, "inside the image folder"),
        (9, "expected JSON"),
    ):
        assert any(
            each.startswith(f"random.jsonl, line {line}") and reason in each for each in found.complaints
        )
    assert len(found.complaints) == 7


def test_a_file_of_nothing_but_broken_rows_is_refused_with_their_reasons(tmp_path):
    with pytest.raises(InputError, match=r"no record of pope.*\n.*a\.json, line 1: expected 'image'"):
        read_benchmark(
            "pope", [write_lines(tmp_path / "a.json", [{"question_id": 1, "text": "?", "label": "no"}])]
        )


def test_popev2_pairs_edited_and_original(tmp_path):
    rows = [
        {
            "image_id": 7,
            "image_name": name,
            "target_object": "apple",
            "query": "Is there a apple in the image?",
            "label": label,
        }
        for name, label in (("/images/000000000007.jpg", "No"), ("/coco/train2017/000000000007.jpg", "Yes"))
    ]
    edited, original = read_benchmark("pope", [write_array(tmp_path / "annotations.json", rows)]).records
    assert (edited.split, edited.truth, original.truth) == ("v2", "no", "yes")
    assert edited.group("pair") == original.group("pair")
    assert edited.cluster == original.cluster
    assert (edited.image, original.image) == ("images/000000000007.jpg", "coco/train2017/000000000007.jpg")


def hallusion_row(
    question_id="0", figure="0", visual="0", filename=None, category="VS", answer="1", text="Is it so?"
):
    return {
        "category": category,
        "subcategory": "chart",
        "visual_input": visual,
        "set_id": "3",
        "figure_id": figure,
        "sample_note": "x",
        "question_id": question_id,
        "question": text,
        "gt_answer_details": "…",
        "gt_answer": answer,
        "filename": filename,
    }


def test_hallusionbench_groups_figures_and_pairs(tmp_path):
    rows = [
        hallusion_row(),
        hallusion_row("1", "1", "1", "./VS/chart/3_1.png", answer="0", text="Accroding to it, is it so?"),
        hallusion_row("0", "1", "1", "./VS/chart/3_1.png"),
        hallusion_row("0", "0", "1", "./VD/chart/3_0.png", category="VD"),
        hallusion_row("9", "0", "1", None),
        hallusion_row("9", category="XX"),
        hallusion_row("8", answer="2"),
    ]
    found = read_benchmark(
        "hallusionbench", [write_array(tmp_path / "HallusionBench.json", rows, indent=None)]
    )
    alone, first, second, visual = found.records
    assert alone.image is None
    assert alone.group("figure") is None, "the official figure accuracy leaves questions about no figure out"
    assert alone.group("question pair") == second.group("question pair") != first.group("question pair")
    assert first.group("figure") == second.group("figure") == "VS/chart/3/1"
    assert visual.group("figure") == "VD/chart/3/0"
    assert (first.image, first.truth, first.flags) == ("VS/chart/3_1.png", "no", (MISSPELLED,))
    assert alone.cluster == first.cluster != visual.cluster
    assert [each.split(": ", 1)[0] for each in found.complaints] == [
        f"HallusionBench.json, line 1, record {number}" for number in (4, 5, 6)
    ]


def test_amber_joins_questions_and_annotations_by_id(tmp_path):
    queries = [
        {"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."},
        {"id": 1005, "image": "AMBER_1.jpg", "query": "Is the sky sunny in this image?"},
        {"id": 1006, "image": "AMBER_1.jpg", "query": "Is there a cloud in this image?"},
        {"id": 1007, "image": "AMBER_1.jpg", "query": "Is there direct contact between the cup and wall?"},
        {"id": 1008, "image": "AMBER_1.jpg", "query": "What?"},
        {"id": 2000, "image": "AMBER_1.jpg", "query": "What?"},
    ]
    truths = [
        {"id": 1, "type": "generative", "truth": ["sky", "forest"], "hallu": ["cloud"]},
        {"id": 1007, "type": "relation", "truth": "no"},
        {"id": 1005, "type": "discriminative-attribute-state", "truth": "yes"},
        {"id": 1006, "type": "discriminative-hallucination", "truth": "no"},
        {"id": 1008, "type": "poem", "truth": "no"},
    ]
    write_array(tmp_path / "query_all.json", queries, indent=None)
    write_array(tmp_path / "annotations.json", truths, indent=None)
    found = read_benchmark("amber", [tmp_path])
    assert [(r.id, r.split, r.asked, r.truth, r.object) for r in found.records] == [
        ("1", "generative", "description", "", ""),
        ("1005", "attribute-state", "yes-no", "yes", ""),
        ("1006", "existence", "yes-no", "no", "cloud"),
        ("1007", "relation", "yes-no", "no", ""),
    ]
    assert (found.records[0].present, found.records[0].absent) == (("sky", "forest"), ("cloud",))
    assert len(found.complaints) == 2
    with pytest.raises(InputError, match=r"annotations\.json\) are not among"):
        read_benchmark("amber", [tmp_path / "query_all.json"])


def test_mme_reads_tasks_and_results(tmp_path):
    (tmp_path / "existence.txt").write_text(
        "a.jpg\tIs there a elephant in this image? Please answer yes or no.\tNo\tNo\r\n"
        "a.jpg\tIs there a  zebra in this image? Please answer yes or no.\tYes\tYes, there is\n"
        "b.jpg\tIs there a cat in this image? Please answer yes or no.\tYes\n"
        "\n"
        "c.jpg only\n"
    )
    found = read_benchmark("mme", [tmp_path])
    assert [(r.key, r.truth, r.object) for r in found.records] == [
        (("existence", "a.jpg-1"), "no", "elephant"),
        (("existence", "a.jpg-2"), "yes", "zebra"),
        (("existence", "b.jpg-1"), "yes", "cat"),
    ]
    assert found.said == {("existence", "a.jpg-1"): "No", ("existence", "a.jpg-2"): "Yes, there is"}
    assert found.records[0].group("image") == found.records[1].group("image")
    assert [r.cluster for r in found.records] == ["a.jpg", "a.jpg", "b.jpg"]
    for task in ("posters", "scene", "color"):
        (tmp_path / f"{task}.txt").write_text("a.jpg\tIs it?\tNo\na.jpg\tIs it so?\tYes\n")
    clusters = {r.split: r.cluster for r in read_benchmark("mme", [tmp_path]).records}
    assert clusters["posters"] != clusters["scene"]
    assert clusters["color"] == "a.jpg"  # of COCO, as those of existence
    assert [each.split(":")[0] for each in found.complaints] == [
        "existence.txt, line 5",
        str(tmp_path / "existence.txt"),
    ]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_plain_lists_of_every_form_are_alike(tmp_path, suffix):
    rows = [
        {"image": "a.png", "question": "Is there a cup in the image?", "label": "Yes.", "answer": "no, none"},
        {"image": "a.png", "question": "What colour, then?", "label": "dark red", "answer": "blue"},
        {"image": "", "question": "Is water wet?", "label": "no", "answer": ""},
    ]
    path = tmp_path / f"mine{suffix}"
    if suffix == ".json":
        write_array(path, [{**row, "image": row["image"] or None} for row in rows])
    elif suffix == ".jsonl":
        write_lines(path, [{**row, "image": row["image"] or None} for row in rows])
    else:
        part = "," if suffix == ".csv" else "\t"
        quote = '"{}"'.format
        lines = [part.join(rows[0]), *(part.join(map(quote, row.values())) for row in rows)]
        path.write_text("\ufeff" + "\n".join(lines) + "\n")
    found = read_benchmark("plain", [path])
    assert [(r.asked, r.truth, r.object, r.image, r.split) for r in found.records] == [
        ("yes-no", "yes", "cup", "a.png", "mine"),
        ("short", "dark red", "", "a.png", "mine"),
        ("yes-no", "no", "", None, "mine"),
    ]
    assert list(found.said.values()) == ["no, none", "blue", ""]
    assert len({r.id for r in found.records}) == 3


def test_a_plain_answer_without_a_label_is_the_truth(tmp_path):
    found = read_benchmark(
        "plain", [write_lines(tmp_path / "a.jsonl", [{"image": "a.png", "question": "?", "answer": "No"}])]
    )
    assert (found.records[0].truth, dict(found.said)) == ("no", {})


def test_a_broken_table_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,question,label\na.png,?,yes,more\nb.png,?,no\n")
    found = read_benchmark("plain", [path])
    assert [r.image for r in found.records] == ["b.png"]
    assert found.complaints[0].startswith("a.csv, line 2: ")
    assert "4 columns where the head has 3" in found.complaints[0]
    path.write_text('image,question,label\na.png,"?,yes\n')
    with pytest.raises(RecordError, match=r"a\.csv, line 2"):
        read_benchmark("plain", [path])
    path.write_bytes(b"image,question,label\n\xff\xfe,1,2\n")
    with pytest.raises(RecordError, match="UTF-8"):
        read_benchmark("plain", [path])


def test_chair_unites_segmented_and_captioned_objects(tmp_path):
    instances = {
        "info": {},
        "images": [
            {"id": 1, "file_name": "COCO_val2014_000000000001.jpg"},
            {"id": 2, "file_name": "two.jpg"},
        ],
        "annotations": [
            {"image_id": 1, "category_id": 5, "segmentation": [[1, 2, 3]]},
            {"image_id": 2, "category_id": 99},
            {"image_id": 2, "category_id": 5},
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "hot dog"}],
    }
    captions = {
        "annotations": [{"image_id": 1, "caption": 'Two men eat hot dogs; "annotations": [x'}],
        "info": {},
    }
    (tmp_path / "instances_val2014.json").write_text(json.dumps(instances))
    (tmp_path / "captions_val2014.json").write_text(json.dumps(captions))
    files = [tmp_path / "instances_val2014.json", tmp_path / "captions_val2014.json"]
    found = read_benchmark("chair", files)
    assert [(r.id, r.present, r.image) for r in found.records] == [
        ("1", ("dog", "hot dog", "person"), "COCO_val2014_000000000001.jpg"),
        ("2", ("dog",), "two.jpg"),
    ]
    assert found.complaints == (
        "instances_val2014.json, line 1, record 1: 'category_id' 99 is none of the file's categories",
    )
    answers = write_lines(
        tmp_path / "captions.jsonl",
        [
            {"image_id": 2, "caption": "A dog."},
            {"image_id": 3, "caption": "A cat."},
            {"image_id": 2, "caption": "A"},
        ],
    )
    asked = read_benchmark("chair", [*files, answers])
    assert [(r.id, asked.said[r.key]) for r in asked.records] == [("2", "A dog.")]
    assert any("no file says what is in the image 3" in each for each in asked.complaints)
    with pytest.raises(InputError, match="what is in the images"):
        read_benchmark("chair", [answers])
    # Files of answers beside one reading of the annotations are as if each were read together with them.
    other = write_lines(tmp_path / "other.jsonl", [{"image_id": 1, "caption": "A hot dog."}])
    beside = answers_beside("chair", files)
    for path in (answers, other, answers):
        assert beside(path) == read_benchmark("chair", [*files, path])


def test_tabletop_needs_no_file_and_draws_its_images():
    found = read_benchmark("tabletop")
    assert found.splits[:3] == ("random", "popular", "adversarial")
    existence = [r for r in found.records if r.split in found.splits[:3]]
    assert sum(r.truth == "yes" for r in existence) == len(existence) / 2
    positives = [r for r in found.distinct if r.category == "existence" and r.truth == "yes"]
    assert len(positives) == len(existence) / 6, "the splits share them, as POPE's do"
    record = found.records[0]
    assert picture(benchmark("tabletop"), record, None).shape == (128, 128, 3)
    captions = [r for r in found.records if r.asked == "description"]
    assert captions
    assert all(r.present for r in captions)


def test_images_are_found_inside_their_folder_alone(tmp_path):
    folder = tmp_path / "images"
    (folder / "val2014").mkdir(parents=True)
    (folder / "val2014" / COCO).write_bytes(b"x")
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(b"x")
    (folder / "link.jpg").symlink_to(outside)
    rows = [pope_row(1), pope_row(2, image="link.jpg"), pope_row(3, image="lacks.jpg")]
    records = read_benchmark("pope", [write_lines(tmp_path / "a.json", rows)]).records
    kind = benchmark("pope")
    assert picture(kind, records[0], folder) == folder / "val2014" / COCO
    with pytest.raises(RecordError, match="link that leads out"):
        picture(kind, records[1], folder)
    with pytest.raises(RecordError, match=r"there is no image 'lacks\.jpg'"):
        picture(kind, records[2], folder)
    with pytest.raises(RecordError, match="--images"):
        picture(kind, records[0], None)


def test_an_unknown_benchmark_names_those_that_are_there():
    with pytest.raises(InputError, match=", ".join(names())):
        benchmark("poppe")
    with pytest.raises(InputError, match="--records"):
        read_benchmark("pope")


def test_plain_records_of_one_line_are_all_read(tmp_path):
    rows = [{"image": None, "question": f"Is it {number}?", "label": "no"} for number in range(3)]
    found = read_benchmark("plain", [write_array(tmp_path / "rows.json", rows, indent=None)])
    assert [record.id for record in found.records] == ["1", "2", "3"]
    assert not found.complaints


def test_a_plain_row_with_objects_asks_for_a_description(tmp_path):
    row = {"image": "a.png", "question": "Describe it.", "objects": ["cup"], "absent": ["key", "dog"]}
    (tmp_path / "photos.jsonl").write_text(json.dumps(row))
    (record,) = read_benchmark("plain", [tmp_path / "photos.jsonl"]).records
    assert (record.asked, record.present, record.absent) == ("description", ("cup",), ("key", "dog"))
    assert benchmark("plain").mentions(record, "Two keys by a cup.") == ("key", "cup")
