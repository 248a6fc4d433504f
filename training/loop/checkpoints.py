"""Checkpoints of a run: written whole or not at all, the last two kept, and read back exactly."""

import json
import logging
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import read_json
from training.loop.distribution import Engine
from training.loop.older import in_todays_words

logger = logging.getLogger(__name__)

_KEPT = 2
"""Checkpoints of a run that are kept."""

_PREFIX, _SUFFIX = "step-", ".pt"
_NAME = re.compile(rf"{_PREFIX}(?P<step>\d{{6,}})({re.escape(_SUFFIX)})?")
_PASSED_OVER = "%s cannot be read (%s); the one before it is tried"
SHARDED_RECORD = "run.json"
UNREADABLE = (TrainingError, OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)
"""What reading a damaged checkpoint raises."""


class Checkpoints:
    """The checkpoints in one folder.

    A checkpoint holds the trained parameters and buffers, the optimizer, and the step; schedule, data and random
    numbers are functions of the step. What is frozen is left out: it is what the run began with.
    A plain run and DDP write one file; FSDP writes a folder to which every process adds its shards, and which any
    number of processes can read.

    Args:
        folder: where they are.
        engine: of the run.
        identity: what must be the same in a run that resumes here.
        words: how a message calls a part of it, where its value means nothing to people.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        identity: Mapping[str, Any],
        words: Mapping[str, str] | None = None,
    ):
        self.folder, self.engine = folder, engine
        self.identity, self.words = _plain(identity), dict(words or {})
        if engine.main:
            for part in [*folder.glob(f".{_PREFIX}*.part"), *folder.glob(f"{_PREFIX}*.part")]:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        engine.wait()

    def found(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return whole_checkpoints(self.folder)

    def newest(self) -> str:
        """A sentence on where a run would resume."""
        found = self.found()
        if not found:
            return f"There is no checkpoint in {self.folder} yet"
        return f"The newest checkpoint, {found[-1]}, is usable"

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, minutes: float) -> None:
        """Write the state after `step` steps, then drop the oldest.

        Raises:
            TrainingError: it cannot be written; earlier checkpoints are as they were.
        """
        record = {"step": step, "minutes": minutes, "identity": self.identity, "words": self.words}
        target = self.folder / f"{_PREFIX}{step:06d}"
        problem = None
        try:
            if self.engine.sharded:
                self._save_shards(module, optimizer, target, record)
            elif self.engine.main:
                state = {**record, **trained_state(module), "optimizer": optimizer.state_dict()}
                write_file(target.with_suffix(_SUFFIX), lambda part: torch.save(state, part))
        # torch.save reports a full disk as a RuntimeError.
        except (OSError, RuntimeError, TrainingError) as error:
            problem = error
        if self.engine.total({"failed": float(problem is not None)})["failed"]:
            raise TrainingError(
                f"The checkpoint of step {step} cannot be written to {self.folder}: "
                f"{problem or 'another process failed'}. {self.newest()}; make room and run again, it resumes there."
            ) from problem
        if self.engine.main:
            for old in self.found()[:-_KEPT]:
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> tuple[int, float]:
        """Read the newest checkpoint that is whole.

        Returns:
            Steps done, and minutes they took; (0, 0) when there is no checkpoint.

        Raises:
            TrainingError: it is of another run, or none can be read.
        """
        found = self.found()
        for path in reversed(found):
            try:
                state = _read(path)
            except UNREADABLE as error:
                logger.warning(_PASSED_OVER, path, error)
                continue
            _require_same(path, state, self.identity, self.words, steps=steps)
            if path.suffix == _SUFFIX and self.engine.sharded:
                raise TrainingError(
                    f"{path} was written without FSDP and this run has it. Resume as before, or start from its weights "
                    "in another folder."
                )
            if path.suffix == _SUFFIX:
                restore_trained(module, state["module"], where=str(path))
                optimizer.load_state_dict(state["optimizer"])
                return state["step"], state["minutes"]
            try:
                self.engine.load_shards(module, optimizer, path, without=_frozen(module))
            except TrainingError as error:  # which all processes see together
                logger.warning(_PASSED_OVER, path, error)
                continue
            return state["step"], state["minutes"]
        if found:
            raise TrainingError(
                f"None of the checkpoints in {self.folder} can be read ({', '.join(p.name for p in found)}). Delete "
                "them to begin anew."
            )
        return 0, 0.0

    def _save_shards(self, module, optimizer, target: Path, record: dict[str, Any]) -> None:
        part = target.with_name(target.name + ".part")
        self.engine.save_shards(module, optimizer, part, without=_frozen(module))
        self.engine.wait()
        try:
            if self.engine.main:
                (part / SHARDED_RECORD).write_text(json.dumps(record))
                if target.exists():
                    shutil.rmtree(target)
                part.rename(target)
        finally:
            self.engine.wait()


def whole_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that were finished, oldest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob(f"{_PREFIX}*")]
    found = [(int(name["step"]), path) for name, path in named if name]
    return [path for _, path in sorted(found) if path.suffix == _SUFFIX or (path / SHARDED_RECORD).is_file()]


def require_same_run(
    folder: Path, identity: Mapping[str, Any], words: Mapping[str, str] | None = None
) -> None:
    """Refuse to resume in a folder, before anything large is built.

    Args:
        folder: with the checkpoints.
        identity: what is known of the run so far; other parts are not compared yet.
        words: as for `Checkpoints`.

    Raises:
        TrainingError: the newest checkpoint is of a run in which a part was another.
    """
    known = _plain(identity)
    for path in reversed(whole_checkpoints(folder)):
        try:
            state = _read(path, mmap=True)
        except UNREADABLE:
            continue  # Which `resume` says.
        saved = in_todays_words(state.get("identity", {}))
        state = {**state, "identity": {name: value for name, value in saved.items() if name in known}}
        _require_same(path, state, known, words or {}, steps=None)
        return


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    if path.suffix == _SUFFIX:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    else:
        state = read_json(path / SHARDED_RECORD, error=TrainingError)
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise TrainingError("it is no checkpoint of a run")
    return state


def _require_same(
    path: Path,
    state: Mapping[str, Any],
    identity: Mapping[str, Any],
    words: Mapping[str, str],
    *,
    steps: int | None,
) -> None:
    saved = dict(leaves(in_todays_words(state.get("identity", {"seed": state.get("seed")}))))
    now = dict(leaves(identity))
    before = state.get("words", {})
    differ = [
        f"{name} {before.get(name, repr(value))}, now {words.get(name, repr(now.get(name)))}"
        for name, value in saved.items()
        if value != now.get(name)
    ]
    if steps is not None and state["step"] > steps:
        differ.append(f"{state['step']} steps, now {steps}")
    if differ:
        raise TrainingError(
            f"{path} is from another run ({'; '.join(differ)}). Run with what it had, choose another folder, or "
            "delete it."
        )
    if new := sorted(set(now) - set(saved)):
        logger.warning(
            "%s was written before runs kept %s; that it was the same cannot be checked", path, ", ".join(new)
        )


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back: tuples are lists in JSON."""
    return json.loads(json.dumps(identity))


