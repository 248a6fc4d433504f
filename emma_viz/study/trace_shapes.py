"""What the parts of a trace must have in common to be one: held to when a trace is written and when it is read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from emma_viz.capture.sites import site_layers
from emma_viz.capture.trace import Trace
from emma_viz.errors import InputError
from emma_viz.models.attention_sites import ALL_SITES

_FLOATS = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}
"""Types of states, by the names that safetensors gives them."""
LARGEST_VIEW = 8192
"""The longest side of a model's input, pixels."""


def require_consistent(trace: Trace, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Refuse a trace whose parts contradict one another.

    Args:
        trace: whose states need not be read.
        shapes: type and shape of each stored tensor: `views`, `states/<site>`, `generated/<site>`.

    Raises:
        InputError: they do, with what was expected.
    """
    _require_layers(trace)
    _require_views(trace, *shapes["views"])
    for kind, sites in (("states", trace.states), ("generated", trace.generated)):
        for site in sites:
            _require_states(trace, kind, site, *shapes[f"{kind}/{site}"])


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Types and shapes of tensors in memory, as `require_consistent` takes them."""
    names = _FLOATS | {torch.uint8: "U8"}
    return {
        name: (names.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
        for name, tensor in tensors.items()
    }


def _require_layers(trace: Trace) -> None:
    unknown = [site for site in trace.sites if site not in ALL_SITES]
    if unknown or len(set(trace.sites)) != len(trace.sites):
        raise InputError(f"expected hook sites, each once, got {', '.join(map(repr, trace.sites))[:200]}")
    for site in trace.sites:
        site_layers(site, trace.layers, trace.model.n_layer, trace.model.mixer_layers)
    for name, kept in (("states", trace.states), ("generated", trace.generated)):
        if not set(kept) <= set(trace.sites):
            raise InputError(
                f"`{name}` are of sites that are not among those recorded, {', '.join(trace.sites)}"
            )


def _require_views(trace: Trace, dtype: str, shape: tuple[int, ...]) -> None:
    sizes = {each.view_size for each in trace.geometry}
    fits = len(shape) == 4 and shape[0] == len(trace.geometry) and shape[3] == 3
    if dtype != "U8" or not fits or len(sizes) > 1 or not sizes <= {shape[1:3]}:
        raise InputError(
            f"expected views of type U8 and shape (images, height, width, 3) for {len(trace.geometry)} images of "
            f"{', '.join(map(str, sorted(sizes))) or 'any size'}, got {dtype} {list(shape)}"
        )
    if max(shape[1:3]) > LARGEST_VIEW:
        raise InputError(f"expected views of at most {LARGEST_VIEW} pixels a side, got {max(shape[1:3])}")
    grids = {each.grid for each in trace.geometry}
    if trace.model.grid is None and len(grids) > 1:
        raise InputError(f"expected images of one grid, got {' and '.join(map(str, sorted(grids)))}")
    if trace.model.grid is not None and (grids := grids - {trace.model.grid}):
        raise InputError(
            f"the model's tokens lie on a grid of {trace.model.grid}, and an image's on {grids.pop()}"
        )


def _require_states(trace: Trace, kind: str, site: str, dtype: str, shape: tuple[int, ...]) -> None:
    if dtype not in _FLOATS.values():
        raise InputError(f"expected {kind} of a float type at {site!r}, got {dtype}")
    wide = (trace.model.d_model,) if ALL_SITES[site].shape == "B L D" else shape[3:]
    expected = (len(trace.layers_of(site)), len(trace), *shape[2:3], *wide)
    if len(shape) < 4 or shape != expected:
        raise InputError(
            f"expected {kind} at {site!r} with {expected[0]} layers, {expected[1]} samples, tokens and a width"
            f"{f' of {wide[0]}' if wide else ''}, got the shape {list(shape)}"
        )
    least = trace.lengths if kind == "states" else [len(ids) for ids in trace.answer_ids]
    exact = kind == "states" and trace.token_kind == "image" and bool(trace.geometry)
    if shape[2] < max(least, default=0) or (exact and shape[2] != trace.n_image_tokens):
        raise InputError(f"expected {kind} at {site!r} of {max(least, default=0)} tokens, got {shape[2]}")
