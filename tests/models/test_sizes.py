"""Sizes computed from a description are those of the modules that it builds."""

from dataclasses import replace

import pytest
import torch

from emma_viz.errors import InputError
from emma_viz.models import PRESETS, VLM, MambaConfig, ProjectorConfig
from emma_viz.models.sizes import (
    language_model_parameters,
    language_model_shapes,
    require_real,
    vision_parameters,
    vlm_shapes,
)

TINY = PRESETS["tiny-cobra"]()


def shallow(config):
    """All blocks of a model are alike: three are as good as 64, and quicker to build."""
    return replace(
        config,
        llm=replace(config.llm, n_layer=3, mamba_layers=config.llm.mamba_layers[:1]),
        taps=config.taps and (0, 1, 2),
    )


VARIANTS = {
    **{name: shallow(preset()) for name, preset in PRESETS.items()},
    **{
        kind: replace(TINY, projector=ProjectorConfig(kind=kind, pooled_grid=(2, 3), positions=True))
        for kind in ("linear", "gelu-mlp", "fused-gelu-mlp", "fused-ldpnet")
    },
    "cross-scan": replace(TINY, projector=ProjectorConfig(cross_scan=True, scan_states=5)),
    "attention": replace(TINY, llm=replace(PRESETS["tiny-llava"]().llm, qkv_bias=True, tied=False)),
    "odd-mamba1": replace(TINY, llm=replace(TINY.llm, dt_rank=5, expand=3, d_conv=3, vocab_size=77)),
    "groups": replace(
        TINY,
        llm=MambaConfig(d_model=24, n_layer=2, vocab_size=9, ssm="mamba2", headdim=6, ngroups=4, d_state=3),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_are_those_of_the_modules(name):
    config = VARIANTS[name]
    with torch.device("meta"):
        vlm = VLM(config)
    state = {key: tuple(tensor.shape) for key, tensor in vlm.state_dict().items()}
    assert vlm_shapes(config) == {key: shape for key, shape in state.items() if not key.startswith("vision.")}
    assert list(vlm_shapes(config)) == [key for key in state if not key.startswith("vision.")]
    assert vision_parameters(config.vision) == sum(part.numel() for part in vlm.vision.parameters())
    assert language_model_parameters(config.llm) == sum(part.numel() for part in vlm.llm.parameters())
    assert list(language_model_shapes(config.llm)) == list(vlm.llm.state_dict())
    require_real(config)


def test_a_model_larger_than_any_is_refused():
    llm = MambaConfig(d_model=2**17, n_layer=1024, vocab_size=50_277)
    for config in (llm, replace(TINY, llm=llm)):
        with pytest.raises(InputError, match=r"parameters; at most 2e\+12 are read"):
            require_real(config)
