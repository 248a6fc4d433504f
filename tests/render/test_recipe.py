"""The recipe inside a picture: it is found again in every format, and costs nobody time or memory."""

import io
import json
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emma_viz.errors import InputError
from emma_viz.render import recipe, save
from emma_viz.render.recipe import NAME, longest_recipe, recipe_of, with_recipe

SUFFIXES = (".png", ".svg", ".pdf", ".html")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def plain(make, tmp_path_factory) -> dict[str, bytes]:
    """A picture of each format, without a recipe."""
    folder = tmp_path_factory.mktemp("plain")
    spec = make.spec(models=1)
    return {
        suffix: save(spec, folder / f"a{suffix}", dpi=60, recipe=False).read_bytes() for suffix in SUFFIXES
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=40)
@given(value=VALUES)
def test_every_document_comes_back_as_it_was(suffix, value, plain, tmp_path):
    document = json.dumps({"format": "emma-viz figure", "value": value}, indent=1) + "\n"
    path = tmp_path / "mail-attachment.dat"  # found by what it is, not by its name
    path.write_bytes(with_recipe(plain[suffix], suffix, document))
    found = recipe_of(path)
    assert found is not None
    assert json.loads(found) == json.loads(document)
    if suffix != ".html":
        assert found == document


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_without_a_recipe_says_so(suffix, plain, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(plain[suffix])
    assert recipe_of(path) is None


def test_a_png_shows_what_it_showed(plain):
    held = with_recipe(plain[".png"], ".png", '{"a": 1}')
    with Image.open(io.BytesIO(held)) as image, Image.open(io.BytesIO(plain[".png"])) as before:
        assert image.text[NAME] == '{"a": 1}'
        np.testing.assert_array_equal(np.asarray(image), np.asarray(before))


def test_a_png_with_a_long_recipe_opens_everywhere_and_gives_it_back(plain, tmp_path):
    document = json.dumps({"a": np.random.default_rng(0).bytes(2**20).hex()})
    held = with_recipe(plain[".png"], ".png", document)
    with Image.open(io.BytesIO(held)) as image, Image.open(io.BytesIO(plain[".png"])) as before:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(before))
        assert "".join(image.text.values()) == document
    path = tmp_path / "a.png"
    path.write_bytes(held)
    assert recipe_of(path) == document
    with pytest.raises(InputError, match="at most 1 MB"):
        recipe_of(path, limit=2**20)
    second = held.index(f"iTXt{NAME}-2".encode()) - 4
    (length,) = struct.unpack_from(">I", held, second)
    path.write_bytes(held[:second] + held[second + length + 12 :])
    with pytest.raises(InputError, match="damaged"):
        recipe_of(path)


def test_an_svg_is_well_formed_and_holds_it_as_metadata(plain):
    document = '{"a": "<b> & ]]> c"}'
    root = ET.fromstring(with_recipe(plain[".svg"], ".svg", document))
    (held,) = [node.text for node in root if node.get("id") == NAME]
    assert held == document


def test_a_pdf_is_whole_and_other_programs_find_the_attachment(plain):
    document = json.dumps({"a": list(range(500))})
    reader = pypdf.PdfReader(io.BytesIO(with_recipe(plain[".pdf"], ".pdf", document)), strict=True)
    assert reader.attachments == {f"{NAME}.json": [document.encode()]}
    before = pypdf.PdfReader(io.BytesIO(plain[".pdf"]), strict=True)
    assert reader.pages[0].extract_text() == before.pages[0].extract_text() != ""
    assert reader.metadata == before.metadata


def test_a_pdf_that_another_program_wrote_anew_still_holds_it(plain, tmp_path):
    document = json.dumps({"a": "b" * 500})
    reader = pypdf.PdfReader(io.BytesIO(with_recipe(plain[".pdf"], ".pdf", document)))
    writer = pypdf.PdfWriter(clone_from=reader)
    writer.compress_identical_objects()
    writer.write(tmp_path / "a.pdf")
    assert b"/Prev" not in (tmp_path / "a.pdf").read_bytes()
    assert recipe_of(tmp_path / "a.pdf") == document


