"""File names and prompts that are no UTF-8, begin with a tilde or are addresses; and paths that are refused."""

import os
import shutil
from pathlib import Path

import pytest

from emma_viz.cli.main import main
from emma_viz.errors import InputError
from emma_viz.files.named import named_path
from emma_viz.render import read_spec
from emma_viz.study import open_study

LATIN = os.fsdecode(b"caf\xe9.png")
NAMES = (LATIN, "~coffee.png", "~", "a\nemma-viz: error: b.png", "rtl\u202egnp.png", "with space%20.png")
PROMPT = os.fsdecode(b"caf\xe9?") + "\ud800"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(photos, tmp_path) -> list[str]:
    for name in NAMES:
        shutil.copy(photos[0], tmp_path / name)
    address = (tmp_path / NAMES[-1]).as_uri()
    return [*NAMES[:-1], address, address.replace("file://", "FILE:")]


@pytest.fixture
def run_options(pair) -> list[str]:
    options = ["--models", str(pair.emma), "--vision", pair.vision.as_uri(), "--prompt", PROMPT]
    return [*options, "--max-new-tokens", "2"]


@pytest.mark.slow
def test_figure_takes_any_name_and_prompt(images, run_options, tmp_path, capsys):
    assert main(["figure", *images, *run_options, "--layers", "0", "--out", f"{LATIN}-figure.png"]) == 0
    spec = read_spec(f"{LATIN}-figure.png.json")
    assert [each.title for each in spec.images] == [*NAMES[:-1], *(f"{NAMES[-1]} ({n})" for n in (1, 2))]
    assert {each.prompt for each in spec.images} == {PROMPT}
    said = capsys.readouterr().out
    assert r"emma on caf\xe9.png: " in said
    assert r"wrote caf\xe9.png-figure.png" in said
    assert "\nemma-viz: error" not in said
    for suffix in ("png", "svg", "pdf", "html"):
        assert main(["figure", "--from", f"{LATIN}-figure.png.json", "--out", f"~again.{suffix}"]) == 0
        assert (tmp_path / f"~again.{suffix}").is_file()


def test_studies_take_any_name_and_prompt(images, run_options, tmp_path):
    study = os.fsdecode(b"stud\xffy")
    assert main(["capture", *images, *run_options, "--out", study]) == 0
    assert main(["decode", study]) == 0
    assert main(["compare", study, "--layers", "0"]) == 0
    (name,) = open_study(study).entries
    assert set(open_study(study).trace(name).prompts) == {PROMPT}
    assert (tmp_path / f"{study}-report.html").is_file()


def test_a_model_lies_anywhere(pair, tmp_path, capsys):
    for name in (os.fsdecode(b"mod\xe9l"), "~model"):
        shutil.copytree(pair.emma, tmp_path / name)
        assert main(["inspect", name]) == 0
        assert main(["inspect", str(pair.emma), "--lens", f"{name}/ridge.lens"]) == 0
    assert main(["inspect", (tmp_path / "~model").as_uri()]) == 0
    assert "\udce9" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["figure", "inspect", "decode", "compare", "capture"])
@pytest.mark.parametrize(
    "name", ["x" * 300, "loop", "file/inside", "/proc/1/mem/x", "file://server/x.png", "file:///%00"]
)
def test_what_cannot_be_opened_is_one_sentence(command, name, run_options, tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    out = ["--out", "new"] if command == "capture" else []
    try:
        code = main([command, name, *out])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert "error: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("place", ["x" * 300, "loop", "file/inside", "/proc/no/such"])
@pytest.mark.parametrize(
    "command", [["figure", "a.png", "--out"], ["train", "joint", "--recipe", "tiny", "--work"]]
)
def test_where_nothing_can_be_written_is_one_sentence(command, place, photos, tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    shutil.copy(photos[0], tmp_path / "a.png")
    suffix = "/f.png" if command[0] == "figure" else ""
    assert main([*command, place + suffix]) == 1
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said


def test_a_name_means_the_file_of_that_name_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert named_path("~/a.png") == Path("/home/somebody/a.png")
    assert named_path("~nobody-of-that-name.png") == Path("~nobody-of-that-name.png")
    assert named_path("file:///tmp/caf%E9.png") == Path("/tmp") / LATIN
    assert named_path("file://localhost/tmp/a b#1?.png") == Path("/tmp/a b#1?.png")
    for made in ("~", "file:"):
        (tmp_path / made).mkdir()
    assert named_path("~/a.png") == Path("~/a.png")
    assert named_path("file:///tmp/a.png") == Path("file:/tmp/a.png")
    with pytest.raises(InputError, match="no file of this machine"):
        named_path("file://server/a.png".replace("file", "FILE"))
