"""Every command and snippet of README and docs is run, shortened, or stands in one list with the reason why not."""

import argparse
import contextlib
import importlib.util
import inspect
import os
import re
import runpy
import shutil
import signal
import socket
import sys
import threading
import time
import tomllib
import traceback
import urllib.request
import warnings
from unittest.mock import patch

import matplotlib
import pytest

from emma_viz.cli.main import main
from emma_viz.session.evidence.references import tabletop_references
from tests.pages.left_out import ELSEWHERE, LEFT_OUT
from tests.pages.stage import BEFORE, FROM_NOTHING, GIVEN, LEAVES, furnish, shortened
from tests.pages.steps import PAGES, ROOT, Step, steps

NOT_RUN = {printed: reason for reason, commands in LEFT_OUT.items() for printed in commands}
ALL = [step for page in PAGES for step in steps(page)]
RUN = [
    step
    for step in ALL
    if step.text not in NOT_RUN and not (step.language == "python" and step.page in ELSEWHERE)
]
SERVERS = ("explore", "casebook")
INTERRUPTED, NOBODY = 130, 70


class Understood(BaseException):
    """A command line was."""


@pytest.fixture
def parsing(monkeypatch):
    """Programs end where they have understood their options."""
    parse = argparse.ArgumentParser.parse_args

    def understand(self, *args, **options):
        parse(self, *args, **options)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understand)
    with patch.dict(os.environ):  # some set what is for them alone
        yield


def test_the_pages_are_found_whole():
    assert len([step for step in ALL if step.language == "bash"]) > 140
    assert len([step for step in ALL if step.language == "python"]) > 30
    found = steps(ROOT / "docs" / "casebook.md")
    assert found[0] == Step(
        "docs/casebook.md",
        7,
        "bash",
        "emma-viz benchmark tabletop --models cobra-pocket emma-v1-pocket --out runs/tabletop",
    )
    for page in PAGES:
        assert not re.search(r"\n\n {4}(emma-viz|python|from|import) ", page.read_text("utf-8")), page


def test_what_is_not_run_is_printed_somewhere_and_no_more_than_it_was():
    printed = {step.text for step in ALL}
    others = {step.text for step in RUN if step.language == "bash" and not step.text.startswith("emma-viz ")}
    assert others == set(), "neither run nor listed: a command of ours is run, another goes to left_out.py"
    assert {*NOT_RUN} - printed == set()
    assert len(NOT_RUN) <= 62  # run what is new; what is listed must need more than a test has
    for page, test in ELSEWHERE.items():
        assert page.rpartition("/")[2] in (ROOT / test).read_text("utf-8")


@pytest.mark.parametrize("printed", sorted({step.text for step in ALL if step.language == "bash"}))
def test_a_command_is_understood(printed, parsing, monkeypatch):
    said = (
        printed.replace("ip …", "ip 10.0.0.1")
        .replace("capture …", "capture photos/")
        .replace("<name>", "cpu")
    )
    said = said.replace("joint …", "joint --recipe tiny-cobra").replace(" …", "")
    words = Step("", 0, "bash", said).words
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        with pytest.raises(Understood):
            launch_command_parser().parse_args(words[2:])
        words = ["emma-viz", *words[words.index("emma_viz") + 1 :]]
    if words[0] == "emma-viz":
        with pytest.raises(Understood):
            main(words[1:])
    elif words[:2] == ["python", "-m"] and words[2] != "lmms_eval":
        module_is_understood(words[2], words[3:], monkeypatch)
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for group in re.findall(r"\[(.*?)\]", printed):
            assert {*group.split(",")} <= {*extras}
    elif words[0].startswith("scripts/"):
        assert os.access(ROOT / words[0], os.X_OK)


def module_is_understood(name: str, argv: list[str], monkeypatch) -> None:
    """Run a program of ours until it has read its options; one that has none must be given none."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    with open(spec.origin, encoding="utf-8") as source:
        takes_options = re.search(r"ArgumentParser|parser\(", source.read()) is not None
    if not takes_options:
        assert argv == []
        return
    monkeypatch.setattr(sys, "argv", [name, *argv])
    monkeypatch.delitem(sys.modules, spec.name, raising=False)  # of an earlier test: Python would warn
    with pytest.raises(Understood):
        runpy.run_module(name, run_name="__main__")


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """A folder with what a reader has."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder)
    return folder


@pytest.fixture
def reader(page, furnished, tmp_path, monkeypatch, unchecked):
    """A reader's folder, in which the page's commands are typed."""
    folder = tmp_path / "reader"
    if page in FROM_NOTHING:
        folder.mkdir()
        for name in FROM_NOTHING[page]:
            shutil.copy(furnished / name, folder)
    else:
        shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    matplotlib.use("agg")
    return folder


def look_once(port: str) -> None:
    """Whoever starts a server, looks at its page, and presses Ctrl+C."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            os.kill(os.getpid(), signal.SIGINT if page.status == 200 else signal.SIGKILL)
            return
        time.sleep(0.1)
    os._exit(NOBODY)


def served(argv: list[str]) -> int:
    """The exit code of a server that was looked at once, in a copy of this process, which keeps what it leaves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with warnings.catch_warnings(action="ignore"):
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = NOBODY
    try:
        warnings.simplefilter("ignore")
        threading.Thread(target=look_once, args=(port,), daemon=True).start()
        code = main([*argv, "--port", port])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def typed(line: str) -> None:
    """Run one command of ours; a server is to answer."""
    _, *argv = Step("", 0, "bash", line).words
    if argv[0] in SERVERS:
        assert served(argv) in (0, INTERRUPTED), line
    else:
        assert main(argv) == 0, line


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({step.page for step in RUN}))
def test_a_page_does_what_it_says(page, reader, monkeypatch):
    monkeypatch.setattr(inspect.unwrap(tabletop_references), "__defaults__", (30,))
    for line in BEFORE.get(page, ()):
        typed(shortened(Step(page, 0, "bash", line)))
    known: dict[str, object] = {}
    exec(GIVEN.get(page, ""), known)
    for step in (each for each in RUN if each.page == page):
        text = shortened(step)
        print(f"{step.page}:{step.line}: {text}")
        if step.language == "python":
            exec(compile("\n" * step.line + text, str(ROOT / page), "exec"), known)
        else:
            typed(text)
    for name in LEAVES.get(page, ()):
        assert (reader / name).is_file(), name
