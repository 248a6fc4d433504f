"""Comparison → payload: everything that the canvas draws of one image, as JSON (docs/explorer.md has the contract)."""

import base64
import io
import itertools
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from emma_viz.errors import InputError
from emma_viz.maps import ActivationMaps, Decoding, map_difference, measure
from emma_viz.render import GridSpans, fit_image
from emma_viz.render.colours import COLORMAPS, colour_table
from emma_viz.render.overlay import GREYING, LIGHTENING, MISSING, RISE, STRENGTH, to_bytes
from emma_viz.render.spec import MAP_KINDS
from emma_viz.session import Comparison, View
from emma_viz.session.picture import notes
from emma_viz.session.row_names import row_names

SCHEMA = 3
"""Version of the payload; the canvas refuses any other."""

_LONGEST = 768
"""Pixels of the longer side of the photograph that the page gets."""

RAW_BYTES = 6_000_000
"""Decoded images of one model beyond this go as PNG, below as plain bytes, unless a page must be small."""

_QUALITY = 90
"""Of pictures where a page must be small, as WebP: not exact."""

KIND_WORDS = {
    "distance": (
        "distance",
        "Per patch, how far the decoded pixels are from the median decoded patch (L2). Objects stand out.",
    ),
    "magnitude": (
        "magnitude",
        "Per patch, the L2 norm of the decoded pixels about mid grey: the paper's map.",
    ),
    "error": ("error", "Per patch, how far the decoded pixels are from the true ones (L2). 0 is perfect."),
    "cosine": (
        "cosine",
        "Per patch, whether it differs from a typical patch in the way the true one does. 1 is perfect, 0 unrelated.",
    ),
}
"""Map kind → its name in the menu and what it means."""


def payload(
    comparison: Comparison,
    *,
    sample: int = 0,
    names: Sequence[str] | None = None,
    words: Sequence[Sequence[str]] | None = None,
    live: bool = True,
    small: bool = False,
) -> dict[str, Any]:
    """What the canvas shows of one image.

    The numbers are those of the Python API: maps are the float32 values of `comparison.maps`, scores those of
    `measure`; the decoded pixels are rounded to bytes.

    Args:
        comparison: the decodings of one or more models.
        sample: which of its images.
        names: what the rows are called, one each; `row_names` when None.
        words: per model, the answer in pieces that join to it again; each may be clicked.
        live: whether the models can be asked further questions.
        small: compress the photograph and the decoded images as WebP of quality 90, which is not exact; maps,
            scores and the true pixels stay exact.
    """
    decodings = [each.select(samples=[sample]) for each in comparison.decodings]
    chosen = Comparison(decodings=tuple(decodings), image_names=(comparison.image_names[sample],))
    maps = {kind: chosen.maps(View(map_kind=kind)) for kind in KIND_WORDS}
    called = names or row_names(decodings)
    first = decodings[0]
    image = first.images[0]
    return {
        "schema": SCHEMA,
        "image": {
            "name": chosen.image_names[0],
            "hash": first.image_hashes[0],
            "size": list(image.size),
            "uniform": len(image.getcolors(1) or ()) == 1,
            "src": picture_address(fit_image(np.asarray(image), _LONGEST), small=small),
        },
        "prompt": first.prompts[0],
        "notes": list(notes(maps["distance"])),
        "kinds": [
            {"id": kind, "name": name, "label": MAP_KINDS[kind], "help": meaning}
            for kind, (name, meaning) in KIND_WORDS.items()
        ],
        "tables": {name: colour_table(name).tobytes().hex() for name in COLORMAPS},
        "differences": _differences(maps),
        "overlay": {"greying": GREYING, "lightening": LIGHTENING, "rise": RISE, "strength": STRENGTH},
        "models": [
            _model(
                decoding,
                {kind: maps[kind][index] for kind in KIND_WORDS},
                called[index],
                words[index] if words else (),
                live=live,
                small=small,
            )
            for index, decoding in enumerate(decodings)
        ],
    }


