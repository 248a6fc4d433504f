"""What becomes of every form of a LLaVA-like record: read right, or left out by name; never trained on as another."""

import base64
import json
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from emma_viz.errors import RecordError
from emma_viz.records import LlavaRecord, read_records
from emma_viz.records.json_spans import RECORD

IMAGES = Path("/data/images")
ASKED = "<image>\nWhat?"


def talk(*texts, roles=("human", "gpt"), keys=("from", "value")) -> list[dict]:
    return [{keys[0]: roles[place % 2], keys[1]: text} for place, text in enumerate(texts)]


def chat(*contents) -> list[dict]:
    return talk(*contents, roles=("user", "assistant"), keys=("role", "content"))


def text(value: str) -> dict:
    return {"type": "text", "text": value}


@dataclass(frozen=True)
class Read:
    """A form that is read: the image's path, and what is said."""

    image: str | None = "a.jpg"
    said: tuple[str, ...] = (ASKED, "A bus.")


ABOUT = {"conversations": talk(ASKED, "A bus.")}
ALONE = {"conversations": talk("What?", "A bus.")}
PLAIN = Read(None, ("What?", "A bus."))
HUGE = base64.b64encode(b"\xff\xd8 a picture of four kilobytes" * 140).decode()
SURROGATE = '{"conversations": [{"from": "human", "value": "\\ud83d?"}, {"from": "gpt", "value": "A."}]}'
TWICE = '{"image": "a.jpg", "image": "b.jpg", "conversations": []}'


def nested(depth: int) -> str:
    return '{"extra": ' + "[" * depth + "]" * depth + ', "conversations": []}'


def with_number(number: str) -> str:
    return '{"id": 1, "score": ' + number + ', "conversations": []}'


