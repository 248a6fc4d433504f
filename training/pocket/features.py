"""Features of the frozen encoder, computed once for all scenes and read memory-mapped."""

import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from emma_viz.errors import TrainingError
from emma_viz.files.arrays import read_npy
from emma_viz.models.towers.pocket import PocketEncoder
from training.loop.disk_arrays import new_array
from training.pocket.encoder import normalised_images
from training.pocket.scenes import SceneArrays

_CHUNK = 64


@torch.no_grad()
def encoder_features(encoder: PocketEncoder, scenes: SceneArrays, path: Path) -> np.ndarray:
    """The tokens of every scene.

    Args:
        encoder: in evaluation mode.
        scenes: the images.
        path: where they are kept; read when it exists.

    Returns:
        float16 (n, 256, F), memory-mapped.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        shape = (len(scenes), *encoder(normalised_images(scenes.images[:1])).shape[1:])
        out = new_array(temporary, np.float16, shape)
        for start in tqdm(range(0, len(scenes), _CHUNK), desc=f"encode {scenes.split}"):
            out[start : start + _CHUNK] = encoder(
                normalised_images(scenes.images[start : start + _CHUNK])
            ).numpy()
        out.flush()
        os.replace(temporary, path)
    mend = "Remove it, and it is made again."
    return read_npy(path, error=TrainingError, mend=mend, mapped=True)
