"""A sheet of paper measured in inches from its top left corner, on which figures are laid out."""

import contextlib
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emma_viz.render import colours, words
from emma_viz.render.pdf_links import LINK, join_links

_SETTINGS: dict[Any, Any] = {
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "emma-viz",
    "hatch.linewidth": 0.5,
    "font.family": [words.FAMILY],
    "axes.unicode_minus": True,
    "image.composite_image": False,
}
"""Text stays text in PDF and SVG, and SVG's ids do not change from run to run."""

METADATA = {"pdf": {"CreationDate": None, "Producer": None}, "svg": {"Date": None}, "png": {"Software": None}}
"""What is left out of the files so that the same figure is the same bytes."""

_NOTEBOOK_DPI = (108, 72, 48, 24)
"""Resolutions of a figure in a notebook, the first that is small enough."""
_NOTEBOOK_BYTES = 750_000
"""Of a PNG there; a third more as text."""

_LOCK = threading.RLock()


@contextlib.contextmanager
def settings():
    """Matplotlib's defaults with ours on top, whatever the user's matplotlibrc says; one thread at a time."""
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        # A character that no installed font has is drawn as a box, which the reader sees.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        with matplotlib.rc_context(_SETTINGS):
            yield


class Drawing(Figure):
    """A matplotlib figure that saves reproducibly, with text as text, and shows itself in a notebook."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.places: dict[str, float] = {}
        """Name of a place that links lead to → its height, as a share of the figure's from below."""

    def _repr_png_(self) -> bytes:
        """Coarser where it would be large: a notebook is saved with it."""
        for dpi in _NOTEBOOK_DPI:
            stream = BytesIO()
            self.savefig(stream, format="png", dpi=dpi)
            if stream.tell() <= _NOTEBOOK_BYTES:
                break
        return stream.getvalue()

    def savefig(self, fname, *, format=None, dpi=300, metadata=None, **options):
        """As Figure.savefig, without dates, and with editable text in PDF and SVG."""
        suffix = (format or str(fname).rpartition(".")[2]).lower()
        metadata = METADATA.get(suffix, {}) | (metadata or {})
        with settings():
            super().savefig(fname, format=format, dpi=dpi, metadata=metadata, **options)


def pdf_of(figures: Iterable[Figure], stream: BytesIO, *, dpi: int) -> None:
    """Write a PDF of several pages, as reproducible as one of `Drawing.savefig`."""
    from matplotlib.backends.backend_pdf import PdfPages  # slow to import, and of no use to a PNG

    written, places, links = BytesIO(), [], []
    with settings(), PdfPages(written, metadata=METADATA["pdf"]) as pdf:
        for figure in figures:
            pdf.savefig(figure, dpi=dpi)
            named = figure.places if isinstance(figure, Drawing) else {}
            places.append({name: 72 * figure.get_figheight() * at for name, at in named.items()})
            links.append(
                sum(
                    bool(text.get_text()) and (text.get_url() or "").startswith(LINK) for text in figure.texts
                )
            )
    stream.write(join_links(written.getvalue(), places, links))


@dataclass(frozen=True)
class Box:
    """A rectangle on the sheet, inches from the top left."""

    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        """The right edge, in the units of `x`."""
        return self.x + self.w

    @property
    def bottom(self) -> float:
        """The lower edge, in the units of `y`."""
        return self.y + self.h


class Sheet:
    """A figure of a given size, with words, lines and axes placed in inches.

    Args:
        width: inches.
        height: inches.
        scale: the whole is enlarged by this much, its type included.
    """

    def __init__(self, width: float, height: float, scale: float = 1.0):
        self.width, self.height, self.scale = width, height, scale
        self.figure = Drawing(figsize=(width * scale, height * scale), dpi=150, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, box: Box, label: str) -> Axes:
        """Axes without ticks that fill a box; `label` names them in tests and in SVG."""
        place = (box.x / self.width, 1 - box.bottom / self.height, box.w / self.width, box.h / self.height)
        axes = self.figure.add_axes(place, label=label)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_gid(words.clean(label))
        for spine in axes.spines.values():
            spine.set(linewidth=0.4, color=colours.HAIR)
        return axes

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: str = colours.INK,
        align: str = "left",
        rotation: float = 0.0,
        link: str = "",
    ) -> None:
        """Write one line whose top is at y (whose middle is at y, when it is rotated); `link` leads to that place."""
        baseline = y + 0.8 * size / 72
        self.figure.text(
            x / self.width,
            1 - (y if rotation else baseline) / self.height,
            text,
            fontsize=size * self.scale,
            fontweight="bold" if bold else "normal",
            family=list(words.families(text)),
            color=colour,
            ha=align,
            va="center" if rotation else "baseline",
            rotation=rotation,
            parse_math=False,
            url=LINK + link if link else None,
        )

    def write_lines(self, x: float, y: float, lines: list[str], size: float, **style) -> float:
        """Write lines one below the other; returns the y below the last."""
        for index, line in enumerate(lines):
            self.write(x, y + index * words.line_height(size), line, size, **style)
        return y + len(lines) * words.line_height(size)

    def place(self, name: str, y: float) -> None:
        """Name a height, which links of a PDF lead to."""
        self.figure.places[name] = 1 - y / self.height

    def rule(self, x: float, y: float, length: float, colour: str = colours.HAIR) -> None:
        """Draw a hairline to the right."""
        self.figure.add_artist(
            Line2D(
                [x / self.width, (x + length) / self.width],
                [1 - y / self.height] * 2,
                transform=self.figure.transFigure,
                color=colour,
                linewidth=0.5,
            )
        )
