"""What differs between a run in one process and one on many: an engine each, behind one interface."""

import contextlib
import os
from collections.abc import Collection, Generator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from emma_viz.errors import MissingDependencyError, TrainingError

Numbers = Mapping[str, float | Tensor]


@runtime_checkable
class Engine(Protocol):
    """How gradients, sums and states go between processes."""

    rank: int
    """Number of this process, from 0."""
    world: int
    """Processes in all."""
    sharded: bool
    """Whether parameters are spread over the processes, so that each writes a part of a checkpoint."""
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes what is written once."""
        ...

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """The module to call and the optimizer to step."""
        ...

    def accumulating(self, run: nn.Module, *, last: bool) -> AbstractContextManager:
        """Around forward and backward of one part of a step: whole gradients are exchanged in the last one alone."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Gradients of the sum of all processes' losses."""
        ...

    def clip(self, run: nn.Module, norm: float) -> float:
        """Clip the gradient; returns its norm before."""
        ...

    def total(self, numbers: Numbers) -> dict[str, float]:
        """Sums over all processes, the same in each."""
        ...

    def wait(self) -> None:
        """Until all processes are here."""
        ...

    def save_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        """Write this process's part of state and optimizer, without what has certain names.

        Raises:
            TrainingError: a process cannot write its part; raised in all.
        """
        ...

    def load_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        """Undo `save_shards`, with any number of processes.

        Raises:
            TrainingError: a part cannot be read; raised in all.
        """
        ...

    def whole_state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state on the CPU of the main process; of use there alone."""
        ...


class LocalEngine:
    """One process, and nothing but torch."""

    rank, world, sharded, main = 0, 1, False, True
    device = torch.device("cpu")

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        return module, optimizer

    def accumulating(self, run: nn.Module, *, last: bool) -> AbstractContextManager:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, run: nn.Module, norm: float) -> float:
        return float(nn.utils.clip_grad_norm_(run.parameters(), norm))

    def total(self, numbers: Numbers) -> dict[str, float]:
        return {name: float(value) for name, value in numbers.items()}

    def wait(self) -> None:
        return None

    def save_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        raise NotImplementedError("one process writes whole checkpoints")

    def load_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        _load_shards(module, optimizer, folder, without)

    def whole_state(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().cpu() for name, value in module.state_dict().items()}


class AcceleratedEngine:
    """Any number of processes and devices, through `accelerate`: DDP, or FSDP2 when its launcher says so.

    Args:
        precision: "bf16" or "fp32"; parameters and their gradients are kept in fp32 either way.

    Attributes:
        unused: set before `prepare`: whether some steps use only a part of the parameters (batches without images).
        frozen: set before `prepare`: submodules that are never trained: not sharded, and moved to the device as they
            are.

    Raises:
        MissingDependencyError: accelerate is not installed.
        TrainingError: the launcher asks for FSDP where accelerate has none.
    """

    def __init__(self, *, precision: str = "fp32"):
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs
        except ImportError as error:
            raise MissingDependencyError("accelerate", "train", 'pip install "emma-viz[train]"') from error
        self._ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision={"bf16": "bf16", "fp32": "no"}[precision],
            kwargs_handlers=[self._ddp],
            step_scheduler_with_optimizer=False,
        )
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device
        self.unused = False
        self.frozen: tuple[nn.Module, ...] = ()
        asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        self._plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if asked and self.world > 1 and self._plugin is None:
            raise TrainingError(
                f"FSDP was asked for, and accelerate does not offer it on {self.device.type}; launch without it: DDP "
                "runs there."
            )
        self.sharded = self._plugin is not None

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        self._ddp.find_unused_parameters = self.unused
        if self._plugin is not None:
            self._plugin.ignored_modules = list(self.frozen)
            if self.accelerator.mixed_precision == "bf16":
                self._plugin.mixed_precision_policy = _bf16_policy()
        for part in self.frozen:
            part.to(self.device)
        return self.accelerator.prepare(module, optimizer)

    def accumulating(self, run: nn.Module, *, last: bool) -> AbstractContextManager:
        # What is not exchanged is kept: with FSDP on every device the gradient of all that it has shared out.
        return contextlib.nullcontext() if last or self.sharded else self.accelerator.no_sync(run)

    def backward(self, loss: Tensor) -> None:
        # Gradients are averaged over the processes; the losses are shares of one sum.
        self.accelerator.backward(loss * self.world)

    def clip(self, run: nn.Module, norm: float) -> float:
        total: Any = self.accelerator.clip_grad_norm_(run.parameters(), norm)
        return float(total.full_tensor() if hasattr(total, "full_tensor") else total)

    def total(self, numbers: Numbers) -> dict[str, float]:
        if not numbers:
            return {}
        values = [torch.as_tensor(v).detach().to(self.device, torch.float64) for v in numbers.values()]
        summed = self.accelerator.reduce(torch.stack(values), reduction="sum")
        assert isinstance(summed, Tensor)
        return dict(zip(numbers, summed.tolist(), strict=True))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group of processes."""
        self.accelerator.end_training()

    def save_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        from torch.distributed import checkpoint

        with _explained(f"{folder} cannot be written"):
            checkpoint.save(_shards(module, optimizer, without), checkpoint_id=folder)

    def load_shards(
        self, module: nn.Module, optimizer: Any, folder: Path, *, without: Collection[str]
    ) -> None:
        _load_shards(module, optimizer, folder, without)

    def whole_state(self, module: nn.Module) -> dict[str, Tensor]:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        if not self.sharded:
            return LocalEngine().whole_state(module)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_model_state_dict(module, options=options))  # ty: ignore[invalid-explicit-return]


def _bf16_policy() -> Any:
    """Of FSDP2: layers compute with parameters in bf16, and gradients are added up in fp32.

    What goes from block to block stays as it is: accelerate's own policy would round the residual stream, the batch and
    the losses to bf16.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _load_shards(module: nn.Module, optimizer: Any, folder: Path, without: Collection[str]) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    state = _shards(module, optimizer, without)
    with _explained(f"{folder} cannot be read"):
        checkpoint.load(state, checkpoint_id=folder)
    set_state_dict(
        module,
        _inner(optimizer),
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(strict=False),  # for what is left out
    )


def _shards(module: nn.Module, optimizer: Any, without: Collection[str]) -> dict[str, Any]:
    """This process's part of what a checkpoint holds."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model, optim = get_state_dict(module, _inner(optimizer))
    return {
        "model": {name: value for name, value in model.items() if name not in without},
        "optimizer": optim,
    }


@contextlib.contextmanager
def _explained(what: str) -> Generator[None]:
    """What torch says of a failure in any process, which is no Exception, as an error of ours."""
    from torch.distributed.checkpoint import CheckpointException

    try:
        yield
    except CheckpointException as failure:
        causes = {str(cause) or type(cause).__name__ for cause, _ in failure.failures.values()}
        raise TrainingError(f"{what}: {'; '.join(sorted(causes))}") from failure


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)
