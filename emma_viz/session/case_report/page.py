"""Cases as one self-contained HTML page: no script but the canvas's, no request."""

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from emma_viz import __version__
from emma_viz.cases.case import CaseAnswer
from emma_viz.render.script import canvas_style
from emma_viz.render.web.data import script_json
from emma_viz.render.web.page import document, scriptless
from emma_viz.render.web.svg import Line, SvgChart
from emma_viz.session.case_report.content import CaseContent, number_words
from emma_viz.session.evidence.document import CaseCurve, EvidenceSentence

_STYLE = """
main { max-width: 1180px; }
.case-top { display: grid; grid-template-columns: minmax(180px, 320px) minmax(0, 1fr); gap: 20px; margin-top: 12px; }
.case-top img { width: 100%; border-radius: 6px; display: block; }
.box { position: relative; } .box i { position: absolute; border: 2px solid var(--warn); border-radius: 2px; }
.answer { padding: 8px 0; border-top: 1px solid var(--hair); overflow-wrap: anywhere; }
.answer b { margin-right: 6px; } .right { color: var(--m2); } .wrong { color: var(--warn); }
.small, footer { font-size: 12.5px; color: var(--soft); overflow-wrap: anywhere; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px 24px;
  margin-top: 14px;
}
.charts figcaption { font-size: 12.5px; color: var(--soft); } .charts figure { margin: 0; }
section.case > p { margin-top: 8px; } section.case h2 { margin-top: 0; }
a.said { color: inherit; text-decoration: underline 1px var(--hair); text-underline-offset: 3px; }
a.said:hover, a.said:focus-visible { text-decoration-color: currentcolor; }
:target { background: color-mix(in srgb, var(--m1) 16%, transparent); outline: 2px solid var(--m1); }
.wide { overflow-x: auto; margin-top: 14px; }
.wide table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide th, .wide td { padding: 5px 18px 5px 0; text-align: left; vertical-align: top; white-space: normal; }
.wide tr { border-bottom: 1px solid var(--hair); }
.wide th { font-weight: 400; min-width: 150px; }
.wide td { min-width: 96px; } .wide b { color: var(--ink); font-weight: 600; }
main > .small { margin-top: 12px; }
#canvas { margin-top: 18px; } #canvas > .ev:not(.ev-narrow) { height: 720px; }
@media (max-width: 640px) { .case-top { grid-template-columns: 1fr; } }
"""


def cases_page(
    cases: Sequence[CaseContent], *, payload: dict[str, Any] | None = None, notes: Sequence[str] = ()
) -> str:
    """A page.

    Args:
        cases: what it tells.
        payload: for one case, what the layer canvas shows of it; None for a page without it.
        notes: what is to be said of that: of maps that lack, or are of other weights, a sentence each.
    """
    style = (resources.files("emma_viz.render") / "web" / "page.css").read_text(encoding="utf-8") + _STYLE
    title = cases[0].case.record.prompt if len(cases) == 1 else f"{len(cases)} cases"
    canvas = '<div id="canvas"></div>' if payload is not None else ""
    body = "\n".join(
        [
            f"<main><header><h1>{escape(title)}</h1></header>",
            *(_case(each, headed=len(cases) > 1) for each in cases),
            *(f'<p class="small">{escape(note)}</p>' for note in notes),
            canvas,
            f"<footer>Made by emma_viz {escape(__version__)}.</footer></main>",
        ]
    )
    if payload is None:
        return scriptless(title=title, style=style, body=body)
    data = script_json({"payload": payload, "view": {}})
    return document(title=title, style=style + canvas_style(), body=body, data=data)


def _case(content: CaseContent, *, headed: bool) -> str:
    record = content.case.record
    parts = [f"<h2>{escape(record.prompt)}</h2>"] if headed else []
    parts.append(f'<p class="small">{escape(content.facts)}</p><div class="case-top"><div>')
    parts += [_picture(content), "</div><div>", f"<p><b>{escape(content.truth)}</b></p>"]
    parts += [_answer(answer) for answer in record.answers]
    parts += [f'<p class="small">{escape(reason)}</p>' for reason in content.reasons]
    if content.judged:
        parts.append(f"<p><b>{escape(content.judged)}</b></p>")
    parts += [
        f'<p class="small">{escape(note.author)}, {note.at[:10]}: {escape(note.value)}</p>'
        for note in content.case.review.notes
    ]
    parts.append("</div></div>")
    parts += [f"<p>{_sentences(content, each)}</p>" for each in content.paragraphs]
    parts += [f'<p class="small">{escape(text)}</p>' for text in content.lacking]
    parts += ['<div class="charts">', *_charts(content), "</div>", _numbers(content)]
    parts += [f'<p class="small">{"<br>".join(map(escape, content.provenance))}</p>']
    return f'<section class="case">{"".join(parts)}</section>'


