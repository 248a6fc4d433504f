"""Pictures as the command line writes them: refused before the work, written together, drawn again from themselves."""

import os
import signal
import subprocess
import sys

import pytest

from emma_viz.cli.main import main
from emma_viz.errors import InputError
from emma_viz.render import read_spec, recipe_of

SUFFIXES = (".png", ".svg", ".pdf", ".html")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_options(pair) -> list[str]:
    return ["--models", *pair.models, "--vision", str(pair.vision), "--max-new-tokens", "2"]


@pytest.fixture
def figure(run_options, photos, tmp_path, capsys):
    """Draw a figure under a name; returns its path."""

    def draw(name: str, *options: str):
        assert main(["figure", str(photos[0]), *run_options, "--layers", "0", "--out", name, *options]) == 0
        capsys.readouterr()
        return tmp_path / name

    return draw


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_figure_is_drawn_again_from_itself(suffix, figure, tmp_path, capsys):
    first = figure(f"fig{suffix}").read_bytes()
    (tmp_path / f"fig{suffix}.json").unlink()
    assert main(["figure", "--from", f"fig{suffix}", "--out", f"again{suffix}"]) == 0
    assert capsys.readouterr().err == ""
    assert (tmp_path / f"again{suffix}").read_bytes() == first
    assert main(["figure", "--from", f"fig{suffix}"]) == 0
    assert (tmp_path / "fig-redrawn.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_a_recipe_nothing_can_be_drawn_again(suffix, figure, tmp_path, capsys):
    path = figure(f"fig{suffix}", "--no-recipe")
    assert list(tmp_path.iterdir()) == [path]
    assert recipe_of(path) is None
    assert main(["figure", "--from", path.name]) == 1
    assert "holds no recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_no_recipe_stays_beside_a_picture_that_is_to_have_none(figure, run_options, photos, tmp_path, capsys):
    before = figure("fig.png").read_bytes()
    assert main(["figure", str(photos[0]), *run_options, "--out", "fig.png", "--no-recipe"]) == 1
    assert "fig.png.json is the recipe of an earlier picture" in capsys.readouterr().err
    assert (tmp_path / "fig.png").read_bytes() == before


@pytest.mark.slow
def test_a_sidecar_names_its_picture(figure, tmp_path, capsys):
    figure("fig.png")
    assert main(["figure", "--from", "fig.png.json", "--out", "a.png"]) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "fig.png").write_bytes((tmp_path / "fig.png").read_bytes() + b"\0")
    for source in ("fig.png.json", "fig.png"):
        assert main(["figure", "--from", source, "--out", "b.png"]) == 0
        said = capsys.readouterr().err
        assert "fig.png and fig.png.json do not belong together" in said
        assert f"that of {source}" in said
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.slow
def test_a_kill_between_picture_and_sidecar_is_seen(figure, tmp_path, capsys):
    figure("old.png")
    figure("fig.png", "--style", "paper")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom emma_viz import session\n"
        "from emma_viz.render import read_spec\nreplace = os.replace\n"
        "def killed(*paths):\n    replace(*paths)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "spec = read_spec('old.png')\nsession.write_picture\nos.replace = killed\n"
        "session.write_picture(spec, Path('fig.png'))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    # The picture is new and whole, the sidecar old and whole.
    assert (tmp_path / "fig.png").read_bytes() == (tmp_path / "old.png").read_bytes()
    assert read_spec(tmp_path / "fig.png.json").style == "paper"
    assert main(["figure", "--from", "fig.png.json", "--out", "again.png"]) == 0
    assert "do not belong together" in capsys.readouterr().err
    # Written once more, all is as if nothing had happened.
    figure("fig.png")
    assert {each.name for each in tmp_path.iterdir()} == {
        *("old.png", "old.png.json", "fig.png", "fig.png.json", "again.png")
    }
    assert main(["figure", "--from", "fig.png.json", "--out", "again.png"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("here.png", "is a folder"),
        ("nowhere/fig.png", "does not exist"),
        ("file/fig.png", "to be a folder"),
        ("図" * 84 + ".png", "at most 255 bytes"),  # the picture's name has room, the sidecar's has not
        ("x" * 5000 + ".png", "at most 255 bytes"),
        ("x/" * 3000 + "fig.png", "cannot be written to"),
        ("/proc/fig.png", "cannot be written to"),
        ("pipe.png", "pipe or device"),
        ("taken.png", "is a folder"),
        ("fig.bmp", "expected one of .png"),
    ],
)
@pytest.mark.parametrize("command", ["figure", "compare", "figure --from"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command, out, says, figure, tmp_path, capsys
):
    """What is wrong with the images, the models or the study is not even looked at."""
    for folder in ("here.png", "taken.png.json"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe.png")
    before = set(tmp_path.iterdir())
    given = {"figure": ["none.png", "--models", "none"], "compare": ["none"], "figure --from": ["none.json"]}
    assert main([*command.split(), *given[command], "--out", out]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_long_name_in_any_script_is_written(figure, tmp_path):
    name = "図" * 78 + ".png"
    figure(name)
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.json"}


@pytest.mark.slow
def test_a_page_does_not_replace_what_is_no_figure(run_options, photos, tmp_path, capsys):
    (tmp_path / "fig-1.png").write_bytes(photos[0].read_bytes())
    assert main(["figure", *map(str, photos), *run_options, "--out", "fig.png"]) == 1
    assert "fig-1.png exists and is no figure" in capsys.readouterr().err
    assert main(["figure", "fig-1.png", str(photos[0]), *run_options, "--out", "fig.png"]) == 1
    assert "is the image itself" in capsys.readouterr().err
    # A figure of one image has one page.
    assert main(["figure", "fig-1.png", *run_options, "--layers", "0", "--out", "fig.png"]) == 0


def test_a_study_that_cannot_be_written_is_refused_before_a_model_runs(run_options, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/study", "x" * 300):
        assert main(["capture", str(photos[0]), *run_options, "--out", out]) == 1
        said = capsys.readouterr().err
        assert "to be a folder" in said or "at most 255 bytes" in said
        assert "recording" not in said


@pytest.mark.slow
def test_a_film_has_every_layer_and_its_recipe_beside_it(run_options, photos, tmp_path, capsys):
    from PIL import Image

    assert main(["figure", str(photos[0]), *run_options, "--out", "layers.gif", "one.png"]) == 0
    spec = read_spec(tmp_path / "layers.gif.json")
    with Image.open(tmp_path / "layers.gif") as film:
        assert film.n_frames == len(spec.images[0].models[0].layers)
    assert spec.images[0].models[0].layers[0] == -1
    assert read_spec(tmp_path / "one.png").images[0].models[0].layers != spec.images[0].models[0].layers
    assert main(["figure", "--from", "layers.gif.json", "--out", "again.gif"]) == 0
    assert (tmp_path / "again.gif").read_bytes() == (tmp_path / "layers.gif").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--colormap", "virdis"], "unknown colormap 'virdis'"),
        (["--models", *["cobra-pocket"] * 9], "1 to 8 models"),
        (["--models", "cobra-pocket", "--difference"], "two models for a difference"),
    ],
)
def test_what_no_figure_shows_is_refused_before_the_work(options, says, photos, monkeypatch, capsys):
    monkeypatch.setattr("emma_viz.session.comparison.load", lambda *_: pytest.fail("a model was loaded"))
    assert main(["figure", str(photos[0]), *options, "--out", "fig.png"]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("out", ["fig.gif", "fig.png"])
def test_whether_there_is_a_film_is_known_before_the_work(out, run_options, photos, monkeypatch, capsys):
    def compared(*_, film, **__):
        raise InputError(f"film: {film}")

    monkeypatch.setattr("emma_viz.session.compare", compared)
    assert main(["figure", str(photos[0]), *run_options, "--out", out]) == 1
    assert f"film: {out == 'fig.gif'}" in capsys.readouterr().err


def test_a_film_of_several_images_is_refused_before_the_work(run_options, photos, capsys):
    assert main(["figure", *map(str, photos), *run_options, "--out", "layers.gif"]) == 1
    assert "one image for a film" in capsys.readouterr().err
