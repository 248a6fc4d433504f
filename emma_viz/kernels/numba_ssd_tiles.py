"""Gradients of the Mamba-2 SSD within one tile of LANES channels and one block of STEPS tokens.

Notation as in `numba_ssd` and `numba_ssd_backward`, whose two sweeps call these kernels. Stack arrays hold what
the loops over the states add to, so that it stays in registers.
"""

from typing import no_type_check

from emma_viz.kernels.numba_lanes import HALF, LANES, carray, stack
from emma_viz.kernels.numba_math import inlined, kernel
from emma_viz.kernels.numba_ssd import STEPS, clear, earlier, weigh

_TILE = STEPS * LANES
_HALF_TILE = STEPS * HALF


@inlined
@no_type_check
def _seen_by_outputs(gy, a, out, whole):
    """gy_t E_t: the gradient of C_t·h with respect to the state before the block; and the decay over the block."""
    for c in range(LANES):
        decay = a[0, c]
        out[0, c] = decay * gy[0, c]
        decay *= a[1, c]
        out[1, c] = decay * gy[1, c]
        decay *= a[2, c]
        out[2, c] = decay * gy[2, c]
        decay *= a[3, c]
        out[3, c] = decay * gy[3, c]
        whole[c] = decay


@inlined
@no_type_check
def _pair_products(v, gy, a, pairs):
    """Add gy_t v_j a_{j+1}…a_t at [t · STEPS + j], channel by channel."""
    for c in range(LANES):
        for j in range(STEPS):
            value = v[j, c]
            pairs[j * STEPS + j, c] += gy[j, c] * value
            for t in range(j + 1, STEPS):
                value *= a[t, c]
                pairs[t * STEPS + j, c] += gy[t, c] * value


@inlined
@no_type_check
def _later(gy, a, seen, s, out):
    """gv of a block without each token's own output; `seen` holds B_j·g of the state after the block."""
    for c in range(LANES):
        g1, g2, g3 = gy[1, c], gy[2, c], gy[3, c]
        a1, a2, a3 = a[1, c], a[2, c], a[3, c]
        out[3, c] = seen[3, c]
        out[2, c] = a3 * (seen[2, c] + s[3, 2] * g3)
        out[1, c] = a2 * (s[2, 1] * g2 + a3 * (seen[1, c] + s[3, 1] * g3))
        out[0, c] = a1 * (s[1, 0] * g1 + a2 * (s[2, 0] * g2 + a3 * (seen[0, c] + s[3, 0] * g3)))


@kernel
@no_type_check
def forward_tile(v, gy, a, s, packed, block, h, sums, pairs, out):
    """One tile and one block of the first sweep; writes gy_t y″_t to out."""
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    back = carray(stack(_TILE), (STEPS, LANES))
    part = carray(stack(_HALF_TILE), (STEPS, HALF))
    state = carray(stack(LANES), (LANES,))
    whole = carray(stack(LANES), (LANES,))
    weigh(v, a, weighted, whole)
    _seen_by_outputs(gy, a, back, whole)
    _pair_products(v, gy, a, pairs)
    clear(seen)
    for n in range(h.shape[0]):
        b0, b1, b2, b3 = packed[block, n, 0], packed[block, n, 1], packed[block, n, 2], packed[block, n, 3]
        q0, q1, q2, q3 = packed[block, n, 4], packed[block, n, 5], packed[block, n, 6], packed[block, n, 7]
        for c in range(LANES):
            state[c] = h[n, c]
        for i in range(STEPS):
            for c in range(HALF):
                part[i, c] = sums[n, i, c]
        for c in range(LANES):
            seen[0, c] += q0 * state[c]
            seen[1, c] += q1 * state[c]
            seen[2, c] += q2 * state[c]
            seen[3, c] += q3 * state[c]
        for c in range(HALF):
            part[0, c] += back[0, c] * state[c] + back[0, c + HALF] * state[c + HALF]
            part[1, c] += back[1, c] * state[c] + back[1, c + HALF] * state[c + HALF]
            part[2, c] += back[2, c] * state[c] + back[2, c + HALF] * state[c + HALF]
            part[3, c] += back[3, c] * state[c] + back[3, c + HALF] * state[c + HALF]
        for c in range(LANES):
            h[n, c] = whole[c] * state[c] + (
                b0 * weighted[0, c] + b1 * weighted[1, c] + b2 * weighted[2, c] + b3 * weighted[3, c]
            )
        for i in range(STEPS):
            for c in range(HALF):
                sums[n, i, c] = part[i, c]
    earlier(v, a, seen, s, out)
    for i in range(STEPS):
        for c in range(LANES):
            out[i, c] *= gy[i, c]


@kernel
@no_type_check
def backward_tile(v, gy, a, s, packed, block, g, sums, out):
    """One tile and one block of the second sweep; writes gv″ to out."""
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    back = carray(stack(_TILE), (STEPS, LANES))
    part = carray(stack(_HALF_TILE), (STEPS, HALF))
    state = carray(stack(LANES), (LANES,))
    whole = carray(stack(LANES), (LANES,))
    weigh(v, a, weighted, whole)
    _seen_by_outputs(gy, a, back, whole)
    clear(seen)
    for n in range(g.shape[0]):
        b0, b1, b2, b3 = packed[block, n, 0], packed[block, n, 1], packed[block, n, 2], packed[block, n, 3]
        q0, q1, q2, q3 = packed[block, n, 4], packed[block, n, 5], packed[block, n, 6], packed[block, n, 7]
        for c in range(LANES):
            state[c] = g[n, c]
        for i in range(STEPS):
            for c in range(HALF):
                part[i, c] = sums[n, i, c]
        for c in range(LANES):
            seen[0, c] += b0 * state[c]
            seen[1, c] += b1 * state[c]
            seen[2, c] += b2 * state[c]
            seen[3, c] += b3 * state[c]
        for c in range(HALF):
            part[0, c] += weighted[0, c] * state[c] + weighted[0, c + HALF] * state[c + HALF]
            part[1, c] += weighted[1, c] * state[c] + weighted[1, c + HALF] * state[c + HALF]
            part[2, c] += weighted[2, c] * state[c] + weighted[2, c + HALF] * state[c + HALF]
            part[3, c] += weighted[3, c] * state[c] + weighted[3, c + HALF] * state[c + HALF]
        for c in range(LANES):
            g[n, c] = whole[c] * state[c] + (
                q0 * back[0, c] + q1 * back[1, c] + q2 * back[2, c] + q3 * back[3, c]
            )
        for i in range(STEPS):
            for c in range(HALF):
                sums[n, i, c] = part[i, c]
    _later(gy, a, seen, s, out)
