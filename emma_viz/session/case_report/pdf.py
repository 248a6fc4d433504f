"""Cases as a PDF: a page each, text as text, the same cases the same bytes."""

import io
import math
from collections.abc import Sequence

import numpy as np

from emma_viz import __version__
from emma_viz.render import colours, words
from emma_viz.render.figures.sheet import Box, Sheet, pdf_of, settings
from emma_viz.session.case_report.content import CaseContent

_WIDTH, _MARGIN, _COLUMN = 8.27, 0.6, 2.6
"""Inches: A4's width, the space around, the image's column."""
_PLOT, _PLOTS = 1.25, 2
"""Inches a plot is high; plots side by side."""
_TEXT, _SMALL = 9.0, 7.0


def cases_pdf(cases: Sequence[CaseContent], *, dpi: int = 200) -> bytes:
    """The PDF.

    Args:
        cases: a page each, as long as it needs.
        dpi: of the images.
    """
    stream = io.BytesIO()
    with settings():
        sheets = [_page(each) for each in cases]
    pdf_of([sheet.figure for sheet in sheets], stream, dpi=dpi)
    return stream.getvalue()


def _page(content: CaseContent) -> Sheet:
    """Measured once without drawing for its height, then drawn."""
    height = _Layout(content, None).draw()
    sheet = Sheet(_WIDTH, height)
    _Layout(content, sheet).draw()
    return sheet


class _Layout:
    """Lays one case out from top to bottom; without a sheet it only measures."""

    def __init__(self, content: CaseContent, sheet: Sheet | None):
        self.content, self.sheet, self.y = content, sheet, _MARGIN

    def draw(self) -> float:
        """Everything; the height it took, inches."""
        record, room = self.content.case.record, _WIDTH - 2 * _MARGIN
        self._write(record.prompt, _MARGIN, room, 13.0, bold=True)
        self._write(self.content.facts, _MARGIN, room, _SMALL, colour=colours.SOFT)
        self.y += 0.12
        top = self.y
        below = top + self._picture(top)
        left, side = _MARGIN + _COLUMN + 0.25, room - _COLUMN - 0.25
        self._write(self.content.truth, left, side, _TEXT, bold=True)
        for answer in record.answers:
            self.y += 0.07
            mark = "" if answer.right is None else (": right" if answer.right else ": wrong")
            self._write(f"{answer.model}{mark}", left, side, _TEXT, bold=True)
            self._write(answer.text or "(nothing)", left, side, _TEXT)
            if answer.leaning is not None and answer.said:  # of a description they say nothing
                odds = f"P(yes) {answer.p_yes:.3f}, P(no) {answer.p_no:.3f}"
                self._write(odds, left, side, _SMALL, colour=colours.SOFT)
            if answer.made_up:
                self._write(f"names what is not there: {', '.join(answer.made_up)}", left, side, _SMALL)
        self.y += 0.07
        for reason in self.content.reasons:
            self._write(reason, left, side, _SMALL, colour=colours.SOFT)
        self._write(self.content.judged, left, side, _TEXT, bold=True)
        for note in self.content.case.review.notes:
            self._write(f"{note.author}, {note.at[:10]}: {note.value}", left, side, _TEXT)
        self.y = max(self.y, below) + 0.15
        for text in self.content.paragraphs:
            self._write(text, _MARGIN, room, _TEXT)
            self.y += 0.05
        for text in self.content.lacking:
            self._write(text, _MARGIN, room, _SMALL, colour=colours.SOFT)
        self._key(room)
        self._plots(room)
        self.y += 0.1
        if self.sheet is not None:
            self.sheet.rule(_MARGIN, self.y, room)
        self.y += 0.06
        for line in (*self.content.provenance, f"emma_viz {__version__}"):
            self._write(line, _MARGIN, room, 6.0, colour=colours.FAINT)
        return self.y + _MARGIN / 2

    def _write(self, text: str, x: float, room: float, size: float, **style) -> None:
        if not text:
            return
        lines = words.wrap(words.clean(text), 0.97 * room, size, lines=60, bold=style.get("bold", False))
        if self.sheet is not None:
            self.sheet.write_lines(x, self.y, lines, size, **style)
        self.y += len(lines) * words.line_height(size)

    def _picture(self, top: float) -> float:
        """The image with the object's box; its height."""
        picture, box = self.content.picture, self.content.case.record.box
        if picture is None:
            return 0.0
        height = min(_COLUMN * picture.height / picture.width, 4.0)
        width = height * picture.width / picture.height
        if self.sheet is not None:
            axes = self.sheet.axes(Box(_MARGIN, top, width, height), f"image/{self.content.case.id[:8]}")
            axes.imshow(np.asarray(picture.image()), aspect="auto")
            if box is not None:
                left, upper, right, lower = box
                axes.plot(
                    [left, right, right, left, left],
                    [upper, upper, lower, lower, upper],
                    color=colours.WARNING,
                    linewidth=1.2,
                )
        return height

    def _key(self, room: float) -> None:
        """Which colour is which model, and what dots are."""
        x = _MARGIN
        self.y += 0.1
        names = [each.model for each in self.content.evidence]
        for index, name in enumerate(names):
            shown = words.shorten(words.clean(name), room / 3, _TEXT, bold=True)
            if self.sheet is not None:
                colour = colours.MODELS[index % len(colours.MODELS)]
                self.sheet.write(x, self.y, shown, _TEXT, bold=True, colour=colour)
            x += words.width(shown, _TEXT, bold=True) + 0.2
        if names:
            if self.sheet is not None:
                self.sheet.write(x, self.y, "dotted: what it must exceed", _SMALL, colour=colours.SOFT)
            self.y += words.line_height(_TEXT)

    def _plots(self, room: float) -> None:
        gap = 0.45
        width = (room - (_PLOTS - 1) * gap) / _PLOTS
        for index, (title, curves) in enumerate(self.content.curves):
            column = index % _PLOTS
            x = _MARGIN + column * (width + gap)
            if column == 0:
                self.y += 0.15
                tops = self.y
                lines = max(
                    len(words.wrap(words.clean(each), 0.95 * width, _SMALL, lines=4))
                    for each, _ in self.content.curves[index : index + _PLOTS]
                )
                self.y += lines * words.line_height(_SMALL) + _PLOT + 0.3
            if self.sheet is not None:
                own = words.wrap(words.clean(title), 0.95 * width, _SMALL, lines=4)
                self.sheet.write_lines(x, tops, own, _SMALL, colour=colours.SOFT)
                top = tops + lines * words.line_height(_SMALL) + 0.04
                self._plot(Box(x + 0.25, top, width - 0.25, _PLOT), title, curves)

    def _plot(self, box: Box, title: str, curves) -> None:
        assert self.sheet is not None
        axes = self.sheet.axes(box, f"curve/{title}")
        for index, (_, curve) in enumerate(curves):
            colour = colours.MODELS[index % len(colours.MODELS)]
            layers, values = curve.layers, [math.nan if v is None else v for v in curve.values]
            axes.plot(layers, values, color=colour, linewidth=1.1)
            if curve.control:
                control = [math.nan if v is None else v for v in curve.control]
                axes.plot(layers, control, color=colour, linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_locator(_whole())
        axes.yaxis.set_major_locator(_few())
        axes.tick_params(labelsize=6, length=2, width=0.4, colors=colours.SOFT)


def _whole():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(7, integer=True)


def _few():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