def leaves(identity: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values, so that a message names what differs alone."""
    for name, value in identity.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def trained_state(module: nn.Module) -> dict[str, Any]:
    """{"module": the state without what is frozen}."""
    frozen = _frozen(module)
    return {"module": {name: value for name, value in module.state_dict().items() if name not in frozen}}


def restore_trained(module: nn.Module, state: dict[str, Any], *, where: str) -> None:
    """Undo `trained_state`.

    Raises:
        TrainingError: the state belongs to another model.
    """
    try:
        missing, unknown = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # torch's way of listing shapes that differ
        raise TrainingError(f"{where} is of another model: {error}") from error
    frozen = _frozen(module)
    lacking = [name for name in missing if name not in frozen]
    if unknown or lacking:
        raise TrainingError(
            f"{where} is of another model: it lacks {lacking[:8] or 'nothing'} and has besides "
            f"{list(unknown)[:8] or 'nothing'}. Choose another folder."
        )


def _frozen(module: nn.Module) -> set[str]:
    """Names of the state that training does not change: frozen parameters, and the buffers beside them (statistics of a
    batch norm) of parts that have no other parameters."""
    found = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    for prefix, part in module.named_modules(remove_duplicate=False):
        needs = [parameter.requires_grad for parameter in part.parameters()]
        if needs and not any(needs):
            found.update(f"{prefix}.{name}" if prefix else name for name, _ in part.named_buffers())
    return found
