"""From maps to a picture: the figure's contents, drawing it, writing it, drawing it again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emma_viz.errors import InputError
from emma_viz.lens import ActivationMaps, map_difference
from emma_viz.lens.quality import r2
from emma_viz.render import (
    FigureSpec,
    ImageCase,
    ModelCase,
    check_suffix,
    draw,
    fit_image,
    grid_extent,
    read_spec,
    write_spec,
)
from emma_viz.render import save as save_picture
from emma_viz.session.layers import shown_layers
from emma_viz.session.options import View


def figure(*maps: ActivationMaps, view: View = View()) -> Figure:
    """Draw the maps of one or more models of the same images.

    Args:
        maps: one per model; they keep the colour scale that they were made with.
        view: which layers, and the style; its `map_kind` and `scale` are those of the maps.

    Returns:
        A matplotlib figure; `.savefig(path)` writes it.

    Example:
        >>> figure(decode(trace, load_lens(model)).maps()).savefig("fig.pdf")
    """
    return draw(figure_spec(maps, view=view))


def figure_spec(
    maps: Sequence[ActivationMaps], *, view: View, image_names: Sequence[str] | None = None
) -> FigureSpec:
    """Everything that a figure of these maps shows, without drawing it.

    Raises:
        InputError: there are no maps, or a layer was not decoded.
    """
    if not maps:
        raise InputError("expected the maps of at least one model, got none.")
    hashes = maps[0].decoding.image_hashes
    names = image_names or [f"image {digest[:8]}" for digest in hashes]
    return FigureSpec(
        images=tuple(_image_case(maps, index, name, view) for index, name in enumerate(names)),
        map_kind=maps[0].kind,
        scale=maps[0].scale,
        style=view.style,
        colormap=view.colormap,
        difference=view.difference,
        notes=tuple(_notes(maps)),
    )


def check_output(path: Path, *, inputs: Sequence[str | Path] = ()) -> None:
    """Refuse a picture's path before anything runs that would be lost.

    Args:
        path: of the picture.
        inputs: files that are read, which it must not replace.

    Raises:
        InputError: the suffix is none that can be written, the folder does not exist, an input would be replaced, or
            the sidecar would replace a file that is none.
    """
    check_suffix(path)
    if path.exists() and any(Path(each).exists() and path.samefile(each) for each in inputs):
        raise InputError(f"{path} is the image itself; it would be replaced. Choose another --out.")
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"the folder {path.absolute().parent} does not exist; make it first, or choose another --out."
        )
    sidecar = sidecar_of(path)
    if sidecar.exists():
        try:
            read_spec(sidecar)
        except InputError as error:
            raise InputError(
                f"{sidecar} exists and is no figure's sidecar; it would be replaced. Choose another --out."
            ) from error


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a picture goes: beside it, `.json` added to its name, so that each has its own."""
    return path.with_name(f"{path.name}.json")


def save(spec: FigureSpec, path: Path) -> tuple[Path, Path]:
    """Write a picture and, beside it, the sidecar that draws it again.

    Returns:
        The paths of both.
    """
    picture = save_picture(spec, path)
    return picture, write_spec(spec, sidecar_of(path))


def redraw(sidecar: Path, path: Path) -> Path:
    """Draw a figure again from its sidecar, without models or images."""
    return save_picture(read_spec(sidecar), path)


def _image_case(maps: Sequence[ActivationMaps], index: int, name: str, view: View):
    first = maps[0].decoding
    place = first.geometry[index]
    low, high = maps[0].true_limits()[index]
    # Over all layers that were decoded, shown or not: every picture of a comparison has the same colours.
    limit = float(map_difference(*maps).limit[index]) if view.difference and len(maps) == 2 else None
    return ImageCase(
        title=name,
        image=fit_image(np.asarray(first.images[index])),
        image_hash=first.image_hashes[index],
        prompt=first.prompts[index],
        extent=grid_extent(place.token_boxes(), place.image_size),
        true_map=maps[0].true[index],
        true_limits=(float(low), float(high)),
        models=tuple(_model_case(each, index, view) for each in maps),
        difference_limit=limit,
    )


def _model_case(maps: ActivationMaps, index: int, view: View):
    decoding = maps.decoding
    layers = shown_layers(decoding.layers, view.layers, decoding.model.name)
    rows = [decoding.layers.index(layer) for layer in layers]
    curve = [
        (layer, r2(decoding.patches[row, index], decoding.true[index]))
        for row, layer in enumerate(decoding.layers)
    ]
    model, place = decoding.model, decoding.geometry[index]
    return ModelCase(
        name=model.name,
        answer=decoding.answers[index] if decoding.answers else "",
        layers=layers,
        decoded=decoding.select(layers=layers, samples=[index]).decoded_images()[:, 0],
        maps=maps.values[rows, index],
        limits=maps.limits[rows, index],
        correlation=maps.correlation[rows, index],
        retention=tuple((layer, value) for layer, value in curve if np.isfinite(value)),
        lens=decoding.lens.describe(),
        revision=" ".join(part for part in (model.revision, model.fingerprint[:12], model.dtype) if part),
        site=decoding.site,
        extent=grid_extent(place.token_boxes(), place.image_size),
        forced=decoding.forced,
    )


def _notes(maps: Sequence[ActivationMaps]) -> Iterator[str]:
    for each in maps:
        for reason in each.decoding.forced_reasons:
            yield f"{each.decoding.model.name}: the lens was forced although {reason}"
    named: dict[str, list[str]] = {}
    for each in maps:
        for note in each.decoding.lens.notes:
            named.setdefault(note, []).append(each.decoding.model.name)
    for note, names in named.items():
        yield f"{', '.join(dict.fromkeys(names))}: {note}"
