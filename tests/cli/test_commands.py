"""The command line, as a user types it."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emma_viz.cli.main import main
from emma_viz.cli.programs import PROGRAMS, programs_root
from emma_viz.render import read_spec


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_options(pair) -> list[str]:
    return ["--models", *pair.models, "--vision", str(pair.vision), "--max-new-tokens", "2"]


def test_figure_in_every_format(run_options, photos, tmp_path, capsys):
    names = [f"fig{suffix}" for suffix in (".png", ".svg", ".pdf", ".html")]
    given = ["--layers", "first,1", "last", "-1", "--out", *names]
    assert main(["figure", str(photos[0]), *run_options, *given]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {*names, *(f"{name}.json" for name in names)}
    said = capsys.readouterr()
    assert all(f"wrote {name}" in said.out for name in names)
    assert "cobra on coffee.png:" in said.out
    assert said.err.count("layer -1 is the embedding; the last block is 'last'") == 1
    assert read_spec(tmp_path / "fig.svg.json").images[0].models[0].layers == (0, 1, 2, -1)


def test_each_of_several_prompts_is_asked(run_options, photos, tmp_path, capsys):
    argv = ["figure", str(photos[0]), *run_options, "--layers", "0", "--prompt", "Why?", "--prompt", "Who?"]
    assert main([*argv, "--out", "fig.svg"]) == 0
    said = capsys.readouterr().out
    assert all(
        f"{name} on coffee.png, {prompt!r}:" in said
        for name in ("cobra", "emma")
        for prompt in ("Why?", "Who?")
    )
    # The image's tokens come before the question: one row shows both.
    (case,) = read_spec(tmp_path / "fig.svg.json").images
    assert case.prompt == "(1) Why? (2) Who?"


@pytest.mark.parametrize("layers", [["0,two"], [","]])
def test_layers_that_are_none_are_refused(layers, photos, capsys):
    with pytest.raises(SystemExit):
        main(["figure", str(photos[0]), "--layers", *layers])
    assert "--layers: expected" in capsys.readouterr().err


@pytest.mark.slow
def test_figure_redrawn_from_its_sidecar_is_the_same(run_options, photos, tmp_path):
    assert main(["figure", *map(str, photos), *run_options, "--out", "fig.png"]) == 0
    first = (tmp_path / "fig.png").read_bytes()
    assert main(["figure", "--from", "fig.png.json", "--out", "again.png"]) == 0
    assert (tmp_path / "again.png").read_bytes() == first


@pytest.mark.slow
def test_figures_that_differ_in_suffix_keep_their_own_sidecars(run_options, photos, tmp_path):
    for layer, name in (("0", "fig.png"), ("2", "fig.svg")):
        argv = ["figure", str(photos[0]), *run_options, "--layers", layer, "--out", name]
        assert main(argv) == 0
    shown = [
        read_spec(tmp_path / f"{name}.json").images[0].models[0].layers for name in ("fig.png", "fig.svg")
    ]
    assert shown == [(0,), (2,)]


@pytest.mark.slow
def test_a_redrawn_figure_has_a_name_of_its_own(run_options, photos, tmp_path):
    assert main(["figure", str(photos[0]), *run_options, "--layers", "0", "--out", "fig.svg"]) == 0
    assert main(["figure", "--from", "fig.svg.json"]) == 0
    assert (tmp_path / "fig-redrawn.png").is_file()


@pytest.mark.slow
def test_figure_has_a_name_of_its_own_when_none_is_given(run_options, photos, tmp_path):
    assert main(["figure", str(photos[0]), *run_options, "--layers", "1"]) == 0
    assert (tmp_path / "coffee-figure.png").is_file()


@pytest.mark.slow
def test_paper_style_takes_magnitude_and_jet(run_options, photos, tmp_path):
    assert main(["figure", str(photos[0]), *run_options, "--style", "paper", "--out", "paper.svg"]) == 0
    text = (tmp_path / "paper.svg").read_text()
    assert "magnitude" in text
    assert read_spec(tmp_path / "paper.svg.json").color_table == "jet"


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _truncated(path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    image.save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("not an image"), "not an image"),
        (_truncated, "truncated"),
        (_bomb, "limit of 120,000,000 pixels"),
        (lambda path: path.mkdir(), "folder|directory"),
        (lambda path: None, "no such file|does not exist|no file"),
    ],
)
def test_what_is_no_image_gives_one_sentence_and_no_file(make, says, run_options, tmp_path, capsys):
    make(tmp_path / "bad.jpg")
    before = set(tmp_path.iterdir())
    assert main(["figure", "bad.jpg", *run_options, "--out", "fig.png"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("emma-viz: error: ")
    assert "bad.jpg" in error
    assert any(each in error.lower() for each in says.split("|")), error
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["figure"], "at least one image"),
        (["figure", "a.png", "--out", "fig.gif"], ".png"),
        (["figure", "a.png", "--out", "nowhere/fig.png"], "does not exist"),
        (["figure", "--from", "none.json"], "none.json"),
        (["figure", "a.png", "--from", "b.json"], "leave one out"),
        (["decode", "none"], "study"),
        (["compare", "none"], "study"),
        (["inspect", "none"], "none"),
    ],
)
def test_wrong_arguments_say_what_was_expected(argv, says, capsys):
    assert main(argv) == 1
    assert says in capsys.readouterr().err


def test_a_file_that_is_no_sidecar_is_not_replaced(run_options, photos, tmp_path, capsys):
    (tmp_path / "fig.png.json").write_text('{"my": "results"}')
    assert main(["figure", str(photos[0]), *run_options, "--out", "fig.png"]) == 1
    assert "would be replaced" in capsys.readouterr().err
    assert json.loads((tmp_path / "fig.png.json").read_text()) == {"my": "results"}


def test_the_photo_itself_is_not_replaced(run_options, photos, tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(photos[0].read_bytes())
    assert main(["figure", "photo.png", *run_options, "--out", "./photo.png"]) == 1
    assert "is the image itself" in capsys.readouterr().err
    assert (tmp_path / "photo.png").read_bytes() == photos[0].read_bytes()


def test_capture_decode_compare(pair, run_options, photos, tmp_path, capsys):
    assert main(["capture", *map(str, photos), *run_options, "--out", "study"]) == 0
    assert main(["decode", "study", "--lens", "ridge"]) == 0
    assert "cobra" in capsys.readouterr().out
    assert main(["compare", "study", "--layers", "0", "2", "--difference"]) == 0
    report = (tmp_path / "study-report.html").read_text()
    assert "coffee.png" in report
    assert "chelsea.png" in report


def test_inspect_names_the_lens_that_fits(pair, capsys):
    assert main(["inspect", str(pair.emma)]) == 0
    printed = capsys.readouterr().out
    assert "ridge lens, resid_post" in printed
    assert "feature fusion (MFF)" in printed
    assert "vision encoder" in printed


def test_inspect_says_when_a_lens_belongs_to_another_model(pair, capsys):
    assert main(["inspect", str(pair.cobra), "--lens", str(pair.lens_of_emma)]) == 0
    assert "belongs to another model (emma" in capsys.readouterr().out


def test_models_lists_what_can_be_named(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "cobra-3b" in printed
    assert "hub: han1997/cobra" in printed


def test_version_and_bare_call(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("emma-viz 0.")
    assert main([]) == 0
    assert "figure" in capsys.readouterr().out


OF_A_CHECKOUT = re.compile(r"-m (?:apps|probes|training)\b")
"""A module that an installed package does not have at the top."""


@pytest.mark.parametrize("command", [[], *([name] for name in PROGRAMS)])
def test_no_help_names_a_module_of_a_checkout(command, capsys):
    assert main([*command, "--help"] if command else []) == 0
    assert not OF_A_CHECKOUT.findall(capsys.readouterr().out)


def test_no_launcher_s_configuration_names_a_module_of_a_checkout():
    files = sorted((programs_root() / "training" / "launch").glob("*.yaml"))
    assert files
    assert [file.name for file in files if OF_A_CHECKOUT.search(file.read_text("utf-8"))] == []


def test_unknown_command_exits_with_2():
    with pytest.raises(SystemExit) as stop:
        main(["figur"])
    assert stop.value.code == 2


@pytest.mark.slow
def test_capture_asks_a_folder_each_prompt_and_says_the_size(run_options, photos, tmp_path, capsys):
    for number, photo in enumerate(photos):
        (tmp_path / f"{number}.png").symlink_to(photo)
    argv = ["capture", "*.png", *run_options, "--prompt", "Why?", "--prompt", "Who?", "--store", "maps"]
    assert main([*argv, "--out", "study"]) == 0
    count = 2 * len(photos)
    assert f"cobra, maps: {count} images × " in capsys.readouterr().out
    assert main(["compare", "study", "--layers", "0", "--out", "fig.html"]) == 0


def test_a_launcher_of_several_processes_gives_each_its_part(
    run_options, photos, tmp_path, monkeypatch, capsys
):
    argv = ["capture", *map(str, photos), *run_options, "--store", "pooled", "--out", "study"]
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert main([*argv, "--shard", "1/2"]) == 1
    assert "either --shard or a launcher of several processes (2), got both" in capsys.readouterr().err
    assert main(argv) == 0
    assert "study: cobra [shard 2 of 2]" in capsys.readouterr().out
    monkeypatch.delenv("RANK")
    with pytest.raises(SystemExit):
        main([*argv, "--shard", "3/2"])
    assert "expected I/N with I from 1 to N" in capsys.readouterr().err
