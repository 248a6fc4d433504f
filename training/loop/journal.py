"""The numbers of a run: one JSON object a step, and TensorBoard."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path

from emma_viz.errors import MissingDependencyError, TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import parse_json, read_bytes

FILE = "metrics.jsonl"
_LARGEST = 2**30
"""Bytes of the numbers of a run of millions of steps."""


class Journal:
    """Writes a run's numbers; a run that resumes drops what it had written past its checkpoint.

    Args:
        folder: of the run.
        first: the first step that will be written.
        tensorboard: write event files too, into `folder/tensorboard`.

    Raises:
        MissingDependencyError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, folder: Path, first: int, *, tensorboard: bool = False):
        self.path = folder / FILE
        self._written(lambda: _keep_before(self.path, first))
        self._file = self.path.open("a")
        self._events = folder / "tensorboard"
        self._board = _board(self._events, first) if tensorboard else None

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write one step.

        Raises:
            TrainingError: the disk is full, or the file cannot be written for another reason.
        """
        # JSON has no word for what is not finite.
        rounded = {
            name: float(f"{value:.7g}") if isfinite(value) else None for name, value in numbers.items()
        }
        line = json.dumps({"step": step, **rounded})
        self._written(lambda: self._file.write(line + "\n"))
        self._written(lambda: self._show(step, numbers), self._events)

    def _show(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Give everything to the system."""
        self._written(self._file.flush)
        if self._board is not None:
            self._written(self._board.flush, self._events)

    def close(self) -> None:
        """Let go of the files. What was not flushed and cannot be written is lost; whoever needs it flushes before."""
        with suppress(OSError):
            self._file.close()
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _written(self, write: Callable[[], object], path: Path | None = None) -> None:
        try:
            write()
        except OSError as error:
            raise TrainingError(
                f"{path or self.path} cannot be written: {error.strerror or error}. Make room and run again: it "
                "resumes at the newest checkpoint beside it, if there is one."
            ) from error


def _keep_before(path: Path, first: int) -> None:
    """Drop the lines of `first` and later, and a line that an interruption cut."""
    if not path.exists():
        return
    kept = []
    for line in read_bytes(path, limit=_LARGEST, error=TrainingError).splitlines(keepends=True):
        try:
            found = parse_json(line, where=str(path), error=TrainingError)
        except TrainingError:
            break
        step = found.get("step") if isinstance(found, dict) else None
        if not isinstance(step, int) or step >= first or not line.endswith(b"\n"):
            break
        kept.append(line)
    write_file(path, lambda part: part.write_bytes(b"".join(kept)))


def require_board() -> None:
    """Refuse to begin what ends in a journal where the package that writes TensorBoard's files is missing.

    Raises:
        MissingDependencyError: it is.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingDependencyError(
            "tensorboard", "write TensorBoard's event files", 'pip install "emma-viz[train]"'
        )


def _board(folder: Path, first: int):
    require_board()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first)
