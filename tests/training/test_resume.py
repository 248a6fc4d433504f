"""A run that is killed anywhere and started again ends bit for bit as one that was left alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.forked_runs import ForkedRun, start
from training.joint import read_scores

PLACES = ("step 3", "write 1", "write 2", "name 2", "named 2")


@pytest.fixture(scope="module")
def runs(llava, tmp_path_factory) -> Path:
    """Runs of six steps, killed at each place and resumed."""
    out = tmp_path_factory.mktemp("runs")
    common = ["--recipe", "tiny-emma-v1", *llava.options, "--steps", "6", "--batch", "4", "--micro", "2"]
    common += ["--save-every", "2", "--held-out", "1", "--lr", "0.003", "--work"]
    asked = [ForkedRun(name="whole", options=[*common, str(out / "whole")])]
    expected = ["run whole: code 0"]
    for place in PLACES:
        options = [*common, str(out / place)]
        asked += [
            ForkedRun(name=place, options=options, dies=place),
            ForkedRun(name=f"{place}, again", options=options),
        ]
        expected += [f"run {place}: signal 9", f"run {place}, again: code 0"]
    assert start(asked) == expected
    return out


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_ends_bit_for_bit_as_one_that_was_left_alone(runs, place):
    whole, killed = (
        torch.load(runs / name / "step-000006.pt", weights_only=True) for name in ("whole", place)
    )
    for part in ("module", "optimizer", "step", "identity"):
        assert same(whole[part], killed[part]), part
    weights = "model/checkpoints/latest-checkpoint.safetensors"
    whole, killed = (load_file(runs / name / weights) for name in ("whole", place))
    assert same(whole, killed)


@pytest.mark.parametrize("place", PLACES)
def test_two_checkpoints_are_kept_and_nothing_half_written(runs, place):
    kept = sorted(path.name for path in (runs / place).glob("*step-*"))
    assert kept == ["step-000004.pt", "step-000006.pt"]
    assert not list((runs / place).rglob(".*.part"))


@pytest.mark.parametrize("place", PLACES)
def test_the_journal_has_every_step_once(runs, place):
    def read(name):
        lines = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        timed = ("seconds", "waited", "tokens/s")
        return [{key: value for key, value in line.items() if key not in timed} for line in lines]

    assert [line["step"] for line in read(place)] == list(range(6))
    assert read(place) == read("whole")


@pytest.mark.slow
def test_a_killed_stage_of_a_family_ends_bit_for_bit_and_with_all_its_scores(work, tmp_path):
    # After the first checkpoint, of two; and between it and the questions that follow it.
    places = ("step 40", "named 1")
    asked = []
    for name in ("whole", *places):
        folder = tmp_path / name
        shutil.copytree(work.folder, folder, ignore=shutil.ignore_patterns("joint", "tiny*.safetensors"))
        options = ["--recipe", "tiny", "--work", str(folder)]
        asked.append(ForkedRun(name=name, options=options, dies=None if name == "whole" else name))
        if name != "whole":
            asked.append(ForkedRun(name=f"{name}, again", options=options))
    ended = ["run whole: code 0"]
    for place in places:
        ended += [f"run {place}: signal 9", f"run {place}, again: code 0"]
    assert start(asked) == ended

    def scores(name):
        found = read_scores(tmp_path / name / "joint/tiny")
        return [{key: value for key, value in each.items() if key != "minutes"} for each in found]

    assert [each["step"] for each in scores("whole")] == [30, 60]
    whole = load_file(tmp_path / "whole/tiny.safetensors")
    for place in places:
        assert same(whole, load_file(tmp_path / place / "tiny.safetensors")), place
        assert scores(place) == scores("whole")
