"""The site builds without a warning, asks nothing of another host, and its commands are understood; what one page walks
through from the first step to the last is run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import emma_viz
from apps.casebook.command import casebook_parser
from apps.explorer.command import parser as explorer_parser
from docs.gallery import PICTURES, page
from emma_viz.cli.main import COMMANDS, build_parser
from emma_viz.cli.programs import PROGRAMS
from probes.run import probe_parser
from training.train import training_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(path for path in sorted(DOCS.rglob("*.md")) if "decisions" not in path.parts)]
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
"""What a browser gets from elsewhere when it opens a page; a link that a reader may follow is an <a>."""


PARSERS = {
    "casebook": casebook_parser,
    "explore": explorer_parser,
    "probe": lambda: probe_parser("emma-viz probe"),
    "train": lambda: training_parser("emma-viz train"),
}
"""Of the programs, which have options that the command line's own parser does not know."""
WALK = DOCS / "own-checkpoint.md"
PROBE_PAGE = DOCS / "extending" / "add-a-probe.md"


def commands(text: str) -> list[str]:
    """The lines of code blocks that call `emma-viz` with a sub-command, those that go on in the next line whole."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    code = [line.strip() for line in lines if re.match(r"(?: {4})?emma-viz ", line)]
    return [line for line in code if line.split()[1] in {*COMMANDS, *PROGRAMS}]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_is_one_that_is_understood(path):
    for line in commands(path.read_text("utf-8")):
        _, name, *argv = shlex.split(line.replace("…", ""), comments=True)
        try:
            PARSERS[name]().parse_args(argv) if name in PARSERS else build_parser().parse_args([name, *argv])
        except SystemExit:
            pytest.fail(f"{path.name}: {line}")


def test_commands_are_found_in_the_pages():
    assert {*PARSERS} == {*PROGRAMS}
    assert len(commands((ROOT / "README.md").read_text("utf-8"))) > 12
    assert commands("```bash\nemma-viz figure a.jpg \\\n    --out b.png  # c\n```") == [
        "emma-viz figure a.jpg  --out b.png  # c"
    ]


ROOMS = (
    "checkpoints", "capture", "study", "lens", "maps", "session", "render", "data", "models", "heads", "kernels",
    "metrics", "records",
)  # fmt: skip
"""Packages whose `__all__` is what they promise."""


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


@pytest.mark.slow
def test_the_walk_from_a_checkpoint_to_cases_does_what_it_says(photos, tmp_path):
    # In processes of their own, as a reader has them, in a folder with nothing but a photograph.
    (tmp_path / "photo.jpg").write_bytes(photos[0].read_bytes())
    (probe,) = re.findall(r"^```python\n(.*?)^```", PROBE_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "loudness.py").write_text(probe)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    offline["PYTHONPATH"] = str(ROOT)
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", WALK.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ran = []
    for language, code in blocks:
        steps = [["-c", code]]
        if language == "bash":
            argvs = [shlex.split(line, comments=True)[1:] for line in commands(code)]
            steps = [["-m", "emma_viz", *argv] for argv in argvs if argv[0] not in ("explore", "casebook")]
        for step in steps:
            done = subprocess.run(
                [sys.executable, *step],
                cwd=tmp_path,
                env=offline,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (step, done.stdout[-1000:], done.stderr[-3000:])
            ran += step[2:3]
    assert {"inspect", "fit", "figure", "probe", "benchmark", "cases"} <= {*ran}
    for name in (
        "runs/my-cobra/ridge.lens",
        "both.pdf",
        "report/report.html",
        "loud/report.html",
        "cases.html",
    ):
        assert (tmp_path / name).is_file(), name


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
