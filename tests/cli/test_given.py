"""Options that a command cannot honour are refused by name; those before a program's name are its own."""

import pytest

from emma_viz.cli import options, programs
from emma_viz.cli.commands import figure
from emma_viz.cli.main import main
from emma_viz.render.recipe import LARGEST
from emma_viz.render.sidecar import write_spec
from emma_viz.session import write_picture
from tests.render.test_layout import bare_spec


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--style", "paper"], "no --style"),
        (["--style", "default"], "no --style"),
        (["--map", "error", "--layers", "0"], "no --map, --layers"),
        (["--scale", "per_map"], "no --scale"),
        (["--models", "emma-v1-pocket"], "no --models"),
        (["--difference"], "no --difference"),
        (["--prompt", "Why?"], "no --prompt"),
    ],
)
def test_what_a_recipe_does_not_allow_is_refused(flags, said, tmp_path, capsys):
    source, out = tmp_path / "fig.json", tmp_path / "again.png"
    write_spec(bare_spec((32, 48), 1, 1), source)
    assert main(["figure", "--from", str(source), "--out", str(out), *flags]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_what_a_recipe_allows_is_honoured(tmp_path):
    source, out = tmp_path / "fig.json", tmp_path / "again.svg"
    write_spec(bare_spec((32, 48), 1, 1), source)
    assert main(["-v", "figure", "--from", str(source), "--any-size", "--no-recipe", "--out", str(out)]) == 0
    assert list(tmp_path.glob("again*")) == [out]


def test_a_recipe_of_any_size_is_held_against_its_picture(tmp_path, capsys):
    picture, out = tmp_path / "fig.png", str(tmp_path / "again.svg")
    _, sidecar = write_picture(bare_spec((32, 48), 1, 1), picture)
    with sidecar.open("ab") as file:
        file.write(b" " * LARGEST)
    assert main(["figure", "--from", str(sidecar), "--any-size", "--out", out]) == 0
    assert capsys.readouterr().err == ""
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert main(["figure", "--from", str(sidecar), "--any-size", "--out", out]) == 0
    assert "fig.png and fig.png.json do not belong together" in capsys.readouterr().err


def test_any_size_is_about_a_recipe(tmp_path, capsys):
    assert main(["figure", str(tmp_path / "a.png"), "--any-size"]) == 1
    assert "--any-size" in capsys.readouterr().err


def test_options_are_given_though_they_have_their_defaults_values():
    assert options.given(figure.add_arguments, ["a.png", "--style", "default"]) == {
        "images": "images",
        "style": "--style",
    }


@pytest.mark.parametrize("store", [[], ["--store", "pooled"]])
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--lens", "ridge"], "--lens"),
        (["--fit-on", "photos", "--force-lens"], "--fit-on, --force-lens"),
    ],
)
def test_options_of_lenses_are_for_captures_of_maps(store, flags, named, tmp_path, capsys):
    command = ["capture", "a.png", "--out", str(tmp_path / "study"), "--layers", "-1", *store, *flags]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert f"expected {named} with --store maps alone" in said
    assert said.count("layer -1 is the embedding") == 1


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_a_program_runs_after_the_options_of_the_command_line(name, monkeypatch):
    ran = []
    monkeypatch.setattr(programs, "run_program", lambda *given: ran.append(given) or 0)
    assert main(["-v", name, "--port", "1", "x"]) == 0
    assert main(["--version", name]) == 0
    assert ran == [(name, ["--port", "1", "x"])]
