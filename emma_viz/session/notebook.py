"""How results show themselves in a notebook: the canvas inside a frame of its own, tables for what has no maps."""

import base64
import io
from dataclasses import replace
from html import escape
from typing import Any

from PIL import Image

from emma_viz.capture.trace import Trace
from emma_viz.maps import ActivationMaps, Decoding
from emma_viz.render.web.page import canvas_page
from emma_viz.session.comparison import Comparison
from emma_viz.session.payload import payload
from emma_viz.study import Study

LARGEST_OUTPUT = 1_000_000
"""Bytes of one output: a notebook is saved with all of them."""
_HEIGHT = 720
"""Of the frame, CSS pixels."""
_ROWS = 8
"""Samples or entries that a table shows."""
_THUMBNAIL = 96
"""Longer side of a picture in a table, pixels."""
_WITHOUT_FRAMES = (
    "Here is the canvas; it is shown when the notebook is trusted (jupyter trust FILE) or the cell is run."
)
"""What is left where frames are taken out of outputs, as Jupyter does in notebooks of others."""


def bundle(value: Comparison | ActivationMaps | Decoding | Trace | Study) -> dict[str, str]:
    """What a notebook shows of a result, by MIME type.

    Maps come as the canvas in a sandboxed frame whose page is inside the output: it needs no server and asks for
    nothing. Layers are left out, evenly, until it is no larger than `LARGEST_OUTPUT`; the foot of the page says so.

    Args:
        value: what was computed.

    Returns:
        `text/plain`, one line, and `text/html`.
    """
    if isinstance(value, Trace):
        html = _trace(value)
    elif isinstance(value, Study):
        html = _study(value)
    else:
        kind = value.kind if isinstance(value, ActivationMaps) else "distance"
        html = _canvas(_comparison(value), kind)
    return {"text/plain": repr(value), "text/html": html}


def _comparison(value: Comparison | ActivationMaps | Decoding) -> Comparison:
    if isinstance(value, Comparison):
        return value
    return Comparison(decodings=(value.decoding if isinstance(value, ActivationMaps) else value,))


def _canvas(comparison: Comparison, kind: str) -> str:
    first = replace(
        comparison,
        decodings=tuple(each.select(samples=[0]) for each in comparison.decodings),
        image_names=comparison.image_names[:1],
    )
    others = len(comparison.decodings[0]) - 1
    facts = ["To keep the notebook small, its pictures are WebP of quality 90; maps and numbers are exact."]
    facts += [f"The first of {others + 1} images; compare or select the others one by one."] if others else []
    step, most = 1, max(len(each.layers) for each in first.decodings)
    while True:
        thinner = tuple(each.select(layers=_every(each.layers, step)) for each in first.decodings)
        left = [f"Every {step}. layer and the last, to keep the notebook small."] if step > 1 else []
        shown = payload(replace(first, decodings=thinner), live=False, small=True)
        frame = _frame(canvas_page(shown, {"kind": kind}, provenance=[*facts, *left]))
        if len(frame.encode()) <= LARGEST_OUTPUT or step >= most:
            return frame
        step *= 2


def _every(layers: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Each layer a step apart, and the last."""
    return tuple(dict.fromkeys([*layers[::step], layers[-1]]))


def _frame(page: str) -> str:
    """A page in a frame that can run its own script and give files to the reader, and nothing else."""
    # Single quotes around it: the page is mostly JSON, whose quotation marks then stay one character each.
    inside = page.replace("&", "&amp;").replace("'", "&#39;")
    return (
        f'<iframe title="what the image tokens hold" sandbox="allow-scripts allow-downloads" width="100%" '
        f'height="{_HEIGHT}" style="border:0" srcdoc=\'{inside}\'>{_WITHOUT_FRAMES}</iframe>'
    )


def _trace(trace: Trace) -> str:
    rows = []
    for sample in range(min(len(trace), _ROWS)):
        picture = _thumbnail(Image.fromarray(trace.views[sample])) if len(trace.views) else ""
        answer = trace.answers[sample] if trace.answers else ""
        rows.append([str(sample), picture, escape(trace.prompts[sample]), escape(answer)])
    return html_table(repr(trace), ["", "what the model saw", "prompt", "answer"], rows, len(trace))


def _study(study: Study) -> str:
    rows = [
        [
            escape(each.name),
            escape(each.kind),
            escape(each.model or ""),
            str(each.n_samples),
            escape(", ".join(each.sites)),
            str(len(each.layers)),
            escape(", ".join(each.arrays)),
        ]
        for each in study.entries.values()
    ]
    heads = ["entry", "kind", "model", "samples", "sites", "layers", "arrays"]
    return html_table(repr(study), heads, rows[:_ROWS], len(rows))


def html_table(caption: str, heads: list[str], rows: list[list[str]], count: int) -> str:
    """A table as HTML, which takes the notebook's colours.

    Args:
        caption: text.
        heads: text, one a column.
        rows: HTML of the cells.
        count: how many rows there are in all; what is not shown is counted below.
    """
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    more = f"<p>and {count - len(rows)} more</p>" if count > len(rows) else ""
    return (
        f'<table style="text-align:left"><caption style="text-align:left">{escape(caption)}</caption><thead><tr>'
        f"{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr></thead><tbody>{lines}</tbody></table>{more}"
    )


def _thumbnail(image: Any) -> str:
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img alt="" src="data:image/png;base64,{code}">'
