"""What a visitor takes home: the view as a picture or a page, or the whole study."""

import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.explorer.copying import as_command, as_python
from apps.explorer.evidence import shown_evidence
from apps.explorer.masking import said_of
from apps.explorer.offer import Settings
from apps.explorer.ordering import ordered
from apps.explorer.places import extent_of, region_of, translate
from apps.explorer.questions import OfView
from apps.explorer.state import Phrase, RunResult
from apps.explorer.values import as_csv, as_npz
from emma_viz import __version__
from emma_viz.errors import InputError
from emma_viz.maps import map_difference
from emma_viz.render import FigureSpec
from emma_viz.render.colours import COLORMAPS
from emma_viz.render.film import MOVING
from emma_viz.render.footer import number, provenance
from emma_viz.render.recipe import with_recipe
from emma_viz.render.sidecar import to_json
from emma_viz.render.spec import MAP_KINDS
from emma_viz.render.web.page import canvas_page
from emma_viz.session import Comparison, View, shown_layers, write_picture
from emma_viz.session.capturing.stores import DECODING
from emma_viz.session.entry_names import NAMES
from emma_viz.session.payload import payload
from emma_viz.session.picture import figure_spec
from emma_viz.study import open_study

FILE_TYPES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "html": "text/html",
    "gif": "image/gif",
    "webp": "image/webp",
    "csv": "text/csv",
    "npz": "application/x-npz",
    "py": "text/x-python",
    "sh": "application/x-sh",
    "zip": "application/zip",
}
"""Format → media type."""

LOOK = ("layer", "kind", "scale", "colours", "blend", "smooth", "pair", "patch", "region", "word", "evidence")
"""What a saved page keeps of the view, by the names that links use; the canvas checks the values. Its models are in
the order of the page to begin with."""

LARGEST_STUDY = 300_000_000
"""Bytes of states beyond which a study is not sent through the browser."""


def save_view(
    result: RunResult, view: OfView, *, settings: Settings, place: Path | None = None
) -> tuple[str, bytes]:
    """A file of what is on the page.

    Args:
        result: what is shown.
        view: what of it, and how.
        settings: where its models come from.
        place: where files may lie meanwhile; the system's folder when None.

    Returns:
        Its name and its bytes. Nothing is left on the server.

    Raises:
        InputError: a value is not known, or the study is too large or holds a link.
    """
    form = view.format
    if form not in FILE_TYPES:
        raise InputError(f"A view is saved as {', '.join(FILE_TYPES)}; {form!r} was asked for.")
    name = "".join(
        c if c.isalnum() or c in "-_" else "-" for c in result.comparison.image_names[result.sample]
    )
    result = ordered(result, view.look)
    comparison = _one(result)
    if form in ("csv", "npz", "py", "sh"):
        _require_shown(view, comparison)
        if form in ("py", "sh"):
            text = (as_python if form == "py" else as_command)(result, view, settings, name)
            return f"{name}.{form}", text.encode("utf-8")
        word = _word(result, view.look)
        evidence = None if word is None else result.evidence[word]
        return f"{name}.{form}", (as_csv if form == "csv" else as_npz)(result, comparison, view, evidence)
    _require_pair(view, comparison)
    with tempfile.TemporaryDirectory(prefix="emma-viz-", dir=place) as folder:
        if form == "zip":
            return f"{name}-study.zip", _study(result, Path(folder))
        spec = _figure(result, comparison, view)
        if form == "html":
            seen = {key: view.look[key] for key in LOOK if key in view.look}
            return f"{name}.html", _page(result, comparison, spec, seen)
        path = Path(folder) / f"{name}.{form}"
        write_picture(spec, path)
        return path.name, path.read_bytes()


def _require_shown(view: OfView, comparison: Comparison) -> None:
    """Refuse a view that the page cannot have.

    Raises:
        InputError: a model has no such layer, or there is no such map or colour table.
    """
    layers = [each.layers for each in comparison.decodings]
    if len(view.layers) != len(layers) or any(
        layer not in known for layer, known in zip(view.layers, layers, strict=True)
    ):
        raise InputError("The view names a layer that a model does not have.")
    _require_pair(view, comparison)
    if view.kind not in MAP_KINDS or view.colours not in COLORMAPS:
        raise InputError("The view names a map or colours that are not known.")
    View(scale=view.scale)


def _require_pair(view: OfView, comparison: Comparison) -> None:
    """Refuse a difference of models that are not there.

    Raises:
        InputError: one is not, or both are the same.
    """
    if view.difference and (
        len({*view.pair}) < 2 or not all(0 <= each < len(comparison.decodings) for each in view.pair)
    ):
        raise InputError("The view names a difference of models that are not there.")


