"""From maps to a picture: the figure's contents, and drawing it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from emma_viz.data.labels import names_of_pictures
from emma_viz.errors import InputError
from emma_viz.lens.controls import LayerVerdict
from emma_viz.maps import ActivationMaps, map_difference
from emma_viz.metrics.quality import r2
from emma_viz.render import FigureSpec, GridSpans, ImageCase, ModelCase, draw, fit_image
from emma_viz.render.figures.panels import show_cells
from emma_viz.render.overlay import MISSING, highlight, to_bytes
from emma_viz.render.spec import WEAK_MARK, layers_said
from emma_viz.session.alike import require_alike_maps, require_view
from emma_viz.session.layers import shown_layers
from emma_viz.session.options import View
from emma_viz.session.row_names import row_names

INVISIBLE = 1 / 512
"""Of decoded pixels in [0, 1]: less than half a step of a screen."""


def figure(
    *maps: ActivationMaps,
    view: View = View(),
    layers: Sequence[int | str] | None = None,
    colormap: str | None = None,
    names: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    font_scale: float = FigureSpec.font_scale,
) -> Figure:
    """Draw the maps of one or more models of the same images.

    Args:
        maps: one per model; they keep the colour scale that they were made with. They must be of one kind, one
            scale, the same images and the same prompts.
        view: which layers, and the style; a `map_kind` or `scale` must be that of the maps.
        layers: in the place of `view.layers`.
        colormap: in the place of `view.colormap`; any of matplotlib's.
        names: what the models are called, one each; the provenance below keeps their own.
        titles: what the images are called, one each.
        font_scale: type this much larger on the same width of paper, 0.6 to 1.3; the pictures have what is left.

    Returns:
        A matplotlib figure; `.savefig(path)` writes it.

    Raises:
        InputError: there are no maps, or something else than maps; they cannot be compared, or `view` asks for others;
            there are not as many names or titles as models or images; or the type is too small or large.

    Examples:
        >>> figure(decode(trace, load_lens(model)).maps(), layers=[0, 4, 8]).savefig("fig.pdf")
    """
    if layers is not None:
        view = replace(view, layers=tuple(layers))
    if colormap is not None:
        view = replace(view, colormap=colormap)
    spec = figure_spec(maps, view=view)
    if names is not None:
        called = _one_each("names", names, len(maps), "models")
        cases = [
            replace(
                case,
                models=tuple(replace(one, name=name) for one, name in zip(case.models, called, strict=True)),
            )
            for case in spec.images
        ]
        spec = replace(spec, images=tuple(cases))
    if titles is not None:
        called = _one_each("titles", titles, len(spec.images), "images")
        cases = [replace(case, title=title) for case, title in zip(spec.images, called, strict=True)]
        spec = replace(spec, images=tuple(cases))
    return draw(replace(spec, font_scale=font_scale))


def _one_each(what: str, given: Sequence[str], count: int, of: str) -> tuple[str, ...]:
    if isinstance(given, str) or len(given) != count:
        raise InputError(f"expected {what} for {count} {of}, one each, got {given!r}.")
    return tuple(given)


def draw_panel(
    maps: ActivationMaps,
    axes: Axes,
    layer: int,
    *,
    what: str = "map",
    sample: int = 0,
    colormap: str = "viridis",
) -> AxesImage:
    """Draw one panel into a figure of one's own; see `ActivationMaps.show`.

    Args:
        maps: of one model.
        axes: where to draw.
        layer: which.
        what: `map`, `decoded`, `highlight` or `input`.
        sample: which image.
        colormap: any of matplotlib's.

    Returns:
        What matplotlib drew; of a `map`, `figure.colorbar` takes it.

    Raises:
        InputError: the layer, the image or `what` is none.
    """
    decoding = maps.decoding.select(layers=[layer], samples=[sample])
    image = np.asarray(decoding.images[0])
    height, width = image.shape[:2]
    spans = GridSpans.of(decoding.geometry[0].spans, (width, height))
    row = maps.layers.index(layer)
    values, (low, high) = maps.values[row, sample], maps.limits[row, sample].tolist()
    if what == "map":
        norm = Normalize(low, high)
        drawn = show_cells(axes, spans, values, (width, height), cmap=colormap, norm=norm)
    elif what == "decoded":
        pixels = to_bytes(decoding.decoded_images()[0, 0], MISSING)
        drawn = show_cells(axes, spans, pixels, (width, height))
    elif what in ("highlight", "input"):
        lit = image if what == "input" else highlight(image, values, (low, high), spans, colormap=colormap)
        drawn = axes.imshow(lit, extent=(0, width, height, 0))
    else:
        raise InputError(f"expected what to be map, decoded, highlight or input, got {what!r}.")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    return drawn


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
        images=tuple(
            _image_case(maps, alike, name, view)
            for (_, name), samples in questions.items()
            for alike in _alike(maps, samples)
        ),
        map_kind=maps[0].kind,
        scale=maps[0].scale,
        style=view.style,
        colormap=view.colormap,
        difference=view.difference,
        notes=tuple(notes(maps)),
    )


def _alike(maps: Sequence[ActivationMaps], samples: Sequence[int]) -> list[list[int]]:
    """Questions about one image, those together between which no picture differs.

    Where image tokens come before the text of a causal model that is all of them; where the text is mixed into them, or
    they see what is behind, each question has a picture of its own.
    """
    found: list[list[int]] = []
    for sample in samples:
        home = next((group for group in found if _same(maps, group[0], sample)), None)
        if home is None:
            found.append([sample])
        else:
            home.append(sample)
    return found


def _same(maps: Sequence[ActivationMaps], one: int, other: int) -> bool:
    """Whether the decoded pixels of two samples are the same to the eye, in every model."""
    pairs = ((each.decoding.patches[:, one], each.decoding.patches[:, other]) for each in maps)
    return all(np.allclose(a, b, rtol=0, atol=INVISIBLE, equal_nan=True) for a, b in pairs)


def _image_case(maps: Sequence[ActivationMaps], samples: list[int], name: str, view: View):
    """One image, and the questions about it between which its maps do not differ."""
    first, index = maps[0].decoding, samples[0]
    place = first.geometry[index]
    low, high = maps[0].true_limits()[index]
    # Over all layers that were decoded, shown or not: every picture of a comparison has the same colours.
    limit = float(map_difference(*maps[:2]).limit[index]) if view.difference and len(maps) > 1 else None
    return ImageCase(
        title=name,
        image=fit_image(np.asarray(first.images[index])),
        image_hash=first.image_hashes[index],
        prompt=_listed([first.prompts[sample] for sample in samples]),
        spans=GridSpans.of(place.spans, place.image_size),
        true_map=maps[0].true[index],
        true_limits=(float(low), float(high)),
        models=tuple(
            _model_case(each, name, samples, view)
            for each, name in zip(maps, row_names([each.decoding for each in maps]), strict=True)
        ),
        difference_limit=limit,
    )


def _listed(texts: Sequence[str]) -> str:
    """Several prompts or answers as one text, numbered."""
    return texts[0] if len(texts) == 1 else " ".join(f"({n}) {text}" for n, text in enumerate(texts, start=1))


def _model_case(maps: ActivationMaps, name: str, samples: list[int], view: View):
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
        name=name,
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
        spans=GridSpans.of(place.spans, place.image_size),
        n_layer=model.n_layer,
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
    called = row_names([each.decoding for each in maps])
    for name, each in zip(called, maps, strict=True):
        for reason in each.decoding.forced_reasons:
            yield f"{name}: the lens was forced although {reason}"
        for note in each.decoding.notes:
            yield f"{name}: {note}"
    first = maps[0].decoding
    yield from dict.fromkeys(
        f"{label.name or 'an image'}: {note}" for label in first.labels for note in label.notes
    )
    named: dict[str, list[str]] = {}
    for name, each in zip(called, maps, strict=True):
        for note in each.decoding.lens.notes:
            named.setdefault(note, []).append(name)
    for note, names in named.items():
        # Rows of one model have a comma in their names.
        yield f"{(' and ' if any(', ' in name for name in names) else ', ').join(names)}: {note}"
