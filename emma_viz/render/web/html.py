"""A figure as one self-contained web page: it opens offline, and every request to outside is forbidden.

The page holds the photograph once, the decoded images as PNG, and the maps as raw values that the canvas's script
paints; words are escaped, and a content security policy allows no script but the page's own.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

from emma_viz.render import colours
from emma_viz.render.figures.layout import WIDE
from emma_viz.render.figures.map_rows import MapRow, RowMap, map_rows
from emma_viz.render.footer import fidelity, number, provenance, remarks, warnings
from emma_viz.render.overlay import GREYING, LIGHTENING, fit_image, to_bytes
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import (
    ONE_SCALE,
    FigureSpec,
    ImageCase,
    Limits,
    ModelCase,
    layer_label,
    marked_label,
)
from emma_viz.render.web.data import difference_chart, retention_chart, script_data
from emma_viz.render.web.page import document
from emma_viz.render.words import clean

_LONGEST = 720
_KINDS = {"default": ("decoded", "map", "highlight"), "paper": ("map", "highlight")}


def page(spec: FigureSpec) -> str:
    """The whole page as HTML text.

    Args:
        spec: what to show; with `difference` the page also shows the two models' differences layer by layer.
    """
    charts: list[dict] = []
    sections = [_Section(spec, case, index, charts).draw() for index, case in enumerate(spec.images)]
    style = (resources.files("emma_viz.render") / "web" / "page.css").read_text(encoding="utf-8")
    title = ", ".join(clean(case.title) for case in spec.images[:3]) + (" …" if len(spec.images) > 3 else "")
    body = [
        "<main><header><h1>What the image tokens hold, layer by layer</h1>",
        f'<p class="lead">{escape(_lead(spec))}</p>',
        *(f'<p class="warning" role="alert">{escape(text)}</p>' for text in warnings(spec)),
        "</header>",
        *sections,
        _footer(spec),
        "</main>",
    ]
    return document(
        title=f"{title}: what the image tokens hold",
        style=style + _photos(spec),
        body="\n".join(body),
        data=script_data(spec, charts),
    )


def _lead(spec: FigureSpec) -> str:
    names = list(dict.fromkeys(clean(model.name) for case in spec.images for model in case.models))
    many = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    return (
        f"The states of the image tokens of {many}, turned back into pixels by a lens at each layer. Each map shows, "
        f"patch by patch, the {spec.map_label}; r is its correlation with the same map of the true pixels."
    )


def _photos(spec: FigureSpec) -> str:
    """Each photograph once, as a class that panels share."""
    rules = []
    for index, case in enumerate(spec.images):
        address = _png(fit_image(case.image, _LONGEST))
        rules.append(f".photo-{index} {{ background-image: url({address}); }}\n")
    return f":root {{ --grey: {GREYING}; --light: {LIGHTENING}; }}\n" + "".join(rules)


def _footer(spec: FigureSpec) -> str:
    facts = "".join(f"<dt>{escape(what)}</dt><dd>{escape(text)}</dd>" for what, text in provenance(spec))
    return f"<footer><h2>Provenance</h2><dl>{facts}</dl></footer>"


class _Section:
    """One image with all its models. Scope 0 is the true map, then one a model, then the difference, the evidence."""

    def __init__(self, spec: FigureSpec, case: ImageCase, index: int, charts: list[dict]):
        self.spec, self.case, self.index, self.charts = spec, case, index, charts
        self.kinds = _KINDS[spec.style]
        self.wide = case.aspect > WIDE

    def draw(self) -> str:
        parts = [f'<section class="case" id="image-{self.index}">', self._head()]
        parts.extend(self._model(scope, model) for scope, model in enumerate(self.case.models, start=1))
        drawn = {"difference": self._difference, "evidence": self._evidence}
        parts.extend(drawn[row.kind](row) for row in map_rows(self.spec, self.case))
        return "\n".join([*parts, self._numbers(), "</section>"])

    def _head(self) -> str:
        case, true_map = self.case, f"{self.index}/0/0"
        answer = "".join(f'<p class="small">{escape(text)}</p>' for text, _ in remarks(case))
        answer += f"<p class=small>Truth: {escape(clean(case.truth))}</p>" if case.truth else ""
        caption = f'<p class="caption"><span class="value" data-value="{true_map}"></span></p>'
        table = self.spec.color_table
        bar = _bar(case.true_limits, table, self.spec.map_label) if self.spec.scale in ONE_SCALE else ""
        return (
            f'<div class="row"><div class="words"><h2>{escape(clean(case.title))}</h2>'
            f"<blockquote>{_quoted(case.prompt, '(no prompt)')}</blockquote>{answer}</div>"
            f'<div><div class="top{" wide" if self.wide else ""}" data-scope="0">'
            f'<figure><p class="label">input</p>{self._panel("input", case.spans)}</figure>'
            f'<figure><p class="label">map of true pixels</p>'
            f"{self._panel('map', case.spans, true_map, 'map of the true pixels')}{caption}</figure>"
            f"{self._chart(retention_chart(case), 'R² of the decoded pixels')}</div>{bar}"
            '<p class="readout" aria-live="polite">Point at a patch, or move with the arrow keys from a panel, to '
            "read its raw value in every map.</p></div></div>"
        )

    def _chart(self, chart, label: str) -> str:
        if chart is None:
            return ""
        self.charts.append(chart.payload())
        drawn = chart.draw(len(self.charts) - 1)
        return f'<figure><p class="label">{label}</p>{drawn}<p class="chart-values">&nbsp;</p></figure>'

    def _model(self, scope: int, model: ModelCase) -> str:
        name = escape(clean(model.name))
        forced = (
            '<p class="forced">Warning: lens forced on states that it does not belong to</p>'
            if model.forced
            else ""
        )
        about = "".join(
            f'<p class="small">{escape(clean(text))}</p>'
            for text in (model.lens, model.controls, model.revision)
            if text
        )
        rows = {
            kind: [self._cell(kind, scope, model, j) for j in range(len(model.layers))] for kind in self.kinds
        }
        bar = (
            _bar(self.spec.limits(self.case, model)[0], self.spec.color_table, self.spec.map_label)
            if self.spec.scale == "per_row"
            else ""
        )
        grid = self._grid(rows, [marked_label(model, layer) for layer in model.layers])
        return (
            f'<article class="row" data-scope="{scope}"><div class="words" style="--c:var(--m{scope - 1})">'
            f'<h3><span class="key"></span>{name}</h3>{forced}<blockquote>{_quoted(model.answer)}</blockquote>'
            f'{about}</div><div><div class="strip">{grid}</div>{bar}</div></article>'
        )

    def _grid(self, rows: dict[str, list[str]], labels: Sequence[str]) -> str:
        """Layers run to the right, or down for wide images."""
        heads, names = (list(rows), labels) if self.wide else (labels, list(rows))
        cells = list(rows.values())
        lines = [list(line) for line in zip(*cells, strict=True)] if self.wide else cells
        least = max(64, min(104, round(320 * self.case.aspect)))
        size = f"--n:{len(heads)};--least:{least}px;--most:{max(least, round(260 * self.case.aspect))}px"
        kind = ("by-columns" if self.wide else "by-rows") + (" narrow" if least < 104 else "")
        parts = [f'<div class="grid {kind}" style="{size}"><span></span>']
        parts.extend(f'<span class="head">{head}</span>' for head in heads)
        for name, line in zip(names, lines, strict=True):
            parts.extend([f'<span class="name">{name}</span>', *line])
        return "".join([*parts, "</div>"])

    def _cell(self, kind: str, scope: int, model: ModelCase, layer: int) -> str:
        path, spans = f"{self.index}/{scope}/{layer}", self.case.spans_of(model)
        weak = model.layers[layer] in model.marked
        what = (
            f"{kind}, {clean(model.name)}, {layer_label(model.layers[layer])}"
            + ", does not beat its controls" * weak
        )
        if kind == "decoded":
            pixels = _png(_laid_out(to_bytes(model.decoded[layer]), spans))
            return f'<div class="cell">{self._panel("decoded", spans, pixels, what, weak=weak)}</div>'
        panel = self._panel(kind, spans, path, what, weak=weak)
        if kind == "highlight":
            return f'<div class="cell">{panel}</div>'
        own = ""
        if self.spec.scale == "per_map":
            low, high = self.spec.limits(self.case, model)[layer]
            own = f"<br>own scale {number(low)}–{number(high)}"
        r = fidelity(float(model.correlation[layer]))
        value = f'<span class="value" data-value="{path}"></span>'
        return f'<div class="cell">{panel}<p class="caption"><b>{r}</b>{own}{value}</p></div>'

    def _panel(
        self, kind: str, spans: GridSpans, source: str = "", what: str = "input", *, weak: bool = False
    ) -> str:
        left, top, right, bottom = (100 * edge for edge in spans.extent)
        place = f"--l:{left:.4f}%;--t:{top:.4f}%;--w:{right - left:.4f}%;--h:{bottom - top:.4f}%"
        kept = ""
        if self.case.kept is not None:
            left, top, right, bottom = (100 * edge for edge in self.case.kept)
            kept = (
                f'<i class="kept" style="left:{left:.4f}%;top:{top:.4f}%;width:{right - left:.4f}%;'
                f'height:{bottom - top:.4f}%"></i>'
            )
        photo = f'<div class="photo photo-{self.index}{" pale" if kind == "highlight" else ""}"></div>'
        inner = {
            "input": photo,
            "decoded": f'<img class="pixels" alt="" src="{source}">',
            "map": f'<canvas data-map="{source}"></canvas>',
            "highlight": f'{photo}<div class="veil"></div><canvas data-map="{source}" data-paint="overlay"></canvas>',
        }[kind]
        looks = "panel weak" if weak else "panel"
        return (
            f'<div class="{looks}" role="img" tabindex="0" aria-label="{escape(what, quote=True)}" '
            f'style="--aspect:{self.case.aspect:.5f};{place}">{inner}{kept}<i class="cursor"></i></div>'
        )

    def _numbers(self) -> str:
        """R² and r of every layer as a table, for those who cannot point or want to copy."""
        models = self.case.models
        retention = [dict(model.retention) for model in models]
        shown = [dict(zip(model.layers, model.correlation.tolist(), strict=True)) for model in models]
        layers = sorted({layer for held in (*retention, *shown) for layer in held})
        heads = "".join(f"<th>{escape(clean(model.name))} R²</th><th>r of the map</th>" for model in models)
        rows = []
        for layer in layers:
            pairs = [(held.get(layer), r.get(layer)) for held, r in zip(retention, shown, strict=True)]
            cells = "".join(f"<td>{_two(r2)}</td><td>{_two(r)}</td>" for r2, r in pairs)
            rows.append(f"<tr><td>{layer_label(layer)}</td>{cells}</tr>")
        return (
            '<details><summary>Numbers by layer</summary><div class="scroll"><table><thead><tr><th>Layer</th>'
            f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
        )

    def _difference(self, row: MapRow) -> str:
        scope, cells = len(self.case.models) + 1, []
        for index, each in enumerate(row.maps):
            path = f"{self.index}/{scope}/{index}"
            cells.append(self._row_cell(each, path, f"difference of the maps, {each.heading}"))
        first, second = (clean(model.name) for model in self.case.subtracted)
        bar = _bar(row.limits, colours.DIFFERENCE, f"{first} minus {second}")
        grid = self._grid({"difference": cells}, [each.heading for each in row.maps])
        chart = self._chart(difference_chart(self.case), "RMS difference by layer")
        return (
            f'<article class="row" data-scope="{scope}"><div class="words"><h3>Difference of the maps</h3>'
            f'<p class="small">{escape(row.about)}, raw values</p></div>'
            f'<div><div class="strip">{grid}</div>{bar}'
            f'<div class="difference-chart">{chart}</div></div></article>'
        )

    def _evidence(self, row: MapRow) -> str:
        """Every model has a scope of its own, as its grid may be."""
        first, cells = len(self.case.models) + 1 + self.spec.difference, []
        for scope, each in enumerate(row.maps, start=first):
            what = f"evidence, {each.heading}"
            cells.append(self._row_cell(each, f"{self.index}/{scope}/0", what, scope=scope))
        grid = self._grid({"evidence": cells}, [escape(each.heading) for each in row.maps])
        bar = _bar(row.limits, colours.DIFFERENCE, row.unit)
        return (
            f'<article class="row"><div class="words"><h3>{row.title}</h3><p class="small">{escape(row.about)}</p>'
            f'</div><div><div class="strip">{grid}</div>{bar}</div></article>'
        )

    def _row_cell(self, shown: RowMap, path: str, what: str, scope: int | None = None) -> str:
        what += f", {shown.weak}" * bool(shown.weak)
        panel = self._panel("map", shown.spans, path, what, weak=bool(shown.weak))
        own = "" if scope is None else f' data-scope="{scope}"'
        value = f'<span class="value" data-value="{path}"></span>'
        return f'<div class="cell"{own}>{panel}<p class="caption"><b>{shown.caption}</b>{value}</p></div>'


def _two(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.2f}".replace("-", "−")


def _quoted(text: str, empty: str = "(no answer)") -> str:
    return f"“{escape(clean(text))}”" if clean(text) else empty


def _bar(limits: Limits, table: str, label: str) -> str:
    low, high = limits
    found = [f"rgb({r} {g} {b})" for r, g, b in colours.colour_table(table, 17).tolist()]
    # Without extent: one colour up to the value, the other above.
    stops = ", ".join(found if high > low else [f"{found[0]} 0 50%", f"{found[-1]} 50%"])
    return (
        f'<div class="bar bar-text"><span>{number(low)}</span>'
        f'<i style="background:linear-gradient(to right, {stops})"></i>'
        f"<span>{number(high)}</span><span>{escape(label)}</span></div>"
    )


def _laid_out(pixels: np.ndarray, spans: GridSpans) -> np.ndarray:
    """A picture of a grid as it fills the grid's place: transparent between cells that lie apart."""
    if spans.is_even:
        return pixels
    return spans.spread(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))


def _png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
