"""The recipe inside a picture: a document that travels with a PNG, SVG, PDF or HTML file and draws it again.

A PNG holds it in compressed iTXt chunks, an SVG in a `<metadata>` element, a PDF as an attached file, a page in a
script element that is data. Reading finds it by what the file is, not by what it is called, and unpacks no more than
`LARGEST` bytes of it.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from emma_viz.errors import InputError
from emma_viz.files.json_door import read_bytes

NAME = "emma-viz-recipe"
"""What the recipe is called in every format: the chunk's keyword, the element's id, the attached file's name."""
LARGEST = 96 * 2**20
"""Bytes of the longest recipe that is read unless the reader is told otherwise."""
LARGEST_IN_PNG = 60 * 2**20
"""Bytes of the longest recipe that goes into a PNG: Pillow loads none whose texts have more than 64 MiB together."""
ANY = 2**40
"""A limit that no file reaches."""
ROOM = 2
"""A picture may be as many times as large as the longest recipe."""

_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNKS = 100_000
_PIECE = 2**20
_LONGEST = 2**19
"""Characters of one text of a PNG: Pillow opens none that holds a text of more than 2^20."""
_KIND = rb"/application#2Fvnd.emma-viz#2Bjson"
"""The attached file's kind, by which it is found again; no other program gives its files this one."""
_ATTACHED = re.compile(rb"/Subtype\s*/application#2[fF]vnd\.emma-viz(?:#2[bB]|\+)json\b")
_FROM = f'<script type="application/json" id="{NAME}">'
_METADATA = re.compile(
    rb"<(?:[A-Za-z]+:)?metadata\b[^<>]*\bid\s*=\s*[\"']%s[\"'][^<>]*>([^<]*)</" % NAME.encode()
)
"""Found in the bytes, without a parser: no entity that an SVG may declare is ever expanded."""
_SIGNS = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&"))
_PAGE = re.compile(re.escape(_FROM).encode() + rb"([^<]*)</script>")


def longest_recipe(suffix: str) -> int:
    """Bytes of the longest recipe that a picture with this suffix may hold, and be opened by others still."""
    return LARGEST_IN_PNG if suffix.lower() == ".png" else LARGEST


def with_recipe(data: bytes, suffix: str, document: str) -> bytes:
    """A picture with a document inside, which shows what it showed before.

    Args:
        data: a PNG, SVG or HTML file, or a PDF as matplotlib writes it, without a recipe yet.
        suffix: ".png", ".svg", ".pdf" or ".html".
        document: JSON text in ASCII, as `render.sidecar.to_json` gives it.

    Raises:
        InputError: `data` is no such file, or the document is not ASCII.
    """
    if not document.isascii():
        raise InputError("expected a recipe in ASCII; let JSON escape other characters.")
    embed = {".png": _into_png, ".svg": _into_svg, ".pdf": _into_pdf, ".html": _into_page}.get(suffix.lower())
    if embed is None:
        raise InputError(f"expected a .png, .svg, .pdf or .html picture to hold a recipe, got {suffix!r}.")
    return embed(data, document)


def recipe_of(path: str | Path, *, limit: int = LARGEST) -> str | None:
    """The document inside a picture.

    Args:
        path: a PNG, SVG, PDF or HTML file.
        limit: bytes of the longest recipe; the picture may have `ROOM` times as many.

    Returns:
        The document; None where the picture holds none.

    Raises:
        InputError: the file cannot be read, is no such picture, is damaged, or larger than the limit.
    """
    data = read_bytes(Path(path), limit=ROOM * limit, error=InputError)
    found = recipe_in(data, str(path), limit=limit)
    return None if found is None else _text(found, str(path))


def recipe_in(data: bytes, where: str, *, limit: int = LARGEST) -> bytes | None:
    """As `recipe_of`, for the content of a file; `where` is what to call it in an error."""
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if data.startswith(_PNG):
        return _from_png(data, where, limit)
    if b"%pdf-" in start:
        return _from_pdf(data, where, limit)
    if start.startswith((b"<!doctype html", b"<html")):
        return _from_page(data, where, limit)
    if start.startswith((b"<?xml", b"<svg", b"<!doctype svg", b"<!--")):
        return _from_svg(data, where, limit)
    raise InputError(f"{where}: expected a PNG, SVG, PDF or HTML picture, or a figure's JSON sidecar.")


