"""Language models alone, on text: the numbers against sums made here, and the command from files to a report."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.checkpoints import load_language_model, save_run_directory
from emma_viz.errors import InputError
from emma_viz.evidence.mixers.routing import mixer_at
from emma_viz.models import PRESETS, VLM
from emma_viz.models.mixers.grouped import GroupedMamba
from emma_viz.shapes import EMBEDDING
from probes.run import main
from probes.text.reading import Reach
from probes.text.texts import MOST_TEXT_TOKENS, examine_texts, read_texts, text_checks
from tests.checkpoints.test_language_models import to_state_spaces, transformers_model
from tests.tiny_model import tiny_tokenizer

TEXTS = ["A red cup on a table, beside a blue hat.", "How many cups are there?", "Yes", "x" * 600]


RUNS = ("tiny-cobra", "tiny-emma-v2", "tiny-llava", "tiny-matvlm")
PUBLISHED = ("mamba1-hf", "mamba2-hf", "mamba1-state-spaces", "mamba2-state-spaces")


@pytest.fixture(scope="module", params=[*RUNS, *PUBLISHED])
def folder(request, tmp_path_factory):
    """A run directory with a language model (Mamba-1, Mamba-2, attention, a hybrid), or files as they are published."""
    torch.manual_seed(6)
    if request.param in PUBLISHED:
        return published(request.param, tmp_path_factory.mktemp("published"))
    tokenizer, config = tiny_tokenizer(), PRESETS[request.param]()
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    vlm = VLM(config, backend="torch")
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight.mul_(20)
    place = tmp_path_factory.mktemp("alone") / request.param
    return save_run_directory(place, config, vlm.state_dict(), tokenizer=tokenizer)


def published(name, place):
    """What transformers' own class writes, or the same as state-spaces publish it."""
    ssm, _, form = name.partition("-")
    theirs = place / f"{ssm}-hf"
    transformers_model(ssm).save_pretrained(theirs)
    tiny_tokenizer().save(theirs / "tokenizer.json")
    if form == "hf":
        return theirs
    to_state_spaces(theirs, place / name)
    return place / name


def test_numbers_are_those_of_the_networks_own_states(folder):
    model = load_language_model(folder, backend="torch")
    found = examine_texts(model, TEXTS)
    mixers = model.info.mixer_layers
    assert set(found) == {"next", "first"} | ({"reach"} if mixers else set())
    ids = torch.tensor([model.tokenizer.encode(TEXTS[0])])
    with torch.no_grad():
        scores = model.llm(ids)[0, :-1, : model.llm.config.vocab_size].float().log_softmax(-1)
        entered = model.llm.embed(ids)[0].double().norm(dim=-1)
    last = scores.gather(1, ids[0, 1:, None]).mean()
    columns = found["next"].columns
    assert columns["next"][0, -1] == pytest.approx(float(last), abs=1e-4)
    assert columns["next"].shape == (len(TEXTS), 1 + model.info.n_layer)
    assert found["first"].columns["first"][0, 0] == pytest.approx(
        float(entered[0] / entered.mean()), rel=1e-5
    )
    # One token has nothing behind it, nor another beside it.
    single = [i for i, text in enumerate(TEXTS) if len(model.tokenizer.encode(text)) == 1]
    assert all(np.isnan(columns["next"][i]).all() for i in single)
    assert any(str(MOST_TEXT_TOKENS) in note for note in found["next"].notes)
    if mixers:
        reach, control = (found["reach"].columns[name] for name in ("reach", "reach_control"))
        at = np.isin(found["reach"].layers, mixers)
        assert not at[0]
        assert np.isnan(reach[:, ~at]).all()
        length = ids.shape[1]
        assert (reach[0, at] > 0).all()
        assert (reach[0, at] < length - 1).all()
        assert control[0, at] == pytest.approx((length - 1) / 2)
    assert all(check.passed for check in text_checks(model, TEXTS[0]))


