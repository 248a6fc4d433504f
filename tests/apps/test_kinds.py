"""Models of several kinds side by side: two Mambas, an attention transformer of this package, and one that
transformers' class runs, in one figure, one page and one comparison."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from apps.explorer.service import Service
from emma_viz.checkpoints import load_model, save_run_directory
from emma_viz.data import read_image
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.evidence.attribution import attribute
from emma_viz.lens import save_lens
from emma_viz.models import PRESETS, VLM
from emma_viz.session import Running, capture, compare, compare_study, decode_study, figure, fit_ridge
from tests.apps.conftest import bring
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # transformers' models take seconds to import


@pytest.fixture(scope="module")
def kinds(pair, tmp_path_factory) -> dict[str, str]:
    """Label → folder, each with a ridge lens."""
    folder = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(4)
    tokenizer, config = Tokenizer.load(pair.cobra / "tokenizer.json"), PRESETS["tiny-llava"]()
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    save_run_directory(folder / "attention", config, VLM(config).state_dict(), tokenizer=tokenizer)
    write("llava", folder / "theirs")
    images = list(np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8))
    for name, more in (("attention", {"vision_source": str(pair.vision)}), ("theirs", {})):
        model = load_model(folder / name, **more)
        lens = fit_ridge(model, images[:8], heldout=images[8:], fitted_on="8 images of noise")
        save_lens(lens, folder / name / "ridge.lens")
    return {"cobra": str(pair.cobra), **{name: str(folder / name) for name in ("attention", "theirs")}}


@pytest.fixture
def running(pair):
    return Running(vision_source=str(pair.vision))


def test_a_figure_has_a_row_for_each(kinds, running, photos, tmp_path):
    comparison = compare(photos[0], list(kinds.values()), running=running)
    assert [each.model.ssm for each in comparison.decodings] == ["mamba1", "attention", "attention"]
    maps = comparison.maps()
    figure(*maps).savefig(tmp_path / "three.png", dpi=50)
    assert (tmp_path / "three.png").stat().st_size > 20_000
    (case,) = comparison.spec().images
    assert [each.name for each in case.models] == [each.model.name for each in comparison.decodings]


def test_a_comparison_of_a_study_has_all(kinds, running, photos, tmp_path):
    names = capture(photos, list(kinds.values()), tmp_path / "study", running=running)
    decode_study(tmp_path / "study", lenses=["ridge"])
    found = compare_study(tmp_path / "study")
    assert len(names) == len(found.decodings) == 3
    assert {len(each) for each in found.decodings} == {len(photos)}


def test_each_model_is_shown_at_the_sites_that_it_has(offer, examples, kinds, photos):
    service = Service(offer(models=kinds, chosen=tuple(kinds)), examples)
    try:
        secret = service.sessions.open(service.uploads.visitor())
        path, sites = bring(service, secret, photos[0]), ["mixer_out", "attn_out"]
        *_, news = service.ask(secret, path, "What is it?", ["cobra", "attention"], "ridge", sites, 3)
        assert news["stage"] == "ready", news
        result = service.sessions.result(news["session"], news["run"])
        assert [(row.model, row.site) for row in result.rows] == [
            ("cobra", "mixer_out"),
            ("attention", "attn_out"),
        ]
        said = dict(result.failed)
        assert "is a site of an attention transformer" in said["cobra, attn_out"]
        assert "is a site of a Mamba" in said["attention, mixer_out"]
        for form in ("sh", "py", "zip"):
            assert "error" not in service.save({**news, "format": form, "layers": [0, 0]})
        *_, news = service.ask(secret, path, "What is it?", ["cobra"], "ridge", ["attn_out"], 3)
        assert news["stage"] == "error"
        assert "is a site of an attention transformer" in news["message"]
    finally:
        service.close()


def test_one_question_is_asked_of_all_and_a_words_evidence_found_in_each(offer, examples, kinds, photos):
    service = Service(offer(models=kinds, chosen=tuple(kinds)), examples)
    try:
        secret = service.sessions.open(service.uploads.visitor())
        path = bring(service, secret, photos[0])
        *_, news = service.ask(secret, path, "What is it?", list(kinds), "ridge", "", 5)
        assert news["stage"] == "ready", news
        sent = json.loads(json.dumps(service.payload(news), allow_nan=False))
        assert sent["failed"] == []
        assert len(sent["models"]) == 3
        assert [each["live"] for each in sent["models"]] == [True] * 3
        words = service.words({**news, "places": [0, 0, 0]})["models"]
        assert all(words[row][-1] for row in range(3))
        result = service.sessions.result(news["session"], news["run"])
        row = next(row for row in (2, 1, 0) if result.words[row])
        for method in ("gradient", "knockout"):
            reply = service.attribute({**news, "model": row, "word": 0, "method": method})
            assert "error" not in reply
            assert len(reply["models"]) == 3
            assert len(reply["judged"]) == 3
        word, said = result.words[row][0], result.traces[row].answer_ids[0]
        model = service.models.get(result.models[row])
        mine = attribute(
            model,
            read_image(photos[0]),
            "What is it?",
            word=said[word.start : word.stop],
            before=said[: word.start],
        )
        assert service.attribute({**news, "model": row, "word": 0, "method": "gradient"})["scores"][row] == (
            pytest.approx(mine.score, rel=1e-4)
        )
        without = service.without({**news, "model": row, "word": 0, "row": 2, "region": [0, 0, 0, 0]})
        assert [each is None or each["fall"] is not None for each in without["models"]] == [True] * 3
        refused = service.attribute({**news, "model": row, "word": 0, "method": "frozen"})["error"]
        assert "attention transformer has none" in refused or "transformers' own class" in refused
    finally:
        service.close()
