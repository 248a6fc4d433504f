"""Records that cannot be used: counted, named and skipped, up to a limit."""

import logging
import threading
from collections.abc import Sequence

from emma_viz.errors import EmmaVizError, RecordError, TrainingError

logger = logging.getLogger(__name__)

SHOWN = 20
"""Records that the final message names."""


class Complaints:
    """Counts broken records; safe to use from several threads.

    Args:
        limit: records that may be skipped; the next one is an error.
        where: the data set, for messages.
        error: what is raised.
    """

    def __init__(self, limit: int, *, where: str, error: type[EmmaVizError] = TrainingError):
        self.limit, self.where, self.error = limit, where, error
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
            EmmaVizError: of the kind `error`: it is one too many.
        """
        with self._lock:
            if index in self._found:
                return
            self._found[index] = str(error)
            count = len(self._found)
        logger.warning("skipped: %s", error)
        if count > self.limit:
            raise too_many(self.messages, self.limit, where=self.where, error=self.error)


def too_many(
    messages: Sequence[str], limit: int, *, where: str, error: type[EmmaVizError] = TrainingError
) -> EmmaVizError:
    """The error that more records are broken than may be skipped; it lists the first of them."""
    listed = "\n".join(f"    {message}" for message in messages[:SHOWN])
    rest = f"\n    … and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
    return error(
        f"{where} has {len(messages)} records that cannot be used; at most {limit} may be skipped "
        f"(--broken-limit):\n{listed}{rest}\nMend or remove them, or raise the limit."
    )
