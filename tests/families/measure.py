"""Measure how far every family is from what it is compared with, and keep it for the table of models.

    python -m tests.families.measure

Writes `emma_viz/session/verified.json`, of which `emma-viz models --all` and docs/models.md are made. Our own are
compared in their logits over image and text (`references`); those that transformers' classes run in the states that are
recorded, with those that the class itself reports.
"""

import json
import re
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.checkpoints import load_model
from emma_viz.session.catalogue import VERIFIED
from tests.families import references
from tests.families.conftest import MEMBERS, make_member

THEIRS = "the states that transformers' class itself reports (output_hidden_states)"


def ours() -> dict[str, tuple[str, float]]:
    """What each of our own families is compared with, and the largest relative error of its members."""
    found: dict[str, tuple[str, float]] = {}
    for name in MEMBERS:
        with tempfile.TemporaryDirectory() as folder:
            member = make_member(name, Path(folder))
            error, _ = references.relative_error(member)
        family, (against, worst) = member.loaded.info.family, found.get(member.loaded.info.family, ("", 0.0))
        found[family] = (against or references.AGAINST[name], max(worst, error))
    return found


def theirs() -> dict[str, tuple[str, float]]:
    """The same of those that transformers runs, over all its tiny folders."""
    from tests.peers.checkpoints import PROCESSORS, write

    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 90, 3), dtype=np.uint8))
    found: dict[str, tuple[str, float]] = {}
    for name in PROCESSORS:
        with tempfile.TemporaryDirectory() as folder:
            write(name, Path(folder))
            model = load_model(folder)
            error = references.error_of_states(model, picture)
        family = model.info.family
        found[family] = (THEIRS, max(error, found.get(family, ("", 0.0))[1]))
    return found


def main() -> None:
    """Measure and write."""
    kept = {
        name: {"against": against, "error": float(f"{error:.0e}")}
        for name, (against, error) in {**ours(), **theirs()}.items()
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    VERIFIED.write_text(re.sub(r"e-0(\d)", r"e-\1", text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
