"""Layers one after another, as a moving picture for talks: a frame is the figure of one layer of each model."""

import io
from dataclasses import replace

from PIL import Image

from emma_viz.errors import InputError
from emma_viz.render.depth import nearest_layer
from emma_viz.render.spec import FigureSpec, ModelCase

MOVING = (".gif", ".webp")
"""What a film can be written as. A GIF has 256 colours a frame; a WebP is exact."""
FILM_DPI = 160
"""Pixels per inch of a frame."""
_APART = "No difference is drawn here: the models stand at different layers."
FRAME, LAST = 400, 1600
"""Milliseconds that a layer is shown, and the last one."""


def frames(spec: FigureSpec) -> tuple[FigureSpec, ...]:
    """A figure as one figure for each layer that it shows; scales, marks and notes stay.

    Models with other layers move together by depth, as on the canvas, and where they do not stand at one layer no
    difference is drawn.

    Raises:
        InputError: the figure is of several images.
    """
    if len(spec.images) != 1:
        raise InputError(f"expected one image for a film of its layers, got {len(spec.images)}.")
    (case,) = spec.images
    longest = max(case.models, key=lambda model: len(model.layers))
    found = []
    for layer in longest.layers:
        models = tuple(_at(model, nearest_layer(model, layer, longest)) for model in case.models)
        shown = replace(case, models=models)
        apart = spec.difference and len({model.layers for model in shown.subtracted}) > 1
        found.append(
            replace(
                spec,
                images=(shown,),
                difference=spec.difference and not apart,
                notes=(*spec.notes, *[_APART] * apart),
            )
        )
    return tuple(found)


def film(spec: FigureSpec, suffix: str, *, dpi: int = FILM_DPI) -> bytes:
    """The layers of a figure as a file that plays for ever; the same spec gives the same bytes.

    Args:
        spec: what is shown, of one image.
        suffix: one of `MOVING`.
        dpi: pixels per inch.

    Raises:
        InputError: the figure is of several images.
    """
    pictures = [_picture(each, dpi) for each in frames(spec)]
    size = tuple(max(picture.size[axis] for picture in pictures) for axis in (0, 1))
    first, *others = [_padded(picture, size) for picture in pictures]
    stream = io.BytesIO()
    first.save(
        stream,
        format=suffix.removeprefix("."),
        save_all=True,
        append_images=others,
        duration=[*[FRAME] * len(others), LAST],
        loop=0,
        lossless=True,
    )
    return stream.getvalue()


def _at(model: ModelCase, layer: int) -> ModelCase:
    """A model with one of its layers."""
    row = model.layers.index(layer)
    one = slice(row, row + 1)
    return replace(
        model,
        layers=(layer,),
        decoded=model.decoded[one],
        maps=model.maps[one],
        limits=model.limits[one],
        correlation=model.correlation[one],
        marked=tuple(each for each in model.marked if each == layer),
    )


def _picture(spec: FigureSpec, dpi: int) -> Image.Image:
    from emma_viz.render.figures.figure import draw

    stream = io.BytesIO()
    draw(spec).savefig(stream, format="png", dpi=dpi)
    return Image.open(stream).convert("RGB")


def _padded(picture: Image.Image, size: tuple[int, ...]) -> Image.Image:
    """A frame on the paper of the largest: the words below a layer may need another line than those of the next."""
    paper = Image.new("RGB", (size[0], size[1]), "white")
    paper.paste(picture)
    return paper
