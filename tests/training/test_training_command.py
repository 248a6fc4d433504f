import json

import pytest

from training.train import main


def test_the_tiny_recipe_runs_and_its_loss_falls(tmp_path, capsys):
    assert main(["joint", "--recipe", "tiny", "--work", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "joint/tiny/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 30

    def mean(name, part):
        return sum(line[name] for line in part) / len(part)

    assert mean("text", lines[-5:]) < 0.75 * mean("text", lines[:5])
    assert mean("pixels", lines[-5:]) < mean("pixels", lines[:5])
    assert (tmp_path / "tiny.safetensors").exists()


def test_an_unknown_recipe_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["joint", "--recipe", "cobra-9b"])
    assert "cobra-pocket" in capsys.readouterr().err
