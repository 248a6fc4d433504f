"""A run that is killed anywhere and started again ends bit for bit as one that was left alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.models.towers.vision import VisionEncoder
from tests.records.llava_set import records, without
from tests.training.forked_runs import ForkedRun, start
from training.pocket.scores import read_scores
from training.train import main

PLACES = ("step 3", "write 1", "write 2", "name 2", "named 2")


@pytest.fixture(scope="module")
def runs(llava, tmp_path_factory) -> Path:
    """Runs of six steps, killed at each place and resumed."""
    out = tmp_path_factory.mktemp("runs")
    common = ["--recipe", "tiny-emma-v1", *llava.options, "--steps", "6", "--batch", "4", "--micro", "2"]
    common += ["--save-every", "2", "--held-out", "1", "--lr", "0.003", "--work"]
    # What compiles the kernels may differ from later runs in the last bits (docs/robustness.md): no fork compiles them.
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_two_checkpoints_are_kept_and_nothing_half_written(runs, place):
    kept = sorted(path.name for path in (runs / place).glob("*step-*"))
    assert kept == ["step-000004.pt", "step-000006.pt"]
    assert not list((runs / place).rglob(".*.part"))


@pytest.mark.slow
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
    ended = []
    for name in places:
        folder = tmp_path / name
        shutil.copytree(work.folder, folder, ignore=shutil.ignore_patterns("joint", "tiny*.safetensors"))
        options = ["--recipe", "tiny", "--work", str(folder)]
        asked.append(ForkedRun(name=name, options=options, dies=name))
        asked.append(ForkedRun(name=f"{name}, again", options=options))
        ended += [f"run {name}: signal 9", f"run {name}, again: code 0"]
    assert start(asked) == ended

    def scores(folder):
        found = read_scores(folder / "joint/tiny")
        return [{key: value for key, value in each.items() if key != "minutes"} for each in found]

    assert [each["step"] for each in scores(work.folder)] == [30, 60]
    whole = load_file(work.folder / "tiny.safetensors")
    for place in places:
        assert same(whole, load_file(tmp_path / place / "tiny.safetensors")), place
        assert scores(tmp_path / place) == scores(work.folder)


@pytest.fixture(scope="module")
def begun(llava, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two steps, and its options."""
    folder = tmp_path_factory.mktemp("begun")
    options = [
        "joint",
        "--recipe",
        "tiny-emma-v1",
        *llava.options,
        "--steps",
        "2",
        "--batch",
        "4",
        "--held-out",
    ]
    options += ["1", "--work", str(folder)]
    assert main(options) == 0
    return folder, options


def other_encoder(llava, folder: Path) -> list[str]:
    torch.manual_seed(5)
    save_vision_encoder(folder / "other.safetensors", VisionEncoder(llava.config().vision))
    return ["--vision", str(folder / "other.safetensors")]


def as_start(llava, begun: Path, folder: Path) -> list[str]:
    """The model of the run, with encoders of its own kind."""
    torch.manual_seed(0)
    return ["--init", str(begun / "model"), *other_encoder(llava, folder)]


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ("vision", ["encoders ", "(from fresh), now", "other.safetensors)"]),
        ("init", ["language model fresh, now", "projector fresh, now", "/model)"]),
        (["--lr", "0.5"], ["lr 0.002, now 0.5"]),
        (["--steps", "3"], ["steps 2, now 3"]),
        (["--seed", "3"], ["seed 0, now 3"]),
        (["--batch", "8"], ["batch 4, now 8"]),
        ("precision", ["precision 'bf16', now 'fp32'"]),
        (["--pixel-weight", "2"], ["objective.weight 1.0, now 2.0"]),
        (["--held-out", "2"], ["held out 1, now 2"]),
        (["--recipe", "tiny-emma-v2"], ["model 'tiny-emma-v1', now 'tiny-emma-v2'"]),
        ("data", ["(16 records, 0 left out)', now", "(15 records, 0 left out)'"]),
    ],
)
def test_a_run_that_began_otherwise_is_refused_with_both_values(
    llava, begun, tmp_path, capsys, changes, sentences
):
    folder, options = begun
    written = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".npz"
    }
    if changes == "vision":
        changes, options = other_encoder(llava, tmp_path), without(options, "--vision")
    elif changes == "init":
        changes = as_start(llava, folder, tmp_path)
        options = without(options, "--llm", "--vision")
    elif changes == "precision":  # Accelerate has one a process, so the checkpoint says another.
        folder, changes = tmp_path / "copy", ["--work", str(tmp_path / "copy")]
        shutil.copytree(begun[0], folder)
        state = torch.load(folder / "step-000002.pt", weights_only=True)
        torch.save(
            {**state, "identity": state["identity"] | {"precision": "bf16"}}, folder / "step-000002.pt"
        )
    elif changes == "data":
        changes = ["--data", str(llava.write(records()[:-1], "fewer.json"))]
    assert main([*options, *changes]) == 1
    message = capsys.readouterr().err
    assert "is from another run (" in message
    for sentence in sentences:
        assert sentence in message
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.slow
def test_what_may_change_when_a_run_resumes(llava, begun, tmp_path):
    folder, options = begun
    copy, images = tmp_path / "copy", tmp_path / "images"
    shutil.copytree(folder, copy)
    shutil.copytree(llava.images, images)
    (copy / "step-000002.pt").rename(copy / "step-000001.pt")
    state = torch.load(copy / "step-000001.pt", weights_only=True)
    torch.save({**state, "step": 1}, copy / "step-000001.pt")
    free = [
        "--workers",
        "1",
        "--save-every",
        "1",
        "--broken-limit",
        "3",
        "--micro",
        "1",
        "--images",
        str(images),
    ]
    free += ["--gradient-checkpointing", "--feature-cache", str(tmp_path / "cache")]
    assert main([*without(options, "--work"), "--work", str(copy), *free]) == 0
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]


def test_a_checkpoint_of_before_says_what_cannot_be_checked(begun, tmp_path, caplog, llava):
    folder, options = begun
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    state = torch.load(copy / "step-000002.pt", weights_only=True)
    del state["identity"]["encoders"], state["words"]
    torch.save(state, copy / "step-000002.pt")
    assert main([*without(options, "--work"), "--work", str(copy)]) == 0
    assert "written before runs kept encoders" in caplog.text
