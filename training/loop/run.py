"""The training loop: one for every stage. A batch is a function of its step, so a run resumes where it stopped."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from emma_viz.errors import TrainingError
from training.loop.checkpoints import Checkpoints
from training.loop.config import Optimisation, Rates
from training.loop.distribution import Engine, LocalEngine, Numbers
from training.loop.journal import Journal
from training.loop.muon import MuonAdamW

FLUSH = 10
"""Steps between two updates of the progress bar and of the files."""

Part = Callable[[], tuple[Tensor, Numbers]]
"""Computes the loss of one part of a step and the numbers to log. Losses and numbers of parts and processes are
summed: they are shares of the step's."""

OnCheckpoint = Callable[[int, float], None]
"""Called as on_checkpoint(steps done, minutes)."""

SILENT = ("lr", "grad_norm", "tokens", "seconds", "waited")
"""Numbers that are in the files and not on the progress bar."""


def learning_rate(step: int, settings: Optimisation) -> float:
    """The rate of one step: linear warm-up, the peak for a while, then a cosine down to `final` of the peak."""
    warm = max(1, round(settings.steps * settings.warmup))
    if step < warm:
        return settings.lr * (step + 1) / warm
    start = warm + round(settings.steps * settings.constant)
    done = max(0, step - start) / max(1, settings.steps - start)
    return settings.lr * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(module: nn.Module, settings: Rates) -> torch.optim.AdamW:
    """AdamW, with Muon for the matrices that `settings.muon` names; weight decay on matrices only.

    A group's "share" is that of the rate which its parameters get.
    """
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            share = next((share for prefix, share in settings.slower if name.startswith(prefix)), 1.0)
            muon = (
                any(part in name for part in settings.muon)
                and parameter.ndim == 2
                and name.endswith("weight")
            )
            groups.setdefault((parameter.ndim > 1, muon, share), []).append(parameter)
    decay = settings.weight_decay
    listed = [
        {"params": found, "weight_decay": decay if matrices else 0.0, "share": share, "muon": muon}
        for (matrices, muon, share), found in groups.items()
    ]
    kind = MuonAdamW if settings.muon else torch.optim.AdamW
    return kind(listed, lr=settings.lr, betas=settings.betas)


