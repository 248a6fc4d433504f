"""Other images that a case is compared with: what a presence probe learns from, mean tokens, other pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from emma_viz.data import image_hash
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.errors import InputError

REFERENCE_SCENES = 240
"""Scenes of the tabletop world that pockets are compared with: half to learn from, half to set thresholds by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceImage:
    """One other image, of which it is known what is in it and where."""

    image: Image.Image
    """RGB."""
    mask: UInt8[np.ndarray, "height width"]
    """0 is background, n the nth object."""
    kinds: tuple[str, ...]
    """What each object is: object n of the mask is `kinds[n - 1]`."""

    def where(self, kind: str) -> Bool[np.ndarray, "height width"]:
        """The pixels of all objects of a kind."""
        numbers = [number for number, each in enumerate(self.kinds, start=1) if each == kind]
        return np.isin(self.mask, numbers)


@dataclass(frozen=True, eq=False)
class References:
    """The images, in their order: even ones are learnt from, odd ones set thresholds and controls.

    Raises:
        InputError: there are fewer than four.
    """

    images: tuple[ReferenceImage, ...]
    title: str
    """What they are, for texts."""

    def __post_init__(self):
        if len(self.images) < 4:
            raise InputError(f"expected at least four other images to compare with, got {len(self.images)}.")

    @cached_property
    def digest(self) -> str:
        """Names them, pixel by pixel and label by label."""
        found = hashlib.sha256()
        for each in self.images:
            found.update(image_hash(each.image).encode())
            found.update(each.mask.tobytes())
            found.update("\0".join(each.kinds).encode())
        return found.hexdigest()[:32]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """All kinds, each once."""
        return tuple(sorted({kind for each in self.images for kind in each.kinds}))

    @property
    def fitted(self) -> tuple[ReferenceImage, ...]:
        """Those that are learnt from."""
        return self.images[::2]

    @property
    def held_out(self) -> tuple[ReferenceImage, ...]:
        """The others."""
        return self.images[1::2]


def tabletop_references(count: int = REFERENCE_SCENES) -> References:
    """Scenes of the validation split of the tabletop world, which no benchmark and no training asks about."""
    found = []
    for index in range(count):
        scene = make_scene("val", index)
        drawn = draw_scene(scene)
        found.append(
            ReferenceImage(
                image=Image.fromarray(drawn.image), mask=drawn.mask, kinds=tuple(t.kind for t in scene.things)
            )
        )
    return References(tuple(found), title=f"{count} other scenes of the tabletop world")


def without_kind(images: Sequence[ReferenceImage], kind: str) -> list[ReferenceImage]:
    """Those without an object of a kind."""
    return [each for each in images if kind not in each.kinds]
