"""How much may be read of what describes a checkpoint, all its shards together, before a tensor is looked at.

The limits are many times what the largest published models need, and so small that every file is judged within
seconds and a few hundred megabytes.
"""

from emma_viz.errors import CheckpointError

DESCRIPTION = 64 * 2**20
"""Bytes of headers and pickles. A model of 64 layers has 0.2 MB, with its optimizer 2 MB."""
_STEPS = 400_000
"""Instructions of pickles and values of headers. A model of 64 layers needs 30 000, with its optimizer 100 000."""
_TENSORS = 50_000
"""Entries of the model part. A model of 64 layers has 650."""
SHARDS = 1024
LONGEST_KEY = 500
"""Characters of a tensor's name, dots of nested dictionaries included, and of a name that a pickle mentions."""


class Allowance:
    """What is left of the limits while the files of one checkpoint are read."""

    def __init__(self) -> None:
        self.size = DESCRIPTION
        self.steps = _STEPS

    def spend_size(self, size: int, where: str) -> None:
        """Account for a description of `size` bytes, before it is read.

        Raises:
            CheckpointError: it is more than is left.
        """
        self.size -= size
        if self.size < 0:
            raise CheckpointError(
                f"{where}: expected at most {DESCRIPTION // 2**20} MB that describe the tensors, got {size} bytes of "
                "that in this file; it was damaged or made to fill the memory."
            )

    def spend_steps(self, count: int, where: str) -> None:
        """Account for `count` instructions or values.

        Raises:
            CheckpointError: they are more than are left.
        """
        self.steps -= count
        if self.steps < 0:
            raise CheckpointError(
                f"{where}: what describes its tensors takes more than {_STEPS} steps to read; it was damaged or made "
                "to run for ever."
            )


def require_names(count: int, longest: str, where: str) -> None:
    """Refuse more tensors than any model has, and names longer than any has.

    Raises:
        CheckpointError: there are more than TENSORS, or the longest name has more than KEY characters.
    """
    if count > _TENSORS:
        raise CheckpointError(f"{where}: the model part has more than {_TENSORS} entries; no model has.")
    if len(longest) > LONGEST_KEY:
        raise CheckpointError(
            f"{where}: the name of a tensor has {len(longest)} characters, more than {LONGEST_KEY}: {longest[:60]!r}…"
        )
