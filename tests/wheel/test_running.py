"""What the README shows, from an installed wheel, in an empty folder, without the checkout; nothing is written inside
the package."""

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.wheel.conftest import ROOT

ASK = ("--max-new-tokens", "2")


@pytest.fixture
def nothing_changes(installed):
    before = installed.files()
    yield
    assert installed.files() == before


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_changes")]


@pytest.fixture
def photo(photos, tmp_path) -> Path:
    shutil.copy(photos[0], tmp_path / "coffee.png")
    return tmp_path / "coffee.png"


def succeeded(ended: subprocess.CompletedProcess) -> str:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_the_checkout_is_out_of_reach(installed, tmp_path):
    # Other packages bring a `tests` of their own.
    code = (
        "import importlib.util as u, json, emma_viz; found = [u.find_spec(n) for n in ('training', 'apps', 'tests')]; "
        "print(json.dumps([emma_viz.__file__, [str(each.submodule_search_locations) for each in found if each]]))"
    )
    file, others = json.loads(succeeded(installed.python_runs("-c", code, cwd=tmp_path)))
    assert Path(file).parent == installed.package
    assert not [each for each in others if f"{ROOT}/t" in each or f"{ROOT}/apps" in each]


COMMANDS = (
    "figure",
    "capture",
    "decode",
    "compare",
    "benchmark",
    "fit",
    "cases",
    "inspect",
    "models",
    "casebook",
    "explore",
    "probe",
    "train",
)
TRAINED = ("encoder", "text", "joint", "lens", "pocket-pair", "pocket-family")


HELP = """
import contextlib, io, json, sys
from emma_viz.cli.main import main
said = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = main([*argv, "--help"])
        except SystemExit as ended:
            code = ended.code
    said.append((code, out.getvalue()))
print(json.dumps(said))
"""
"""Prints what every command line answers to --help: one process, as each that begins imports torch."""


def test_every_program_has_help(installed, tmp_path):
    asked = [[], *([name] for name in COMMANDS), *(["train", name] for name in TRAINED)]
    answers = json.loads(succeeded(installed.python_runs("-c", HELP, json.dumps(asked), cwd=tmp_path)))
    for argv, (code, said) in zip(asked, answers, strict=True):
        assert code == 0, argv
        assert said.startswith(f"usage: emma-viz {' '.join(argv)}".rstrip())
        assert "python -m training" not in said
    alone = succeeded(installed("train", "joint", "--help", cwd=tmp_path))
    assert alone == answers[asked.index(["train", "joint"])][1]


def test_the_package_runs_as_a_module(installed, tmp_path):
    assert "cobra-pocket" in succeeded(installed.python_runs("-m", "emma_viz", "models", cwd=tmp_path))


def test_figure(installed, photo, tmp_path):
    said = succeeded(installed("figure", photo, *ASK, "--out", "fig.png", cwd=tmp_path, first=True))
    assert "wrote fig.png" in said
    assert (tmp_path / "fig.png").is_file()
    assert list(installed.home.rglob("*.nbc")), "its kernels are kept in the user's folder"
    succeeded(installed("inspect", "emma-v1-pocket", cwd=tmp_path))


def test_capture_decode_compare(installed, photo, tmp_path):
    succeeded(installed("capture", photo, *ASK, "--out", "study", cwd=tmp_path))
    succeeded(installed("decode", "study", cwd=tmp_path))
    succeeded(installed("compare", "study", cwd=tmp_path))
    assert "coffee.png" in (tmp_path / "study-report.html").read_text()


@pytest.mark.parametrize(
    ("argv", "word", "ends"),
    [(["explore"], b"emma", 0), (["casebook", "--example"], b"streamlit", -signal.SIGTERM)],
)
def test_an_app_starts_and_stops(argv, word, ends, installed, tmp_path):
    started = subprocess.Popen(
        installed.command(*argv),
        cwd=tmp_path,
        env=installed.environment | {"GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        assert started.stdout is not None
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
            line = started.stdout.readline()
            assert line, said
            said += line
        assert word in page_at(found[0], started).lower()
    finally:
        started.send_signal(signal.SIGTERM)
        rest = started.communicate(timeout=60)[0]
    assert started.returncode == ends, said + rest
    assert "Traceback" not in said + rest


def page_at(address: str, server: subprocess.Popen) -> bytes:
    """What a server answers, which may say its address before it listens."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with direct.open(address, timeout=10) as page:
                return page.read()
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory) -> Path:
    """An empty folder in which the tiny recipe was trained."""
    folder = tmp_path_factory.mktemp("trained")
    succeeded(installed("train", "joint", "--recipe", "tiny", "--work", "runs/tiny", cwd=folder))
    return folder


def test_a_tiny_training_and_what_it_made(trained):
    assert (trained / "runs/tiny/tiny.safetensors").is_file()
    assert [path.name for path in trained.iterdir()] == ["runs"]


FAMILY = """
from pathlib import Path
from emma_viz.cli import programs
import sys
sys.path.insert(0, str(programs.programs_root()))
from training.pocket.bundle import bundle_family
from training.pocket.stages import Work, train_members
work = Work(Path("work"), "tiny")
train_members(work, ("tiny",))
bundle_family(work, ("tiny",), work.folder / "bundle", command="a test")
"""


def test_a_family_trains_in_processes_of_its_own_and_beside_a_folder_of_the_same_name(
    installed, trained, photo, tmp_path
):
    # The stages before the last were trained already, and are taken as they are.
    without_the_last = shutil.ignore_patterns("joint", "tiny*.safetensors")
    shutil.copytree(trained / "runs/tiny", tmp_path / "work", ignore=without_the_last)
    for name in ("training", "apps", "probes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is the folder of the user')")
    (tmp_path / "family.py").write_text(FAMILY)
    succeeded(installed.python_runs("-P", "family.py", cwd=tmp_path))
    bundle = tmp_path / "work/bundle"
    made = ("--vision", bundle / "pocket-conv-128px.safetensors", "--tokenizer", bundle / "tokenizer.json")
    succeeded(
        installed("figure", photo, "--models", bundle / "tiny", *made, *ASK, "--out", "fig.png", cwd=tmp_path)
    )
    config = json.loads((bundle / "tiny/config.json").read_text())
    assert config["emma_viz"]["provenance"]["commit"] == "unknown: not in a git checkout"


def test_a_damaged_stage_of_the_pair_is_named_before_any_begins(installed, tmp_path):
    work = tmp_path / "runs/pocket"
    work.mkdir(parents=True)
    stages = [work / f"{stage}.safetensors" for stage in ("encoder", "text-pocket-mamba1")]
    for path in stages:
        path.write_bytes(b"none")
    for path in stages:
        ended = installed("train", "pocket-pair", cwd=tmp_path)
        assert ended.returncode == 1
        assert f"emma-viz train: error: runs/pocket/{path.name} cannot be read" in ended.stderr
        assert "Traceback" not in ended.stderr
        path.unlink()
        assert not (work / "encoder").exists()


def test_a_model_that_a_wheel_leaves_out_is_refused_with_where_it_is(installed, tmp_path):
    ended = installed("inspect", "emma-v1-pocket-nomff", cwd=tmp_path)
    assert ended.returncode == 1
    assert "emma-v1-pocket-nomff does not come with an installed package" in ended.stderr
    assert "emma_viz/checkpoints/bundled/emma-v1-pocket-nomff" in ended.stderr
