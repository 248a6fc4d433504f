"""Odd images, answers and states: every probe says a sentence, and none a traceback."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image

from emma_viz.checkpoints import LoadedModel
from emma_viz.evidence.case import Case
from emma_viz.models import PRESETS, VLM
from probes.examination import Plan, able, examine
from probes.findings import differences, find
from probes.pages import report
from probes.protocol import Result
from probes.subjects import Scenes
from probes.table import chosen
from tests.tiny_model import tiny_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shallow():
    """A model of one block."""
    torch.manual_seed(6)
    tokenizer, config = tiny_tokenizer(), PRESETS["tiny-cobra"]()
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size, n_layer=1))
    return LoadedModel.from_vlm(VLM(config, backend="torch").eval(), tokenizer, name="shallow")


class Grey(Scenes):
    """Scenes whose pixels, and those of their twins, are all the same."""

    def take(self, number):
        subject = super().take(number)
        flat = Image.new("RGB", subject.image.size, (90, 90, 90))
        return replace(subject, image=flat, twin=flat)


class Unknown(Scenes):
    """Scenes of which nobody knows anything."""

    labels = pairs = False

    def take(self, number):
        bare = super().take(number)
        return replace(bare, words=None, mask=None, kinds=(), colours=(), target=0, twin=None)


@contextmanager
def broken(model) -> Iterator[None]:
    """A weight of the first block is not a number."""
    weight = model.vlm.llm.backbone.layers[0].mixer.out_proj.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def section(probe, found) -> report.Section:
    gathered = found[probe.name][1]
    measures = probe.measures(gathered)
    result = Result(gathered=gathered, findings=find(measures))
    return report.Section(probe=probe, results=(result, result), differences=differences(measures, measures))


@pytest.mark.parametrize("odd", ["nan", "constant", "one image and two tokens", "empty answer"])
def test_all_probes_say_a_sentence(odd, shallow, tmp_path, monkeypatch):
    subjects = {"constant": Grey(2), "one image and two tokens": Scenes(1), "empty answer": Unknown(2)}.get(
        odd, Scenes(2)
    )
    if "two tokens" in odd:
        monkeypatch.setattr("probes.examination.ANSWER", 2)
    if odd == "empty answer":
        first = Case.of(shallow, subjects.take(0).image, subjects.take(0).prompt).word
        monkeypatch.setattr(shallow.tokenizer, "eos_id", first)
    probes, left_out = able(chosen(None), subjects)
    assert len(probes) + len(left_out) == len(chosen(None))
    plan = Plan(subjects=subjects, probes=probes, folder=tmp_path / "seen", quick=True)
    if odd == "nan":
        with broken(shallow):
            found = examine(shallow, plan)
    else:
        found = examine(shallow, plan)
    sections = tuple(section(probe, found) for probe in probes)
    said = report.Report(
        models=(shallow.info, shallow.info), checks=((), ()), images=subjects.said, seen=len(subjects),
        asked=len(subjects), sections=sections, notes=left_out, minutes=0.0,
    )  # fmt: skip
    if odd in ("constant", "empty answer"):
        # What is not a number, and what has no interval, is drawn on paper in the other two.
        monkeypatch.setattr("probes.pages.paper_charts.write_charts", lambda chart, stem: ())
    report.write_report(said, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    numbers = [each for probe in written["probes"] for each in probe["results"][0]["findings"]]
    assert all(each["sentence"].endswith(".") for each in numbers)
    notes = " ".join(note for probe in written["probes"] for note in probe["results"][0]["notes"])
    expected = {"nan": "not finite", "one image and two tokens": "one image alone", "empty answer": "empty"}
    assert expected.get(odd, "") in notes
    undefined = {each["name"] for each in numbers if each["value"] is None}
    if odd in ("nan", "constant"):
        assert "retention.r2" in undefined
        assert any("not defined" in each["sentence"] for each in numbers)
    if "one image" in odd:
        assert not any(each["low"] is not None for each in numbers)
    for probe in written["probes"]:
        assert not [each for each in probe["differences"] if each["difference"]["value"] not in (0.0, None)]