def _text(document: bytes, where: str) -> str:
    if not document.isascii():
        raise InputError(f"{where}: the recipe inside is damaged: it is not ASCII.")
    return document.decode("ascii")


def _unpack(packed: memoryview, where: str, limit: int, *, before: int = 0) -> bytes:
    """Inflate piece by piece, so that neither a bomb nor what follows the stream is held; `before` were unpacked."""
    inflate, found = zlib.decompressobj(), bytearray()
    try:
        for start in range(0, len(packed), _PIECE):
            piece: bytes | memoryview = packed[start : start + _PIECE]
            while piece and not inflate.eof:
                found += inflate.decompress(piece, limit + 1 - before - len(found))
                if before + len(found) > limit:
                    raise _too_long(where, limit)
                piece = inflate.unconsumed_tail
            if inflate.eof:
                return bytes(found)
    except zlib.error as error:
        raise InputError(f"{where}: the recipe inside is damaged ({error}).") from error
    raise InputError(f"{where}: the recipe inside is damaged: it ends too early.")


def _too_long(where: str, limit: int) -> InputError:
    return InputError(
        f"{where}: expected a recipe of at most {limit / 2**20:.0f} MB, but the one inside is longer; if the file is "
        "your own, read it with --any-size."
    )


def _several(where: str) -> InputError:
    return InputError(f"{where}: expected one recipe inside, found several; it is not known which is true.")


# PNG: https://www.w3.org/TR/png-3/#11iTXt


def _into_png(data: bytes, document: str) -> bytes:
    end = data.rfind(b"\0\0\0\0IEND")
    if not data.startswith(_PNG) or end < 0:
        raise InputError("expected a PNG to put a recipe into, got something else.")
    whole = document.encode("ascii")
    parts = [whole[start : start + _LONGEST] for start in range(0, len(whole), _LONGEST)] or [b""]
    chunks = []
    for number, part in enumerate(parts, start=1):
        # Compressed, no language, no translated keyword.
        chunk = b"iTXt" + _keyword(number) + b"\1\0\0\0" + zlib.compress(part)
        chunks += [struct.pack(">I", len(chunk) - 4), chunk, struct.pack(">I", zlib.crc32(chunk))]
    return b"".join((data[:end], *chunks, data[end:]))


def _keyword(number: int) -> bytes:
    return (NAME if number == 1 else f"{NAME}-{number}").encode() + b"\0"


def _from_png(data: bytes, where: str, limit: int) -> bytes | None:
    document, number = bytearray(), 0
    for kind, content in _chunks(data, where):
        if kind != b"iTXt" or content[: len(NAME)] != NAME.encode():
            continue
        if content[: len(_keyword(1))] == _keyword(1) and number:
            raise _several(where)
        keyword = _keyword(number + 1)
        if content[: len(keyword) + 4] != keyword + b"\1\0\0\0":
            raise InputError(
                f"{where}: the recipe inside is damaged: its chunk is not as emma_viz writes it."
            )
        document += _unpack(content[len(keyword) + 4 :], where, limit, before=len(document))
        number += 1
    return bytes(document) if number else None


def _chunks(data: bytes, where: str) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(_PNG)
    for _ in range(_CHUNKS):
        if at + 12 > len(data):
            raise InputError(f"{where}: the PNG ends too early; it was not copied whole.")
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        after = at + 12 + length
        if after > len(data):
            raise InputError(f"{where}: the PNG ends too early; it was not copied whole.")
        if (
            kind == b"iTXt"
            and zlib.crc32(view[at + 4 : after - 4]) != struct.unpack_from(">I", data, after - 4)[0]
        ):
            raise InputError(f"{where}: the PNG is damaged: the check sum of a text in it is wrong.")
        if kind == b"IEND":
            return
        yield kind, view[at + 8 : after - 4]
        at = after
    raise InputError(f"{where}: expected a PNG of at most {_CHUNKS} chunks, got more.")


# SVG: https://www.w3.org/TR/SVG2/metadata.html


def _into_svg(data: bytes, document: str) -> bytes:
    end = data.rfind(b"</svg>")
    if end < 0:
        raise InputError("expected an SVG to put a recipe into, got something else.")
    element = f'<metadata id="{NAME}">{escape(document, quote=False)}</metadata>\n'
    return data[:end] + element.encode("ascii") + data[end:]