def _model(
    decoding: Decoding,
    maps: dict[str, ActivationMaps],
    name: str,
    words: Sequence[str],
    *,
    live: bool,
    small: bool,
) -> dict[str, Any]:
    place, model = decoding.geometry[0], decoding.model
    scores = measure(decoding)
    # What a lens can do was measured at its own site: of states that it was forced on it says nothing.
    quality = [None if decoding.forced else decoding.lens.quality_of(layer) for layer in decoding.layers]
    return {
        "name": name,
        "revision": " ".join(part for part in (model.revision, model.fingerprint[:12], model.dtype) if part),
        "site": decoding.site,
        "lens": decoding.lens.describe(),
        "lens_kind": decoding.lens.kind,
        "lens_quality": [each and _finite(each.to_json()) for each in quality],
        "controls": [{"beats": each.beats, "said": each.said} for each in decoding.verdicts],
        "forced": list(decoding.forced_reasons),
        "live": live,
        "answer": decoding.answers[0] if decoding.answers else "",
        "words": list(words),
        "layers": list(decoding.layers),
        "n_layer": model.n_layer,
        "grid": list(place.grid),
        "patch": place.patch,
        "spans": GridSpans.of(place.spans, place.image_size).to_json(),
        "truth": _base64(to_bytes(decoding.true_images()[0])),
        "decoded": _pictures(decoding, small),
        "scores": {
            name: [_number(getattr(score.images[0], name)) for score in scores]
            for name in ("r2", "psnr", "ssim")
        },
        "maps": {kind: _map(each) for kind, each in maps.items()},
    }


def _differences(maps: dict[str, tuple[ActivationMaps, ...]]) -> dict[str, dict[str, float]]:
    """Of two models, "first,second" → map kind → half the width of their difference's colour scale."""
    count, found = len(next(iter(maps.values()))), {}
    for one, other in itertools.combinations(range(count), 2):
        with suppress(InputError):  # other patches or layers: nothing to show
            found[f"{one},{other}"] = {
                kind: float(map_difference(each[one], each[other]).limit[0]) for kind, each in maps.items()
            }
    return found


def _map(maps: ActivationMaps) -> dict[str, Any]:
    """Raw values of all layers and of the true pixels, with the colour limits of every scale."""
    row, own = maps.on_scale("per_row"), maps.on_scale("per_map")
    shared = maps.limits[0, 0].tolist()
    truth = own.true_limits()[0].tolist()
    return {
        "values": _base64(maps.values[:, 0].astype("<f4")),
        "true": _base64(maps.true[0].astype("<f4")),
        "limits": {
            "shared": shared,
            "per_row": row.limits[0, 0].tolist(),
            "per_map": own.limits[:, 0].tolist(),
            "true": {"shared": shared, "per_row": truth, "per_map": truth},
        },
        "correlation": [_number(value) for value in maps.correlation[:, 0]],
    }


def _pictures(decoding: Decoding, small: bool) -> dict[str, Any]:
    pictures = [to_bytes(picture, MISSING) for picture in decoding.decoded_images()[:, 0]]
    if not small and sum(picture.nbytes for picture in pictures) <= RAW_BYTES:
        return {"encoding": "raw", "data": _base64(np.stack(pictures))}
    return {
        "encoding": "pictures",
        "data": [picture_address(picture, small=small) for picture in pictures],
    }


def picture_address(pixels: np.ndarray, *, small: bool = False) -> str:
    """RGB bytes as the address of a PNG, or of a small and inexact WebP, that is its own content."""
    stream, kind = io.BytesIO(), "webp" if small else "png"
    Image.fromarray(pixels).save(stream, format=kind, quality=_QUALITY, compress_level=3)
    return f"data:image/{kind};base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _number(value: float | np.floating) -> float | None:
    """JSON has no NaN and no infinity: None stands for both."""
    return float(value) if math.isfinite(value) else None


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, str) else value for key, value in record.items()}
