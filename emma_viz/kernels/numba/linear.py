"""Numba kernels of a matrix product with few rows, which generation runs: the weights are read once.

What counts is how fast they come from memory: torch's products of few rows read them at a fifth to two thirds of the
speed of a sum. Several rows of the weights are read at once, which lie far apart: read one after the other, or as
neighbours, they come more slowly. One or two rows of x have a sum for each weight row that is read, because only sums
with names of their own stay in registers. More stand side by side, and a weight is multiplied with all of them at once.
"""

from collections.abc import Callable
from typing import no_type_check

from emma_viz.kernels.numba.bf16 import value
from emma_viz.kernels.numba.lanes import LANES, carray, stack
from emma_viz.kernels.numba.math import ZERO, kernel, parallel_kernel, share_of

_READ_AT_ONCE = 8
"""Rows of the weights that a tile goes along; one or two rows of x go along four."""

_SUMMED = 256
"""Inputs of one running sum of rows side by side. Such sums are added up: the error of one over all inputs would grow
with their number. A sum of one or two rows is a vector of sums."""


@kernel
@no_type_check
def _four(o, apart, last):
    """Rows of the weights that are read at once; where a share is no multiple, its last row more than once."""
    return o, min(o + apart, last), min(o + 2 * apart, last), min(o + 3 * apart, last)


@parallel_kernel
@no_type_check
def _one_row(worker, workers, x, weight, y):
    """x: (1, X). weight: (Y, X), float32 or the bits of bf16. y: (1, Y), written."""
    mine, side = share_of(worker, workers, weight.shape[0]), x[0]
    apart, last = (len(mine) + 3) // 4, mine.stop - 1
    for o in range(mine.start, mine.start + apart):
        r0, r1, r2, r3 = _four(o, apart, last)
        w0, w1, w2, w3 = weight[r0], weight[r1], weight[r2], weight[r3]
        y0 = y1 = y2 = y3 = ZERO
        for i in range(w0.shape[0]):
            y0 += value(w0[i]) * side[i]
            y1 += value(w1[i]) * side[i]
            y2 += value(w2[i]) * side[i]
            y3 += value(w3[i]) * side[i]
        y[0, r0], y[0, r1], y[0, r2], y[0, r3] = y0, y1, y2, y3


@parallel_kernel
@no_type_check
def _two_rows(worker, workers, x, weight, y):
    """As `_one_row`, with two."""
    mine, side, other = share_of(worker, workers, weight.shape[0]), x[0], x[1]
    apart, last = (len(mine) + 3) // 4, mine.stop - 1
    for o in range(mine.start, mine.start + apart):
        r0, r1, r2, r3 = _four(o, apart, last)
        w0, w1, w2, w3 = weight[r0], weight[r1], weight[r2], weight[r3]
        y0 = y1 = y2 = y3 = z0 = z1 = z2 = z3 = ZERO
        for i in range(w0.shape[0]):
            v0, v1, v2, v3 = value(w0[i]), value(w1[i]), value(w2[i]), value(w3[i])
            y0 += v0 * side[i]
            y1 += v1 * side[i]
            y2 += v2 * side[i]
            y3 += v3 * side[i]
            z0 += v0 * other[i]
            z1 += v1 * other[i]
            z2 += v2 * other[i]
            z3 += v3 * other[i]
        y[0, r0], y[0, r1], y[0, r2], y[0, r3] = y0, y1, y2, y3
        y[1, r0], y[1, r1], y[1, r2], y[1, r3] = z0, z1, z2, z3


def _side_by_side(many: int) -> Callable[..., None]:
    """The kernel of so many rows: a vector of them, or two."""
    size = _READ_AT_ONCE * many

    @parallel_kernel
    @no_type_check
    def rows(worker, workers, x, weight, y):
        """x: (X, many). weight: (Y, X). y: (Y, many), written."""
        mine, length = share_of(worker, workers, weight.shape[0]), weight.shape[1]
        apart, last = (len(mine) + _READ_AT_ONCE - 1) // _READ_AT_ONCE, mine.stop - 1
        tile, sums = carray(stack(size), (_READ_AT_ONCE, many)), carray(stack(size), (_READ_AT_ONCE, many))
        sides = carray(stack(many), (many,))
        for o in range(mine.start, mine.start + apart):
            # Where the share is no multiple, a tile has its last row more than once.
            w0, w1 = weight[o], weight[min(o + apart, last)]
            w2, w3 = weight[min(o + 2 * apart, last)], weight[min(o + 3 * apart, last)]
            w4, w5 = weight[min(o + 4 * apart, last)], weight[min(o + 5 * apart, last)]
            w6, w7 = weight[min(o + 6 * apart, last)], weight[min(o + 7 * apart, last)]
            for r in range(_READ_AT_ONCE):
                for j in range(many):
                    sums[r, j] = ZERO
            for first in range(0, length, _SUMMED):
                for r in range(_READ_AT_ONCE):
                    for j in range(many):
                        tile[r, j] = ZERO
                for i in range(first, min(first + _SUMMED, length)):
                    v0, v1, v2, v3 = value(w0[i]), value(w1[i]), value(w2[i]), value(w3[i])
                    v4, v5, v6, v7 = value(w4[i]), value(w5[i]), value(w6[i]), value(w7[i])
                    for j in range(many):
                        sides[j] = x[i, j]
                    for j in range(many):
                        side = sides[j]
                        tile[0, j] += v0 * side
                        tile[1, j] += v1 * side
                        tile[2, j] += v2 * side
                        tile[3, j] += v3 * side
                        tile[4, j] += v4 * side
                        tile[5, j] += v5 * side
                        tile[6, j] += v6 * side
                        tile[7, j] += v7 * side
                for r in range(_READ_AT_ONCE):
                    for j in range(many):
                        sums[r, j] += tile[r, j]
            for r in range(_READ_AT_ONCE):
                row = min(o + r * apart, last)
                for j in range(many):
                    y[row, j] = sums[r, j]

    return rows


NAMED_SUMS = {1: _one_row, 2: _two_rows}
"""Rows → the kernel of so many, each a row of x and y."""
SIDE_BY_SIDE = {many: _side_by_side(many) for many in (8, 16) if many <= LANES // 2}
"""The same of more rows, each a column; a product with fewer is filled up with zeros."""