def test_a_state_that_forgets_at_once_reaches_nowhere(folder):
    model = load_language_model(folder, backend="torch")
    if not (mixers := model.info.mixer_layers):
        return
    with torch.no_grad():
        for layer in mixers:
            mixer = mixer_at(model.llm, layer)
            rates = mixer.A_log_bias if isinstance(mixer, GroupedMamba) else mixer.A_log
            rates.fill_(12.0)
    found = examine_texts(model, TEXTS[:1], probes=(Reach(),))["reach"]
    assert (found.columns["reach"][0, np.isin(found.layers, mixers)] < 1e-3).all()


def test_layers_without_a_mixer_lose_the_probes_of_mixers_alone(folder):
    model = load_language_model(folder, backend="torch")
    for layer in (EMBEDDING, *range(model.info.n_layer)):
        found = examine_texts(model, TEXTS[:1], layers=[layer])
        if layer in model.info.mixer_layers:
            assert set(found) == {"next", "first", "reach"}
            assert np.isfinite(found["reach"].columns["reach"][0, 1])
            continue
        assert set(found) == {"next", "first"}
        with pytest.raises(InputError, match="reach was left out: it needs delta and conv and B"):
            examine_texts(model, TEXTS[:1], layers=[layer], probes=(Reach(),))


@pytest.mark.slow
def test_the_command_writes_a_report_of_two(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("probes.pages.paper_charts.write_charts", lambda chart, stem: ())
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(TEXTS), encoding="utf-8")
    asked = [
        str(folder),
        str(folder),
        "--texts",
        str(notes),
        "--out",
        str(tmp_path / "report"),
        "--backend",
        "torch",
    ]
    assert main(asked) == 0
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told["images"] == "4 paragraphs of notes.txt"
    names = [each["name"] for each in told["probes"]]
    assert names == (["next", "first"] if "llava" in str(folder) else ["next", "first", "reach"])
    assert all("reach was left out" in each for each in told["notes"])
    assert "layer by layer" in (tmp_path / "report" / "report.html").read_text()


def test_options_of_images_are_refused_by_name(tmp_path, capsys):
    asked = ["MODEL", "--texts", "notes.txt", "--out", str(tmp_path / "report")]
    asked += ["--images", "photos", "--prompt", "Why?", "--llm", "x", "--vision", "y"]
    assert main([*asked, "--part", "thumbnail", "--save-seconds", "15"]) == 1
    said = capsys.readouterr().err.partition("expected --texts without ")[2].partition(", which")[0]
    assert {*said.split(", ")} == {"--images", "--prompt", "--llm", "--vision", "--part", "--save-seconds"}
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(("given", "layers"), [([], None), (["all"], ("all",)), (["all", "5"], ("all", 5))])
def test_layers_that_are_named_are_those_that_are_read(given, layers, tmp_path, monkeypatch):
    asked = []

    def report(models, path, out, **options):
        asked.append(options["layers"])
        return path, path

    monkeypatch.setattr("probes.run.report_on_texts", report)
    named = ["--layers", *given] if given else []
    assert main(["MODEL", "--texts", "notes.txt", "--out", str(tmp_path / "report"), *named]) == 0
    assert asked == [layers]


def test_texts_are_paragraphs(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    path.write_text("One\nline.\r\n\r\n\n\nTwo.\n", encoding="utf-8")
    assert read_texts(path, 5) == ["One line.", "Two."]
    assert read_texts(path, 1) == ["One line."]
    path.write_text("\n \n")
    with pytest.raises(InputError, match="holds no text"):
        read_texts(path, 1)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_texts(path, 1)
    with pytest.raises(InputError, match="expected a regular file, got a folder"):
        read_texts(tmp_path, 1)
    path.write_text("One.\n")
    monkeypatch.setattr("probes.text.texts.LARGEST_TEXT", 4)
    with pytest.raises(InputError, match="expected at most 4 bytes, got 5 bytes"):
        read_texts(path, 1)
