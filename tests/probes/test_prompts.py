"""Patching between prompts: what must be exact in a causal model, and a path that was left alone is found."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from emma_viz.models import Block
from probes.causes.prompts import Prompts
from probes.examination import examine
from probes.findings import find
from probes.protocol import Result
from probes.subjects import Scenes


def asked(model, plan):
    probe = Prompts()
    _, gathered = examine(model, plan(probe, subjects=Scenes(2)))["prompts"]
    return Result(gathered=gathered, findings=find(probe.measures(gathered)))


def test_image_tokens_know_nothing_of_the_question_and_two_prompts_are_about_other_things(loud, plan):
    found = asked(loud, plan)
    assert found.findings
    assert all(each.number.value == pytest.approx(0, abs=5e-3) for each in found.curve("prompts.image"))
    assert found.curve("prompts.last")[0].number.value == pytest.approx(0, abs=5e-3), "both end alike"
    (chart,) = Prompts().plots([found])
    assert [each.name for each in chart.series] == [
        "all image tokens",
        "the prompt's tokens but the last",
        "the prompt's last token",
    ]
    assert loud.info.name in Prompts().summary([found])
    subject = Scenes(1).take(0)
    assert subject.absent != subject.prompt
    assert subject.absent.startswith("Is there")


def test_the_last_token_holds_all_where_no_later_block_mixes(loud, plan):
    """A last block that gives nothing: before it the last token has everything the answer is read from."""
    still = deepcopy(loud.vlm)
    with torch.no_grad():
        block = still.llm.backbone.layers[-1]
        assert isinstance(block, Block)
        block.mixer.out_proj.weight.zero_()
    curve = asked(replace(loud, vlm=still), plan).curve("prompts.last")
    assert curve[-1].number.value == pytest.approx(1, abs=5e-3)
    assert abs(curve[-2].number.value - 1) > 1e-2
