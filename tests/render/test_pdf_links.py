"""Links inside a PDF, through a reader of its own, and what becomes of a file that is written otherwise."""

import io
import re

import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader

from emma_viz.errors import EmmaVizError
from emma_viz.render.figures.sheet import Sheet, pdf_of
from emma_viz.render.pdf_links import join_links


def sheet(*names: str, title: str = "") -> Figure:
    """A page with a link to each of some names, and a place for each."""
    made = Sheet(4.0, 6.0)
    made.write(0.1, 0.1, title or "no link", 9.0)
    for number, name in enumerate(names, start=1):
        made.write(0.5, 0.5 * number, f"to {name}", 9.0, link=name)
        made.place(name, 2.0 + number)
    return made.figure


def pdf(*figures: Figure) -> bytes:
    stream = io.BytesIO()
    pdf_of(figures, stream, dpi=50)
    return stream.getvalue()


def test_links_of_each_page_lead_to_places_on_it():
    content = pdf(sheet("a", "b-2"), sheet(), sheet("a"))
    assert content == pdf(sheet("a", "b-2"), sheet(), sheet("a"))
    reader = PdfReader(io.BytesIO(content), strict=True)
    found = []
    for page in reader.pages:
        for each in page.get("/Annots") or ():
            link = each.get_object()
            target, kind, _, top, _ = link["/A"]["/D"]
            assert (link["/A"]["/S"], kind, target) == ("/GoTo", "/XYZ", page.indirect_reference)
            found.append(
                (page.page_number, float(top), [round(float(edge) / 72, 1) for edge in link["/Rect"]][:1])
            )
    assert found == [(0, 72 * 3, [0.5]), (0, 72 * 2, [0.5]), (2, 72 * 3, [0.5])]
    assert "to b-2" in reader.pages[0].extract_text()


def test_a_pdf_without_such_links_stays_as_it_is():
    plain = sheet()
    plain.text(0.5, 0.5, "away", url="https://example.org/#a")
    content = pdf(plain)
    assert content.count(b"startxref") == 1
    (link,) = PdfReader(io.BytesIO(content)).pages[0]["/Annots"]
    assert link.get_object()["/A"]["/URI"] == "https://example.org/#a"


def test_words_that_read_as_a_link_are_none():
    said = "/A << /S /URI /URI (#a) >> endobj trailer startxref 0 %%EOF"
    page = PdfReader(io.BytesIO(pdf(sheet("a", title=said)))).pages[0]
    (link,) = page["/Annots"]
    assert link.get_object()["/A"]["/S"] == "/GoTo"
    assert said in page.extract_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"/URI \(#a\)", b"/URI <2361>"),  # another form of text
        (rb"xref\n0 ", b"xxxx\n0 "),  # no table
        (rb"/Kids", b"/Kins"),
        (rb"/Annots", b"/Annexe"),
        (rb"/Type /Page\b(?!s)", b"/Type /Leaf"),
        (rb"startxref\n\d+", b"startxref\n7"),
    ],
)
def test_a_pdf_that_is_written_otherwise_is_refused(old, new):
    figure = sheet("a")
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    with PdfPages(stream) as pages:
        pages.savefig(figure)
    content, changed = re.subn(
        old, lambda found: new.ljust(len(found[0]))[: len(found[0])], stream.getvalue()
    )
    assert changed
    with pytest.raises(EmmaVizError, match="this version of matplotlib writes PDF in another way"):
        join_links(content, [{"a": 1.0}], [1])
    with pytest.raises(EmmaVizError, match="expected 2 pages, found 1"):
        join_links(stream.getvalue(), [{"a": 1.0}, {}], [1, 0])
