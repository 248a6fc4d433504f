"""Documents of cases, written to a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emma_viz.cases.casebook import Casebook
from emma_viz.errors import InputError
from emma_viz.files.atomic import write_file
from emma_viz.files.room import require_writable
from emma_viz.session.case_maps import CaseMaps
from emma_viz.session.case_report.content import CaseContent, contents
from emma_viz.session.case_report.page import cases_page
from emma_viz.session.case_report.pdf import cases_pdf

FORMATS_OF_REPORTS = (".html", ".pdf")
"""Endings of a document's name."""


def write_case_report(
    casebook: Casebook,
    ids: Sequence[str],
    out: Path,
    *,
    canvas: bool = False,
    maps: CaseMaps | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Write cases as one document.

    Args:
        casebook: where they are.
        ids: of the cases, in their order.
        out: a name that ends in .html or .pdf.
        canvas: for one case as HTML, with the layer canvas.
        maps: makes what the canvas shows; one for the models that ship when None.

    Returns:
        How many cases there are, and what is to be said of the canvas's maps, a sentence each; the page says it, too.

    Raises:
        InputError: there is no case, the name has another ending, or a canvas was asked for that cannot be.
    """
    suffix = out.suffix.lower()
    if suffix not in FORMATS_OF_REPORTS:
        raise InputError(f"{out}: expected a name that ends in {' or '.join(FORMATS_OF_REPORTS)}.")
    require_writable(out)
    found = contents(casebook, ids)
    if canvas and (suffix != ".html" or len(found) != 1):
        raise InputError(f"a canvas stands in an HTML page of one case, not of {len(found)} as {suffix}.")
    payload, notes = _canvas(found[0], maps or CaseMaps()) if canvas else (None, ())
    data = (
        cases_pdf(found)
        if suffix == ".pdf"
        else cases_page(found, payload=payload, notes=notes).encode("utf-8")
    )
    write_file(out, lambda part: part.write_bytes(data))
    return len(found), notes


def _canvas(content: CaseContent, maps: CaseMaps) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    image = None if content.picture is None else content.picture.image()
    shown = maps.of(content.case.record, image)
    return shown.payload, shown.notes
