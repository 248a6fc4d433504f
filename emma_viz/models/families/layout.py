"""Key tables: what a family calls the weights that a model calls `projector.*` and `llm.*`."""

import re
from dataclasses import dataclass

from emma_viz.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming the weights."""

    name: str
    """For people."""
    prefixes: tuple[tuple[str, str], ...]
    """(prefix in the file, prefix in the model); the first that fits counts."""
    signature: tuple[str, ...]
    """A file is of this layout when one of its keys begins with one of these."""
    components: tuple[str, ...]
    """Parts of the model that files of this layout may hold."""
    unread: str = "(?!)"
    """Pattern of keys that stand in files and are not read: frozen encoders, which come from their own source, and
    what is computed."""
    beside: tuple[str, ...] = ()
    """Files next to the weights that hold more of them; what they hold counts, where both do."""

    def model_key(self, file_key: str) -> str | None:
        """The model's name of a file's key, or None when no prefix fits."""
        for theirs, ours in self.prefixes:
            if file_key.startswith(theirs):
                return ours + file_key.removeprefix(theirs)
        return None

    def reads(self, file_key: str) -> bool:
        """Whether a file's key is one of those that are read."""
        return re.fullmatch(self.unread, file_key) is None

    def file_key(self, model_key: str) -> str:
        """The file's name of a model's key.

        Raises:
            CheckpointError: this layout cannot hold it.
        """
        for theirs, ours in self.prefixes:
            if model_key.startswith(ours):
                return theirs + model_key.removeprefix(ours)
        raise CheckpointError(f"The {self.name} layout has no place for {model_key}.")


OFFICIAL = Layout(
    name="Cobra / EMMA",
    prefixes=(("projector.", "projector."), ("llm_backbone.llm.", "llm.")),
    signature=("projector.", "llm_backbone."),
    components=("projector", "llm"),
)
"""The released code of Cobra, which EMMA's goes on from: components of a run directory's checkpoint."""
