"""A folder of small made-up photographs, laid out as Caltech-101 is."""

from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.data.photos import PHOTO_CATEGORIES


def made_photographs(folder: Path, *, each: int) -> Path:
    """Write `each` pictures of noise for every category; sizes differ, none is like another."""
    rng = np.random.default_rng(0)
    for category in PHOTO_CATEGORIES:
        place = folder / category.folder
        place.mkdir(parents=True)
        for number in range(each):
            height, width = rng.integers(8, 30, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number:04}.png", compress_level=0)
    return folder
