"""The numbers that the web page's script works with: raw map values, colour tables, curves."""

import base64
import json
import math

import numpy as np

from emma_viz.render import colours
from emma_viz.render.depth import depth_of, is_relative
from emma_viz.render.figures.curves import FLOOR
from emma_viz.render.figures.map_rows import map_rows
from emma_viz.render.overlay import RISE, STRENGTH
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import FigureSpec, ImageCase, map_change, rms
from emma_viz.render.web.svg import Line, SvgChart
from emma_viz.render.words import clean


def script_data(spec: FigureSpec, charts: list[dict]) -> str:
    """What the page's script draws, as `script_json`."""
    data = {
        "tables": {"map": _hex(spec.color_table), "difference": _hex(colours.DIFFERENCE)},
        "strength": STRENGTH,
        "rise": RISE,
        "images": [{"scopes": _scopes(spec, case)} for case in spec.images],
        "charts": charts,
    }
    return script_json(data)


def script_json(data: dict) -> str:
    """JSON that may stand inside a script element: no character of it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def retention_chart(case: ImageCase) -> SvgChart | None:
    """R² by layer of all models; None when nobody measured it."""
    curves = [
        tuple((layer, float(r2)) for layer, r2 in model.retention if math.isfinite(r2))
        for model in case.models
    ]
    if not any(curves):
        return None
    relative = is_relative(case.models)
    lines = []
    for index, (model, curve) in enumerate(zip(case.models, curves, strict=True)):
        if curve:
            points = tuple(sorted((depth_of(model, layer, relative=relative), r2) for layer, r2 in curve))
            marked = frozenset(depth_of(model, layer, relative=relative) for layer in model.layers)
            lines.append(Line(name=clean(model.name), colour=index, points=points, marked=marked))
    lowest = min(r2 for curve in curves for _, r2 in curve)
    bottom = max(FLOOR, lowest - 0.08) if lowest < 0 else 0.0
    title = "R² of the decoded pixels by layer: " + ", ".join(
        f"{line.name} from {line.points[0][1]:.2f} to {line.points[-1][1]:.2f}" for line in lines
    )
    return SvgChart(lines=tuple(lines), bottom=bottom, top=1.0, relative=relative, title=title)


def difference_chart(case: ImageCase) -> SvgChart | None:
    """RMS difference of the two models' maps, and of their decoded images, by layer; None when all is NaN."""
    layers, values = map_change(case)
    lines = [_rms_line("maps", 6, layers, values)]
    first, second = case.subtracted
    if first.decoded.shape[1:] == second.decoded.shape[1:]:
        pair = (model.decoded[[model.layers.index(layer) for layer in layers]] for model in case.subtracted)
        one, other = (pixels.astype(np.float64) for pixels in pair)
        lines.append(_rms_line("decoded pixels", 3, layers, one - other))
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    top = max(y for line in lines for _, y in line.points) or 1.0
    return SvgChart(lines=tuple(lines), bottom=0.0, top=1.1 * top, digits=3, title="RMS difference by layer")


def _rms_line(name: str, colour: int, layers: tuple[int, ...], values: np.ndarray) -> Line:
    found = sorted((float(layer), rms(each)) for layer, each in zip(layers, values, strict=True))
    points = tuple((layer, value) for layer, value in found if math.isfinite(value))
    return Line(name=name, colour=colour, points=points, marked=frozenset(map(float, layers)))


def _scopes(spec: FigureSpec, case: ImageCase) -> list[dict]:
    """The true map, then one scope a model, then the difference, then the evidence of each model."""
    scopes = [_scope(case.true_map[None], [case.true_limits], case.spans)]
    for model in case.models:
        scopes.append(_scope(model.maps, spec.limits(case, model), case.spans_of(model)))
    for row in map_rows(spec, case):
        # The maps of a difference have one grid, those of the evidence each their own.
        parts = [row.maps] if row.kind == "difference" else [(each,) for each in row.maps]
        for maps in parts:
            values = np.stack([each.values for each in maps])
            scopes.append(_scope(values, [row.limits] * len(maps), maps[0].spans, table="difference"))
    return scopes


def _scope(maps: np.ndarray, limits, spans: GridSpans, table: str = "map") -> dict:
    """Raw values as base64 of single precision, so that the page paints and reads out what Python does."""
    shown = [
        {"values": base64.b64encode(values.astype("<f4").tobytes()).decode("ascii"), "limits": [low, high]}
        for values, (low, high) in zip(maps, limits, strict=True)
    ]
    return {"grid": list(spans.grid), "spans": spans.to_json(), "table": table, "maps": shown}


def _hex(name: str) -> str:
    return colours.colour_table(name).tobytes().hex()
