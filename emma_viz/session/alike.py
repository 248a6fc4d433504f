"""What can stand beside one another in one figure."""

from collections.abc import Sequence

import numpy as np

from emma_viz.errors import InputError
from emma_viz.maps import ActivationMaps
from emma_viz.session.options import View

_HINTS = {
    "Trace": "decode it first: decode(trace, load_lens(model)).maps()",
    "Decoding": "make its maps: decoding.maps()",
    "Comparison": "draw it with comparison.figure()",
    "list": "pass the maps one by one: figure(*maps)",
    "tuple": "pass the maps one by one: figure(*maps)",
}
"""What somebody may take for maps, and what to do with it, by the name of its class."""


def require_alike_maps(maps: Sequence[object]) -> None:
    """Refuse maps that cannot be compared in one figure.

    Raises:
        InputError: there are none, something is no maps, or two differ in kind, scale, images or prompts.
    """
    if not maps:
        raise InputError("expected the maps of at least one model, got none.")
    known = []
    for each in maps:
        if not isinstance(each, ActivationMaps):
            hint = _HINTS.get(type(each).__name__, "see decoding.maps()")
            raise InputError(
                f"expected the maps of a model (ActivationMaps), got a {type(each).__name__}; {hint}."
            )
        known.append(each)
    for other in known[1:]:
        names = known[0].decoding.model.name, other.decoding.model.name
        for what, one, two in _sides(known[0], other):
            if one != two:
                raise InputError(
                    f"one figure shows maps that can be compared, but {names[0]} has {what} {_short(one)} "
                    f"and {names[1]} {_short(two)}; make both alike, or draw two figures."
                )


def require_view(maps: ActivationMaps, view: View) -> None:
    """Refuse a view that asks for other maps than there are.

    Raises:
        InputError: its kind or its scale is another one.
    """
    scale, limits = view.scale_and_limits()
    fixed = limits is not None and not np.allclose(maps.limits, np.array(limits, np.float32))
    if view.scale is not None and (scale != maps.scale or fixed):
        raise InputError(
            f"the view asks for the scale {view.scale!r}, and these maps were made with {maps.scale!r}: make them with "
            "maps(scale=…) or on_scale(…), or leave the view's scale out."
        )
    if view.map_kind is not None and view.map_kind != maps.kind:
        raise InputError(
            f"the view asks for maps of the kind {view.map_kind!r}, and these are {maps.kind!r}: make them with "
            f"maps({view.map_kind!r}), or leave the view's map_kind out."
        )


def _sides(first: ActivationMaps, second: ActivationMaps):
    """(what, the first's, the second's) of all that must be equal."""
    one, two = first.decoding, second.decoding
    yield "maps of the kind", first.kind, second.kind
    yield "the scale", first.scale, second.scale
    yield (
        "the images",
        tuple(each[:8] for each in one.image_hashes),
        tuple(each[:8] for each in two.image_hashes),
    )
    yield "the prompts", one.prompts, two.prompts


def _short(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words if len(words) <= 120 else words[:119] + "…"
