"""The tokenizer: round trips, and the same ids as transformers gives."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.data import Tokenizer, build_prompt, train_tokenizer
from emma_viz.errors import CheckpointError, InputError

TEXTS = [
    "A white cup on a brown table.",
    "Describe the image in detail.",
    "There is a red ball to the left of the blue box.",
    build_prompt("What is on the table?", "zephyr"),
] * 5
AWKWARD = [
    "",
    " ",
    "  two  spaces\n\n",
    "naïve café ☕ 日本語",
    "\u0000\u00ff",
    "don't stop<|endoftext|>now",
    "In: x\nOut: ",
]


PHRASES = ("In: Is", "In: Is there a", "?\nOut: ")


@pytest.fixture(scope="module", params=[(), PHRASES], ids=["words", "phrases"])
def tokenizer(request):
    return train_tokenizer(TEXTS, vocab_size=400, phrases=request.param)


def test_special_ids_are_gpt_neox_s(tokenizer):
    assert (tokenizer.eos_id, tokenizer.pad_id) == (0, 1)
    assert tokenizer.encode("cup<|endoftext|>")[-1] == 0
    assert tokenizer.encode("cup<|endoftext|>").count(0) == 1
    assert 258 < tokenizer.vocab_size <= 400 + len(PHRASES)


def test_it_has_learned_to_merge(tokenizer):
    text = "A white cup on a brown table."
    assert len(tokenizer.encode(text)) < len(text) / 2
    assert len(train_tokenizer(TEXTS, vocab_size=258).encode(text)) == len(text)


def test_nothing_is_added(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.encode("A white") + tokenizer.encode(" cup") == tokenizer.encode("A white cup")


def test_a_phrase_is_one_token_and_the_longest_wins():
    words, phrases = (train_tokenizer(TEXTS, vocab_size=400, phrases=p) for p in ((), PHRASES))
    ids = phrases.encode("In: Is there a white cup?\nOut: ")
    first, last = words.vocab_size + 1, words.vocab_size + 2
    assert ids == [first, *words.encode(" white cup"), last]
    assert phrases.encode("A white cup.") == words.encode("A white cup.")


@settings(max_examples=100, derandomize=True)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from([*PHRASES, " ", "a", "In"])).map("".join))
def test_any_text_comes_back(tokenizer, text):
    expected = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == expected


def test_decode_leaves_special_and_padding_rows_out(tokenizer):
    ids = tokenizer.encode("A cup.<|endoftext|><|padding|>")
    assert tokenizer.decode(ids) == "A cup."
    assert tokenizer.decode(ids, skip_special=False) == "A cup.<|endoftext|><|padding|>"
    assert tokenizer.decode([*ids, tokenizer.vocab_size + 3]) == "A cup."


def test_training_is_reproducible(tokenizer, tmp_path):
    for name in ("a", "b"):
        train_tokenizer(iter(TEXTS), vocab_size=400).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in (*TEXTS, *AWKWARD):
        assert again.encode(text) == tokenizer.encode(text)
    assert (again.eos_id, again.pad_id, again.vocab_size) == (0, 1, tokenizer.vocab_size)


def test_transformers_gives_the_same_ids(tokenizer, tmp_path):
    """Also with what GPT-NeoX's own file has beside: added tokens for runs of spaces, and truncation."""
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = json.loads(path.read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    content["added_tokens"] += [
        {"id": tokenizer.vocab_size + i, "content": " " * (3 - i), **plain} for i in range(2)
    ]
    neox = tmp_path / "neox.json"
    neox.write_text(json.dumps(content))
    for file in (path, neox):
        ours = Tokenizer.load(file)
        theirs = PreTrainedTokenizerFast(
            tokenizer_file=str(file), eos_token="<|endoftext|>", pad_token="<|padding|>"
        )
        assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
        for text in (*TEXTS, *AWKWARD):
            ids = ours.encode(text)
            assert theirs(text, add_special_tokens=True).input_ids == ids
            assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
    assert len(Tokenizer.load(neox).encode("a   b")) == 3


def test_truncation_and_padding_in_the_file_are_not_followed(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = json.loads(path.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(content))
    assert len(Tokenizer.load(path).encode(TEXTS[2])) > 3


def test_files_that_are_no_tokenizer(tokenizer, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.json: there is no such file"):
        Tokenizer.load(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match=r"missing required field `model`"):
        Tokenizer.load(broken)
    tokenizer.save(broken)
    broken.write_text(broken.read_text().replace("<|endoftext|>", "<|nothing|>"))
    with pytest.raises(CheckpointError, match=r"<\|endoftext\|> or .* or </s>"):
        Tokenizer.load(broken)


def test_a_vocabulary_that_is_too_small():
    with pytest.raises(InputError, match="at least 258"):
        train_tokenizer(TEXTS, vocab_size=257)
