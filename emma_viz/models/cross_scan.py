"""The cross-scan module (CSM): the token grid read in four orders, so that a token can know all others.

The ablation +CSM of the EMMA paper puts it between the frozen encoders and the projector. It is VMamba's
(Liu et al. 2024, "VMamba: Visual State Space Model", SS2D and VSS block without MLP): norm, gate, depthwise
3×3 convolution, a selective scan along each of four orders, their sum, norm, gate, out, added to the input.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import linear, selective_scan
from emma_viz.models.mixers.mamba1 import initial_dt_bias
from emma_viz.models.ranges import Grid

EXPAND = 2
"""Inner width over the features' width, as in VMamba's first version."""


class CrossScan(nn.Module):
    """Features plus what four scans of their grid gather; the tokens keep their order.

    The output layer starts at zero: a fresh module passes the features on unchanged, so that a model with it
    and one without start equal.

    Args:
        width: channels F of the features.
        grid: rows and columns of the tokens.
        d_state: state size N of the scans.
        backend: kernel backend.
    """

    def __init__(self, width: int, grid: Grid, *, d_state: int = 16, backend: str = "auto"):
        super().__init__()
        self.grid = grid
        inner = EXPAND * width
        self.norm = nn.LayerNorm(width)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scans = nn.ModuleList(
            DirectedScan(inner, rank=math.ceil(width / 16), d_state=d_state, backend=backend)
            for _ in range(4)
        )
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, features: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        """Add what the scans gather to each token, row-major as they came."""
        inner, gate = self.in_proj(self.norm(features)).chunk(2, dim=-1)
        plane = self.conv2d(rearrange(inner, "B (R C) E -> B E R C", R=self.grid[0]))
        inner = functional.silu(rearrange(plane, "B E R C -> B (R C) E"))
        orders = scan_orders(inner, self.grid)
        scanned = [scan(order) for scan, order in zip(self.scans, orders, strict=True)]
        gathered = self.out_norm(merge_orders(scanned, self.grid)) * functional.silu(gate)
        return features + self.out_proj(gathered)


class DirectedScan(nn.Module):
    """A selective scan along one order, with step sizes, B and C of its own (a Mamba-1 mixer's inner part)."""

    def __init__(self, inner: int, *, rank: int, d_state: int, backend: str):
        super().__init__()
        self.rank, self.d_state, self.backend = rank, d_state, backend
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, d_state))
        self.D = nn.Parameter(torch.empty(inner))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as a Mamba-1 mixer: A = −1…−N, D = 1, step sizes log-uniform."""
        states = torch.arange(1, self.d_state + 1, dtype=torch.float32, device=self.A_log.device)
        self.A_log.copy_(states.log().expand_as(self.A_log))
        self.D.fill_(1.0)
        spread = self.rank**-0.5
        self.dt_proj.weight.uniform_(-spread, spread)
        self.dt_proj.bias.copy_(initial_dt_bias(self.dt_proj.bias))

    def forward(self, x: Float[Tensor, "B T E"]) -> Float[Tensor, "B T E"]:
        """Each token gathers from those before it in this order."""
        dt, B, C = self.x_proj(x).split([self.rank, self.d_state, self.d_state], dim=-1)
        y, _ = selective_scan(
            x,
            linear(dt, self.dt_proj.weight, backend=self.backend),
            -torch.exp(self.A_log.float()),
            B,
            C,
            self.D.float(),
            delta_bias=self.dt_proj.bias.float(),
            delta_softplus=True,
            backend=self.backend,
        )
        return y


def scan_orders(tokens: Float[Tensor, "B T E"], grid: Grid) -> tuple[Float[Tensor, "B T E"], ...]:
    """The tokens row by row, column by column, and both from the end: VMamba's four orders, in its sequence.

    On a grid of 2×3 the orders are 0 1 2 3 4 5, 0 3 1 4 2 5, 5 4 3 2 1 0 and 5 2 4 1 3 0.
    """
    columns = rearrange(tokens, "B (R C) E -> B (C R) E", R=grid[0])
    return tokens, columns, tokens.flip(1), columns.flip(1)


def merge_orders(orders: list[Float[Tensor, "B T E"]], grid: Grid) -> Float[Tensor, "B T E"]:
    """The sum of four sequences in the orders of `scan_orders`, each token back at its row-major place."""
    rows, columns, rows_back, columns_back = orders
    by_column = columns + columns_back.flip(1)
    return rows + rows_back.flip(1) + rearrange(by_column, "B (C R) E -> B (R C) E", R=grid[0])
