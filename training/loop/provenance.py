"""Where a trained model comes from: written into its config.json, and read from there."""

import hashlib
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints.run_config import SECTION, read_config
from emma_viz.errors import TrainingError
from emma_viz.files.schema import Seed, Size, shape

NOT_RECORDED = "not recorded"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Enough to train a model again, and to tell whether the result is the same."""

    command: str = NOT_RECORDED
    member: str | None = None
    """Its name in a family."""
    seed: Seed | None = None
    """Of the joint stage."""
    encoder: dict[str, Any] = field(default_factory=dict)
    """The recipe of the encoder's stage, or what was found when it was fitted."""
    text: dict[str, Any] = field(default_factory=dict)
    """The recipe of the text stage."""
    joint: dict[str, Any] = field(default_factory=dict)
    """The recipe of the stage that every model has."""
    minutes: dict[str, float] = field(default_factory=dict)
    """Stage → minutes that it took."""
    trained_at: dict[str, str] = field(default_factory=dict)
    """Stage → commit."""
    data: dict[str, Any] = field(default_factory=dict)
    start: dict[str, str] = field(default_factory=dict)
    """Sources of the first weights, where no stage of ours made them."""
    tokenizer: str = NOT_RECORDED
    """Digest of its file."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    encoder_scores: dict[str, float] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    processes: Size = 1
    """That trained together."""
    commit: str = NOT_RECORDED
    """That was checked out when the model was written."""
    torch: str = NOT_RECORDED


def written_now(**known: Any) -> dict[str, Any]:
    """The record of a model that this checkout writes, as plain data; see `Provenance`.

    Args:
        known: fields, all but commit and version. What is empty is left out.
    """
    record = asdict(Provenance(**known, commit=commit(), torch=torch.__version__))
    return {name: value for name, value in record.items() if value not in (None, NOT_RECORDED, {}, [])}


def read_provenance(config: Path) -> Provenance:
    """What the config.json of a model says of its training.

    Raises:
        CheckpointError: there is no such file, or it is no JSON object.
        TrainingError: what it says is no provenance.
    """
    where = f"{config}: `{SECTION}`"
    section = shape(read_config(config).get(SECTION), dict[str, Any], where=where, error=TrainingError)
    kept = section.get("provenance", {})
    return shape(kept, Provenance, where=f"{where}.provenance", error=TrainingError, spare=True)


def file_digest(path: Path) -> str:
    """Tells files apart by their bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def commit() -> str:
    """The commit of the checkout that runs, and whether its files were changed since; or why there is none."""
    root = Path(__file__).resolve().parents[2]
    try:
        # An installed package may lie in somebody else's checkout, whose commit says nothing about it.
        if not (root / ".git").exists():
            raise FileNotFoundError(root / ".git")
        name, changed = (
            subprocess.run(
                ["git", "-C", str(root), *what], capture_output=True, text=True, check=True
            ).stdout.strip()
            for what in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return f"{name} with changes" if changed else name
