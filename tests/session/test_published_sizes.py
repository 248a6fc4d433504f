"""Members at full size have the parameters that papers and model cards say, and the networks those of the sums."""

import re
from pathlib import Path

import pytest

from emma_viz.models import PRESETS, VLM
from emma_viz.models.meta import on_meta
from emma_viz.session.catalogue import sizes_of, sizes_table
from emma_viz.session.papers import PUBLISHED_SIZES

UNREAD = 92553 * 2048
"""mmMamba's files hold a second table of tokens, which nothing reads and we do not count."""
TOO_ROUND = {
    ("tinyllava-phi-2-3.1b", "whole"): 0,
    ("mmmamba-linear-2.7b", "whole"): UNREAD,
    ("mmmamba-hybrid-2.7b", "whole"): UNREAD,
}
"""What is not as it was said, and the parameters that it would be with. Of TinyLLaVA SigLIP's pooling head and last
block, which never run, are 31M: it is 3.19B without, and named 3.1B."""


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
        more = TOO_ROUND.get((name, part))
        assert rounds_to(counts[part], said) == (more is None), (name, each, counts[part])
        assert not more or rounds_to(counts[part] + more, said), (name, each, counts[part] + more)


def test_only_what_nobody_published_has_no_published_size():
    """Variants of the named ones, with other encoders, text or connector."""
    large = {name for name in PRESETS if re.search(r"-\d(\.\d)?b$", name)}
    assert large - set(PUBLISHED_SIZES) == {
        "cobra-siglip-3b", "cobra-base-3b", "cobra-ldp-3b", "ml-mamba-siglip-3b", "ml-mamba-ldp-3b",
        "vl-mamba-csm-2.8b",
    }  # fmt: skip


def test_files_on_the_hub_have_as_many_bytes():
    """Of 16-bit weights; their sizes as the hub lists them, in GB to two digits."""
    listed = {"matvlm-0.25-3.1b": (4.98 + 1.56, 0), "mmmamba-linear-2.7b": (4.98 + 0.505, UNREAD)}
    for name, (size, more) in listed.items():
        assert 2 * (sizes_of(PRESETS[name]())["whole"] + more) == pytest.approx(size * 1e9, abs=1e7)


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
