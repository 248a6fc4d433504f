"""Several decodings as one, and the maps of several models on one colour scale."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from emma_viz.errors import InputError
from emma_viz.maps.decoding import ActivationMaps, Decoding


def share_limits(maps: Sequence[ActivationMaps]) -> tuple[ActivationMaps, ...]:
    """Put the maps of several models of the same images on one colour scale per image.

    Models that see the same pixels have the same scale already; others get the one that spans theirs. `fixed`
    scales are equal by themselves; `per_map` and `per_row` are meant to differ and are returned as they are.

    Raises:
        InputError: the maps differ in kind, scale or images.
    """
    if len({(each.kind, each.scale, each.decoding.image_hashes) for each in maps}) > 1:
        what = "; ".join(f"{each.decoding.model.name}: {each.kind}, {each.scale}" for each in maps)
        raise InputError(
            f"Only maps of one kind, one scale and the same images can share a scale; got {what}."
        )
    if not maps or maps[0].scale != "shared":
        return tuple(maps)
    per_image = np.stack([each.limits[0] for each in maps])  # models, images, ends
    ends = np.stack([per_image[..., 0].min(axis=0), per_image[..., 1].max(axis=0)], axis=-1)
    return tuple(each.with_limits(np.broadcast_to(ends, each.limits.shape).copy()) for each in maps)


def require_one_shape(name: str, shapes: Sequence[tuple[tuple[int, int], int]]) -> None:
    """Refuse images that no one picture shows.

    Args:
        name: of the model.
        shapes: of each image the rows and columns of its tokens, and the side of one, pixels.

    Raises:
        InputError: they differ.
    """
    if others := [shape for shape in shapes if shape != shapes[0]]:
        raise InputError(
            f"{name} sees these images on grids of several shapes, {shapes[0][0]} and {others[0][0]}: draw those of "
            "each shape in a picture of their own."
        )


def joined(decodings: Sequence[Decoding], *, images: Sequence[Image.Image]) -> Decoding:
    """One decoding of the images of several, in order, which were decoded alike.

    Args:
        decodings: at least one, of one model, lens and layers.
        images: the original images of all.

    Raises:
        InputError: there is none, or they differ in model, lens, site, layers or the shape of their grids.
    """
    if not decodings:
        raise InputError("expected at least one decoding to join, got none.")
    first = decodings[0]
    if len(decodings) == 1:
        return replace(first, images=images)
    same = {name: [getattr(each, name) for each in decodings] for name in ("layers", "site", "model")}
    # As JSON: what was not measured of a lens is NaN, which equals nothing.
    same["lens"] = [each.lens.to_json() for each in decodings]
    for name, values in same.items():
        if any(value != values[0] for value in values):
            raise InputError(f"Decodings that are joined are alike; these differ in {name}.")

    require_one_shape(
        first.model.name, [(each.geometry[0].grid, each.geometry[0].patch) for each in decodings]
    )

    def chain(name: str) -> tuple:
        return tuple(value for each in decodings for value in getattr(each, name))

    one = ("geometry", "image_hashes", "prompts", "answers", "labels")
    said = ("forced_reasons", "notes")
    return replace(
        first,
        patches=np.concatenate([each.patches for each in decodings], axis=1),
        true=np.concatenate([each.true for each in decodings]),
        views=np.concatenate([each.views for each in decodings]),
        images=images,
        **{name: chain(name) for name in one},
        **{name: tuple(dict.fromkeys(chain(name))) for name in said},
    )