FORMS: dict[str, tuple[object, Read | str]] = {
    # The form itself, and what it may leave out or add.
    "as LLaVA has it": ({"id": "1", "image": "a.jpg", **ABOUT}, Read()),
    "no id": ({"image": "a.jpg", **ABOUT}, Read()),
    "id null": ({"id": None, "image": "a.jpg", **ABOUT}, Read()),
    "id a number": ({"id": 7, "image": "a.jpg", **ABOUT}, Read()),
    "id a fraction": ({"id": 7.5, "image": "a.jpg", **ABOUT}, Read()),
    "id a list": ({"id": [7], "image": "a.jpg", **ABOUT}, "expected a text or a number as 'id'"),
    "other keys": ({"image": "a.jpg", "model": "", "bbox": [[1.5, 2]], "meta": {"a": None}, **ABOUT}, Read()),
    "text alone": (ALONE, PLAIN),
    "text alone, image null": ({"image": None, **ALONE}, PLAIN),
    "text alone, images empty": ({"images": [], **ALONE}, PLAIN),
    "many turns": (
        {"image": "a.jpg", "conversations": talk(ASKED, "A.", "Sure?", "Yes.")},
        Read(said=(ASKED, "A.", "Sure?", "Yes.")),
    ),
    "a question at the end": (
        {"image": "a.jpg", "conversations": talk(ASKED, "A.", "Sure?")},
        Read(said=(ASKED, "A.", "Sure?")),
    ),
    # Where the image stands.
    "images, one": ({"images": ["a.jpg"], **ABOUT}, Read()),
    "image a list of one": ({"image": ["a.jpg"], **ABOUT}, Read()),
    "images a text": ({"images": "a.jpg", **ABOUT}, Read()),
    "image and images agree": ({"image": "a.jpg", "images": ["a.jpg"], **ABOUT}, Read()),
    "image and images differ": ({"image": "a.jpg", "images": ["b.jpg"], **ABOUT}, "in several places"),
    "images, two": ({"images": ["a.jpg", "b.jpg"], **ABOUT}, "expected one image, got 2"),
    "image a list of two": ({"image": ["a.jpg", "a.jpg"], **ABOUT}, "expected one image, got 2"),
    "image empty": ({"image": "", **ABOUT}, "expected the path of an image"),
    "image blank": ({"image": "  ", **ALONE}, "expected the path of an image"),
    "image false": ({"image": False, **ABOUT}, "expected the path of an image"),
    "image a number": ({"image": 5, **ABOUT}, "expected the path of an image"),
    "image an object": ({"image": {"path": "a.jpg"}, **ABOUT}, "expected the path of an image"),
    "images of bytes": ({"images": [{"bytes": "/9j/4AAQ"}], **ABOUT}, "expected the path of an image"),
    "Image": ({"Image": "a.jpg", **ALONE}, "expected its image as 'image', got 'Image'"),
    "image_path": ({"image_path": "a.jpg", **ALONE}, "expected its image as 'image', got 'image_path'"),
    "video": ({"video": "a.mp4", **ALONE}, "expected its image as 'image', got 'video'"),
    # What the text asks for.
    "image without placeholder": ({"image": "a.jpg", **ALONE}, Read(said=("What?", "A bus."))),
    "placeholder after the question": (
        {"image": "a.jpg", "conversations": talk("What?\n<image>", "A.")},
        Read(said=("What?\n<image>", "A.")),
    ),
    "placeholder in a later question": (
        {"image": "a.jpg", "conversations": talk("Hi.", "Hi.", ASKED, "A.")},
        Read(said=("Hi.", "Hi.", ASKED, "A.")),
    ),
    "placeholder and no image": (ABOUT, "asks for an image (<image>), and the record names none"),
    "placeholder and image null": ({"image": None, **ABOUT}, "asks for an image (<image>)"),
    "placeholder and images empty": ({"images": [], **ABOUT}, "asks for an image (<image>)"),
    "two placeholders in a question": (
        {"image": "a.jpg", "conversations": talk("<image><image>\nWhich?", "A.")},
        "asks for 2 images (<image>), and the record has one",
    ),
    "two placeholders in two questions": (
        {"image": "a.jpg", "conversations": talk(ASKED, "A.", ASKED, "B.")},
        "asks for 2 images (<image>)",
    ),
    "placeholder in an answer": (
        {"image": "a.jpg", "conversations": talk("What?", "<image>")},
        "stands in an answer",
    ),
    # Paths.
    "in a folder": ({"image": "coco/train/1.jpg", **ABOUT}, Read("coco/train/1.jpg")),
    "./x": ({"image": "./a.jpg", **ABOUT}, Read()),
    "a detour": ({"image": "b/.././a.jpg", **ABOUT}, Read()),
    "slashes": ({"image": "coco//1.jpg", **ABOUT}, Read("coco/1.jpg")),
    "absolute, inside": ({"image": "/data/images/b/a.jpg", **ABOUT}, Read("b/a.jpg")),
    "absolute, with a detour": ({"image": "/data/images/../images/a.jpg", **ABOUT}, Read()),
    "absolute, outside": ({"image": "/etc/passwd", **ABOUT}, "expected a path inside the image folder"),
    "absolute, a sibling": (
        {"image": "/data/images2/a.jpg", **ABOUT},
        "expected a path inside the image folder",
    ),
    "..": ({"image": "../a.jpg", **ABOUT}, "expected a path inside the image folder"),
    ".. behind a folder": ({"image": "b/../../a.jpg", **ABOUT}, "expected a path inside the image folder"),
    "the folder itself": ({"image": ".", **ABOUT}, "expected a path inside the image folder"),
    "~": ({"image": "~/a.jpg", **ABOUT}, Read("~/a.jpg")),
    "https": ({"image": "https://example.org/a.jpg", **ABOUT}, "got the address"),
    "file": ({"image": "file:///data/images/a.jpg", **ABOUT}, "got the address"),
    "a drive": ({"image": "C:\\images\\a.jpg", **ABOUT}, "got the address"),
    "a data URL": ({"image": f"data:image/jpeg;base64,{HUGE}", **ABOUT}, "got the address"),
    "base64": ({"image": HUGE, **ABOUT}, "is it the image itself?"),
    "base64 in images": ({"images": [HUGE], **ABOUT}, "is it the image itself?"),
    "a zero byte": ({"image": "a\0.jpg", **ABOUT}, "which no file is called"),
    "half a character": ({"image": "a\ud83d.jpg", **ABOUT}, "half a character"),
    "a name that is not UTF-8": ({"image": "caf\udce9.jpg", **ABOUT}, Read("caf\udce9.jpg")),
    # Who speaks.
    "user and assistant": (
        {"image": "a.jpg", "conversations": talk(ASKED, "A bus.", roles=("user", "assistant"))},
        Read(),
    ),
    "messages": ({"image": "a.jpg", "messages": chat(ASKED, "A bus.")}, Read()),
    "messages as LLaMA-Factory has them": ({"images": ["a.jpg"], "messages": chat(ASKED, "A bus.")}, Read()),
    "conversations of role and content": ({"image": "a.jpg", "conversations": chat(ASKED, "A bus.")}, Read()),
    "parts": (
        {"messages": chat([{"type": "image", "image": "a.jpg"}, text("What?")], [text("A bus.")])},
        Read(),
    ),
    "parts, image named beside": (
        {"images": ["a.jpg"], "messages": chat([{"type": "image"}, text("What?")], "A bus.")},
        Read(),
    ),
    "parts as OpenAI has them": (
        {"messages": chat([text("What?"), {"type": "image_url", "image_url": {"url": "./a.jpg"}}], "A.")},
        Read(said=("What?\n<image>", "A.")),
    ),
    "parts with a data URL": (
        {
            "messages": chat(
                [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{HUGE}"}}], "A."
            )
        },
        "got the address",
    ),
    "parts, image not named": ({"messages": chat([{"type": "image"}, text("What?")], "A.")}, "names none"),
    "parts of another type": (
        {"messages": chat([{"type": "input_audio"}], "A.")},
        "expected parts of the type",
    ),
    "conversations and messages": ({**ABOUT, "messages": chat("Q", "A.")}, "got both"),
    "a system turn": (
        {"messages": [{"role": "system", "content": "Be brief."}, *chat("Q", "A.")]},
        "turn 0: expected it from 'human', got 'system'",
    ),
    "two questions": ({"conversations": [*talk("Q"), *talk("Q")]}, "turn 1: expected it from 'gpt'"),
    "answer first": (
        {"conversations": talk("A.", "Q", roles=("gpt", "human"))},
        "turn 0: expected it from 'human'",
    ),
    "another name": ({"conversations": talk("Q", "A.", roles=("human", "bard"))}, "got 'bard'"),
    "a role that is no text": ({"conversations": talk("Q", "A.", roles=(["human"], "gpt"))}, "turn 0"),
    "mixed keys": (
        {"conversations": [{"role": "human", "value": "Q"}] * 2},
        "expected an object with 'from'",
    ),
    # What is not there, or something else.
    "no conversations": ({"image": "a.jpg"}, "expected a list of turns as 'conversations', got nothing"),
    "conversations null": ({"conversations": None}, "got nothing"),
    "conversations a text": ({"conversations": "Q A"}, "got str"),
    "conversations an object": ({"conversations": {"Q": "A."}}, "got dict"),
    "conversations empty": ({"conversations": []}, "expected a question and an answer, got 0 turn(s)"),
    "one turn": ({"conversations": talk("Q")}, "expected a question and an answer, got 1 turn(s)"),
    "a turn null": ({"conversations": [None, None]}, "turn 0: expected an object"),
    "a value null": ({"conversations": talk("Q", None)}, "turn 1: expected a text as 'value', got NoneType"),
    "a value a number": ({"conversations": talk("Q", 5)}, "turn 1: expected a text as 'value', got int"),
    "Conversations": ({"Conversations": talk("Q", "A.")}, "got nothing"),
    "a list": ([ABOUT], "expected an object with 'conversations', got list"),
    "a text": ("Q", "expected an object with 'conversations', got str"),
    "null": (None, "expected an object with 'conversations', got NoneType"),
    "a number": (5, "expected an object with 'conversations', got int"),
}
RAW: dict[str, tuple[bytes, str]] = {
    # What no JSON writer makes.
    "brackets that do not match": (b'{"image": "a.jpg", "conversations": ]}', "expected JSON"),
    "single quotes": (b"{'image': 'a.jpg'}", "expected JSON"),
    "no comma between two": (b'{"id": 1} {"id": 2}', "expected JSON"),
    "not UTF-8": (b'{"id": "caf\xe9"}', "not text"),
    "half a character in the text": (SURROGATE.encode(), "half a character"),
    "a key twice": (TWICE.encode(), "'image' stands in one object twice"),
    "NaN": (with_number("NaN").encode(), "which is not finite"),
    "-Infinity": (with_number("-Infinity").encode(), "which is not finite"),
    "1e999": (with_number("1e999").encode(), "which is not finite"),
    "5000 digits": (with_number("7" * 5000).encode(), "an integer of 5000 digits"),
    "5000 deep": (nested(5000).encode(), "nested more than 32 deep"),
    "100 000 deep": (nested(100_000).encode(), "nested more than 32 deep"),
    "many values": (b'{"extra": [' + b"1," * 300_000 + b"1]}", "holds more than 200000 values"),
    "longer than the budget": (
        b'{"id": "' + b"x" * RECORD.size + b'"}',
        "expected at most 16 MB of JSON, got 16 MB",
    ),
}
CASES = {name: (json.dumps(value).encode(), wanted) for name, (value, wanted) in FORMS.items()} | RAW
BEFORE = json.dumps({"id": "before", "image": "a.jpg", **ABOUT}).encode()
AFTER = json.dumps({"id": "after", "image": "a.jpg", **ABOUT}).encode()


def written(path: Path, form: str, *records: bytes) -> Path:
    joined = b"\n".join(records) if form == "lines" else b"[\n" + b",\n".join(records) + b"]"
    path.write_bytes(joined)
    return path


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("name", CASES)
def test_a_form_is_read_right_or_left_out_by_name(tmp_path, name, form):
    raw, wanted = CASES[name]
    path = written(tmp_path / "data.json", form, BEFORE, raw, AFTER)
    errors: list[RecordError] = []
    found: list[LlavaRecord] = list(read_records(path, images=IMAGES, on_error=errors.append))
    assert (found[0].id, found[-1].id, found[-1].index) == ("before", "after", 2)
    if isinstance(wanted, str):
        assert len(found) == 2
        (error,) = errors
        assert str(error).startswith("record 1")
        assert wanted in str(error)
        assert len(str(error)) < 500
        with pytest.raises(RecordError):
            list(read_records(path, images=IMAGES))
    else:
        assert not errors
        assert found[1].image == wanted.image
        assert tuple(turn.text for turn in found[1].turns) == wanted.said
        assert [turn.role for turn in found[1].turns] == ["human", "gpt", "human", "gpt"][: len(wanted.said)]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_byte_order_mark_is_passed_over(tmp_path, form):
    path = written(tmp_path / "data.json", form, BEFORE, AFTER)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(list(read_records(path))) == 2
    path.write_bytes(BEFORE + b"\n\xef\xbb\xbf" + AFTER)
    assert len(list(read_records(path))) == 2, "files that were put together"


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_record_far_longer_than_the_budget_is_skipped_and_never_held(tmp_path, form, ends):
    path = tmp_path / "data.json"
    with path.open("wb") as file:
        file.write((b"[" if form == "array" else b"") + BEFORE + (b"," if form == "array" else b"\n"))
        file.write(b'{"id": "')
        file.seek(80 * 2**20, 1)  # a hole: zero bytes that take no room on the disk
        if ends:
            file.write(
                b'"}' + (b"," if form == "array" else b"\n") + AFTER + (b"]" if form == "array" else b"")
            )
        else:
            file.write(b'"')
    errors: list[RecordError] = []
    found: list[LlavaRecord] = []
    tracemalloc.start()
    try:
        for record in read_records(path, on_error=errors.append):
            found.append(record)
    except RecordError as error:
        assert form == "array"
        assert not ends
        errors.append(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [record.id for record in found] == (["before", "after"] if ends else ["before"])
    (error,) = errors
    assert "record 1" in str(error)
    assert peak < 3 * RECORD.size


REFUSED = {
    "empty": (b"", "it is empty"),
    "spaces": (b" \n\n", "it is empty"),
    "a text": (b'"hello"', "it begins with"),
    "UTF-16": ("[]".encode("utf-16"), "in UTF-8, but it begins with"),
    "gzip": (b"\x1f\x8b\x08", "it begins with"),
    "cut off": (b"[" + BEFORE + b", " + AFTER[:40], "record 1 of .*the file ends before"),
    "not closed": (b"[" + BEFORE, "record 0 of .*the file ends before"),
    "a text not closed": (b'[{"id": "' + BEFORE, "record 0 of .*the file ends before"),
    "brackets without end": (b"[" * 2_000_000, "record 0 of .*expected at most 200000 values, got more"),
    "two arrays": (b"[" + BEFORE + b"][" + AFTER + b"]", "expected nothing after the array of 1 records"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_data_set_is_refused(tmp_path, name):
    raw, sentence = REFUSED[name]
    path = tmp_path / "data.json"
    path.write_bytes(raw)
    with pytest.raises(RecordError, match=sentence):
        list(read_records(path, on_error=lambda error: None))
