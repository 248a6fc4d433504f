"""Checkpoints when something fails: a full disk, a damaged file, a run that is not the same."""

import contextlib
import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from emma_viz.errors import TrainingError
from training.loop.checkpoints import Checkpoints
from training.loop.config import Optimisation
from training.loop.distribution import AcceleratedEngine, LocalEngine
from training.loop.journal import Journal
from training.loop.run import Run, make_optimizer, train

FEW = Optimisation(steps=6, batch=2, lr=1e-2, save_every=2)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
        self.trained = nn.Linear(3, 3)


def loss_of(module):
    def loss_of_step(step):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        return (module.trained(x) - module.frozen(x)).square().mean(), {}

    return loss_of_step


class Sharded(LocalEngine):
    """One process that writes as many do."""

    sharded = True
    save_shards = AcceleratedEngine.save_shards


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("metrics.jsonl", "tensorboard"))


def full_disk(monkeypatch, at: int, error=None):
    """Writing the `at`-th checkpoint fails half way."""
    real, count = torch.save, [0]

    def save(state, path):
        count[0] += 1
        if count[0] == at:
            Path(path).write_bytes(b"half of a checkpoint")
            raise error or OSError(errno.ENOSPC, "No space left on device")
        real(state, path)

    monkeypatch.setattr(torch, "save", save)


@pytest.mark.parametrize(
    "error", [None, RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")]
)
def test_a_full_disk_stops_the_run_with_the_checkpoint_before_it(tmp_path, monkeypatch, error):
    module = Small()
    with monkeypatch.context() as patch:
        full_disk(patch, 2, error)
        with pytest.raises(
            TrainingError, match=r"step 4 cannot be written.*step-000002.pt, is usable"
        ) as info:
            train(module, loss_of(module), FEW, tmp_path, title="x", progress=False)
    assert ("No space left" in str(info.value)) == (error is None)
    assert names(tmp_path) == ["step-000002.pt"]
    again, whole = Small(), Small()
    train(again, loss_of(again), FEW, tmp_path, title="x", progress=False)
    train(whole, loss_of(whole), FEW, tmp_path / "whole", title="x", progress=False)
    assert torch.equal(again.trained.weight, whole.trained.weight)


def test_a_full_disk_before_the_first_checkpoint_says_that_there_is_none(tmp_path, monkeypatch):
    module = Small()
    full_disk(monkeypatch, 1)
    with pytest.raises(TrainingError, match="There is no checkpoint"):
        train(module, loss_of(module), FEW, tmp_path, title="x", progress=False)
    assert names(tmp_path) == []


def test_metrics_that_cannot_be_written_stop_the_run(tmp_path):
    journal = Journal(tmp_path, 0)
    journal._file.close()
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:
        journal._file = full
        journal.add(0, {"loss": 1.0})
        with pytest.raises(TrainingError, match=r"metrics.jsonl cannot be written: No space.*run again"):
            journal.flush()
        journal.close()


def test_tensorboard_files_that_cannot_be_written_stop_the_run(tmp_path, monkeypatch):
    journal = Journal(tmp_path, 0, tensorboard=True)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal._board, "add_scalar", full)
    with pytest.raises(TrainingError, match=r"tensorboard cannot be written: No space.*if there is one"):
        journal.add(0, {"loss": 1.0})
    journal.close()


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, caplog):
    module = Small()
    train(module, loss_of(module), FEW, tmp_path, title="x", progress=False)
    (tmp_path / "step-000006.pt").write_bytes(b"PK damaged")
    again = Small()
    run = Run(again, FEW, tmp_path, title="x")
    assert run.first == 4
    assert "step-000006.pt cannot be read" in caplog.text
    run.train(lambda step: [lambda: loss_of(again)(step)], progress=False)
    assert torch.equal(again.trained.weight, module.trained.weight)
    torch.save([1, 2], tmp_path / "step-000006.pt")
    assert Run(Small(), FEW, tmp_path, title="x").first == 4
    assert "it is no checkpoint of a run" in caplog.text
    for path in tmp_path.glob("step-*"):
        path.write_bytes(b"PK damaged")
    with pytest.raises(TrainingError, match="None of the checkpoints"):
        Run(Small(), FEW, tmp_path, title="x")


def test_what_an_interruption_left_is_swept_away(tmp_path):
    (tmp_path / ".step-000002.pt.0a1b2c.part").write_bytes(b"half")
    (tmp_path / "step-000004.part").mkdir()
    (tmp_path / "step-000004.part" / "shard").write_bytes(b"half")
    module = Small()
    assert Run(module, FEW, tmp_path, title="x").first == 0
    assert names(tmp_path) == []


