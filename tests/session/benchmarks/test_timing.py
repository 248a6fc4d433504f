"""The protocols of Tables 3 and 7: what is run and counted; how long it takes is not looked at."""

import json

import pytest

from emma_viz.checkpoints import load_model
from emma_viz.cli.main import main
from emma_viz.errors import CheckpointError, InputError
from emma_viz.models import PRESETS
from emma_viz.session import Running
from emma_viz.session.benchmarks.components import component_costs
from emma_viz.session.benchmarks.timing import WARM_UP, latency
from emma_viz.session.papers import printed_parameters, printed_rate


@pytest.fixture
def running(pair):
    return Running(vision_source=str(pair.vision))


def test_latency_forces_every_token_of_every_repeat(pair, running, photos):
    steps = []
    table = latency(
        [pair.cobra],
        image=photos[0],
        tokens=5,
        repeats=2,
        running=running,
        progress=lambda *step: steps.append(step),
    )
    (row,) = table.rows
    named = dict(zip(table.columns, row, strict=True))
    assert named["model"] == "cobra"
    assert named["repeats"] == 2
    assert sum(what.startswith("timing") for _, _, what in steps) == WARM_UP + 2
    seconds, rate = named["T_avg (s)"], named["N_avg (tokens/s)"]
    assert rate.value == pytest.approx(5 / seconds.value)
    assert 0 < named["to first token (s)"].value < seconds.value
    with pytest.raises(InputError, match="repeats"):
        latency([pair.cobra], repeats=0, running=running)


@pytest.mark.parametrize("measure", [latency, component_costs])
def test_all_models_are_looked_at_before_one_is_timed(measure, pair, running):
    steps = []
    with pytest.raises(CheckpointError, match="ghost"):
        measure([pair.cobra, "ghost"], running=running, progress=lambda *step: steps.append(step))
    assert not steps


def test_components_count_every_parameter_once(pair, running):
    table = component_costs([pair.cobra, pair.emma], repeats=1, running=running)
    counts = {(row[0], row[2]): row[3] for row in table.rows}
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    whole = sum(each.numel() for each in model.vlm.parameters())
    assert sum(count for (name, _), count in counts.items() if name == "cobra") == whole
    mff, ca = (counts["emma", part] for part in ("feature fusion (MFF)", "cross-attention (CA), part of MFF"))
    assert 0 < ca < mff
    assert counts["emma", "pixel decoder"] > 0
    assert {row[-1] for row in table.rows if row[0] == "emma"} == {
        "",
        "random weights: there is no native lens",
    }


def test_the_papers_numbers_stand_beside_the_models_that_they_are_of():
    rates = {name: printed_rate(PRESETS[name]()) for name in PRESETS}
    found = {name: rate.tokens_per_second for name, rate in rates.items() if rate is not None}
    # A Cobra on another language model of the same size is the same network.
    assert found == {
        "emma-v2-3b": 149.96, "emma-v1-3b": 138.95, "cobra-3b": 138.95, "cobra-base-3b": 138.95,
        "tinyllava-phi-2-3.1b": 41.46, "mobilevlm-v2-1.7b": 39.36, "mobilevlm-v2-3b": 39.36,
    }  # fmt: skip
    assert printed_parameters(PRESETS["emma-v1-3b"](), "LLM") == "2.8B"
    assert printed_parameters(PRESETS["emma-v2-3b"](), "LLM") == "2.7B"
    assert printed_parameters(PRESETS["emma-v2-3b"](), "instruction") is None
    assert printed_parameters(PRESETS["cobra-3b"](), "LLM") is None


def test_the_command_writes_the_table(pair, tmp_path, capsys):
    argv = ["benchmark", "latency", "--models", str(pair.cobra), "--vision", str(pair.vision)]
    assert main([*argv, "--tokens", "2", "--repeats", "2", "--out", str(tmp_path / "out")]) == 0
    assert "N_avg (tokens/s)" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "table.json").read_text())
    assert found["tables"][0]["rows"][0][0] == "cobra"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"table.{end}" for end in ("md", "csv", "json", "tex")
    }


@pytest.mark.parametrize("name", ["latency", "components"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_timed(
    name, tmp_path, monkeypatch, capsys
):
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr(
        "emma_viz.session.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    assert main(["benchmark", name, "--models", "cobra-pocket", "--out", str(tmp_path / "out")]) == 1
    assert "to be a folder" in capsys.readouterr().err