def _figure(result: RunResult, comparison: Comparison, wanted: OfView) -> FigureSpec:
    """The figure of a view, with what else the page showed."""
    look, layers = wanted.look, wanted.layers
    view = View(
        map_kind=wanted.kind, scale=wanted.scale, colormap=wanted.colours, difference=wanted.difference
    )
    every = f".{wanted.format}" in MOVING
    spec = _spec(comparison, view, layers, wanted.pair, names=result.names, every=every)
    spec = replace(spec, notes=(*spec.notes, *_seen(result, comparison, view, look, layers)))
    if (region := region_of(look, comparison.decodings[0].grid)) is not None:
        kept = extent_of(region, comparison.decodings[0].geometry[0])
        spec = replace(spec, images=(replace(spec.images[0], kept=kept),))
    return _with_word(spec, result, comparison, wanted)


def _spec(
    comparison: Comparison,
    view: View,
    seen: Sequence[int],
    pair: tuple[int, int],
    *,
    names: Sequence[str],
    every: bool,
) -> FigureSpec:
    """A figure with rows called as on the page, each of its own layers: every one, or those that figures show and the
    one on the page."""
    maps, decodings = comparison.maps(view), comparison.decodings
    own = [decoding.layers for decoding in decodings] if every else []
    for index, decoding in enumerate(() if every else decodings):
        also = {seen[index]} if index < len(seen) and seen[index] in decoding.layers else set()
        own.append(tuple(sorted({*shown_layers(decoding.layers, None, decoding.model.name), *also})))
    alone = replace(view, difference=False)
    whole = figure_spec(maps, view=alone, image_names=comparison.image_names)
    models = tuple(
        replace(figure_spec([each], view=replace(alone, layers=layers)).images[0].models[0], name=name)
        for name, each, layers in zip(names, maps, own, strict=True)
    )
    case = replace(whole.images[0], models=models, pair=pair)
    if not view.difference:
        return replace(whole, images=(case,))
    if own[pair[0]] != own[pair[1]]:
        first, second = (names[each] for each in pair)
        said = f"No difference of {first} and {second} is drawn: it is of one layer of both, and their layers differ."
        return replace(whole, images=(case,), notes=(*whole.notes, said))
    limit = float(map_difference(maps[pair[0]], maps[pair[1]]).limit[0])
    return replace(whole, images=(replace(case, difference_limit=limit),), difference=True)


def _seen(
    result: RunResult, comparison: Comparison, view: View, look: Mapping[str, str], layers: Sequence[int]
) -> list[str]:
    """What else the page showed, in words and numbers: layers, place, word, and what was asked of what."""
    names = result.names
    at = ", ".join(
        f"{name} {'embedding' if layer < 0 else layer}" for name, layer in zip(names, layers, strict=False)
    )
    found = [f"On the page: layer {at}." if at else "On the page: every layer."]
    if (region := region_of(look, comparison.decodings[0].grid)) is not None:
        top, left, bottom, right = region
        one = (top, left) == (bottom, right)
        where = (
            f"Patch: row {top}, column {left}"
            if one
            else f"Region: rows {top} to {bottom}, columns {left} to {right}"
        )
        found.append(f"{where}; {_values(result, comparison, view, region, layers)}.")
    if (word := _word(result, look)) is not None:
        reply, said = result.evidence[word], f"Word “{_text(result, word)}” of {names[word[0]]}"
        found.append(f"{said}, {reply['method']}: {_evidence(result, comparison, reply, layers)}.")
    found += said_of(result)
    asked = f"; answers of up to {result.asked.tokens} tokens" if result.traces else ""
    return [*found, f"Saved from the explorer of emma_viz {__version__}{asked}."]


def _values(
    result: RunResult,
    comparison: Comparison,
    view: View,
    region: tuple[int, int, int, int],
    layers: Sequence[int],
) -> str:
    """The map's mean over a region of the first model's grid, and over the same place of the others'."""
    maps, said = comparison.maps(view), []
    for name, each, layer in zip(result.names, maps, layers, strict=False):
        place = translate(region, maps[0].decoding.geometry[0], each.decoding.geometry[0])
        if place is not None and layer in each.decoding.layers:
            top, left, bottom, right = place
            shown = each.values[each.decoding.layers.index(layer), 0, top : bottom + 1, left : right + 1]
            said.append(f"{name} {number(float(shown.mean()))}")
    top, left, bottom, right = region
    true = maps[0].true[0, top : bottom + 1, left : right + 1]
    return f"{MAP_KINDS[view.kind]}: {', '.join(said)}; of the true pixels {number(float(true.mean()))}"