def test_frozen_parameters_are_not_written_and_not_missed(tmp_path):
    module = Small()
    train(module, loss_of(module), FEW, tmp_path, title="x", progress=False)
    state = torch.load(tmp_path / "step-000006.pt", weights_only=True)
    assert set(state["module"]) == {"trained.weight", "trained.bias"}
    again, bare = Small(), Small()
    # As with features that were computed before: the encoder is gone.
    bare.frozen = nn.Module()
    for each in (again, bare):
        assert Run(each, FEW, tmp_path, title="x").first == 6
        assert torch.equal(each.trained.weight, module.trained.weight)
    with pytest.raises(TrainingError, match="another model"):
        Run(nn.Linear(3, 3), FEW, tmp_path, title="x")


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    module, kept = Small(), Checkpoints(tmp_path, LocalEngine(), {})
    optimizer = make_optimizer(module, FEW)
    (tmp_path / "step-notes.pt").write_text("somebody's own")
    for step in (999_998, 1_000_000, 1_000_002):
        kept.save(module, optimizer, step, 0.5)
    assert names(tmp_path) == ["step-1000000.pt", "step-1000002.pt", "step-notes.pt"]
    assert "step-1000002.pt" in kept.newest()
    assert kept.resume(module, optimizer, steps=2_000_000)[0] == 1_000_002


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_shards_hold_what_is_trained_and_damaged_ones_are_passed_over(tmp_path, caplog):
    module, kept = Small(), Checkpoints(tmp_path, Sharded(), {})
    optimizer = make_optimizer(module, FEW)
    for step in (2, 4):
        nn.init.constant_(module.trained.weight, step)
        kept.save(module, optimizer, step, 0.5)
    for shard in (tmp_path / "step-000004").glob("*.distcp"):
        os.truncate(shard, shard.stat().st_size // 2)
    bare = Small()
    bare.frozen = nn.Module()
    for again in (Small(), bare):
        before = {name: value.clone() for name, value in again.frozen.state_dict().items()}
        assert kept.resume(again, make_optimizer(again, FEW), steps=6)[0] == 2
        assert (again.trained.weight == 2).all()
        assert all(value.equal(before[name]) for name, value in again.frozen.state_dict().items())
    assert "step-000004 cannot be read" in caplog.text


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_full_disk_under_shards_names_the_checkpoint_before_them(tmp_path):
    module, kept = Small(), Checkpoints(tmp_path, Sharded(), {})
    optimizer = make_optimizer(module, FEW)
    kept.save(module, optimizer, 2, 0.5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(
            TrainingError, match=r"step 4 cannot be written.*step-000002, is usable"
        ) as refused:
            kept.save(module, optimizer, 4, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in str(refused.value)
    assert [path.name for path in kept.found()] == ["step-000002"]


def test_a_run_on_other_data_is_refused(tmp_path):
    module = Small()
    optimizer = make_optimizer(module, FEW)
    Checkpoints(tmp_path, LocalEngine(), {"data": "abc", "pair": (1, 2)}).save(module, optimizer, 2, 0.5)
    same = Checkpoints(tmp_path, LocalEngine(), {"data": "abc", "pair": (1, 2)})
    assert same.resume(module, optimizer, steps=6) == (2, 0.5)
    other = Checkpoints(tmp_path, LocalEngine(), {"data": "def", "pair": (1, 2)})
    with pytest.raises(TrainingError, match=r"another run.*data 'abc', now 'def'"):
        other.resume(module, optimizer, steps=6)
    with pytest.raises(TrainingError, match="2 steps, now 1"):
        same.resume(module, optimizer, steps=1)


def test_the_journal_drops_what_is_past_the_checkpoint_and_cut_lines(tmp_path):
    journal = Journal(tmp_path, 0)
    for step in range(5):
        journal.add(step, {"loss": 1.0 / (step + 1)})
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"step": 5, "lo')
    again = Journal(tmp_path, 3)
    again.add(3, {"loss": 9.0})
    again.close()
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 1.0), (1, 0.5), (2, 0.3333333), (3, 9.0)]
    Journal(tmp_path, 9).close()
    assert len(journal.path.read_text().splitlines()) == 4


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[" * 100_000, b'{"step": "1"}', b"[1]", b"null"])
def test_a_damaged_journal_is_kept_up_to_its_damage(tmp_path, line):
    Journal(tmp_path, 0).close()
    whole = b'{"step": 0, "loss": 1.0}\n'
    (tmp_path / "metrics.jsonl").write_bytes(whole + line + b"\n" + whole)
    Journal(tmp_path, 9).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_the_journal_is_json_also_where_a_number_is_not_finite(tmp_path):
    journal = Journal(tmp_path, 0)
    journal.add(0, {"loss": 1.0, "grad_norm": float("inf")})
    journal.close()
    Journal(tmp_path, 1).close()
    (line,) = journal.path.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 0, "loss": 1.0, "grad_norm": None}


def test_tensorboard_holds_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = Journal(tmp_path, 0, tensorboard=True)
    journal.add(0, {"loss": 2.0})
    journal.add(1, {"loss": 1.5})
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 2.0), (1, 1.5)]
