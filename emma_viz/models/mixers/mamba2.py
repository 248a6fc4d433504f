"""The Mamba-2 mixer (Dao and Gu 2024), with the official parameter names."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import ssd, ssd_step
from emma_viz.models.cache import LayerState, MambaCache, padded_positions
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.linear import LinearLayer
from emma_viz.models.mixers.convolution import before_silu, convolve
from emma_viz.models.mixers.mamba1 import NO_STEP, initial_dt_bias
from emma_viz.models.norms import GatedRMSNorm

A_RANGE = (1.0, 16.0)
"""Range of the initial decay rates, uniform (mamba_ssm)."""


class Mamba2Mixer(nn.Module):
    """State space duality mixer: in_proj [z, x, B, C, dt] → conv on x, B, C → SSD → gated norm → out_proj.

    Hook points as in Mamba-1: `hook_x` (`B L (E+2GN)`, what enters the convolution: x, B and C), `hook_z`
    (`B L E`, the gate before its SiLU), `hook_conv` (`B L E`, the x part after the convolution and SiLU),
    `hook_B` and `hook_C` (`B L (G N)`, after the convolution) and `hook_y` (`B L E`, after gate and norm,
    what enters out_proj) are pass-through; `hook_delta` (`B L H`, one step size a head, after bias and
    softplus; 0 on padding) is replacement; `hook_conv_pre` (`B L (E+2GN)`, the convolution before its SiLU) and
    `hook_scan` (`B L E`, before gate and norm) are observation only.

    Args:
        config: sizes.
        layer: index of the block, under which a cache keeps the mixer's state.
        backend: kernel backend; "auto" picks by device.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__()
        self.config, self.layer, self.backend = config, layer, backend
        width, inner, heads, conv_width = config.d_model, config.d_inner, config.n_heads, config.conv_width
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.in_proj = LinearLayer(width, inner + conv_width + heads, bias=False, backend=backend)
        self.conv1d = nn.Conv1d(
            conv_width, conv_width, config.d_conv, groups=conv_width, padding=config.d_conv - 1
        )
        self.norm = GatedRMSNorm(inner, groups=config.ngroups, eps=config.gated_norm_eps, backend=backend)
        self.out_proj = LinearLayer(inner, width, bias=False, backend=backend)
        self.hook_x, self.hook_z, self.hook_conv_pre = HookPoint(), HookPoint(), HookPoint()
        self.hook_conv, self.hook_delta, self.hook_scan = HookPoint(), HookPoint(), HookPoint()
        self.hook_B, self.hook_C, self.hook_y = HookPoint(), HookPoint(), HookPoint()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as mamba_ssm does: A uniform in −16…−1, D = 1, step sizes log-uniform."""
        if self.A_log.is_meta:
            return  # without memory there is nothing to fill: see `on_meta`
        self.A_log.uniform_(*A_RANGE).log_()
        self.D.fill_(1.0)
        self.dt_bias.copy_(initial_dt_bias(self.dt_bias))

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Mix along the tokens; arguments as in `Mamba1Mixer.forward`."""
        config = self.config
        state = None if cache is None else cache.mixer_state(self.layer, len(x))
        lengths = None if cache is None else lengths
        gate, inner, dt = self.in_proj(x).split([config.d_inner, config.conv_width, config.n_heads], dim=-1)
        entered, gate = self.hook_x(inner), self.hook_z(gate)
        before = None if state is None else state.conv
        self.hook_conv_pre.observe(lambda: before_silu(entered, self.conv1d, before, backend=self.backend))
        inner, conv_state = convolve(entered, self.conv1d, before, lengths, backend=self.backend)
        groups = config.ngroups * config.d_state
        u, B, C = inner.split([config.d_inner, groups, groups], dim=-1)
        u, B, C = self.hook_conv(u), self.hook_B(B), self.hook_C(C)
        if lengths is not None:
            dt = dt.masked_fill(padded_positions(lengths, x.shape[1])[..., None], NO_STEP)
        bias = self.dt_bias.float()
        raw = dt
        given = self.hook_delta.replaced(lambda: functional.softplus(raw.float() + bias))
        if given is not None:
            dt = given.to(u.dtype)
        added = bias if given is None else None
        u = rearrange(u, "B L (H P) -> B L H P", P=config.headdim)
        B, C = (rearrange(matrix, "B L (G N) -> B L G N", G=config.ngroups) for matrix in (B, C))
        A = -torch.exp(self.A_log.float())
        if state is not None and x.shape[1] == 1:
            y, ssm_state = ssd_step(
                state.ssm,
                u[:, 0],
                dt[:, 0],
                A,
                B[:, 0],
                C[:, 0],
                self.D.float(),
                dt_bias=added,
                dt_softplus=given is None,
                backend=self.backend,
            )
            y = y[:, None]
        else:
            y, ssm_state = ssd(
                u, dt, A, B, C, self.D.float(), dt_bias=added, dt_softplus=given is None,
                initial_state=None if state is None else state.ssm, backend=self.backend,
            )  # fmt: skip
        if cache is not None:
            cache.layers[self.layer] = LayerState(conv=conv_state, ssm=ssm_state)
        scanned = rearrange(y, "B L H P -> B L (H P)")
        self.hook_scan.observe(lambda: scanned)
        return self.out_proj(self.hook_y(self.norm(scanned, gate)))
