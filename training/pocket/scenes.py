"""Drawn tabletop scenes as arrays on disk, made once and read memory-mapped."""

import hashlib
import json
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from einops import rearrange
from tqdm import tqdm

from emma_viz.data.tabletop import COLOUR_INDEX, KIND_INDEX, SIZE, draw_scene, make_scene
from emma_viz.errors import TrainingError
from emma_viz.files.arrays import read_npy
from emma_viz.session.options import LensRecipe
from training.loop.disk_arrays import new_array
from training.loop.lens import LensImages

TABLETOP = "tabletop"
"""Name of the data set of drawn scenes."""
SCENES = "tabletop scenes (train)"
"""What lenses that were fitted on them say."""
PATCH = 8
GRID = SIZE // PATCH
PATCH_COVERED = 0.2
"""A patch belongs to an object that covers at least this share of it."""
NO_COLOUR = 255
_CHUNK = 250


@dataclass(frozen=True, kw_only=True)
class SceneArrays:
    """Many drawn scenes.

    Attributes:
        split: "train", "val" or "test".
        images: uint8 (n, 128, 128, 3).
        kinds: uint8 (n, 16, 16): 0 where a patch is background, else 1 + the kind's number.
        colours: uint8 (n, 16, 16): the colour's number, 255 where there is none.
        centers: float16 (n, 16, 16): 1 at the patch of an object's centre, falling off around it.
    """

    split: str
    images: np.ndarray
    kinds: np.ndarray
    colours: np.ndarray
    centers: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def digest(self) -> str:
        """Hash of every 50th image: tells data sets apart when fonts, Pillow or the world's code change."""
        return hashlib.sha256(np.ascontiguousarray(self.images[::50]).tobytes()).hexdigest()[:16]


def _draw_chunk(start: int, *, split: str, stop: int, size: int = _CHUNK) -> dict[str, np.ndarray]:
    parts = [_draw_one(split, index) for index in range(start, min(start + size, stop))]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _draw_one(split: str, index: int) -> dict[str, np.ndarray]:
    scene = make_scene(split, index)
    drawn = draw_scene(scene)
    patches = rearrange(drawn.mask, "(R p) (C q) -> R C (p q)", p=PATCH, q=PATCH)
    cover = np.stack([(patches == n).mean(-1) for n in range(1, len(scene.things) + 1)])
    best, share = cover.argmax(0), cover.max(0)
    number = np.array([1 + KIND_INDEX[thing.kind] for thing in scene.things], dtype=np.uint8)
    colour = np.array([COLOUR_INDEX.get(thing.colour, NO_COLOUR) for thing in scene.things], dtype=np.uint8)
    y, x = (np.mgrid[0:GRID, 0:GRID] + 0.5) * PATCH
    bumps = [np.exp(-((x - t.x) ** 2 + (y - t.y) ** 2) / (2 * 6.0**2)) for t in scene.things]
    return {
        "images": drawn.image,
        "kinds": np.where(share >= PATCH_COVERED, number[best], 0).astype(np.uint8),
        "colours": np.where(share >= PATCH_COVERED, colour[best], NO_COLOUR).astype(np.uint8),
        "centers": np.max(bumps, axis=0).astype(np.float16),
    }


def scene_arrays(split: str, count: int, folder: Path, *, workers: int = 2) -> SceneArrays:
    """Draw the first `count` scenes of a split into `folder`, or open them when they are there.

    Args:
        split: "train", "val" or "test".
        count: number of scenes.
        folder: where arrays are kept.
        workers: processes that draw.

    Returns:
        The scenes, memory-mapped.
    """
    target = folder / f"{split}-{count}"
    if not (target / "done.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        _draw_all(split, count, target, workers)
    names = ("images", "kinds", "colours", "centers")
    mend = f"Remove the folder {target}, and its scenes are drawn again."
    files = {
        name: read_npy(target / f"{name}.npy", error=TrainingError, mend=mend, mapped=True) for name in names
    }
    return SceneArrays(split=split, **files)


def drawn_scenes(split: str, count: int) -> SceneArrays:
    """The first `count` scenes of a split, in memory."""
    return SceneArrays(split=split, **_draw_chunk(0, split=split, stop=count, size=count))


def _end_with_parent() -> None:
    """Let a process of a pool end when the one that started it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _draw_all(split: str, count: int, target: Path, workers: int) -> None:
    starts = range(0, count, _CHUNK)
    files: dict[str, np.memmap] = {}
    with ProcessPoolExecutor(workers, initializer=_end_with_parent) as pool:
        chunks = pool.map(partial(_draw_chunk, split=split, stop=count), starts)
        try:
            shown = tqdm(chunks, total=len(starts), desc=f"draw {split}")
            for start, chunk in zip(starts, shown, strict=True):
                for name, part in chunk.items():
                    if name not in files:
                        shape = (count, *part.shape[1:])
                        files[name] = new_array(target / f"{name}.npy", part.dtype, shape)
                    files[name][start : start + len(part)] = part
        finally:
            pool.shutdown(cancel_futures=True)
    for file in files.values():
        file.flush()
    temporary = target / "done.tmp"
    temporary.write_text(json.dumps({"split": split, "count": count}))
    os.replace(temporary, target / "done.json")


def scenes_for(recipe: LensRecipe) -> LensImages:
    """The first training scenes to fit a lens on, and the first test scenes to measure it on."""
    fit = list(drawn_scenes("train", recipe.fit).images)
    return LensImages(
        fit=fit,
        held_out=list(drawn_scenes("test", recipe.held_out).images),
        names=tuple(f"{TABLETOP} scene {number}" for number in range(len(fit))),
        said=SCENES,
    )
