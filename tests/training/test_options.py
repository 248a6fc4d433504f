"""Every option is looked at before anything is loaded, and a senseless one is one sentence that names it."""

import pytest

from emma_viz.checkpoints import BUNDLED
from emma_viz.cli.main import main as emma_viz
from tests.records.llava_set import without
from training.train import main

JOINT = [
    ("--steps", "0"),
    ("--steps", "-3"),
    ("--epochs", "0"),
    ("--batch", "0"),
    ("--micro", "-1"),
    ("--lr", "nan"),
    ("--lr", "inf"),
    ("--lr", "0"),
    ("--lr", "-1"),
    ("--seed", "-1"),
    ("--seed", "99999999999999999999"),
    ("--save-every", "0"),
    ("--held-out", "-1"),
    ("--broken-limit", "-1"),
    ("--workers", "-1"),
    ("--pixel-weight", "nan"),
    ("--pixel-weight", "-1"),
]
LENS = [
    ("--site", "nonsense"),
    ("--site", "blocks.1.hook_resid_post"),
    ("--layers", "77"),
    ("--layers", "-2"),
    ("--batch-size", "0"),
    ("--fit-images", "0"),
    ("--held-out", "-1"),
    ("--seed", "-1"),
    ("--lr", "nan"),
    ("--steps", "0"),
    ("--layers-per-step", "0"),
    ("--layers-per-pass", "-1"),
    ("--broken-limit", "-1"),
    ("--device", "nonsense"),
    ("--device", "cuda:99"),
    ("--out", "FOLDER"),
    ("--data", "absent"),
    ("--images", "absent"),
    ("--vision", "absent"),
    ("--vision", "nonsense=absent"),
    ("--tokenizer", "absent"),
    ("--model", "absent"),
    ("--llm", "cobra-pocket"),
]
FIGURE = [
    ("--max-new-tokens", "-1"),
    ("--temperature", "nan"),
    ("--temperature", "-1"),
    ("--top-p", "2"),
    ("--seed", "-1"),
    ("--device", "nonsense"),
    ("--vision", "absent"),
    ("--tokenizer", "absent"),
    ("--site", "nonsense"),
]
CAPTURE = [*FIGURE[:-1], ("--sites", "nonsense"), ("--layers", "77")]
SAID = {
    "--site": "nonsense",
    "--layers": "Layer",
    "--out": "--out",
    "--data": "absent",
    "--images": "--images",
}
"""Part of the sentence where it does not name the option."""


def require_one_sentence(capsys, option: str, value: str) -> None:
    printed = capsys.readouterr().err.strip()
    message = [line for line in printed.splitlines() if "error: " in line]
    assert len(message) == 1, printed
    assert "Traceback" not in printed
    assert "vision_source" not in printed
    assert option in printed or value.split("=")[-1] in printed or SAID.get(option, option) in printed


@pytest.fixture
def nothing_loads(monkeypatch):
    def load(*_, **__):
        raise AssertionError("values were read")

    monkeypatch.setattr("emma_viz.checkpoints.load.fill", load)
    monkeypatch.setattr("emma_viz.checkpoints.vision.fill", load)
    monkeypatch.setattr("training.vision_language.start.VLM", load)


@pytest.mark.parametrize(("option", "value"), JOINT)
def test_joint(llava, tmp_path, capsys, nothing_loads, option, value):
    command = ["joint", "--recipe", "tiny-emma-v1", *llava.options, "--work", str(tmp_path / "work")]
    assert main([*command, option, value]) == 1
    require_one_sentence(capsys, option, value)
    assert not (tmp_path / "work").exists()


def test_processes_that_none_starts_are_refused(llava, tmp_path, capsys, nothing_loads):
    command = ["joint", "--recipe", "tiny-emma-v1", *llava.options, "--work", str(tmp_path / "work")]
    assert main([*command, "--world-size", "8"]) == 1
    assert "--world-size is for --dry-run" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("option", "value"), LENS)
def test_lens(pair, llava, tmp_path, capsys, nothing_loads, option, value):
    command = ["lens", "--model", str(pair.emma), "--data", str(llava.data), "--images", str(llava.images)]
    command += [
        "--vision",
        str(pair.vision),
        "--fit-images",
        "3",
        "--held-out",
        "2",
        "--out",
        str(tmp_path / "a.lens"),
    ]
    if option == "--vision":
        command = without(command, "--vision")
    assert main([*command, option, str(tmp_path) if value == "FOLDER" else value]) == 1
    require_one_sentence(capsys, option, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "value"), FIGURE)
def test_figure(llava, tmp_path, monkeypatch, capsys, nothing_loads, option, value):
    monkeypatch.chdir(tmp_path)
    assert emma_viz(["figure", str(llava.images / "0.png"), option, value]) == 1
    require_one_sentence(capsys, option, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "value"), CAPTURE)
def test_capture(llava, tmp_path, capsys, nothing_loads, option, value):
    command = ["capture", str(llava.images / "0.png"), "--out", str(tmp_path / "study")]
    assert emma_viz([*command, option, value]) == 1
    require_one_sentence(capsys, option, value)
    assert not list(tmp_path.iterdir())


def test_the_second_model_is_looked_at_before_the_first_is_loaded(
    llava, pair, tmp_path, monkeypatch, capsys, nothing_loads
):
    monkeypatch.chdir(tmp_path)
    command = [
        "figure",
        str(llava.images / "0.png"),
        "--models",
        "cobra-pocket",
        str(pair.emma),
        "--force-lens",
    ]
    assert emma_viz([*command, "--lens", str(BUNDLED / "cobra-pocket/ridge.lens")]) == 1
    assert "no published weights; pass --vision dinov2=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["joint"], ["lens"], ["text"], ["encoder"], ["pocket-pair"], ["pocket-family"], []],
)
def test_the_help_of_training_can_be_typed(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "−" not in capsys.readouterr().out
