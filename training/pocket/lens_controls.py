"""Write into lens files of bundled models whether what they draw beats its controls; no weight is touched.

    python -m training.pocket.lens_controls emma_viz/checkpoints/bundled

Each lens decodes the held-out scenes again. Where its R² is not the one that its file states, they are not the scenes
that it was measured on, and nothing is written to it.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from emma_viz.checkpoints import LoadedModel, load_model
from emma_viz.errors import TrainingError
from emma_viz.lens.evaluation import with_quality
from emma_viz.lens.files import load_lens, rewrite_info
from emma_viz.lens.headers import SUFFIX, open_lens, read_info
from training.loop.lenses import decodings
from training.pocket.over_bundle import run_over_bundle
from training.pocket.scenes import SCENES, drawn_scenes

_SAME = 2e-3
"""Of an R², how far another machine's arithmetic may take it."""


def name_controls(bundle: Path) -> list[Path]:
    """Measure the controls of every lens of a bundle's models that was fitted on scenes.

    Args:
        bundle: folder with a folder a model.

    Returns:
        The files that were written.

    Raises:
        TrainingError: a lens decodes today's held-out scenes otherwise than its file says.
        LensError: a lens file is damaged or cannot be written.
        CheckpointError: a model cannot be read.
    """
    lenses = {
        path: info.n_heldout
        for path in sorted(bundle.glob(f"*/*{SUFFIX}"))
        if (info := read_info(path)).fitted_on.startswith(SCENES) and info.n_heldout
    }
    images = drawn_scenes("test", max(lenses.values(), default=0)).images
    models = {folder: load_model(folder) for folder in dict.fromkeys(path.parent for path in lenses)}
    for path, count in tqdm(lenses.items(), desc="controls"):
        add_controls(models[path.parent], path, list(images[:count]))
    return list(lenses)


def add_controls(model: LoadedModel, path: Path, held_out: Sequence[Any]) -> None:
    """Measure the controls of one lens and write them into its file.

    Args:
        model: the lens's own.
        path: of the lens.
        held_out: the images that its quality was measured on.

    Raises:
        TrainingError: they are others, or a weight would change.
        LensError: the file is damaged or cannot be written.
    """
    before = weights_hash(path)
    lens = load_lens(path)
    found = with_quality(lens, decodings(model, lens, held_out)).info
    for each in found.quality:
        said = lens.info.quality_of(each.layer)
        if said is None or not abs(said.r2 - each.r2) <= _SAME:
            raise TrainingError(
                f"{path} states R² {said and said.r2} at layer {each.layer}, and decodes these scenes with "
                f"{each.r2:.4f}: they are not those that it was measured on."
            )
    rewrite_info(path, controls=found.controls)
    if weights_hash(path) != before:
        raise TrainingError(f"{path}: its weights were changed. Restore the file.")


def weights_hash(path: Path) -> str:
    """SHA-256 over the names, types and numbers of a lens's tensors.

    Raises:
        LensError: the file is damaged.
    """
    digest = hashlib.sha256()
    for name, reference in sorted(open_lens(path).tensors.items()):
        digest.update(f"{name} {reference.dtype} {tuple(reference.shape)}".encode())
        digest.update(reference.read().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_over_bundle(name_controls, argv, module="training.pocket.lens_controls", about=__doc__)


if __name__ == "__main__":
    sys.exit(main())
