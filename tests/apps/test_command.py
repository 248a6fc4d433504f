"""The explorer's command line."""

import shutil
import socket
import subprocess
import sys

import pytest
from PIL import Image

from apps.explorer.command import by_label, lenses_of, main, parser, settings_of
from apps.explorer.offer import Settings
from apps.explorer.service import Service
from emma_viz.checkpoints import bundled_names
from emma_viz.errors import CheckpointError, InputError, StudyError
from emma_viz.lens.headers import read_info
from emma_viz.session.options import DEFAULT_MODELS


def settings(*argv):
    return settings_of(parser().parse_args(argv))


def test_local_by_default():
    args = parser().parse_args([])
    assert args.host == "127.0.0.1"
    assert not args.share


def test_checkpoints_are_offered_under_their_folders_names(pair):
    found = settings("--models", *pair.models, "--vision", str(pair.vision))
    assert found.models["cobra"] == str(pair.cobra)
    assert found.chosen == ("cobra", "emma")
    assert found.lenses["ridge"] == ("ridge",)
    assert found.running.vision_source == str(pair.vision)


def test_the_pair_that_every_command_takes_is_chosen_and_all_that_ship_are_offered(monkeypatch):
    found = settings()
    assert found.chosen == DEFAULT_MODELS
    assert set(found.models) == set(bundled_names())
    monkeypatch.setattr("apps.explorer.command.bundled_names", tuple)
    with pytest.raises(InputError, match="no model ships"):
        settings()


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_in_a_sentence(pair):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["--models", *pair.models, "--vision", str(pair.vision), "--port", port]
        ended = subprocess.run(
            [sys.executable, "-m", "apps.explorer", *words], capture_output=True, text=True, timeout=120
        )
    assert ended.returncode == 1
    assert f"cannot be served at 127.0.0.1, port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_models_of_one_name_are_told_apart(pair):
    twice = by_label([str(pair.cobra), str(pair.cobra), "han1997/cobra"])
    assert list(twice) == ["cobra", "cobra (2)", "han1997/cobra"]


def test_lens_files_are_offered_by_name(pair):
    assert lenses_of([str(pair.lens_of_emma), "native"], {}) == {
        "ridge.lens": (str(pair.lens_of_emma),),
        "native": ("native",),
    }


def test_a_lens_that_some_models_lack_says_what_the_others_get(tmp_path):
    for model, kinds in (("a", ("ridge", "native")), ("b", ("ridge",))):
        (tmp_path / model).mkdir()
        for kind in kinds:
            (tmp_path / model / f"{kind}.lens").touch()
    both = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    assert lenses_of(None, both) == {"ridge": ("ridge",), "native, else ridge": ("native", "ridge")}
    assert lenses_of(None, {"hub": "han1997/cobra"}) == {"ridge": ("ridge",)}
    some = {"a": str(tmp_path / "a"), "hub": "han1997/cobra"}
    assert lenses_of(None, some) == {"ridge": ("ridge",), "native, else ridge": ("native", "ridge")}


def test_a_study_needs_no_models(tmp_path):
    found = settings("--study", str(tmp_path))
    assert found.study == tmp_path
    assert not found.models
    with pytest.raises(InputError, match="without any model"):
        settings("--study", str(tmp_path), "--models", "cobra-pocket")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--lens", "ridge"], "--lens"),
        (["--attribution", "gradient"], "--attribution"),
        (["--fit-on", "photos", "--device", "cuda"], "--fit-on, --device"),
    ],
)
def test_options_of_models_are_refused_beside_a_study(flags, named, tmp_path, capsys):
    assert main(["--study", str(tmp_path), "--port", "1", *flags]) == 1
    assert f"expected no {named} beside it" in capsys.readouterr().err


def test_refusals_are_sentences(tmp_path, capsys):
    assert main(["--study", str(tmp_path), "--models", "cobra-pocket"]) == 1
    assert "emma-viz: error: expected --study or --models" in capsys.readouterr().err
    with pytest.raises(StudyError, match="is no study"):
        Service(Settings(study=tmp_path), {})


def test_a_model_without_a_lens_gets_one_before_the_page_opens(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bare, photos = tmp_path / "bare", tmp_path / "photos"
    shutil.copytree(pair.cobra, bare)
    (bare / "ridge.lens").unlink()
    photos.mkdir()
    for number in range(4):
        Image.effect_noise((20 + number, 20), 60).convert("RGB").save(photos / f"{number}.png")
    given = ["--vision", str(pair.vision), "--fit-on", str(photos), "--models", str(bare)]
    with pytest.raises(CheckpointError, match="no model"):
        settings(*given, str(tmp_path / "missing"))
    assert not (bare / "ridge.lens").exists()
    settings(*given)
    assert read_info(bare / "ridge.lens").n_fit == 3
