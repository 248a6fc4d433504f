"""Answers during a joint run, as they are kept in its folder."""

import pytest

from emma_viz.errors import TrainingError
from training.pocket.scores import SCORES, add_scores, read_scores


def found(share):
    return {"color": {"accuracy": share, "questions": 3}}


def test_scores_come_back_in_the_order_of_the_steps(tmp_path):
    assert read_scores(tmp_path) == []
    add_scores(tmp_path, 400, 2.5, found(0.25))
    add_scores(tmp_path, 800, 5.0, found(0.5))
    assert [each["step"] for each in read_scores(tmp_path)] == [400, 800]
    assert read_scores(tmp_path)[0] == {"step": 400, "minutes": 2.5, "accuracy": {"color": 0.25}}


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    for step, share in ((400, 0.25), (800, 0.5), (400, 0.75)):
        add_scores(tmp_path, step, 1.0, found(share))
    assert [each["accuracy"]["color"] for each in read_scores(tmp_path)] == [0.75]
    assert [path.name for path in tmp_path.iterdir()] == [SCORES]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"step": "1", "minutes": 1, "accuracy": {}}', "[" * 100_000, '{"step": 1}']
)
def test_a_damaged_line_is_named(tmp_path, line):
    add_scores(tmp_path, 400, 2.5, found(0.25))
    with (tmp_path / SCORES).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match=rf"{SCORES}, line 2: "):
        read_scores(tmp_path)
