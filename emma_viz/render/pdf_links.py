"""Links of a PDF that lead to places on its pages; matplotlib's own lead to addresses alone.

Matplotlib writes such a link with an address that begins with "#". Its file is then changed as the standard has it (ISO
32000-1, 7.5.6): new versions of objects stand behind it, with a table of where they are. What is read of the file is
the standard's, too: the table at its end, the tree of pages, and their annotations.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emma_viz.errors import EmmaVizError

LINK = "#"
"""Begins the address of a place on the same page."""
_ROW = 20
"""Bytes of a row of the table."""
_ACTION = re.compile(rb"/A\s*<<[^<>]*/URI\s*\(" + LINK.encode() + rb"([^()\\]+)\)[^<>]*>>")


def join_links(content: bytes, places: Sequence[Mapping[str, float]], links: Sequence[int]) -> bytes:
    """Let links lead to places on their own page.

    Args:
        content: a PDF that matplotlib wrote, with links to "#name".
        places: of each page, name → height above its lower edge, points.
        links: of each page, how many such links it was given.

    Returns:
        The PDF; the same bytes where there is no such link.

    Raises:
        EmmaVizError: it is written otherwise than is read here, or a page has not as many links.
    """
    if not any(links):
        return content
    read = _Read.of(content)
    pages = read.pages()
    if len(pages) != len(places):
        raise EmmaVizError(f"{_UNKNOWN}: expected {len(places)} pages, found {len(pages)}.")
    changed: dict[int, bytes] = {}
    for page, known, count in zip(pages, places, links, strict=True):
        if not count:
            continue
        number = read.reference(rb"/Annots", read.item(page))

        def leading(found: re.Match[bytes], page: int = page, known: Mapping[str, float] = known) -> bytes:
            top = known[found[1].decode("ascii")]
            return b"/A << /S /GoTo /D [%d 0 R /XYZ null %.2f null] >>" % (page, top)

        changed[number], there = _ACTION.subn(leading, read.item(number))
        if there != count:
            raise EmmaVizError(f"{_UNKNOWN}: expected {count} links on a page, found {there}.")
    return content + read.update(changed)


_UNKNOWN = "The links of a PDF cannot be joined, because this version of matplotlib writes PDF in another way"


@dataclass(frozen=True)
class _Read:
    """A PDF, and where its objects are."""

    content: bytes
    offsets: tuple[int, ...]
    """By the objects' numbers."""
    trailer: bytes
    """The entries of the dictionary behind the table."""
    table: int
    """Where the table begins."""

    @classmethod
    def of(cls, content: bytes) -> "_Read":
        """Read the table at the end."""
        table = int(_match(rb"startxref\s+(\d+)\s+%%EOF\s*\Z", content[-1024:]))
        rows = _match(rb"xref\s+0 \d+ ?\r?\n((?:\d{10} \d{5} [fn][ \r][\r\n])+)", content, table)
        trailer = _match(
            rb"trailer\s*<<(.*?)>>\s*startxref", content[content.index(rows, table) + len(rows) :]
        )
        offsets = tuple(int(rows[at : at + 10]) for at in range(0, len(rows), _ROW))
        return cls(content, offsets, trailer, table)

    def item(self, number: int) -> bytes:
        """What an object that is no stream holds."""
        offset = self.offsets[number] if number < len(self.offsets) else len(self.content)
        return _match(rb"%d 0 obj(.*?)endobj" % number, self.content, offset)

    def reference(self, name: bytes, text: bytes) -> int:
        """The number of the object under a name of a dictionary."""
        return int(_match(name + rb"\s+(\d+)\s+0\s+R", text))

    def pages(self) -> list[int]:
        """The numbers of the pages, in order."""
        tree = self.item(self.reference(rb"/Pages", self.item(self.reference(rb"/Root", self.trailer))))
        found = [int(each) for each in re.findall(rb"(\d+)\s+0\s+R", _match(rb"/Kids\s*\[(.*?)\]", tree))]
        if any(re.search(rb"/Type\s*/Page\b", self.item(page)) is None for page in found):
            raise EmmaVizError(f"{_UNKNOWN}: its tree of pages has branches.")
        return found

    def update(self, changed: Mapping[int, bytes]) -> bytes:
        """What stands behind the file, so that some objects are others."""
        update, rows = b"", b"0 1\n0000000000 65535 f \n"
        for number, text in sorted(changed.items()):
            rows += b"%d 1\n%010d 00000 n \n" % (number, len(self.content) + len(update))
            update += b"%d 0 obj%sendobj\n" % (number, text)
        start = len(self.content) + len(update)
        end = b"trailer\n<<%s/Prev %d >>\nstartxref\n%d\n%%%%EOF\n" % (self.trailer, self.table, start)
        return update + b"xref\n" + rows + end


def _match(pattern: bytes, text: bytes, start: int | None = None) -> bytes:
    """The first group of a pattern: where it stands first, or at `start`.

    Raises:
        EmmaVizError: it does not stand there.
    """
    compiled = re.compile(pattern, re.DOTALL)
    found = compiled.search(text) if start is None else compiled.match(text, start)
    if found is None:
        raise EmmaVizError(f"{_UNKNOWN}: expected {pattern.decode('ascii')!r}.")
    return found[1]