def _with_word(spec: FigureSpec, result: RunResult, comparison: Comparison, wanted: OfView) -> FigureSpec:
    """The figure with the evidence that was on the page, if it is kept."""
    if (key := _word(result, wanted.look)) is None:
        return spec
    (case,), reply = spec.images, result.evidence[key]
    maps = shown_evidence(reply, comparison, wanted.layers)
    models = tuple(
        replace(
            model,
            evidence=values,
            score=score if np.isfinite(score) and not reply["layered"] else None,
            judged=judged,
            beats=beats,
        )
        for model, values, score, judged, beats in zip(
            case.models, maps, *(reply[name] for name in ("scores", "judged", "beats")), strict=True
        )
    )
    about = f"“{_text(result, key)}” of {case.models[key[0]].name}, {reply['method']}"
    about += " at the layer of the page" if reply["layered"] else ""
    return replace(spec, images=(replace(case, models=models, word=about),))


def _evidence(result: RunResult, comparison: Comparison, reply: dict[str, Any], layers: Sequence[int]) -> str:
    """Per row, the largest change for an image token and where that is, and the words' score."""
    said, maps = [], shown_evidence(reply, comparison, layers)
    for name, values, score in zip(result.names, maps, reply["scores"], strict=True):
        row, column = divmod(int(np.abs(values).argmax()), values.shape[1])
        said.append(
            f"{name} at most {number(float(values[row, column]), 2)} nats for a token (row {row}, column {column}), "
            f"the word's {reply['scored']} is {number(float(score), 2)} nats"
        )
    return "; ".join(said)


def _text(result: RunResult, key: Phrase) -> str:
    """The words of a phrase."""
    row, first, last, _ = key
    return "".join(word.text for word in result.words[row][first : last + 1]).strip()


def _word(result: RunResult, look: Mapping[str, str]) -> Phrase | None:
    """The words whose evidence was on the page, if it is kept."""
    if not re.fullmatch(r"\d{1,3}(,\d{1,5}){1,2}", look.get("word", ""), re.ASCII):
        return None
    row, first, *last = map(int, look["word"].split(","))
    wanted, method = (row, first, last[0] if last else first), look.get("evidence", "")
    found = [key for key in result.evidence if key[:3] == wanted and method in ("", key[-1])]
    return found[-1] if found else None


def _page(result: RunResult, comparison: Comparison, spec: FigureSpec, look: dict[str, str]) -> bytes:
    """The canvas with the shown image, every layer of it, the word's evidence, and no server."""
    facts = [f"{what}: {text}" for what, text in provenance(spec)]
    words = [[word.text for word in each] for each in result.words] or None
    shown = payload(comparison, names=result.names, words=words, live=False)
    if (word := _word(result, look)) is not None:
        shown["evidence"] = {
            ",".join(map(str, word[: 2 if word[1] == word[2] else 3])): result.evidence[word]
        }
    document = canvas_page(shown, look, provenance=facts)
    return with_recipe(document.encode("utf-8"), ".html", to_json(spec))


def _one(result: RunResult) -> Comparison:
    """The comparison with the shown image alone."""
    return Comparison(
        decodings=tuple(each.select(samples=[result.sample]) for each in result.comparison.decodings),
        image_names=(result.comparison.image_names[result.sample],),
    )


def _study(result: RunResult, folder: Path) -> bytes:
    root = result.study or _written(result, folder / "study")
    # What the study is made of: a folder may hold other files, and links to any file of the server's.
    files = sorted(open_study(root).files())
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST_STUDY:
        raise InputError(
            f"The study has {size / 1e6:.0f} MB, and {LARGEST_STUDY / 1e6:.0f} are sent at most; make it on the "
            "server with `emma-viz capture`."
        )
    archive = folder / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in files:
            file.write(path, Path("study") / path.relative_to(root))
    return archive.read_bytes()


def _written(result: RunResult, path: Path) -> Path:
    """The run as a study that `emma-viz compare` opens."""
    study = open_study(path, create=True)
    names = list(result.comparison.image_names)
    for trace, decoding in zip(result.traces, result.comparison.decodings, strict=True):
        entry = study.add_trace(trace if result.size <= LARGEST_STUDY else trace.without_states())
        arrays, meta = decoding.to_arrays(with_images=False)
        study.save_arrays(entry, DECODING, arrays, meta)
        study.save_arrays(entry, NAMES, {}, {"images": names})
    return path
