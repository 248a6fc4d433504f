"""The files that one model is: what they are called, what kind of model they are, and where they lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emma_viz.checkpoints.readers.files import INDEX_SUFFIX, trusted_folder
from emma_viz.checkpoints.run_config import is_run_config
from emma_viz.errors import CheckpointError
from emma_viz.files.inside import require_inside
from emma_viz.models.peers.table import peer_of

RUN_WEIGHTS = ("checkpoints/latest-checkpoint.safetensors", "checkpoints/latest-checkpoint.pt")
LM_WEIGHTS = (
    f"model.safetensors{INDEX_SUFFIX}",
    "model.safetensors",
    f"pytorch_model.bin{INDEX_SUFFIX}",
    "pytorch_model.bin",
)
PEER_WEIGHTS = LM_WEIGHTS[:2]
"""Of a vision-language model that transformers' own class runs: safetensors alone."""

Described = Literal["run directory", "language model", "transformers model"]
WEIGHT_NAMES: dict[Described, tuple[str, ...]] = {
    "run directory": RUN_WEIGHTS,
    "language model": LM_WEIGHTS,
    "transformers model": PEER_WEIGHTS,
}
"""What the weights of each kind of model are called in its folder, in the order in which they are looked for."""
TOKENIZER = "tokenizer.json"
METADATA_KEY = "config.json"
"""Key of a safetensors file's metadata under which the content of `config.json` may stand."""

SourceLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files a model's name stands for."""

    name: str
    """Short name for pictures."""
    given: str
    """What the user named."""
    kind: Described | Literal["bundled", "weight file"]
    config: Mapping[str, Any] | None
    """Content of `config.json`; None for a weight file that stands alone."""
    config_path: Path
    """Where `config` was read, for messages."""
    weights: Path
    """The weight file, or the index of its shards."""
    tokenizer: Path | None = None
    """A `tokenizer.json` that belongs to the model."""
    revision: str | None = None
    """Hub commit."""

    @property
    def folder(self) -> Path:
        """Where files that belong to the model, such as its lenses, are looked for."""
        return model_folder(self.config_path)


def described_kind(config: Mapping[str, Any]) -> Described:
    """The kind of model that a `config.json` describes."""
    if is_run_config(config):
        return "run directory"
    kind = config.get("model_type")
    # LLaVA's original layout has the same model_type, and other keys.
    theirs = isinstance(kind, str) and peer_of(kind) is not None and "mm_vision_tower" not in config
    return "transformers model" if theirs else "language model"


def is_peer_config(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a vision-language model that transformers' own class runs."""
    return described_kind(config) == "transformers model"


def model_folder(path: Path) -> Path:
    """The folder of the model that a file belongs to: its own, or that above a `checkpoints` without `config.json`."""
    folder = path.parent
    inside = folder.name == "checkpoints" and not (folder / "config.json").is_file()
    return folder.parent if inside else folder


def owned(folder: Path, name: str) -> Path | None:
    """A file of a model's folder; None when it is not there.

    Raises:
        CheckpointError: it is a link that leads out of the folder (or, in the hub's cache, of the repository), or no
            regular file.
    """
    path = folder / name
    require_inside(path, trusted_folder(folder), error=CheckpointError, where=str(folder))
    return path if path.is_file() else None
