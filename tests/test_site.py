"""The site builds without a warning, and asks nothing of another host."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs.gallery import PICTURES, page
from emma_viz.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(path for path in sorted(DOCS.rglob("*.md")) if "decisions" not in path.parts)]
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
"""What a browser gets from elsewhere when it opens a page; a link that a reader may follow is an <a>."""


def commands(text: str) -> list[str]:
    """The lines of code blocks that call `emma-viz` with a sub-command of the parser."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    code = [line.strip() for line in lines if re.match(r"(?: {4})?emma-viz ", line)]
    return [line for line in code if line.split()[1] in COMMANDS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_is_one_that_is_understood(path):
    for line in commands(path.read_text("utf-8")):
        argv = shlex.split(line.replace("…", ""), comments=True)[1:]
        try:
            build_parser().parse_args(argv)
        except SystemExit:
            pytest.fail(f"{path.name}: {line}")


def test_commands_are_found_in_the_pages():
    assert len(commands((ROOT / "README.md").read_text("utf-8"))) > 8
    assert commands("```bash\nemma-viz figure a.jpg \\\n    --out b.png  # c\n```") == [
        "emma-viz figure a.jpg  --out b.png  # c"
    ]


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
