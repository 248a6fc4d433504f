"""Two processes that share each batch learn what one process learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.forked_runs import ROOT, ForkedRun, free_port, start
from training.vision_language.dry_run import meta_task
from training.vision_language.recipe import training_recipe


def options(llava, folder: Path, *more: str) -> list[str]:
    found = [
        "--recipe",
        "tiny-emma-v1",
        *llava.options,
        "--work",
        str(folder),
        "--steps",
        "6",
        "--batch",
        "4",
    ]
    return [*found, "--micro", "1", "--save-every", "3", "--held-out", "1", "--lr", "0.001", *more]


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "text", "accuracy", "pixels", "grad_norm", "tokens")
    return [{name: line[name] for name in names if name in line} for line in lines]


@pytest.fixture(scope="module")
def runs(llava, tmp_path_factory) -> Path:
    """The same run by one process, by two, and by two that shard it."""
    out = tmp_path_factory.mktemp("runs")
    worlds = {"one": 1, "two": 2, "fsdp2": 2}
    asked = [
        ForkedRun(name=name, options=options(llava, out / name), world=world, shards=name == "fsdp2")
        for name, world in worlds.items()
    ]
    assert start(asked) == [f"run {name}: code 0" for name, world in worlds.items() for _ in range(world)]
    return out


def assert_alike(found: Path, wanted: Path) -> None:
    """The same sums in another order: fp32 differs in the last digits, which six steps of Adam may grow a hundredfold
    (its first updates are the gradient's sign). A lost or doubled share would change losses by tens of percent."""
    assert len(losses(found)) == len(losses(wanted)) == 6
    for mine, theirs in zip(losses(found), losses(wanted), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine == pytest.approx(theirs, rel=1e-3, abs=2e-5)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(runs):
    one, two = runs / "one", runs / "two"
    assert any("pixels" in line for line in losses(one))
    assert any("pixels" not in line for line in losses(one)), "some steps are text alone"
    assert_alike(two, one)
    mine, theirs = (
        torch.load(folder / "step-000006.pt", weights_only=True)["module"] for folder in (two, one)
    )
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=2e-2, atol=1e-3)


@pytest.mark.slow
def test_fsdp2_has_the_losses_of_one_and_resumes(llava, runs):
    folder = runs / "fsdp2"
    assert_alike(folder, runs / "one")
    assert (folder / "step-000006" / "run.json").is_file()
    for shard in (folder / "step-000006").glob("*.distcp"):
        os.truncate(shard, shard.stat().st_size // 2)
    before = losses(folder)
    asked = ForkedRun(name="fsdp2", options=options(llava, folder), world=2, shards=True)
    assert start([asked]) == ["run fsdp2: code 0"] * 2
    assert losses(folder) == before


@pytest.mark.slow
def test_fsdp2_in_bf16_keeps_the_residual_stream_and_the_gradients_in_fp32(llava, tmp_path, runs):
    """A sharded run is watched: it would have ended."""
    more = ["--precision", "bf16", "--gradient-checkpointing"]
    asked = ForkedRun(name="bf16", options=options(llava, tmp_path, *more), world=2, shards=True)
    assert start([asked]) == ["run bf16: code 0"] * 2
    for mine, theirs in zip(losses(tmp_path), losses(runs / "one"), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=2e-2)


@pytest.mark.slow
def test_records_without_images_are_learned_by_two_processes(llava, tmp_path):
    """None of them needs the projector."""
    texts = [each for each in json.loads(llava.data.read_text()) if "image" not in each]
    data = llava.write(texts, "texts.json")
    more = ["--recipe", "tiny-cobra", "--steps", "3", "--data", str(data)]
    asked = [
        ForkedRun(name=str(world), options=options(llava, tmp_path / str(world), *more), world=world)
        for world in (1, 2)
    ]
    assert start(asked) == ["run 1: code 0", "run 2: code 0", "run 2: code 0"]
    mine, theirs = ([each["loss"] for each in losses(tmp_path / name)] for name in "12")
    assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_accelerates_own_launcher_starts_it(llava, runs, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
    ports = ["--config_file", "training/launch/ddp.yaml", "--main_process_port", str(free_port())]
    done = subprocess.run(
        [*launcher, *ports, "-m", "training.train", "joint", *options(llava, tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path, runs / "one")


@pytest.mark.slow
def test_fsdp_where_accelerate_has_none_is_an_error(llava, tmp_path, capsys):
    asked = ForkedRun(
        name="cpu",
        options=options(llava, tmp_path),
        world=2,
        environment={"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    )
    assert start([asked]) == ["run cpu: code 1"] * 2
    assert "FSDP was asked for, and accelerate does not offer it on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_the_launcher_reads_the_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "training" / "launch" / f"{name}.yaml"))
    assert config.num_processes == 8
    blocks = {type(module).__name__ for module in meta_task(training_recipe("tiny-emma-v1")).modules()}
    wrapped = config.fsdp_config.get("fsdp_transformer_layer_cls_to_wrap")
    assert (wrapped in blocks) == (name == "fsdp2")
    assert config.fsdp_config.get("fsdp_version") == (2 if name == "fsdp2" else None)
