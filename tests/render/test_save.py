"""Files: by suffix, reproducible to the byte, whole or not at all, text as text."""

import dataclasses
import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image

from emma_viz.errors import InputError
from emma_viz.render import SUFFIXES, draw, formats, read_spec, save, write_spec
from emma_viz.render.figures.figure import height
from emma_viz.render.output import write_atomically
from emma_viz.render.sidecar import to_json

ANSWER = "A white cup on a table."


def pdf_words(content: bytes) -> str:
    """What a PDF's text operators write. Matplotlib's Type 42 fonts are coded by character."""
    words = []
    for packed in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            stream = zlib.decompress(packed)
        except zlib.error:
            continue
        for block in re.findall(rb"BT\b(.*?)\bET", stream, re.DOTALL):
            pieces = re.findall(rb"\(((?:\\.|[^\\)])*)\)", block, re.DOTALL)
            words.append(b"".join(pieces).replace(b"\0", b"").decode("latin-1"))
    return " ".join(words)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_spec_gives_the_same_bytes(make, tmp_path, suffix):
    """Also from the sidecar, whatever was drawn before, and whatever the suffix's case."""
    spec = make.spec(models=1, layers=(0, 8))
    first = save(spec, tmp_path / f"one{suffix}", dpi=40).read_bytes()
    other = save(make.spec(models=1, layers=(4,)), tmp_path / f"other{suffix}", dpi=40).read_bytes()
    assert other != first
    again = read_spec(write_spec(spec, tmp_path / "figure.json"))
    assert save(again, tmp_path / f"two{suffix.upper()}", dpi=40).read_bytes() == first


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(make, tmp_path):
    spec = make.spec(models=1)
    sidecar = write_spec(spec, tmp_path / "figure.json")
    code = (
        "import sys; from emma_viz.render import read_spec, save\n"
        "for suffix in ('.png', '.svg'): save(read_spec(sys.argv[1]), sys.argv[2] + suffix, dpi=80)"
    )
    environment = {"PYTHONHASHSEED": "77", "MPLBACKEND": "svg", "PATH": ""}
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", code, sidecar, tmp_path / "there"], check=True, env=environment, cwd=root
    )
    for suffix in (".png", ".svg"):
        here = save(spec, tmp_path / f"here{suffix}", dpi=80).read_bytes()
        assert (
            hashlib.sha256((tmp_path / f"there{suffix}").read_bytes()).digest()
            == hashlib.sha256(here).digest()
        )


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_recipe_that_nobody_would_read_stays_out_of_the_picture_and_that_is_said(
    make, tmp_path, monkeypatch, caplog, suffix
):
    spec = make.spec(models=1)
    path = save(spec, tmp_path / f"a{suffix}", dpi=50)
    assert read_spec(path).images[0].title == spec.images[0].title
    with_it = path.stat().st_size
    assert caplog.messages == []
    length = len(to_json(spec))
    monkeypatch.setattr(formats, "longest_recipe", lambda suffix: length)
    assert save(spec, path, dpi=50).stat().st_size == with_it
    monkeypatch.setattr(formats, "longest_recipe", lambda suffix: length - 1)
    assert save(spec, path, dpi=50).stat().st_size < with_it
    assert "only the .json beside it" in caplog.text
    with pytest.raises(InputError, match=r"holds no recipe.*\.json"):
        read_spec(path)


def test_a_png_has_the_size_that_was_asked_for(make, tmp_path):
    spec = make.spec(models=1)
    width, height = draw(spec).get_size_inches()
    with Image.open(save(spec, tmp_path / "a.png", dpi=50)) as image:
        assert image.size == (round(width * 50), int(height * 50))
        assert np.asarray(image.convert("RGB")).std() > 20


