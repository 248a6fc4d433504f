"""Questions about images, from files, folders, globs and lists."""

import json

import pytest
from PIL import Image

from emma_viz.errors import InputError, RecordError
from emma_viz.records.questions import LISTS, find_questions

DESCRIBE = "Describe it."


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them further below, and a text."""
    photos = tmp_path / "photos"
    (photos / "far").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "far/c.png"):
        Image.new("RGB", (4, 4)).save(photos / name)
    (photos / "notes.txt").write_text("mine")
    (photos / ".b.png").write_text("of a file manager")
    return photos


def found(sources, prompts=(), **more):
    return [
        (str(question.image), question.prompt)
        for question in find_questions(sources, prompts, default=DESCRIBE, **more)
    ]


def listed(folder, records, *, name="list.json", lines=False):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    return path


def test_a_folder_stands_for_its_images_in_order(folder):
    images = [str(folder / name) for name in ("a.JPG", "b.png", "far/c.png")]
    assert found(folder) == [(image, DESCRIBE) for image in images]
    assert found(f"{folder}/**/*.png") == [(image, DESCRIBE) for image in images[1:]]


def test_each_prompt_is_asked_about_each_image(folder):
    image, pixels = folder / "b.png", Image.new("RGB", (2, 2))
    asked = list(find_questions([image, pixels], ["Why?", "Who?"], default=DESCRIBE))
    assert [(question.image, question.prompt) for question in asked] == [
        (image, "Why?"),
        (image, "Who?"),
        (pixels, "Why?"),
        (pixels, "Who?"),
    ]


@pytest.mark.parametrize("lines", [False, True])
def test_a_list_brings_its_own_questions(folder, lines):
    records = [
        {"image": "b.png", "question": "How many?", "label": 3},
        {"image": "far/../b.png", "prompt": ["Who?", "Where?"]},
        {"image": "far/c.png", "text": "Is there a cup?"},
        {"image": "a.JPG"},
    ]
    path = listed(folder, records, name=f"list{LISTS[lines]}", lines=lines)
    b, c, a = (str(folder / name) for name in ("b.png", "far/c.png", "a.JPG"))
    expected = [(b, "How many?"), (b, "Who?"), (b, "Where?"), (c, "Is there a cup?"), (a, DESCRIBE)]
    assert found(path) == expected
    assert found(path, folder=folder / "far")[0] == (str(folder / "far/b.png"), "How many?")


def test_human_turns_of_llava_are_asked_each(folder):
    turns = [
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "A cup."},
        {"from": "human", "value": "Whose?"},
    ]
    path = listed(folder, [{"conversations": turns[1:][::-1]}, {"image": "b.png", "conversations": turns}])
    texts = []
    assert [prompt for _, prompt in found(path, on_text=lambda: texts.append(1))] == [
        "What is this?",
        "Whose?",
    ]
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"question": "Why?"}, "expected the path of an image"),
        ({"image": "../b.png", "question": "Why?"}, "inside the image folder"),
        ({"image": "https://x.org/b.png"}, "address"),
        ({"image": "b.png", "question": 3}, "expected a question as a text"),
        ({"image": "b.png", "question": " "}, "expected a question as a text"),
        ({"image": "b.png", "question": "\ud800"}, "half a character"),
        ({"image": "b.png", "question": "Why?", "text": "Why?"}, "question and text"),
        ({"image": "b.png", "conversations": []}, "expected a question, got 0"),
        ("b.png", "expected an object"),
        ({"image": "out.png", "question": "Why?"}, "leads out of"),
    ],
)
def test_records_that_cannot_be_used_are_named_and_left_out(folder, tmp_path, record, said):
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    path, left_out = listed(folder, [record, {"image": "a.JPG", "question": "Who?"}]), []
    assert found(path, on_error=left_out.append) == [(str(folder / "a.JPG"), "Who?")]
    (error,) = left_out
    assert f"{path}, record 0" in str(error)
    assert said in str(error)
    with pytest.raises(RecordError, match="record 0"):
        found(path)


def test_prompts_beside_questions_are_refused(folder):
    path = listed(folder, [{"image": "b.png", "question": "Why?"}])
    with pytest.raises(InputError, match=r"question of its own; leave the prompt \(--prompt\) out"):
        found(path, ["Who?"])


@pytest.mark.parametrize(("source", "said"), [("far", "holds no image"), ("*.webp", "no file is called as")])
def test_what_stands_for_no_image_is_refused(folder, source, said):
    (folder / "far/c.png").unlink()
    with pytest.raises(InputError, match=said):
        found(folder / source)