def test_a_page_runs_no_more_than_before(plain):
    before = plain[".html"].decode()
    held = with_recipe(plain[".html"], ".html", '{"a": "</script><script>alert(1)</script><!--"}').decode()
    assert held.count("<script") == before.count("<script") + 1
    assert held.count("</script") == before.count("</script") + 1
    assert held.count("<!--") == before.count("<!--")
    assert re.search(r'Content-Security-Policy" content="[^"]*"', held)[0] in before


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def packed_zeros(size: int) -> bytes:
    """`size` zeros, packed in little memory."""
    deflate, piece = zlib.compressobj(9), b"0" * 2**20
    return b"".join(deflate.compress(piece) for _ in range(size // 2**20)) + deflate.flush()


def itxt(packed: bytes, flags: bytes = b"\1\0\0\0") -> bytes:
    return chunk(b"iTXt", NAME.encode() + b"\0" + flags + packed)


KIND = b"<< /Type /EmbeddedFile /Subtype /application#2Fvnd.emma-viz#2Bjson"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: png_of(itxt(packed_zeros(2**21))), "at most 1 MB"),
        (lambda: png_of(itxt(zlib.compress(b"{}")), itxt(zlib.compress(b"[]"))), "found several"),
        (lambda: png_of(itxt(b"no deflate")), "damaged"),
        (lambda: png_of(itxt(zlib.compress(b"{}" * 999)[:-9])), "ends too early"),
        (lambda: png_of(itxt(zlib.compress(b"{}"), b"\1\7\0\0")), "damaged"),
        (lambda: png_of(itxt(zlib.compress("{é}".encode()))), "not ASCII"),
        (lambda: png_of(itxt(zlib.compress(b"{}"))[:-1] + b"?"), "check sum"),
        (lambda: png_of()[:-5], "ends too early"),
        (lambda: png_of(struct.pack(">I", 2**31 - 1) + b"iTXt"), "ends too early"),
        (lambda: png_of(*[chunk(b"tEXt", b"")] * 100_001), "at most 100000 chunks"),
        (lambda: b"%PDF-1.4\n1 0 obj\n" + KIND, "nothing in it"),
        (
            lambda: b"%PDF-1.4\n1 0 obj\n" + KIND + b" >>\nstream\n" + b"0" * 2**20 + b"1\nendstream",
            "at most 1 MB",
        ),
        (
            lambda: b"%PDF-1.4\n1 0 obj\n" + KIND + b"/Filter /FlateDecode >>\nstream\nxx\nendstream",
            "damaged",
        ),
        (lambda: b"%PDF-1.4\n" + 2 * (b"1 0 obj\n" + KIND + b">>\n"), "found several"),
        (
            lambda: b"%PDF-1.4\n1 0 obj\n" + KIND + b"/Filter [/FlateDecode /LZWDecode] >>\nstream\n",
            "attachments",
        ),
        (
            lambda: (
                b"%PDF-1.4\n1 0 obj\n" + KIND + b"/Filter[/FlateDecode]>>\nstream\n" + packed_zeros(2**21)
            ),
            "at most 1 MB",
        ),
        (
            lambda: b'<svg><metadata id="emma-viz-recipe">' + b"0" * (2**20 + 1) + b"</metadata></svg>",
            "at most 1 MB",
        ),
        (lambda: b"<svg>" + 2 * b'<metadata id="emma-viz-recipe">{}</metadata>', "found several"),
        (lambda: b"%PDF-1.4\n1 0 obj\n" + KIND + b">>\nstream\n{}", "ends too early"),
        (lambda: b"GIF89a", "expected a PNG, SVG, PDF or HTML"),
        (lambda: b"", "expected a PNG, SVG, PDF or HTML"),
        (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 2**21, "at most 2 MB"),
    ],
)
def test_a_hostile_picture_is_refused_in_a_sentence(content, says, tmp_path):
    path = tmp_path / "mail.bin"
    path.write_bytes(content())
    with pytest.raises(InputError, match=says) as refusal:
        recipe_of(path, limit=2**20)
    assert str(path) in str(refusal.value)


def test_entities_of_an_svg_are_not_expanded(tmp_path):
    path = tmp_path / "a.svg"
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(12))
    path.write_text(f'<!DOCTYPE svg [{lines}]><svg><metadata id="{NAME}">"&e11;"</metadata></svg>')
    assert recipe_of(path) == '"&e11;"'


def test_what_cannot_be_put_into_a_picture_is_refused(plain):
    with pytest.raises(InputError, match="ASCII"):
        with_recipe(plain[".png"], ".png", '"é"')
    with pytest.raises(InputError, match="to hold a recipe"):
        with_recipe(plain[".png"], ".gif", "{}")
    for suffix in SUFFIXES:
        with pytest.raises(InputError, match="something else"):
            with_recipe(b"no picture", suffix, "{}")


def test_limits_hold_for_what_emma_viz_writes():
    assert recipe.LARGEST * recipe.ROOM < 2**28


def test_pillow_loads_a_png_with_the_longest_recipe(plain):
    document = '"' + "a" * (longest_recipe(".png") - 2) + '"'
    with Image.open(io.BytesIO(with_recipe(plain[".png"], ".png", document))) as image:
        image.load()
    assert max(map(longest_recipe, SUFFIXES)) <= recipe.LARGEST