def _from_svg(data: bytes, where: str, limit: int) -> bytes | None:
    found = _only(_METADATA, data, where, limit)
    if found is not None:
        for entity, sign in _SIGNS:
            found = found.replace(entity, sign)
    return found


# PDF: ISO 32000-1, 7.5.6 (incremental updates) and 7.11.4 (embedded files). Streams are never packed into others, so
# that ours is found in the file's bytes also after another program has written the file anew.


def _into_pdf(data: bytes, document: str) -> bytes:
    end = re.search(
        rb"trailer\s*<<([^<>]*)/Size (\d+)([^<>]*/Root (\d+) 0 R[^<>]*)>>\s*startxref\s+(\d+)\s+%%EOF\s*\Z",
        data,
    )
    root = end and re.search(rb"(?m)^%d 0 obj\n<<([^<>]*)>>\nendobj" % int(end[4]), data)
    if not end or not root:
        raise InputError("expected a PDF as matplotlib writes it to put a recipe into, got something else.")
    size, content = int(end[2]), document.encode("ascii")
    packed = zlib.compress(content)
    objects = {
        int(end[4]): b"<<%s/Names << /EmbeddedFiles << /Names [ (%s.json) %d 0 R ] >> >> /AF [ %d 0 R ] >>"
        % (root[1], NAME.encode(), size + 1, size + 1),
        size: b"<< /Type /EmbeddedFile /Subtype %s /Filter /FlateDecode /Length %d /Params << /Size %d >> >>\n"
        b"stream\n%s\nendstream" % (_KIND, len(packed), len(content), packed),
        size + 1: b"<< /Type /Filespec /F (%s.json) /UF (%s.json) /Desc (draws this figure again) "
        b"/AFRelationship /Source /EF << /F %d 0 R >> >>" % (NAME.encode(), NAME.encode(), size),
    }
    parts, places, at = [data], {}, len(data)
    for number, body in objects.items():
        part = b"%d 0 obj\n%s\nendobj\n" % (number, body)
        places[number] = at
        parts.append(part)
        at += len(part)
    table = b"".join(b"%d 1\n%010d 00000 n \n" % (number, place) for number, place in places.items())
    trailer = b"<<%s/Size %d%s/Prev %s >>" % (end[1], size + 2, end[3], end[5])
    return b"".join([*parts, b"xref\n", table, b"trailer\n", trailer, b"\nstartxref\n%d\n%%%%EOF\n" % at])


def _from_pdf(data: bytes, where: str, limit: int) -> bytes | None:
    found = list(itertools.islice(_ATTACHED.finditer(data), 2))
    if not found:
        return None
    if len(found) > 1:
        raise _several(where)
    begin = re.compile(rb"stream\r?\n").search(data, found[0].end(), found[0].end() + 1024)
    if begin is None:
        raise InputError(f"{where}: the recipe inside is damaged: there is nothing in it.")
    about = data[max(0, data.rfind(b" obj", 0, found[0].start())) : begin.start()]
    if re.search(rb"/Filter\s*(?:/FlateDecode|\[\s*/FlateDecode\s*\])\s*[/>]", about):
        return _unpack(memoryview(data)[begin.end() :], where, limit)
    if b"/Filter" in about:
        raise InputError(
            f"{where}: the recipe inside was packed anew by another program, in a way that is not read here; save "
            f"{NAME}.json from the PDF's attachments and pass that."
        )
    end = data.find(b"\nendstream", begin.end())
    if end < 0:
        raise InputError(f"{where}: the recipe inside is damaged: it ends too early.")
    if end - begin.end() > limit:
        raise _too_long(where, limit)
    return data[begin.end() : end]


# HTML


def _into_page(data: bytes, document: str) -> bytes:
    end = data.rfind(b"</body>")
    if end < 0:
        raise InputError("expected a page to put a recipe into, got something else.")
    safe = document.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return data[:end] + f"{_FROM}{safe}</script>\n".encode("ascii") + data[end:]


def _from_page(data: bytes, where: str, limit: int) -> bytes | None:
    return _only(_PAGE, data, where, limit)


def _only(element: re.Pattern[bytes], data: bytes, where: str, limit: int) -> bytes | None:
    found = list(itertools.islice(element.finditer(data), 2))
    if not found:
        return None
    if len(found) > 1:
        raise _several(where)
    start, end = found[0].span(1)
    if end - start > limit:
        raise _too_long(where, limit)
    return data[start:end]
