"""Records that cannot be used: counted, named and skipped, up to a limit."""

import logging
import threading

from emma_viz.errors import RecordError, TrainingError

logger = logging.getLogger(__name__)

SHOWN = 20
"""Records that the final message names."""


class Complaints:
    """Counts broken records; safe to use from several threads.

    Args:
        limit: records that may be skipped; the next one is an error.
        where: the data set, for messages.
    """

    def __init__(self, limit: int, *, where: str):
        self.limit, self.where = limit, where
        self._found: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    @property
    def messages(self) -> tuple[str, ...]:
        """What is wrong with each record, in the order of the file."""
        return tuple(self._found[index] for index in sorted(self._found))

    def add(self, index: int, error: RecordError | str) -> None:
        """Skip one record; a record that was skipped before does not count again.

        Raises:
            TrainingError: it is one too many.
        """
        with self._lock:
            if index in self._found:
                return
            self._found[index] = str(error)
            count = len(self._found)
        logger.warning("skipped: %s", error)
        if count > self.limit:
            listed = "\n".join(f"    {message}" for message in self.messages[:SHOWN])
            rest = f"\n    … and {count - SHOWN} more" if count > SHOWN else ""
            raise TrainingError(
                f"{self.where} has {count} records that cannot be used; at most {self.limit} may be skipped "
                f"(--broken-limit):\n{listed}{rest}\nMend or remove them, or raise the limit."
            )
