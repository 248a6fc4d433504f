"""Numba kernel of the gated root-mean-square norm; layout as in `scan`, tasks are rows."""

from typing import no_type_check

import numpy as np

from emma_viz.kernels.numba.bf16 import held, value
from emma_viz.kernels.numba.math import ZERO, kernel, parallel_kernel, share_of, sigmoid


@kernel
@no_type_check
def _write(group, weight, eps, out):
    """Norm one group of channels."""
    total = ZERO
    for c in range(group.shape[0]):
        total += group[c] * group[c]
    # In float64: LLVM takes the root of a float32 from an estimate, which makes a NaN of infinity.
    scale = np.float32(1 / np.sqrt(np.float64(total) / group.shape[0] + eps))
    for c in range(group.shape[0]):
        out[c] = held(out, group[c] * scale * weight[c])


@parallel_kernel
@no_type_check
def gated_norm(worker, workers, x, xs, z, zs, weight, groups, eps, y):
    """Gate and norm the rows of a batch.

    Args:
        x, z: flat arrays of rows, xs and zs apart; both float32 or both bf16 (see `bf16`).
        weight: (E,). groups: equal parts of the channels.
        y: (rows, E), written; of x's type.
    """
    rows, inner = y.shape
    size = inner // groups
    gated = np.empty(inner, np.float32)
    for row in share_of(worker, workers, rows):
        xr, zr, yr = x[row * xs : row * xs + inner], z[row * zs : row * zs + inner], y[row]
        for c in range(inner):
            gate = value(zr[c])
            gated[c] = value(xr[c]) * (gate * sigmoid(gate))
        for start in range(0, inner, size):
            _write(gated[start : start + size], weight[start : start + size], eps, yr[start : start + size])
