"""What a visitor takes home: the view as a picture or a page, or the whole study."""

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from apps.explorer.payload import payload
from apps.explorer.state import Result
from emma_viz.capture import open_study
from emma_viz.errors import InputError
from emma_viz.render.footer import provenance
from emma_viz.render.webpage import canvas_page
from emma_viz.session import Comparison, View, save, shown_layers
from emma_viz.session.studies import DECODING, NAMES

TYPES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "html": "text/html",
    "zip": "application/zip",
}
"""Format → media type."""

LOOK = ("layer", "kind", "scale", "colours", "blend", "smooth", "patch", "region")
"""What a saved page keeps of the view, by the names that links use; the canvas checks the values."""

LARGEST_STUDY = 300_000_000
"""Bytes of states beyond which a study is not sent through the browser."""


def save_view(
    result: Result,
    form: str,
    *,
    layer: int,
    kind: str,
    scale: str,
    colours: str,
    difference: bool,
    look: Mapping[str, str],
    place: Path | None = None,
) -> tuple[str, bytes]:
    """A file of what is on the page.

    Args:
        result: what is shown.
        form: a key of `TYPES`.
        layer: the layer on the page, which the picture shows among others.
        kind: of map.
        scale: `shared`, `per_row`, `per_map` or MIN:MAX.
        colours: the colour table.
        difference: also show the difference of two models.
        look: how a saved page looks when it is opened; other keys than those of `LOOK` are left out.
        place: where files may lie meanwhile; the system's folder when None.

    Returns:
        Its name and its bytes. Nothing is left on the server.

    Raises:
        InputError: a value is not known, or the study is too large or holds a link.
    """
    if form not in TYPES:
        raise InputError(f"A view is saved as {', '.join(TYPES)}; {form!r} was asked for.")
    name = "".join(
        c if c.isalnum() or c in "-_" else "-" for c in result.comparison.image_names[result.sample]
    )
    with tempfile.TemporaryDirectory(prefix="emma-viz-", dir=place) as folder:
        if form == "zip":
            return f"{name}-study.zip", _study(result, Path(folder))
        comparison = _one(result)
        if form == "html":
            return f"{name}.html", _page(comparison, {key: look[key] for key in LOOK if key in look})
        layers = {layer} | {
            each
            for decoding in comparison.decodings
            for each in shown_layers(decoding.layers, None, decoding.model.name)
        }
        common = sorted(
            each for each in layers if all(each in decoding.layers for decoding in comparison.decodings)
        )
        view = View(
            layers=tuple(common) or None, map_kind=kind, scale=scale, colormap=colours, difference=difference
        )
        path = Path(folder) / f"{name}.{form}"
        save(comparison.spec(view), path)
        return path.name, path.read_bytes()


def _page(comparison: Comparison, look: dict[str, str]) -> bytes:
    """The canvas with the shown image, every layer of it, and no server."""
    facts = [f"{what}: {text}" for what, text in provenance(comparison.spec(View()))]
    return canvas_page(payload(comparison, live=False), look, provenance=facts).encode("utf-8")


def _one(result: Result) -> Comparison:
    """The comparison with the shown image alone."""
    return Comparison(
        decodings=tuple(each.select(samples=[result.sample]) for each in result.comparison.decodings),
        image_names=(result.comparison.image_names[result.sample],),
    )


def _study(result: Result, folder: Path) -> bytes:
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


def _written(result: Result, path: Path) -> Path:
    """The run as a study that `emma-viz compare` opens."""
    study = open_study(path, create=True)
    names = list(result.comparison.image_names)
    for trace, decoding in zip(result.traces, result.comparison.decodings, strict=True):
        entry = study.add_trace(trace if result.size <= LARGEST_STUDY else trace.without_states())
        arrays, meta = decoding.to_arrays(with_images=False)
        study.save_arrays(entry, DECODING, arrays, meta)
        study.save_arrays(entry, NAMES, {}, {"images": names})
    return path
