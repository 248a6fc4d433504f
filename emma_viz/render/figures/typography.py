"""The words of a figure: a type scale, the text beside the panels, the footer below them."""

from collections.abc import Sequence

from emma_viz.render import colours, words
from emma_viz.render.figures.sheet import Sheet
from emma_viz.render.footer import provenance, warnings
from emma_viz.render.spec import FigureSpec

TITLE, BODY, LABEL, SMALL, TINY = 9.0, 7.2, 6.8, 5.6, 4.9
"""Font sizes in points: names, quotations, labels of panels, the footer, words that must be narrow."""
FORCED = "Warning: lens forced on states that it does not belong to"
ANSWER_LINES = 9
"""Lines that a quotation always has room for; more where the panels beside it are taller."""


class Gutter:
    """Words beside a row of panels: a heading, remarks, a quotation.

    Args:
        heading: set bold, at most three lines.
        quotation: set in quotation marks, cut with … where it has no room.
        room: width, inches.
        remarks: (text, colour) pairs between the two.
        after: a last line in grey.
        height: of the panels beside it, inches; 0 where the quotation takes what it needs.
    """

    def __init__(
        self,
        heading: str,
        quotation: str,
        room: float,
        *,
        remarks: Sequence[tuple[str, str]] = (),
        after: str = "",
        height: float = 0.0,
    ):
        self.heading = words.wrap(heading, room, TITLE, lines=3, bold=True)
        self.remarks = [
            (line, colour) for text, colour in remarks for line in words.wrap(text, room, BODY, lines=6)
        ]
        self.after = words.wrap(after, room, BODY, lines=3)
        small = len(self.remarks) + len(self.after)
        used = len(self.heading) * words.line_height(TITLE) + small * words.line_height(BODY) + 0.05
        lines = max(ANSWER_LINES, int((height - used) / words.line_height(BODY)))
        text = words.clean(quotation)
        self.quotation = words.wrap(f"“{text}”" if text else "(no answer)", room, BODY, lines=lines)
        self.height = used + len(self.quotation) * words.line_height(BODY)

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Write the words from (x, y) down."""
        y = sheet.write_lines(x, y, self.heading, TITLE, bold=True) + 0.02
        for text, colour in self.remarks:
            y = sheet.write_lines(x, y, [text], BODY, colour=colour)
        y = sheet.write_lines(x, y, self.quotation, BODY)
        sheet.write_lines(x, y, self.after, BODY, colour=colours.SOFT)


class Footer:
    """The provenance of a figure in small grey print, warnings above it.

    Args:
        spec: the figure.
        room: width, inches.
    """

    def __init__(self, spec: FigureSpec, room: float):
        self.room = room
        found = [*warnings(spec), *_without_font(spec)]
        self.warnings = [line for text in found for line in self._lines(text)]
        self.facts = [line for what, text in provenance(spec) for line in self._lines(f"{what}: {text}")]
        self.height = 0.06 + (len(self.warnings) + len(self.facts)) * words.line_height(SMALL)

    def _lines(self, text: str) -> list[str]:
        # At screen resolution, small type is hinted to whole pixels and comes out a little wider.
        return words.wrap(text, 0.97 * self.room, SMALL, lines=6)

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Draw a rule at y and the words below it."""
        sheet.rule(x, y, self.room)
        y = sheet.write_lines(x, y + 0.06, self.warnings, SMALL, colour=colours.WARNING, bold=True)
        sheet.write_lines(x, y, self.facts, SMALL, colour=colours.FAINT)


def _without_font(spec: FigureSpec) -> list[str]:
    """A warning of the characters that are drawn as boxes."""
    written = [text for case in spec.images for text in (case.title, case.prompt, case.truth or "")]
    written += [text for case in spec.images for model in case.models for text in (model.name, model.answer)]
    missing = sorted(words.undrawable(words.clean("".join(written))))
    if not missing:
        return []
    shown = ", ".join(f"U+{ord(char):04X}" for char in missing[:6]) + (" …" if len(missing) > 6 else "")
    return [
        f"Warning: no installed font has {len(missing)} of the characters ({shown}); they are drawn as boxes. Install "
        "a font that has them, such as Noto Sans CJK or Noto Emoji."
    ]
