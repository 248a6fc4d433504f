"""LLaVA data sets: both file forms, clear errors, and the released code's labels."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.data import train_tokenizer
from emma_viz.errors import RecordError
from emma_viz.records import conversation_tokens, parse_record, read_records
from emma_viz.records.json_spans import record_value, spans
from emma_viz.records.llava import IGNORE


def talk(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def record(**changes):
    base = {"id": "000000033471", "image": "coco/1.jpg", "conversations": talk("<image>\nWhat?", "A bus.")}
    return {key: value for key, value in (base | changes).items() if value is not ...}


RECORDS = [
    record(),
    record(id=7, image=..., conversations=talk('Hi ["{', "Ho }]\\", "And “now”?", "No.")),
    record(id=..., image=None, conversations=talk("Q", "A."), model="", extra={"a": [1, {"b": None}]}),
]


def write(tmp_path, records, form):
    path = tmp_path / "data.json"
    if form == "array":
        path.write_text(json.dumps(records))
    elif form == "pretty":
        path.write_text(
            "\ufeff \n" + json.dumps(records, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    else:
        path.write_text("\n".join(json.dumps(x) for x in records) + "\n\n")
    return path


@pytest.mark.parametrize("form", ["array", "pretty", "lines"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_both_forms_read_the_same(tmp_path, form, chunk, monkeypatch):
    monkeypatch.setattr("emma_viz.records.json_spans._CHUNK", chunk)
    one, two, three = read_records(write(tmp_path, RECORDS, form))
    assert (one.id, one.image, one.index) == ("000000033471", "coco/1.jpg", 0)
    assert [(turn.role, turn.text) for turn in one.turns] == [("human", "<image>\nWhat?"), ("gpt", "A bus.")]
    assert (two.id, two.image, len(two.turns)) == ("7", None, 4)
    assert two.turns[2].text == "And “now”?"
    assert (three.id, three.image) == ("2", None)


def test_an_empty_array_has_no_records(tmp_path):
    assert list(read_records(write(tmp_path, [], "array"))) == []


@settings(max_examples=30, derandomize=True)
@given(texts=st.lists(st.text(max_size=30), min_size=2, max_size=6), chunk=st.integers(1, 40))
def test_any_text_survives_any_chunk(tmp_path_factory, texts, chunk):
    path = write(tmp_path_factory.mktemp("llava"), [record(conversations=talk(*texts))] * 3, "pretty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emma_viz.records.json_spans._CHUNK", chunk)
        for read in read_records(path):
            assert [turn.text for turn in read.turns] == texts


def test_reading_does_not_hold_the_file(tmp_path):
    path = write(tmp_path, [record(conversations=talk("x" * 20000, "y" * 20000))] * 250, "array")
    assert path.stat().st_size > 10e6
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 250
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conversations": ...}, "expected a list of turns as 'conversations', got nothing"),
        ({"conversations": "hi"}, "expected a list of turns as 'conversations', got str"),
        ({"conversations": talk("only a question")}, r"expected a question and an answer, got 1 turn"),
        ({"conversations": talk("a", "b")[::-1]}, "turn 0: expected it from 'human', got 'gpt'"),
        ({"conversations": [*talk("a"), *talk("b")]}, "turn 1: expected it from 'gpt', got 'human'"),
        ({"conversations": [{"role": "user"}, {}]}, "turn 0: expected an object with 'from' and 'value'"),
        ({"conversations": [None, {}]}, "turn 0: expected an object with 'from' and 'value'"),
        ({"conversations": talk("a", 5)}, "turn 1: expected a text as 'value', got int"),
        ({"image": ["a.jpg", "b.jpg"]}, "expected one image, got 2"),
        ({"image": ""}, "expected the path of an image"),
    ],
)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_record_that_cannot_be_used_is_named(tmp_path, changes, sentence, form):
    records = read_records(write(tmp_path, [record(), record(**changes)], form))
    assert next(records).index == 0
    with pytest.raises(RecordError, match=rf"record 1 \(id '000000033471'\).*{sentence}"):
        next(records)


def test_other_values_are_no_records():
    with pytest.raises(RecordError, match="record 3: expected an object with 'conversations', got list"):
        parse_record([], 3)
    with pytest.raises(RecordError, match="record 3: expected a text or a number as 'id', got dict"):
        parse_record(record(id={}), 3)


@pytest.mark.parametrize("form", ["array", "lines"])
def test_bad_records_can_be_left_out(tmp_path, form):
    errors = []
    path = write(tmp_path, [record(), record(conversations=[]), record(id="last")], form)
    assert [x.id for x in read_records(path, on_error=errors.append)] == ["000000033471", "last"]
    assert ["record 1 (id '000000033471')" in str(error) for error in errors] == [True]


def test_a_broken_line_can_be_left_out(tmp_path):
    path = tmp_path / "data.jsonl"
    good = json.dumps(record())
    path.write_text(f"{good}\n{good[:-9]}\n\n{good}\n")
    errors = []
    assert [x.index for x in read_records(path, on_error=errors.append)] == [0, 2]
    assert str(errors[0]).startswith("record 1: expected JSON, but it is none")


GOOD = json.dumps(record())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "but it is empty"),
        ("hello", "but it begins with 'h'"),
        (f"[{GOOD}", "record 0 of .*: the file ends before the record or array does"),
        (f"[{GOOD}, ", "record 1 of .*: the file ends before the record or array does"),
        (f"[{GOOD}, {GOOD[:-5]}", "record 1 of .*: the file ends before the record or array does"),
        (f"[{GOOD}] {GOOD}", r"expected nothing after the array of 1 records, got '\{'"),
        ('{"id": "never closed'.join(["[", "x" * 3_000_000]), "record 0 of .*: the file ends before"),
    ],
)
def test_files_that_are_broken(tmp_path, text, sentence):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=sentence):
        list(read_records(path, on_error=lambda error: None))


@pytest.mark.parametrize("form", ["array", "lines"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b" \n"])
def test_spans_say_where_in_the_file_each_record_is(tmp_path, monkeypatch, form, before):
    monkeypatch.setattr("emma_viz.records.json_spans._CHUNK", 37)
    records = [record(id="eins"), record(id="größer 漢字 {[]}"), record(id="last", conversations=[])]
    path = write(tmp_path, records, form)
    path.write_bytes(before + path.read_bytes())
    data = path.read_bytes()
    found = list(spans(path))
    assert [span.value for span in found] == records
    for span in found:
        assert record_value(data[span.start : span.start + span.size], span.index) == records[span.index]


def test_a_turn_longer_than_any_model_reads_is_refused():
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "a" * 1_000_000}]
    assert len(parse_record({"conversations": talk}, 0).turns[1].text) == 1_000_000
    talk[1]["value"] += "a"
    with pytest.raises(
        RecordError, match="record 0, turn 1: expected at most 1,000,000 characters, got 1,000,001"
    ):
        parse_record({"conversations": talk}, 0)


@pytest.mark.parametrize("begin", [b"[ {", b'{"id": "'])
def test_a_record_without_end_is_not_followed_for_ever(tmp_path, monkeypatch, begin):
    monkeypatch.setattr("emma_viz.records.json_spans._FARTHEST", 20 << 20)
    path = tmp_path / "data.json"
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(30 << 20)
    with pytest.raises(RecordError, match=r"record 0 of .*does not end within 20 MB"):
        list(spans(path))


@pytest.mark.parametrize("before", [b"\n" * 3_000_000, b"\xef\xbb\xbf" + b" \t\r\n" * 700_000])
def test_white_space_before_records_is_passed_over(tmp_path, before):
    path = tmp_path / "data.json"
    path.write_bytes(before + b"[" + b" " * 3_000_000 + b'{"a": 1}' + b"\n" * 3_000_000 + b', {"a": 2}]')
    assert [span.value for span in spans(path)] == [{"a": 1}, {"a": 2}]
    assert [path.read_bytes()[span.start : span.start + span.size] for span in spans(path)] == [
        b'{"a": 1}',
        b'{"a": 2}',
    ]
    path.write_bytes(before + b'{"a": 1}\n{"a": 2}\n')
    assert [span.value for span in spans(path)] == [{"a": 1}, {"a": 2}]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecordError, match="there is no such file"):
        list(read_records(tmp_path / "absent.json"))
    path = tmp_path / "latin.json"
    path.write_bytes(b'[{"id": "caf\xe9"}]')
    with pytest.raises(RecordError, match="a file that is not text"):
        list(read_records(path))
    with pytest.raises(RecordError, match="expected a regular file, got a folder"):
        list(read_records(tmp_path))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([json.dumps(RECORDS)] * 3, vocab_size=300)


class TestTokens:
    @pytest.mark.parametrize("style", ["zephyr", "in-out"])
    def test_answers_are_learned_and_prompts_are_not(self, tokenizer, style):
        parsed = parse_record(record(conversations=talk("<image>\nWhat?", "A bus.", "Red?", "Yes.")), 0)
        ids, labels = conversation_tokens(parsed, tokenizer, style)
        assert len(ids) == len(labels)
        assert all(label in (IGNORE, identifier) for identifier, label in zip(ids, labels, strict=True))
        learned = [label for label in labels if label != IGNORE]
        assert tokenizer.decode(learned, skip_special=False) == "A bus.<|endoftext|>Yes.<|endoftext|>"
        text = {
            "zephyr": "<|user|>\nWhat?<|endoftext|>\n<|assistant|>\nA bus.<|endoftext|>"
            "\n<|user|>\nRed?<|endoftext|>\n<|assistant|>\nYes.<|endoftext|>",
            "in-out": "In: What?\nOut: A bus.<|endoftext|>\nIn: Red?\nOut: Yes.<|endoftext|>",
        }[style]
        assert tokenizer.decode(ids, skip_special=False) == text

    def test_turns_are_tokenized_one_by_one(self, tokenizer):
        parsed = parse_record(record(conversations=talk("What?", "A bus.")), 0)
        ids, labels = conversation_tokens(parsed, tokenizer, "in-out")
        question, answer = tokenizer.encode("In: What?\nOut: "), tokenizer.encode("A bus.<|endoftext|>")
        assert ids == question + answer
        assert labels == [-100] * len(question) + answer

    def test_cut_to_the_longest(self, tokenizer):
        parsed = parse_record(record(), 0)
        ids, labels = conversation_tokens(parsed, tokenizer, "zephyr")
        assert conversation_tokens(parsed, tokenizer, "zephyr", max_length=9) == (ids[:9], labels[:9])
        assert conversation_tokens(parsed, tokenizer, "zephyr", max_length=len(ids)) == (ids, labels)