def train(
    module: nn.Module,
    loss_of_step: Callable[[int], tuple[Tensor, dict[str, float]]],
    settings: Optimisation,
    folder: Path,
    *,
    title: str,
    identity: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> float:
    """Train `module` in place and in this process, from the newest checkpoint in `folder` when there is one.

    Args:
        module: what is trained; parameters with requires_grad=False stay.
        loss_of_step: step → (scalar loss, numbers to log). It must draw its batch from the step number alone.
        settings: how the parameters move.
        folder: for checkpoints, metrics.jsonl and TensorBoard's files.
        title: shown on the progress bar.
        identity: what must be the same in a run that resumes here, besides the settings.
        progress: whether to show the bar.

    Returns:
        Minutes of training, those before a resumption included.

    Raises:
        TrainingError: as `Run.train`.
    """
    run = Run(module, settings, folder, title=title, identity=identity, tensorboard=True)
    return run.train(lambda step: [lambda: loss_of_step(step)], progress=progress)


class Run:
    """One run of the loop: a module, its optimizer and its folder.

    Args:
        module: what is trained; parameters with requires_grad=False stay.
        settings: how the parameters move.
        folder: for checkpoints, metrics.jsonl and TensorBoard's files.
        title: shown on the progress bar and in messages.
        engine: how processes work together; one process without `accelerate` when None.
        identity: what must be the same in a run that resumes here, besides the settings.
        words: how messages call parts of the identity; see `Checkpoints`.
        tensorboard: write TensorBoard's event files.

    Attributes:
        module: the module to call in forward passes (that given, perhaps wrapped).
        first: the step at which this run begins; not 0 when it resumes.
        minutes: those of training before it.

    Raises:
        TrainingError: the folder holds the checkpoints of another run, or the settings ask for Muon on shards.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Optimisation,
        folder: Path,
        *,
        title: str,
        engine: Engine | None = None,
        identity: Mapping[str, Any] | None = None,
        words: Mapping[str, str] | None = None,
        tensorboard: bool = False,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.folder, self.title = settings, folder, title
        self.engine: Engine = engine or LocalEngine()
        if settings.muon and self.engine.sharded:
            raise TrainingError(
                "Muon needs whole matrices, and FSDP cuts them into shards. Train without FSDP or without `muon`."
            )
        optimizer = make_optimizer(module, settings)
        self.module, self.optimizer = self.engine.prepare(module, optimizer)
        # DDP wraps the module; FSDP2 changes it in place.
        self.inner: nn.Module = (
            getattr(self.module, "module", self.module) if self.engine.world > 1 else module
        )
        whole = {**settings.identity(), **(identity or {})}
        self.checkpoints = Checkpoints(folder, self.engine, whole, words)
        self.first, self.minutes = self.checkpoints.resume(self.inner, self.optimizer, steps=settings.steps)
        self._tensorboard = tensorboard
        self._started = time.monotonic()
        self._waited: Callable[[], float] | None = None

    def train(
        self,
        parts_of_step: Callable[[int], Sequence[Part]],
        *,
        progress: bool = True,
        on_checkpoint: OnCheckpoint | None = None,
        waited: Callable[[], float] | None = None,
    ) -> float:
        """Take all steps that are left.

        Args:
            parts_of_step: step → its parts, which this process computes one after the other. What they compute must
                be a function of the step alone; all processes have the same number of parts.
            progress: whether to show a bar.
            on_checkpoint: called in every process after each checkpoint. It must not draw random numbers.
            waited: the seconds that this process's steps have waited for data until now, for the log.

        Returns:
            Minutes of training, those before a resumption included.

        Raises:
            TrainingError: loss or gradient are not finite, or a file cannot be written. A checkpoint is usable then.
        """
        steps, first = self.settings.steps, self.first
        shown = progress and self.engine.main
        bar = tqdm(range(first, steps), initial=first, total=steps, desc=self.title, disable=not shown)
        journal = Journal(self.folder, first, tensorboard=self._tensorboard) if self.engine.main else None
        self._started, self._waited = time.monotonic(), waited
        self.module.train()
        try:
            for step in bar:
                numbers = self._step(step, parts_of_step)
                if journal is not None:
                    journal.add(step, numbers)
                if step % FLUSH == 0:
                    bar.set_postfix({k: f"{v:.3g}" for k, v in numbers.items() if k not in SILENT})
                last = step + 1 == steps or (step + 1) % self.settings.save_every == 0
                if journal is not None and (last or step % FLUSH == 0):
                    journal.flush()
                if last:
                    self._save(step + 1)
                    if on_checkpoint is not None:
                        on_checkpoint(step + 1, self._elapsed())
                        self.module.train()
        finally:
            if journal is not None:
                journal.close()
        return self._elapsed()

    def _step(self, step: int, parts_of_step: Callable[[int], Sequence[Part]]) -> dict[str, float]:
        """One optimizer step; the numbers of all processes together."""
        began = time.perf_counter()
        rate = learning_rate(step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        torch.manual_seed(self.settings.seed * 1_000_003 + step)
        self.optimizer.zero_grad(set_to_none=True)
        sums: Counter[str] = Counter()
        before = self._waited() if self._waited else 0.0
        parts = parts_of_step(step)
        if self._waited:
            sums["waited"] = (self._waited() - before) / self.engine.world  # ty: ignore[invalid-assignment]
        for place, part in enumerate(parts):
            with self.engine.accumulating(self.module, last=place == len(parts) - 1):
                loss, numbers = part()
                self.engine.backward(loss)
            for name, value in {"loss": loss.detach(), **numbers}.items():
                sums[name] = sums[name] + value  # ty: ignore[invalid-assignment]
        totals = self.engine.total(sums)
        norm = self.engine.clip(self.module, self.settings.clip)
        self._require_finite(step, totals["loss"], norm)
        self.optimizer.step()
        totals |= {"grad_norm": norm, "lr": rate}
        if "tokens" in totals:
            totals["seconds"] = time.perf_counter() - began
            totals["tokens/s"] = totals["tokens"] / totals["seconds"]
        return totals

    def _require_finite(self, step: int, loss: float, norm: float) -> None:
        """Stop before the parameters are spoilt.

        Raises:
            TrainingError: loss or gradient are not finite; the state before this step has been saved.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"loss is {loss}" if not math.isfinite(loss) else f"norm of the gradient is {norm}"
        if step > self.first:
            self._save(step)
        raise TrainingError(
            f"{self.title}: the {what} at step {step}, which was not taken. {self.checkpoints.newest()}; lower the "
            "learning rate or look at the data of this step, and run again: it resumes there."
        )

    def _save(self, step: int) -> None:
        self.checkpoints.save(self.inner, self.optimizer, step, self._elapsed())

    def _elapsed(self) -> float:
        return self.minutes + (time.monotonic() - self._started) / 60
