"""Cases as a PDF: a page each, text as text, the same cases the same bytes."""

import io
import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from emma_viz import __version__
from emma_viz.render import colours, words
from emma_viz.render.figures.sheet import Box, Sheet, pdf_of, settings
from emma_viz.session.case_report.content import CaseContent, number_words
from emma_viz.session.evidence.document import CaseCurve, EvidenceSentence

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
        self.y += 0.07
        self._write(self.content.judged, left, side, _TEXT, bold=True)
        for note in self.content.case.review.notes:
            self._write(f"{note.author}, {note.at[:10]}: {note.value}", left, side, _TEXT)
        self.y = max(self.y, below) + 0.15
        for each in self.content.paragraphs:
            self._sentences(each, room)
            self.y += 0.05
        for text in self.content.lacking:
            self._write(text, _MARGIN, room, _SMALL, colour=colours.SOFT)
        self._key(room)
        self._plots(room)
        self._numbers(room)
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

    def _sentences(self, sentences: Sequence[EvidenceSentence], room: float) -> None:
        """A paragraph; each sentence leads to the first of its numbers."""
        texts = [words.clean(each.text) for each in sentences]
        whose = [number for number, text in enumerate(texts) for _ in text.replace(" ", "")]
        at = 0
        for line in words.wrap(" ".join(texts), 0.97 * room, _TEXT, lines=60):
            owners: list[int] = []
            for char in line:
                owners.append(owners[-1] if char == " " else whose[min(at, len(whose) - 1)])
                at += char != " "
            for owner, some in groupby(range(len(line)), key=owners.__getitem__):
                first, *rest = some
                self._said(line, first, first + len(rest) + 1, sentences[owner])
            self.y += words.line_height(_TEXT)

    def _said(self, line: str, first: int, end: int, sentence: EvidenceSentence) -> None:
        """The part of a line that belongs to one sentence, underlined where it leads to a number."""
        if self.sheet is None:
            return
        part, x = (
            line[first:end].rstrip(),
            _MARGIN + words.width(line, _TEXT) - words.width(line[first:], _TEXT),
        )
        link = self.content.lead(sentence)
        self.sheet.write(x, self.y, part, _TEXT, link=link)
        if link:
            self.sheet.rule(x, self.y + 1.05 * _TEXT / 72, words.width(part, _TEXT))

    def _numbers(self, room: float) -> None:
        """The table of what has no layers."""
        if not self.content.numbers:
            return
        self.y += 0.15
        column = (room - _COLUMN) / len(self.content.evidence)
        names = [each.model for each in self.content.evidence]
        self._row("", "", [(each, "") for each in names], column)
        for first, row in self.content.numbers:
            if self.sheet is not None:
                self.sheet.place(self.content.place(first.name), self.y)
                self.sheet.rule(_MARGIN, self.y, room)
            unit = f", {first.unit}" if first.unit else ""
            self.y += 0.04
            self._row(first.name, first.title + unit, [number_words(each) for each in row], column)
            self.y += 0.04

    def _row(self, name: str, about: str, cells: Sequence[tuple[str, str]], column: float) -> None:
        """What a row is about, and a cell for each model: words in bold, and small ones below."""
        top = bottom = self.y
        rooms = [_COLUMN - 0.15, *(column - 0.15 for _ in cells)]
        for index, ((bold, small), width) in enumerate(zip([(name, about), *cells], rooms, strict=True)):
            self.y, x = top, _MARGIN + (_COLUMN + (index - 1) * column if index else 0.0)
            self._write(bold, x, width, _SMALL, bold=True)
            self._write(small, x, width, _SMALL, colour=colours.SOFT)
            bottom = max(bottom, self.y)
        self.y = bottom

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
        for index, (name, title, curves) in enumerate(self.content.curves):
            column = index % _PLOTS
            x = _MARGIN + column * (width + gap)
            if column == 0:
                self.y += 0.15
                tops = self.y
                lines = max(
                    len(words.wrap(words.clean(each), 0.95 * width, _SMALL, lines=4))
                    for _, each, _ in self.content.curves[index : index + _PLOTS]
                )
                self.y += lines * words.line_height(_SMALL) + _PLOT + 0.3
            if self.sheet is not None:
                self.sheet.place(self.content.place(name), tops)
                own = words.wrap(words.clean(title), 0.95 * width, _SMALL, lines=4)
                self.sheet.write_lines(x, tops, own, _SMALL, colour=colours.SOFT)
                top = tops + lines * words.line_height(_SMALL) + 0.04
                self._plot(Box(x + 0.25, top, width - 0.25, _PLOT), title, curves)

    def _plot(self, box: Box, title: str, curves: Sequence[CaseCurve | None]) -> None:
        assert self.sheet is not None
        axes = self.sheet.axes(box, f"curve/{title}")
        for index, curve in enumerate(curves):
            if curve is None:
                continue
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
