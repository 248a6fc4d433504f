"""Members at full size have the parameters that papers and model cards say, and the networks those of the sums."""

import re
from pathlib import Path

import pytest

from emma_viz.models import PRESETS, VLM
from emma_viz.models.meta import on_meta
from emma_viz.session.catalogue import sizes_of, sizes_table
from emma_viz.session.papers import PUBLISHED_SIZES

TOO_ROUND = {("tinyllava-phi-2-3.1b", "whole")}
"""SigLIP's pooling head and last block, which never run, are 31M of it: it is 3.19B without, and named 3.1B."""


def rounds_to(count: int, said: str) -> bool:
    """Whether a count is what was said, cut or rounded to its digits."""
    number, unit = re.fullmatch(r"([\d.]+)([MB])", said).groups()
    digits = len(number.partition(".")[2])
    value = count / {"M": 1e6, "B": 1e9}[unit]
    return abs(value - float(number)) < 10**-digits


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_published_counts(name):
    counts = sizes_of(PRESETS[name]())
    for each in PUBLISHED_SIZES[name]:
        part, said = each.rsplit(" ", 1)
        assert rounds_to(counts[part], said) != ((name, part) in TOO_ROUND), (name, each, counts[part])


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_the_networks_on_the_meta_device_have_them(name):
    with on_meta():
        vlm = VLM(PRESETS[name]())
    counts = sizes_of(vlm.config)
    parts = {"encoders": vlm.vision, "projector": vlm.projector, "language model": vlm.llm, "whole": vlm}
    assert {
        part: sum(each.numel() for each in module.parameters()) for part, module in parts.items()
    } == counts


def test_counts_that_are_known_exactly():
    """Llama 7B, MobileLLaMA, Phi-2, Mamba 2.8B and Mamba-2 2.7B; and what the instruction costs: under 0.2 %."""
    exact = {
        "emma-text-fusion-7b": 6_738_415_616, "tinyllava-phi-2-3.1b": 2_779_683_840, "cobra-3b": 2_768_345_600,
        "vl-mamba-2.8b": 2_768_345_600, "emma-v2-3b": 2_702_599_680, "ml-mamba-3b": 2_702_599_680,
        "mobilevlm-v2-1.7b": 1_364_297_728, "mobilevlm-v2-3b": 2_701_560_320,
    }  # fmt: skip
    for name, count in exact.items():
        assert sizes_of(PRESETS[name]())["language model"] == count, name
    config = PRESETS["emma-text-fusion-7b"]()
    with on_meta():
        extra = sum(each.numel() for each in VLM(config).projector.infusion.parameters())
    assert extra == 768 * 1024 + 1024 + 653 * 576 + 576
    assert extra < 0.002 * sizes_of(config)["whole"]


def test_the_page_of_models_has_the_table():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert sizes_table() in page, "make it again: emma-viz models --all"
