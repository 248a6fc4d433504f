"""Numba kernels of a matrix product with few rows, which generation runs: the weights are read once, a row at a time.

What counts is how fast they come from memory: torch's products of one to eight rows read them at a third to two
thirds of the speed of a sum. A loop for each number of rows, because only sums with names of their own stay in
registers.
"""

from typing import no_type_check

from emma_viz.kernels.numba.bf16 import value
from emma_viz.kernels.numba.math import ZERO, parallel_kernel, share_of


@parallel_kernel
@no_type_check
def _one_row(worker, workers, x, weight, y):
    """x: (1, X). weight: (Y, X), float32 or the bits of bf16. y: (1, Y), written."""
    x0 = x[0]
    for o in share_of(worker, workers, weight.shape[0]):
        row, y0 = weight[o], ZERO
        for i in range(row.shape[0]):
            y0 += value(row[i]) * x0[i]
        y[0, o] = y0


@parallel_kernel
@no_type_check
def _two_rows(worker, workers, x, weight, y):
    """As `_one_row`, with two."""
    x0, x1 = x[0], x[1]
    for o in share_of(worker, workers, weight.shape[0]):
        row = weight[o]
        y0 = y1 = ZERO
        for i in range(row.shape[0]):
            w = value(row[i])
            y0 += w * x0[i]
            y1 += w * x1[i]
        y[0, o], y[1, o] = y0, y1


@parallel_kernel
@no_type_check
def _four_rows(worker, workers, x, weight, y):
    """As `_one_row`, with four."""
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for o in share_of(worker, workers, weight.shape[0]):
        row = weight[o]
        y0 = y1 = y2 = y3 = ZERO
        for i in range(row.shape[0]):
            w = value(row[i])
            y0 += w * x0[i]
            y1 += w * x1[i]
            y2 += w * x2[i]
            y3 += w * x3[i]
        y[0, o], y[1, o], y[2, o], y[3, o] = y0, y1, y2, y3


@parallel_kernel
@no_type_check
def _eight_rows(worker, workers, x, weight, y):
    """As `_one_row`, with eight."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    for o in share_of(worker, workers, weight.shape[0]):
        row = weight[o]
        y0 = y1 = y2 = y3 = y4 = y5 = y6 = y7 = ZERO
        for i in range(row.shape[0]):
            w = value(row[i])
            y0 += w * x0[i]
            y1 += w * x1[i]
            y2 += w * x2[i]
            y3 += w * x3[i]
            y4 += w * x4[i]
            y5 += w * x5[i]
            y6 += w * x6[i]
            y7 += w * x7[i]
        y[0, o], y[1, o], y[2, o], y[3, o] = y0, y1, y2, y3
        y[4, o], y[5, o], y[6, o], y[7, o] = y4, y5, y6, y7


FEW_ROWS = {1: _one_row, 2: _two_rows, 4: _four_rows, 8: _eight_rows}
"""Rows → the kernel of so many; a product with fewer is filled up with zeros."""
