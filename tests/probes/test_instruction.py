"""The probe of the instruction in the image's tokens: what was planted is found, and a fresh mixer gives nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.instructions import InstructionTokenizer
from emma_viz.models import PRESETS, VLM
from probes.content.instruction import InstructionProbe
from probes.examination import Plan, able, examine
from probes.findings import find
from probes.protocol import Result
from probes.subjects import Scenes
from tests.families.llava_files import write_instruction_tokenizer
from tests.tiny_model import tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    write_instruction_tokenizer(folder)
    torch.manual_seed(1)
    config, tokenizer = PRESETS["tiny-emma-text-fusion"](), tiny_tokenizer()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))).eval()
    vlm.reader = InstructionTokenizer.load(folder / "instruction-tokenizer.json", context=12)
    return LoadedModel.from_vlm(vlm, tokenizer, name="fused")


def found(model, folder):
    probe = InstructionProbe()
    plan = Plan(subjects=Scenes(6), probes=(probe,), folder=folder, quick=True)
    _, gathered = examine(model, plan)["instruction"]
    return Result(gathered=gathered, findings=find(probe.measures(gathered)))


def test_a_fresh_mixer_takes_nothing_of_the_instruction_and_a_planted_one_does(model, tmp_path):
    fresh = found(model, tmp_path / "fresh")
    assert fresh.one("instruction.norm_image").number.value == pytest.approx(1)
    assert fresh.one("instruction.share").number.value == fresh.one("instruction.moved").number.value == 0
    before, after = (fresh.one(f"instruction.{when}").number.value for when in ("before", "after"))
    assert before == pytest.approx(after)
    with torch.no_grad():
        weight = model.vlm.projector.infusion.image_text_infusion.weight
        weight[:, 16:] = 3.0 / 12
        weight[:, 16 + 5] *= 2
    planted = found(model, tmp_path / "planted")
    norms = planted.gathered.columns["norms"][0]
    np.testing.assert_allclose(norms[16:].argmax(), 5)
    np.testing.assert_allclose(norms[16:].max() / norms[16], 2)
    assert planted.one("instruction.moved").number.value > 0.01
    assert planted.one("instruction.after").number.value > after
    curve, image = InstructionProbe().plots([planted])
    assert len(curve.x) == 12
    assert image.panels[0].values.shape == (4, 4)
    assert "fused" in InstructionProbe().summary([planted])


def test_other_models_are_left_out_with_a_sentence():
    kept, (said,) = able((InstructionProbe(),), Scenes(2))
    assert kept == ()
    assert "do not depend on the instruction" in said
    assert able((InstructionProbe(),), Scenes(2), infused=True)[1] == ()
