"""The training loop: one for every stage. A batch is a function of its step, so a run resumes where it stopped."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from emma_viz.errors import TrainingError
from training.config import Optimisation

KEPT = 2
"""Checkpoints of a run that are kept."""


def learning_rate(step: int, settings: Optimisation) -> float:
    """The rate of one step: linear warm-up, then a cosine down to `final` of the peak."""
    warm = max(1, round(settings.steps * settings.warmup))
    if step < warm:
        return settings.lr * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.lr * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(module: nn.Module, settings: Optimisation) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)


def train(
    module: nn.Module,
    loss_of_step: Callable[[int], tuple[Tensor, dict[str, float]]],
    settings: Optimisation,
    folder: Path,
    *,
    title: str,
    progress: bool = True,
) -> float:
    """Train `module` in place, from the newest checkpoint in `folder` when there is one.

    Args:
        module: what is trained; parameters with requires_grad=False stay.
        loss_of_step: step → (scalar loss, numbers to log). It must draw its batch from the step number alone.
        settings: how the parameters move.
        folder: for checkpoints and metrics.jsonl.
        title: shown on the progress bar.
        progress: whether to show it.

    Returns:
        Minutes of training, those before a resumption included.

    Raises:
        TrainingError: when the loss is not finite; the last checkpoint is still usable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(module, settings)
    first, minutes = _resume(module, optimizer, settings, folder)
    started = time.monotonic()
    steps = tqdm(
        range(first, settings.steps), initial=first, total=settings.steps, desc=title, disable=not progress
    )
    module.train()
    with (folder / "metrics.jsonl").open("a") as log:
        for step in steps:
            rate = learning_rate(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(settings.seed * 1_000_003 + step)
            loss, numbers = loss_of_step(step)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"{title}: the loss is {loss.item()} at step {step}. The newest checkpoint in {folder} is from "
                    "before that; lower the learning rate and run again, it resumes there."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            numbers = {"loss": loss.item(), **numbers, "grad_norm": float(norm), "lr": rate}
            log.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in numbers.items()}}) + "\n")
            if step % 10 == 0:
                steps.set_postfix({k: f"{v:.3f}" for k, v in numbers.items() if k not in ("lr", "grad_norm")})
                log.flush()
            if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
                elapsed = minutes + (time.monotonic() - started) / 60
                _save(module, optimizer, step + 1, elapsed, settings, folder)
    return minutes + (time.monotonic() - started) / 60


def _save(module, optimizer, step: int, minutes: float, settings: Optimisation, folder: Path) -> None:
    state = {
        "step": step,
        "minutes": minutes,
        "seed": settings.seed,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    target = folder / f"step-{step:06d}.pt"
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))


def _resume(module, optimizer, settings: Optimisation, folder: Path) -> tuple[int, float]:
    found = _checkpoints(folder)
    if not found:
        return 0, 0.0
    state = torch.load(found[-1], weights_only=True)
    if state["seed"] != settings.seed or state["step"] > settings.steps:
        raise TrainingError(
            f"{found[-1]} is from another run (seed {state['seed']}, step {state['step']}; this one has seed "
            f"{settings.seed} and {settings.steps} steps). Choose another folder, or delete it."
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["minutes"]
