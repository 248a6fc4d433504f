"""Runs in processes of their own, some of which are killed; imports and loads all once, and forks for every process.

    python -m tests.training.forked_runs < runs.json

Each run is a ForkedRun: options of `training.train joint`, and the processes it has. A run that dies sends itself a
SIGKILL: "step 3" before its third step, "write 2" in the middle of writing its second checkpoint, "name 2" before that
gets its name, "named 2" after. One that shards has FSDP2, and is watched. Prints a line for each process: its run's
name and how it ended. Before all forks the first of several runs is trained once into a folder that nobody keeps, so
that they find its kernels loaded.
"""

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What the launcher makes of `training/launch/fsdp2.yaml`."""


@dataclass(frozen=True, kw_only=True)
class ForkedRun:
    """One run."""

    name: str
    options: list[str]
    world: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    dies: str | None = None
    shards: bool = False


def start(runs: list[ForkedRun]) -> list[str]:
    """Run them one after the other; the lines that say how they ended.

    Raises:
        AssertionError: the program itself failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.forked_runs"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        input=json.dumps([asdict(run) for run in runs]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("run ")]
    if any(line.endswith("code 1") for line in lines):
        print(done.stderr)  # pytest shows it when the test fails
    return lines


def arm(place: str) -> None:
    """Make this process kill itself at a place."""
    import torch

    import emma_viz.files.atomic
    import training.loop.run

    what, number = place.split()
    left = [int(number)]

    def strikes() -> bool:
        left[0] -= 1
        return left[0] == 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    save, replace, step = torch.save, os.replace, training.loop.run.Run._step

    def dying_save(state, path):
        save(state, path)
        if what == "write" and strikes():
            os.truncate(path, 1000)
            kill()

    def dying_replace(part, target):
        checkpoint = Path(target).suffix == ".pt"
        if checkpoint and what == "name" and strikes():
            kill()
        replace(part, target)
        if checkpoint and what == "named" and strikes():
            kill()

    def dying_step(self, number, parts_of_step):
        if what == "step" and strikes():
            kill()
        return step(self, number, parts_of_step)

    torch.save, emma_viz.files.atomic.os.replace, training.loop.run.Run._step = (
        dying_save,
        dying_replace,
        dying_step,
    )


def shard() -> None:
    """Let accelerate spread parameters over the processes by FSDP2, as `training/launch/fsdp2.yaml` asks for. It offers
    that on GPUs alone, so it is told that this is one of the kinds of a machine that have it."""
    from accelerate.state import AcceleratorState, DistributedType, PartialState

    os.environ.update(SHARDED)
    begin = AcceleratorState.__init__

    def begin_sharded(self, *args, fsdp_plugin=None, **options):
        begin(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = begin_sharded


def watch() -> None:
    """End a sharded run in which states between blocks or gradients are not in fp32, or whole gradients are kept from a
    part of a step to the next."""
    import torch
    from torch.distributed.tensor import DTensor

    from training.loop.distribution import AcceleratedEngine

    prepare, backward = AcceleratedEngine.prepare, AcceleratedEngine.backward
    trained = []

    def check_block(_module, _inputs, outputs):
        assert outputs[1].dtype == torch.float32, "the residual stream is rounded"

    def watched_prepare(self, module, optimizer):
        module, optimizer = prepare(self, module, optimizer)
        blocks = [each for each in module.modules() if type(each).__name__ == "FSDPBlock"]
        assert blocks, "the blocks are not sharded"
        for block in blocks:
            block.register_forward_hook(check_block)
        trained.extend(each for each in module.parameters() if isinstance(each, DTensor))
        return module, optimizer

    def watched_backward(self, loss):
        assert loss.dtype == torch.float32, "the loss is rounded"
        backward(self, loss)
        gradients = [each.grad for each in trained if each.grad is not None]
        assert gradients, "this part's gradients are kept whole"
        assert all(isinstance(each, DTensor) and each.dtype == torch.float32 for each in gradients)

    AcceleratedEngine.prepare, AcceleratedEngine.backward = watched_prepare, watched_backward


def fork(run: ForkedRun, rank: int, port: int) -> int:
    """Start one process of a run, with the environment that a launcher gives it."""
    child = os.fork()
    if child:
        return child
    os.environ.update(run.environment)
    if run.world > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": run.world, "LOCAL_WORLD_SIZE": run.world}
        os.environ.update({name: str(value) for name, value in places.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    from training.train import main

    code = 1
    try:
        if run.dies is not None:
            arm(run.dies)
        if run.shards:
            shard()
            watch()
        code = main(["joint", *run.options])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(status: int) -> str:
    """How a process ended."""
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def warm(run: ForkedRun) -> None:
    """Load all that a run needs, by training it, undisturbed and alone, in another folder."""
    from accelerate.state import AcceleratorState

    from training.train import main

    with tempfile.TemporaryDirectory() as other:
        options = list(run.options)
        place = options.index("--work") + 1
        if Path(options[place]).exists():
            shutil.copytree(options[place], other, dirs_exist_ok=True)
        options[place] = other
        code = main(["joint", *options])
        if code:
            raise SystemExit(code)
    AcceleratorState._reset_state(reset_partial_state=True)  # its forks may be several processes
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    import accelerate  # noqa: F401 (imported before the forks)
    import torch

    import training.train
    import training.vision_language.run  # noqa: F401

    torch.set_num_threads(1)
    asked = [ForkedRun(**each) for each in json.load(sys.stdin)]
    if len(asked) > 1:
        warm(asked[0])
    for forked in asked:
        port = free_port()
        children = [fork(forked, rank, port) for rank in range(forked.world)]
        for child in children:
            print(f"run {forked.name}: {ended(os.waitpid(child, 0)[1])}", flush=True)
