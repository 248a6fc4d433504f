"""Pictures of the photo world by number, with the frozen encoder's features, each made when it is first asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from emma_viz.data.photos import PHOTO_SIDE, PhotoLibrary, PhotoScene, draw_photos, make_single, plan_scene
from emma_viz.errors import TrainingError
from emma_viz.files.arrays import read_npy
from emma_viz.models.towers.lite0 import Lite0Tower
from training.loop.disk_arrays import new_array
from training.photos.encoder import normalised
from training.vision_language.batch import BatchImages, known_images


class PhotoPictures:
    """Single photographs of a split, then scenes.

    Args:
        library: the photographs.
        split: "train", "val" or "test".
        singles: how many photographs of the split fill a picture, the first of a fixed shuffle; all when None.
        scenes: how many scenes follow them.
        tower: the frozen encoder.
        folder: where pictures and features are kept.
    """

    def __init__(
        self,
        library: PhotoLibrary,
        split: str,
        *,
        singles: int | None,
        scenes: int,
        tower: Lite0Tower,
        folder: Path,
    ):
        self.photos, self.split, self.tower = library.split(split), split, tower.eval()
        self.order = shown_order(len(self.photos))[:singles]
        self.count = len(self.order) + scenes
        config = tower.config
        shapes = {
            "images": (np.uint8, (self.count, PHOTO_SIDE, PHOTO_SIDE, 3)),
            "features": (np.float16, (self.count, config.grid[0] * config.grid[1], config.width)),
            "made": (np.uint8, (self.count,)),
        }
        place = folder / f"{split}-{len(self.order)}-{scenes}"
        place.mkdir(parents=True, exist_ok=True)
        self._arrays: dict[str, np.memmap] = {}
        for name, (kind, shape) in shapes.items():
            path = place / f"{name}.npy"
            if not path.exists():
                new_array(path, kind, shape).flush()
            read_npy(
                path, error=TrainingError, mend="Remove it, and its pictures are made again.", mapped=True
            )
            self._arrays[name] = np.load(path, mmap_mode="r+")

    def __len__(self) -> int:
        return self.count

    def scene(self, number: int) -> PhotoScene:
        """The plan of a picture."""
        if number < len(self.order):
            return make_single(self.photos, int(self.order[number]))
        return plan_scene(self.photos, self.split, number - len(self.order))

    def features(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """float32 (n, T, F): the encoder's tokens."""
        self._make(numbers)
        return self._arrays["features"][np.asarray(numbers)].astype(np.float32)

    def images(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (n, 256, 256, 3)."""
        self._make(numbers)
        return self._arrays["images"][np.asarray(numbers)]

    def every(self) -> np.ndarray:
        """uint8 (N, 256, 256, 3): all pictures, as they lie on the disk."""
        self._make(range(len(self)))
        return self._arrays["images"]

    def batch(self, numbers: np.ndarray, *, patch: int) -> BatchImages:
        """Some pictures as the joint stage takes them."""
        images, features = self.images(numbers), self.features(numbers)
        return known_images(images, features, np.arange(len(numbers)), patch=patch)

    @torch.no_grad()
    def _make(self, numbers: Sequence[int] | np.ndarray) -> None:
        """Draw and encode those that nobody has asked for yet, one by one: features do not depend on the company."""
        for number in map(int, numbers):
            if self._arrays["made"][number]:
                continue
            image = draw_photos(self.scene(number), self.photos).image
            self._arrays["images"][number] = image
            self._arrays["features"][number] = self.tower(normalised(image[None], self.tower))[0].numpy()
            # Last: whoever is stopped before has made nothing.
            self._arrays["made"][number] = 1


def shown_order(count: int) -> np.ndarray:
    """The order in which the photographs of a split fill pictures: int64 (count,), their places."""
    return np.random.default_rng(17).permutation(count)
