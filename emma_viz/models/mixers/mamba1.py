"""The Mamba-1 mixer (Gu and Dao 2023), with the official parameter names."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import linear, selective_scan, selective_scan_step
from emma_viz.models.cache import LayerState, MambaCache, padded_positions
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.linear import LinearLayer
from emma_viz.models.mixers.convolution import before_silu, convolve

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4
"""Range of the initial step sizes, log-uniform (mamba_ssm)."""

NO_STEP = -1e4
"""A pre-activation whose softplus is exactly zero in fp32: the state passes a padded position unchanged."""


class Mamba1Mixer(nn.Module):
    """Selective state space mixer: in_proj → conv → x_proj, dt_proj → scan → gate → out_proj.

    The kernels are always composed, never fused, so that every hook point fires:
    `hook_x` and `hook_z` (`B L E`, what in_proj gives: what is carried, and the gate before its SiLU),
    `hook_conv` (`B L E`, after the convolution and SiLU), `hook_B` and `hook_C` (`B L N`) and `hook_y`
    (`B L E`, the gated scan output that enters out_proj) are pass-through; `hook_delta` (`B L E`, the
    step size after bias and softplus; 0 on padding) is replacement; `hook_conv_pre` (`B L E`, the convolution
    before its SiLU) and `hook_scan` (`B L E`, the scan's output before the gate) are observation only.

    Args:
        config: sizes.
        layer: index of the block, under which a cache keeps the mixer's state.
        backend: kernel backend; "auto" picks by device.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__()
        self.config, self.layer, self.backend = config, layer, backend
        width, inner, rank, states = config.d_model, config.d_inner, config.rank, config.d_state
        self.A_log = nn.Parameter(torch.empty(inner, states))
        self.D = nn.Parameter(torch.empty(inner))
        self.in_proj = LinearLayer(width, 2 * inner, bias=False, backend=backend)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner, padding=config.d_conv - 1)
        self.x_proj = LinearLayer(inner, rank + 2 * states, bias=False, backend=backend)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = LinearLayer(inner, width, bias=False, backend=backend)
        self.hook_x, self.hook_z, self.hook_conv_pre = HookPoint(), HookPoint(), HookPoint()
        self.hook_conv, self.hook_delta, self.hook_scan = HookPoint(), HookPoint(), HookPoint()
        self.hook_B, self.hook_C, self.hook_y = HookPoint(), HookPoint(), HookPoint()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as mamba_ssm does: A = −1…−N, D = 1, step sizes log-uniform."""
        if self.A_log.is_meta:
            return  # without memory there is nothing to fill: see `on_meta`
        states = torch.arange(1, self.config.d_state + 1, dtype=torch.float32, device=self.A_log.device)
        self.A_log.copy_(states.log().expand_as(self.A_log))
        self.D.fill_(1.0)
        spread = self.config.rank**-0.5
        self.dt_proj.weight.uniform_(-spread, spread)
        self.dt_proj.bias.copy_(initial_dt_bias(self.dt_proj.bias))

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Mix along the tokens.

        Args:
            x: normed residual stream.
            cache: read at the start and updated; None for a plain pass.
            lengths: tokens of each right-padded sample; only the cached states depend on it.
        """
        state = None if cache is None else cache.mixer_state(self.layer, len(x))
        inner, gate = self.in_proj(x).chunk(2, dim=-1)
        inner, gate = self.hook_x(inner), self.hook_z(gate)
        lengths = None if cache is None else lengths
        before = None if state is None else state.conv
        self.hook_conv_pre.observe(lambda: before_silu(inner, self.conv1d, before, backend=self.backend))
        u, conv_state = convolve(inner, self.conv1d, before, lengths, backend=self.backend)
        u = self.hook_conv(u)
        dt, B, C = self.x_proj(u).split([self.config.rank, self.config.d_state, self.config.d_state], dim=-1)
        B, C = self.hook_B(B), self.hook_C(C)
        dt = linear(dt, self.dt_proj.weight, backend=self.backend)
        if lengths is not None:
            dt = dt.masked_fill(padded_positions(lengths, x.shape[1])[..., None], NO_STEP)
        bias = self.dt_proj.bias.float()
        raw = dt
        given = self.hook_delta.replaced(lambda: functional.softplus(raw.float() + bias))
        if given is not None:
            dt = given.to(u.dtype)
        added = bias if given is None else None
        A = -torch.exp(self.A_log.float())

        def scan(z: Tensor | None) -> tuple[Tensor, Tensor]:
            if state is not None and x.shape[1] == 1:
                y, after = selective_scan_step(
                    state.ssm, u[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], self.D.float(),
                    z=None if z is None else z[:, 0], delta_bias=added, delta_softplus=given is None,
                    backend=self.backend,
                )  # fmt: skip
                return y[:, None], after
            return selective_scan(
                u, dt, A, B, C, self.D.float(), z=z, delta_bias=added, delta_softplus=given is None,
                initial_state=None if state is None else state.ssm, backend=self.backend,
            )  # fmt: skip

        self.hook_scan.observe(lambda: scan(None)[0])
        y, ssm_state = scan(gate)
        if cache is not None:
            cache.layers[self.layer] = LayerState(conv=conv_state, ssm=ssm_state)
        return self.out_proj(self.hook_y(y))


def initial_dt_bias(like: Tensor) -> Tensor:
    """Biases whose softplus is log-uniform between DT_MIN and DT_MAX (mamba_ssm), shaped as `like`."""
    uniform = torch.rand_like(like, dtype=torch.float32)
    dt = torch.exp(uniform * (math.log(DT_MAX) - math.log(DT_MIN)) + math.log(DT_MIN)).clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))
