"""The site builds strictly, asks nothing of another host, and shows every name; tests/pages runs its commands."""

import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

import emma_viz
from docs.gallery import PICTURES, page
from tests.pages.steps import DOCS, PAGES, ROOT

FETCHED = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
"""What a browser gets from elsewhere when it opens a page; a link that a reader may follow is an <a>."""


ROOMS = (
    "checkpoints", "capture", "study", "lens", "maps", "session", "render", "data", "models", "heads", "kernels",
    "metrics", "records",
)  # fmt: skip
"""Packages whose `__all__` is what they promise."""
GROUPS = {f"emma_viz.{name}" for name in ("benchmarks", "families", "lenses", "peers", "probes")}
"""Groups of entry points, which are no packages."""


def documented() -> dict[str, object]:
    """The path of everything that the API pages show, and what it is."""
    pages = (DOCS / "api").glob("*.md")
    paths = [
        path for page in pages for path in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(paths) == len({*paths})
    parts = {path: path.rpartition(".") for path in paths}
    return {path: getattr(importlib.import_module(module), name) for path, (module, _, name) in parts.items()}


def test_the_api_shows_every_name_that_a_room_promises_and_a_page_imports():
    shown = documented()
    known = {(path.rpartition(".")[2], id(found)) for path, found in shown.items()}
    promised = [("emma_viz", name) for name in emma_viz.__all__]
    for room in ROOMS:
        module = f"emma_viz.{room}"
        promised += [(module, name) for name in importlib.import_module(module).__all__]
    for path in PAGES:
        for module, names in re.findall(
            r"^ *from (emma_viz[\w.]*) import ([\w, ]+)$", path.read_text("utf-8"), re.MULTILINE
        ):
            promised += [(module, name.strip()) for name in names.split(",")]
    lacking = [
        f"{module}.{name}"
        for module, name in promised
        if (name, id(getattr(importlib.import_module(module), name))) not in known
    ]
    assert lacking == []


def unknown(name: str) -> bool:
    """Whether no module and nothing in one has this path."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return True
    return False


def test_names_that_pages_print_are_there():
    printed = {
        (path.name, name)
        for path in PAGES
        for name in re.findall(r"\bemma_viz(?:\.[A-Za-z_]\w*)+", path.read_text("utf-8"))
    }
    assert [(page, name) for page, name in sorted(printed) if name not in GROUPS and unknown(name)] == []


def test_the_methods_of_the_page_on_evidence_are_in_its_package():
    module, lacking = "", []
    table = (DOCS / "evidence.md").read_text("utf-8").partition("```")[0]
    for cell in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)", cell):
            own, _, short = name.rpartition(".")
            module = own or module  # one without a module is of that before it
            lacking += [name] if unknown(f"emma_viz.evidence.{module}.{short}") else []
    assert module
    assert lacking == []


def test_files_that_pages_and_decisions_name_are_there():
    lacking = [
        (path.name, file)
        for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
        for file in re.findall(
            r"(?<![\w/.-])((?:apps|benchmarks|docs|emma_viz|examples|probes|release|scripts|tests|training)/[\w/.-]+\w)",
            path.read_text("utf-8"),
        )
        if not (ROOT / file).exists() and file != "emma_viz/_programs"  # which a wheel has
    ]
    assert lacking == []


def test_the_gallery_is_what_its_script_writes():
    assert (DOCS / "gallery.md").read_text("utf-8") == page()
    for name in PICTURES:
        assert (DOCS / "images" / name).is_file(), name


@pytest.mark.slow
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    built = {path.relative_to(tmp_path / "site").as_posix(): path for path in tmp_path.rglob("*.html")}
    assert {"index.html", "gallery.html", "api/capture.html", "decisions/index.html"} <= set(built)
    own = [path for name, path in built.items() if not name.startswith("measured/")]
    fetched = {found for path in own for found in FETCHED.findall(path.read_text("utf-8"))}
    assert not {each for each in fetched if 'rel="canonical"' not in each}
    recording = built["api/capture.html"].read_text("utf-8")
    assert "token_strings" in recording  # read from the code, not only named
    assert "padded on the right with NaN" in recording
