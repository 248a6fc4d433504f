"""Implicit attention and the frozen decomposition on the triton backend: under Triton's interpreter, or on a GPU."""

import os
from copy import deepcopy

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

from emma_viz.evidence.mixers.frozen import decompose_states
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.kernels.backends import KERNELS
from emma_viz.models import Mamba1Mixer

pytest.importorskip("triton")
pytestmark = pytest.mark.slow  # the interpreter takes a millisecond a token

LENGTH = 9


@pytest.fixture
def ran(monkeypatch):
    """Names of the triton backend's kernels that ran."""
    from emma_viz.kernels.triton import backend

    seen = set()

    def noted(name, kernel):
        def run(*given):
            seen.add(name)
            return kernel(*given)

        return run

    for name in KERNELS:
        monkeypatch.setattr(backend, name, noted(name, getattr(backend, name)))
    return seen


def on(backend, module):
    """A copy on a backend, on the GPU if there is one and it is for it; its convolutions have a bias."""
    copy = deepcopy(module).to("cuda" if backend == "triton" and torch.cuda.is_available() else "cpu")
    draw = torch.Generator().manual_seed(4)
    for part in copy.modules():
        if hasattr(part, "backend"):
            part.backend = backend
        if isinstance(part, torch.nn.Conv1d):
            part.bias.data = torch.randn(part.bias.shape, generator=draw).to(part.bias.device)
    return copy


def close(actual, expected):
    actual, expected = (torch.as_tensor(each).cpu() for each in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_rows_of_implicit_attention(model, ran):
    mixer = model.vlm.llm.backbone.layers[1].mixer
    normed = torch.randn(LENGTH, mixer.config.d_model, generator=torch.Generator().manual_seed(5))
    expected = attention_rows(on("reference", mixer), normed, [0, 4, LENGTH - 1])
    assert not ran
    there = on("triton", mixer)
    found = attention_rows(there, normed.to(there.out_proj.weight.device), [0, 4, LENGTH - 1])
    # Rows of a Mamba-2 are written out: its one number a head needs no scan.
    assert ran == {"causal_conv1d", *(["selective_scan"] if isinstance(mixer, Mamba1Mixer) else [])}
    for name in ("weights", "bias", "x"):
        close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("gate", ["frozen", "half"])
def test_the_frozen_decomposition(model, ran, gate):
    llm = model.vlm.llm
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, LENGTH, llm.config.d_model, generator=draw)
    direction = torch.randn(2, llm.config.d_model, generator=draw)
    expected = decompose_states(on("reference", llm), embeddings, direction, gate=gate)
    assert not ran
    there = on("triton", llm)
    place = there.lm_head.weight.device
    found = decompose_states(there, embeddings.to(place), direction.to(place), gate=gate)
    scan = "selective_scan" if isinstance(llm.backbone.layers[0].mixer, Mamba1Mixer) else "ssd"
    assert ran == {"causal_conv1d", scan}
    for actual, each in zip(found, expected, strict=True):
        close(actual, each)