def _picture(content: CaseContent) -> str:
    picture, box = content.picture, content.case.record.box
    if picture is None:
        return '<p class="small">no image</p>'
    source = f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode('ascii')}"
    mark = ""
    if box is not None:
        left, top, right, bottom = box
        place = (
            f"left:{100 * left / picture.width:.2f}%;top:{100 * top / picture.height:.2f}%;"
            f"width:{100 * (right - left) / picture.width:.2f}%;height:{100 * (bottom - top) / picture.height:.2f}%"
        )
        mark = f'<i style="{place}"></i>'
    alt = escape(content.case.record.image_name or "the image that was asked about", quote=True)
    return f'<div class="box"><img alt="{alt}" src="{source}">{mark}</div>'


def _answer(answer: CaseAnswer) -> str:
    mark = "" if answer.right is None else ("right" if answer.right else "wrong")
    said = [
        f'<b>{escape(answer.model)}</b> <span class="{mark}">{mark}</span><br>{escape(answer.text) or "(nothing)"}'
    ]
    if answer.leaning is not None and answer.said:  # of a description they say nothing
        said.append(f'<br><span class="small">P(yes) {answer.p_yes:.3f}, P(no) {answer.p_no:.3f}</span>')
    if answer.made_up:
        said.append(
            f'<br><span class="wrong">names what is not there: {escape(", ".join(answer.made_up))}</span>'
        )
    if answer.missed:
        said.append(f'<br><span class="small">leaves out: {escape(", ".join(answer.missed))}</span>')
    return f'<div class="answer">{"".join(said)}</div>'


def _sentences(content: CaseContent, sentences: Sequence[EvidenceSentence]) -> str:
    """A paragraph whose sentences lead to their numbers."""
    return " ".join(
        f'<a class="said" href="#{place}" title="{escape(", ".join(each.numbers))}">{escape(each.text)}</a>'
        if (place := content.lead(each))
        else escape(each.text)
        for each in sentences
    )


def _numbers(content: CaseContent) -> str:
    """The table of what has no layers; nothing where there is none."""
    if not content.numbers:
        return ""
    rows = []
    for first, row in content.numbers:
        unit = f", {first.unit}" if first.unit else ""
        cells = ""
        for each in row:
            value, against = number_words(each)
            cells += f"<td><b>{escape(value)}</b><br>{escape(against)}</td>"
        rows.append(
            f'<tr id="{content.place(first.name)}"><th scope="row"><b>{escape(first.name)}</b><br>'
            f"{escape(first.title + unit)}</th>{cells}</tr>"
        )
    head = "".join(f'<th scope="col">{escape(each.model)}</th>' for each in content.evidence)
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="Numbers"><table><thead><tr><th>number</th>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _charts(content: CaseContent) -> list[str]:
    found = []
    for index, (name, title, curves) in enumerate(content.curves):
        lines = []
        for colour, (evidence, curve) in enumerate(zip(content.evidence, curves, strict=True)):
            if curve is None:
                continue
            for dashed, values in ((False, curve.values), (True, curve.control)):
                points = tuple(
                    (float(layer), value)
                    for layer, value in zip(curve.layers, values, strict=False)
                    if value is not None
                )
                if points:
                    lines.append(Line(name=evidence.model, colour=colour, points=points, dashed=dashed))
        if all(line.dashed for line in lines):  # nothing that a control could be compared with
            continue
        heights = [y for line in lines for _, y in line.points]
        spare = 0.06 * (max(heights) - min(heights) or 1.0)
        chart = SvgChart(
            lines=tuple(lines), bottom=min(heights) - spare, top=max(heights) + spare, title=title
        )
        found.append(
            f'<figure id="{content.place(name)}">{chart.draw(index)}'
            f"<figcaption>{escape(title)}{_dashes(curves)}</figcaption></figure>"
        )
    return found


def _dashes(curves: Sequence[CaseCurve | None]) -> str:
    """What the dashed lines are."""
    said = dict.fromkeys(curve.control_title for curve in curves if curve is not None and curve.control)
    return f"; dashed: {escape(', '.join(said))}" if said else ""
