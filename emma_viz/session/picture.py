"""From maps to a picture: the figure's contents, and drawing it."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from emma_viz.data.labels import names_of_pictures
from emma_viz.lens.controls import LayerVerdict
from emma_viz.maps import ActivationMaps, map_difference
from emma_viz.metrics.quality import r2
from emma_viz.render import FigureSpec, ImageCase, ModelCase, draw, fit_image, grid_extent
from emma_viz.render.spec import WEAK_MARK, layers_said
from emma_viz.session.alike import require_alike_maps, require_view
from emma_viz.session.layers import shown_layers
from emma_viz.session.options import View


def figure(*maps: ActivationMaps, view: View = View()) -> Figure:
    """Draw the maps of one or more models of the same images.

    Args:
        maps: one per model; they keep the colour scale that they were made with. They must be of one kind, one
            scale, the same images and the same prompts.
        view: which layers, and the style; a `map_kind` or `scale` must be that of the maps.

    Returns:
        A matplotlib figure; `.savefig(path)` writes it.

    Raises:
        InputError: there are no maps, or something else than maps; they cannot be compared, or `view` asks for others.

    Example:
        >>> figure(decode(trace, load_lens(model)).maps()).savefig("fig.pdf")
    """
    return draw(figure_spec(maps, view=view))


def figure_spec(
    maps: Sequence[ActivationMaps], *, view: View, image_names: Sequence[str] | None = None
) -> FigureSpec:
    """Everything that a figure of these maps shows, without drawing it.

    Args:
        maps: one a model, of the same images.
        view: what is shown of them, and how.
        image_names: what the images are called; their files' names, or their hashes, when None.

    Raises:
        InputError: there are no maps, or something else than maps; they cannot be compared, or `view` asks for other
            maps; or a layer was not decoded.
    """
    require_alike_maps(maps)
    require_view(maps[0], view)
    first = maps[0].decoding
    names = image_names or names_of_pictures(first.image_hashes, first.labels)
    questions: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(zip(first.image_hashes, names, strict=True)):
        questions.setdefault(pair, []).append(index)
    return FigureSpec(
        images=tuple(_image_case(maps, samples, name, view) for (_, name), samples in questions.items()),
        map_kind=maps[0].kind,
        scale=maps[0].scale,
        style=view.style,
        colormap=view.colormap,
        difference=view.difference,
        notes=tuple(notes(maps)),
    )


def _image_case(maps: Sequence[ActivationMaps], samples: list[int], name: str, view: View):
    """One image; asked several questions, its maps are those of the first: image tokens come before the text, and
    the model is causal, so that they are the same."""
    first, index = maps[0].decoding, samples[0]
    place = first.geometry[index]
    low, high = maps[0].true_limits()[index]
    # Over all layers that were decoded, shown or not: every picture of a comparison has the same colours.
    limit = float(map_difference(*maps).limit[index]) if view.difference and len(maps) == 2 else None
    return ImageCase(
        title=name,
        image=fit_image(np.asarray(first.images[index])),
        image_hash=first.image_hashes[index],
        prompt=_listed([first.prompts[sample] for sample in samples]),
        extent=grid_extent(place.token_boxes(), place.image_size),
        true_map=maps[0].true[index],
        true_limits=(float(low), float(high)),
        models=tuple(_model_case(each, samples, view) for each in maps),
        difference_limit=limit,
    )


def _listed(texts: Sequence[str]) -> str:
    """Several prompts or answers as one text, numbered."""
    return texts[0] if len(texts) == 1 else " ".join(f"({n}) {text}" for n, text in enumerate(texts, start=1))


def _model_case(maps: ActivationMaps, samples: list[int], view: View):
    decoding, index = maps.decoding, samples[0]
    layers = shown_layers(decoding.layers, view.layers, decoding.model.name)
    rows = [decoding.layers.index(layer) for layer in layers]
    verdicts = [decoding.verdicts[row] for row in rows]
    curve = [
        (layer, r2(decoding.patches[row, index], decoding.true[index]))
        for row, layer in enumerate(decoding.layers)
    ]
    model, place = decoding.model, decoding.geometry[index]
    return ModelCase(
        name=model.name,
        answer=_listed([decoding.answers[sample] for sample in samples]) if decoding.answers else "",
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
        marked=tuple(each.layer for each in verdicts if each.beats is False),
        controls=verdicts_said(verdicts),
    )


def verdicts_said(found: Sequence[LayerVerdict]) -> str:
    """What a picture of several layers says of them, for its foot: layers that are marked first."""
    groups: dict[str, list[LayerVerdict]] = {}
    for each in sorted(found, key=lambda each: (each.beats is not False, each.layer)):
        groups.setdefault(each.said, []).append(each)
    parts = []
    for said, some in groups.items():
        where = (
            "at all layers shown"
            if len(some) == len(found)
            else f"at {layers_said([each.layer for each in some])}"
        )
        mark = f"{WEAK_MARK} " if some[0].beats is False else ""
        parts.append(f"{mark}{said}, {where}" if some[0].beats is not None else f"{said} ({where})")
    return "; ".join(parts)


def notes(maps: Sequence[ActivationMaps]) -> Iterator[str]:
    """What a reader of maps should know: forced lenses, foreign hooks, what was done to an image, what lenses say."""
    for each in maps:
        for reason in each.decoding.forced_reasons:
            yield f"{each.decoding.model.name}: the lens was forced although {reason}"
        for note in each.decoding.notes:
            yield f"{each.decoding.model.name}: {note}"
    first = maps[0].decoding
    yield from dict.fromkeys(
        f"{label.name or 'an image'}: {note}" for label in first.labels for note in label.notes
    )
    named: dict[str, list[str]] = {}
    for each in maps:
        for note in each.decoding.lens.notes:
            named.setdefault(note, []).append(each.decoding.model.name)
    for note, names in named.items():
        yield f"{', '.join(dict.fromkeys(names))}: {note}"
