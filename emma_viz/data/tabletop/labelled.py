"""Scenes with what is known of them, as experiments need them: drawn, some with a kind of thing and some without."""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.tabletop.kinds import KIND_INDEX
from emma_viz.data.tabletop.scenes import Scene, draw_scene, make_scene
from emma_viz.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScene:
    """A drawn scene and what is in it."""

    scene: Scene
    image: Image.Image
    """RGB."""
    mask: UInt8[np.ndarray, "height width"]
    """0 is background, n is `scene.things[n - 1]`, exact after occlusion."""
    has_kind: bool
    """Whether a thing of the kind that was asked for is there; True where none was asked for."""

    def token_labels(self, geometry: ImageGrid, *, at_least: float | int = 0.5) -> Int[np.ndarray, " T"]:
        """What each image token sees.

        Args:
            geometry: where the tokens lie (`trace.geometry[sample]`).
            at_least: share, above 0 and up to 1, of a token's pixels that one thing, or the background, must cover.

        Returns:
            0 for background, n for `scene.things[n - 1]`, −1 where neither covers enough of the token, or where the
            token sees no pixel of the scene.

        Raises:
            InputError: the share is out of its range, or the geometry is of an image of another size.
        """
        if not 0 < at_least <= 1:
            raise InputError(f"expected at_least above 0 and up to 1, got {at_least}.")
        if geometry.image_size != self.image.size:
            raise InputError(
                f"expected the geometry of an image of {self.image.size}, got one of {geometry.image_size}."
            )
        pixels = np.stack(np.meshgrid(*(np.arange(side) + 0.5 for side in self.image.size)), axis=-1)
        tokens = geometry.tokens_at(pixels)
        seen = tokens >= 0
        counts = np.zeros((geometry.n_tokens, len(self.scene.things) + 1))
        np.add.at(counts, (tokens[seen], self.mask[seen]), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return np.where(shares.max(axis=1) >= at_least, shares.argmax(axis=1), -1)


def labelled_scenes(
    split: str, n: int, *, with_kind: str | None = None, balanced: bool = False
) -> tuple[LabelledScene, ...]:
    """The first scenes of a split, drawn, with their masks.

    Args:
        split: "train", "val" or "test"; the bundled models learned from "train" alone.
        n: how many.
        with_kind: only scenes with a thing of this kind (`KINDS`).
        balanced: with `with_kind`: as many scenes without one, by turns; the first has one.

    Returns:
        Scenes in the order of their numbers, or by turns.

    Raises:
        InputError: the split or the kind is unknown, `n` is below 1 or odd for a balanced choice, or `balanced` has no
            kind.

    Examples:
        >>> scenes = labelled_scenes("test", 40, with_kind="spoon", balanced=True)
        >>> y = [each.has_kind for each in scenes]  # 20 of them
    """
    if n < 1 or (balanced and n % 2):
        raise InputError(f"expected {'an even number' if balanced else 'at least one'} of scenes, got n={n}.")
    if with_kind is not None and with_kind not in KIND_INDEX:
        raise InputError(f"There is no kind {with_kind!r}; choose one of {', '.join(KIND_INDEX)}.")
    if balanced and with_kind is None:
        raise InputError("expected with_kind beside balanced, got none; say of which kind.")
    scenes = (make_scene(split, index) for index in itertools.count())
    if with_kind is None:
        return tuple(_drawn(scene, True) for scene in itertools.islice(scenes, n))
    wanted = {True: n // 2, False: n // 2} if balanced else {True: n, False: 0}
    found: dict[bool, list[Scene]] = {True: [], False: []}
    while any(len(found[has]) < count for has, count in wanted.items()):
        scene = next(scenes)
        has = scene.count(with_kind) > 0
        if len(found[has]) < wanted[has]:
            found[has].append(scene)
    if not balanced:
        return tuple(_drawn(scene, True) for scene in found[True])
    pairs = zip(found[True], found[False], strict=True)
    return tuple(_drawn(scene, not place) for pair in pairs for place, scene in enumerate(pair))


def _drawn(scene: Scene, has_kind: bool) -> LabelledScene:
    drawn = draw_scene(scene)
    return LabelledScene(scene=scene, image=Image.fromarray(drawn.image), mask=drawn.mask, has_kind=has_kind)
