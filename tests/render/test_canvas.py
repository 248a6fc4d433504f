"""The canvas's modules: their own tests, in Node, and the one script that they are joined to."""

import json
import subprocess
from importlib import resources
from pathlib import Path

from emma_viz.render.script import canvas_script, canvas_style
from tests.apps.programs import program

TESTS = Path(__file__).parent / "canvas"


def node(*arguments: str, given: str = "") -> str:
    """What Node prints."""
    command = [program("node"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_modules_pass_their_own_tests():
    # In one process: each file has but milliseconds to do. By hand: node --test tests/render/canvas
    files = [str(path) for path in sorted(TESTS.glob("*.test.js"))]
    said = node("--test-reporter=tap", "-e", "process.argv.slice(1).forEach((path) => require(path))", *files)
    assert "# fail 0" in said
    assert "# pass 0" not in said


def test_the_script_has_every_module_and_gives_a_page_one_name():
    folder = Path(str(resources.files("emma_viz.render"))) / "canvas"
    for module in folder.rglob("*.js"):
        assert module.read_text("utf-8") in canvas_script()
    assert "</script" not in canvas_script()
    assert ".ev" in canvas_style()
    told = node(
        "-e",
        "const before = Object.keys(globalThis);"
        'require("vm").runInThisContext(require("fs").readFileSync(0, "utf8"));'
        "const added = Object.keys(globalThis).filter((name) => !before.includes(name));"
        "console.log(JSON.stringify({ added, has: Object.keys(EmmaCanvas), at: EmmaCanvas.core.layerLabel(3) }))",
        given=canvas_script(),
    )
    assert json.loads(told) == {
        "added": ["EmmaCanvas"],
        "has": ["core", "mount", "sheet", "open"],
        "at": "layer 3",
    }
