"""The report's page: one HTML file with everything in it, Plotly's script once, light and dark."""

import base64
import gzip
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes.charts import Chart
from probes.pages.plotly_charts import plotly_figure
from probes.protocol import Finding

_HERE = Path(__file__).parent


def report_page(title: str, parts: Sequence[str], charts: Sequence[tuple[str, Chart]]) -> str:
    """The whole file.

    Args:
        title: of the page.
        parts: HTML of the body, in order; a chart's place is `chart_place(id, chart)`.
        charts: by the ids of their places.
    """
    from plotly.offline import get_plotlyjs

    # Packed, Plotly's script is a third of its size; browsers unpack it themselves.
    packed = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
    drawn = json.dumps({name: plotly_figure(chart) for name, chart in charts}, allow_nan=False)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escaped(title)}</title><style>{(_HERE / 'page.css').read_text()}</style></head>\n<body><main>"
        + "\n".join(parts)
        + f'</main>\n<script type="application/json" id="charts">{_inside(drawn)}</script>\n'
        + f'<script type="application/octet-stream" id="plotly">{packed}</script>\n'
        + f"<script>{(_HERE / 'page.js').read_text()}</script></body></html>\n"
    )


def _inside(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c")


def escaped(text: Any) -> str:
    """Text as HTML."""
    return html.escape(re.sub("[\ud800-\udfff]", "\ufffd", str(text)))


def chart_place(name: str, chart: Chart) -> str:
    """Where the script draws a chart, with its words for who cannot see it."""
    return (
        f'<figure><h3>{escaped(chart.title)}</h3><div class="chart" id="{escaped(name)}" role="img" '
        f'aria-label="{escaped(chart.title)}"></div><figcaption>{escaped(chart.caption)}</figcaption></figure>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 1) -> str:
    """A table that scrolls by itself, by keys too, where it is too wide; columns from `numbers` on are right-aligned.

    A column without a word for it has no head.
    """
    top = "".join(f"<th>{escaped(each)}</th>" if each else "<td></td>" for each in head)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if index >= numbers else ''}>{escaped(cell)}</td>"
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def verdict(finding: Finding) -> str:
    """Whether a number may be believed, in a word or two."""
    if finding.beats is None:
        return ""
    return "beats its control" if finding.beats else "not better than control"
