"""Where a figure's pictures come from, in words: the small print under every figure and page."""

import numpy as np

from emma_viz.render import colours
from emma_viz.render.spec import WEAK_MARK, FigureSpec, ImageCase, ModelCase, layers_said
from emma_viz.render.words import clean

SCALE_WORDS = {
    "shared": "one colour scale for all models and layers",
    "fixed": "one fixed colour scale for all models and layers",
    "per_row": "one colour scale for each model: colours cannot be compared between models",
    "per_map": "each map has its own colour scale: colours cannot be compared between maps",
}

UNIFORM = "The image is uniform: R² and r are not defined, and what the maps show was added by model or lens."
"""What is said beside an image of one colour."""

OWN_TRUTH = ("distance", "magnitude")
"""Kinds of map whose shared scale is that of the true pixels' map; the others compare with the true pixels."""


def provenance(spec: FigureSpec) -> list[tuple[str, str]]:
    """(what, words) pairs: lens, site, maps, models, images, notes."""
    models = [model for case in spec.images for model in case.models]
    facts = [
        ("Lens", _by_model(models, "lens", "not recorded")),
        ("Controls", _by_model(models, "controls", "not recorded")),
        ("Hook site", _by_model(models, "site", "not recorded")),
        ("Maps", f"{spec.map_label}; {_limits(spec)}{_unseen(spec)}"),
        ("Models", "; ".join(_once(clean(f"{model.name} {_bracketed(model.revision)}") for model in models))),
        ("Images", "; ".join(_once(_hash_of(case) for case in spec.images))),
    ]
    if spec.difference:
        pairs = [case.subtracted for case in spec.images]
        what = "; ".join(
            _once(f"map of {clean(one.name)} minus map of {clean(other.name)}" for one, other in pairs)
        )
        what = f"{what}, raw values"
        facts.insert(3, ("Difference", what))
    facts.extend(("Note", clean(note)) for note in spec.notes)
    return facts


def remarks(case: ImageCase) -> list[tuple[str, str]]:
    """What a reader must know of an image, with the colour it is written in."""
    return [(UNIFORM, colours.SOFT)] if case.uniform else []


def warnings(spec: FigureSpec) -> list[str]:
    """What a reader must know before believing the pictures."""
    found = []
    forced = _once(clean(model.name) for case in spec.images for model in case.models if model.forced)
    if forced:
        whose = " and ".join(forced)
        found.append(f"Warning: the lens of {whose} does not belong to these states (forced).")
    for name, layers in _marked(spec).items():
        found.append(
            f"Warning: what the lens draws of {name} at {layers_said(layers)} ({WEAK_MARK}, dashed) does not beat its "
            "controls; see Controls."
        )
    found += [
        f"Warning: the evidence of {clean(model.name)} for {clean(case.word or '')} ({WEAK_MARK}, dashed): "
        f"{verdict_of(model)}."
        for case in spec.images
        for model in case.models
        if model.evidence is not None and not model.beats
    ]
    for case in spec.images:
        for model in case.models:
            if count := int((~np.isfinite(model.maps)).sum()):
                found.append(
                    f"Warning: {count} of {model.maps.size} patches that {clean(model.name)} holds of "
                    f"{clean(case.title)} are not finite numbers and drawn grey."
                )
    return found


def verdict_of(model: ModelCase) -> str:
    """Whether a model's evidence names tokens that matter, in words."""
    return clean(model.judged) or "not judged"


def _marked(spec: FigureSpec) -> dict[str, list[int]]:
    """Name → the marked layers of every model that has some."""
    found: dict[str, set[int]] = {}
    for case in spec.images:
        for model in case.models:
            if model.marked:
                found.setdefault(clean(model.name), set()).update(model.marked)
    return {name: sorted(layers) for name, layers in found.items()}


def _limits(spec: FigureSpec) -> str:
    words = SCALE_WORDS[spec.scale]
    if spec.scale not in ("shared", "fixed"):
        return words
    ranges = _once(f"{number(case.true_limits[0])} to {number(case.true_limits[1])}" for case in spec.images)
    own = spec.scale == "shared" and spec.map_kind in OWN_TRUTH
    source = " (from the map of the true pixels)" if own else ""
    whose = " of an image" if len(ranges) > 1 else ""
    return f"{words}{whose}: {', '.join(ranges)}{source}"


def _unseen(spec: FigureSpec) -> str:
    every = [case.spans for case in spec.images]
    every += [case.spans_of(model) for case in spec.images for model in case.models]
    return "; hatched: no patch sees it" if any(spans.unseen() for spans in every) else ""


def _by_model(models: list[ModelCase], field: str, missing: str) -> str:
    """One text if all models agree, else what there is of each, whose name is its own in an image."""
    values: dict[str, list[str]] = {}
    for model in models:
        values.setdefault(clean(model.name), []).append(clean(getattr(model, field)) or missing)
    said = {name: " / ".join(_once(some)) for name, some in values.items()}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{name}: {value}" for name, value in said.items())


def _hash_of(case: ImageCase) -> str:
    return f"{clean(case.title)} sha256 {case.image_hash[:16] or 'not recorded'}"


def _bracketed(text: str) -> str:
    return f"({text})" if text else ""


def _once(items) -> list[str]:
    return list(dict.fromkeys(items))


def number(value: float, figures: int = 3) -> str:
    """A value of a map as a reader wants it: few figures, a real minus, a large one written out."""
    short = f"{value:.{figures}g}"
    return (f"{float(short):.0f}" if abs(value) >= 10**figures else short).replace("-", "−")


def fidelity(value: float) -> str:
    """A correlation with two decimals, or a dash where it is undefined (a constant map)."""
    return f"r {value:.2f}".replace("-", "−") if value == value else "r –"
