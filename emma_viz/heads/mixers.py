"""The Mamba layers of fusion blocks and decoders: those of the language models, at any width."""

import math

from torch import nn

from emma_viz.heads.config import MixerSize
from emma_viz.models.config import MambaConfig
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer
from emma_viz.models.norms import RMSNorm


def build_mixer(width: int, size: MixerSize, *, backend: str = "auto") -> nn.Module:
    """A Mamba-1 or Mamba-2 mixer, "B L D" to "B L D"; attributes and initial values as in the language
    models."""
    config = MambaConfig(
        d_model=width, n_layer=1, vocab_size=1, ssm=size.ssm, d_state=size.d_state, headdim=size.headdim
    )
    mixer = Mamba1Mixer if size.ssm == "mamba1" else Mamba2Mixer
    return mixer(config, layer=0, backend=backend)


def layer_norm(width: int, wanted: bool) -> nn.Module:
    """A LayerNorm, or nothing."""
    return nn.LayerNorm(width) if wanted else nn.Identity()


def rms_norm(width: int, wanted: bool = True) -> nn.Module:
    """An RMSNorm, or nothing."""
    return RMSNorm(width, eps=1e-5) if wanted else nn.Identity()


def parameter_count(module: nn.Module) -> int:
    """Trainable and frozen parameters, shared ones once; buffers are not counted. Works on the meta
    device."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