def test_pdf_text_is_text(make, tmp_path):
    content = save(make.spec(), tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in content
    assert b"/FontFile2" in content
    said = pdf_words(content)
    for expected in (ANSWER, "Describe the image", "layer 4", "cobra-pocket", "Hook site: resid_post"):
        assert expected in said
    assert b"CreationDate" not in content


def test_svg_text_is_text(make, tmp_path):
    path = save(make.spec(), tmp_path / "a.svg")
    said = " ".join(node.text or "" for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text"))
    for expected in (ANSWER, "coffee.png", "layer 4", "r 0.9"):
        assert expected in said
    assert "<dc:date>" not in path.read_text()


def test_savefig_of_a_drawn_figure_keeps_text_too(make, tmp_path):
    figure = draw(make.spec())
    figure.savefig(tmp_path / "a.pdf")
    assert ANSWER in pdf_words((tmp_path / "a.pdf").read_bytes())
    figure.savefig(tmp_path / "a.svg")
    assert ANSWER in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.json", ".png"])
def test_unknown_suffixes_list_the_known(make, tmp_path, name):
    with pytest.raises(InputError, match=r"expected one of \.png, \.svg, \.pdf, \.html"):
        save(make.spec(models=1), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(make, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        save(make.spec(models=1), tmp_path / "nowhere" / "a.png")


def test_a_folder_is_no_file(make, tmp_path):
    (tmp_path / "a.html").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        save(make.spec(models=1), tmp_path / "a.html")


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(stream):
        stream.write(b"half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".html"])
def test_a_failed_drawing_leaves_nothing(make, tmp_path, monkeypatch, suffix):
    from emma_viz.render.figures import sheet
    from emma_viz.render.web import html

    def fail(*args, **options):
        raise RuntimeError("no ink")

    monkeypatch.setattr(sheet.Drawing, "savefig", fail)
    monkeypatch.setattr(html, "page", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        save(make.spec(models=1), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_figure_too_wide_for_a_png_is_refused(make, tmp_path):
    with pytest.raises(InputError, match="choose fewer dpi"):
        save(make.spec(models=1, images=2), tmp_path / "a.png", dpi=20000)
    assert list(tmp_path.iterdir()) == []


def test_one_image_too_tall_for_a_png_is_drawn_at_fewer_dpi_and_that_is_said(
    make, tmp_path, monkeypatch, caplog
):
    spec = make.spec(models=4, layers=(0,))  # higher than wide
    monkeypatch.setattr(formats, "LARGEST_SIDE", round(height(spec) * 55))
    monkeypatch.setitem(formats.TALLEST, ".png", 2 * height(spec))
    save(spec, tmp_path / "a.png", dpi=60)
    assert "drawn at 54 dpi" in caplog.text or "drawn at 55 dpi" in caplog.text
    with Image.open(tmp_path / "a.png") as image:
        assert image.height <= formats.LARGEST_SIDE


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("style", ["default", "paper"])
def test_images_that_do_not_fit_one_page_are_drawn_on_several(make, tmp_path, monkeypatch, suffix, style):
    spec = make.spec(models=1, layers=(0,), images=5, figure={"style": style})
    one = height(dataclasses.replace(spec, images=spec.images[:1]))
    monkeypatch.setattr(formats, "LARGEST_SIDE", round(2.5 * one * 60))
    monkeypatch.setitem(formats.TALLEST, ".svg", 2.5 * one)
    first = save(spec, tmp_path / f"fig{suffix}", dpi=60)
    pages = sorted(tmp_path.iterdir())
    assert first == pages[0]
    assert [page.name for page in pages] == [f"fig-{number}{suffix}" for number in range(1, len(pages) + 1)]
    assert len(pages) >= 3
    # Each page is a figure of its own, drawn again from itself; together they are all images in order.
    specs = [read_spec(page) for page in pages]
    assert [case.image_hash for each in specs for case in each.images] == [
        case.image_hash for case in spec.images
    ]
    again = save(specs[1], tmp_path / f"again{suffix}", dpi=60)
    assert again.read_bytes() == pages[1].read_bytes()
    if suffix == ".png":
        for page in pages:
            with Image.open(page) as image:
                assert max(image.size) <= formats.LARGEST_SIDE


@pytest.mark.slow
def test_a_pdf_that_is_too_tall_has_several_pages_and_one_recipe(make, tmp_path, monkeypatch):
    spec = make.spec(models=1, layers=(0,), images=3)
    one = height(dataclasses.replace(spec, images=spec.images[:1]))
    monkeypatch.setitem(formats.TALLEST, ".pdf", 1.5 * one)
    monkeypatch.setattr(formats, "PDF_PAGE", 1.1 * one)
    path = save(spec, tmp_path / "fig.pdf")
    assert list(tmp_path.iterdir()) == [path]
    pages = pypdf.PdfReader(path, strict=True).pages
    assert len(pages) == 3
    assert all(ANSWER in page.extract_text() for page in pages)
    assert b"CreationDate" not in path.read_bytes()
    assert len(read_spec(path).images) == 3
    assert save(read_spec(path), tmp_path / "again.pdf").read_bytes() == path.read_bytes()


def test_one_image_that_is_too_tall_for_a_png_is_drawn_smaller(make, tmp_path, monkeypatch):
    spec = make.spec(models=1, layers=(0,))
    monkeypatch.setattr(formats, "LARGEST_SIDE", 72 * 8)
    with Image.open(save(spec, tmp_path / "a.png", dpi=72)) as image:
        assert max(image.size) <= 72 * 8


def test_a_height_is_that_of_the_drawing(make):
    for style in ("default", "paper"):
        spec = make.spec(models=2, images=2, figure={"style": style})
        assert height(spec) == pytest.approx(draw(spec).get_size_inches()[1])


def test_a_file_that_is_written_can_be_read_by_others(tmp_path):
    """As a file made by any other program: by the umask, not private."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    written = write_atomically(tmp_path / "atomic", lambda stream: stream.write(b"x"))
    assert written.stat().st_mode == plain.stat().st_mode
