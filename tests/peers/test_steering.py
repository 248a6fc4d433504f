"""A named few settings of generation_config.json decide answers, and are said; the rest decides nothing."""

import json
import shutil

import pytest

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # the package's models take seconds to import


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One of a family with nothing said of its answers."""
    made = tmp_path_factory.mktemp("steering") / "tiny-qwen"
    write("qwen2.5-vl", made)
    return made


@pytest.fixture
def asked(folder, tmp_path, pictures):
    """What a copy answers whose file says something."""

    def ask(**said):
        copy = shutil.copytree(folder, tmp_path / "-".join(said or ["plain"]))
        path = copy / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | said))
        trace = record(load_model(copy), pictures[0], "Why?", max_new_tokens=6)
        return trace.answer_ids[0], [note for note in trace.notes if "generation_config" in note]

    return ask


@pytest.mark.parametrize(
    "said",
    [
        {"do_sample": True, "temperature": 5.0, "top_k": 50},
        {"min_new_tokens": 3},
        {"min_length": 500},
        {"max_time": 0.0},
        {"num_beams": 3},
        {"num_return_sequences": 2, "num_beams": 2},
        {"forced_eos_token_id": 2},
        {"forced_bos_token_id": 9},
        {"stop_strings": ["a"]},
        {"length_penalty": 3.0},
        {"renormalize_logits": True, "min_p": 0.9, "typical_p": 0.1},
    ],
    ids=lambda said: "-".join(said),
)
def test_what_is_not_named_changes_nothing(asked, said):
    assert asked(**said) == asked()
    assert asked(**said | {"early_stopping": False})[1] == []


def test_what_is_named_changes_the_answer_and_is_said(asked):
    plain, notes = asked()
    assert not notes
    first = plain[0]
    for said, sentence in (
        ({"suppress_tokens": [first]}, "suppress_tokens of 1"),
        ({"begin_suppress_tokens": [first]}, "begin_suppress_tokens of 1"),
        ({"bad_words_ids": [[first]]}, "bad_words_ids of 1"),
    ):
        answer, notes = asked(**said)
        assert answer[0] != first
        assert len(notes) == 1
        assert sentence in notes[0]
    assert asked(repetition_penalty=1.05)[1] == [
        "answers under the checkpoint's own repetition_penalty 1.05 (generation_config.json)"
    ]
    answer, notes = asked(no_repeat_ngram_size=1)
    assert len(set(answer)) == len(answer)
    assert "no_repeat_ngram_size 1" in notes[0]
