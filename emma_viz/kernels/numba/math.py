"""Elementary functions for the numba kernels, written so that LLVM turns a loop over them into vector code.

A call of `math.exp` in a loop keeps it scalar. These polynomials are minimax fits with a relative error of at
most 1e-7, about one unit in the last place of fp32.
"""

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from numba import njit

from emma_viz.kernels.numba.cache import cache_of
from emma_viz.kernels.numba.lanes import widest_vectors

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
"""Floating-point freedoms of all kernels; without `nnan` and `ninf`, so that NaN and infinity get through."""

kernel = njit(
    fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always"
)
"""Makes a function part of the kernels that call it. One that were compiled by itself would be optimised again with
each of its callers: that took most of the time of compiling. The numpy error model lets divisions be vectorised."""

inlined = njit(
    fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True
)
"""Compiles a function that must become part of its caller, because it has or is given stack arrays.

None may stay a function: the process that compiles would call the one that was optimised by itself, and one that reads
the caller's machine code from the cache the one in there, which was optimised twice and rounds otherwise."""

_entered = njit(fastmath=FAST, error_model="numpy", nogil=True)


def parallel_kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel that `threads.run_kernel` calls once a thread; see `cache_of` for its cache.

    Its first arguments are the number of the worker and how many there are; it does what `share_of` says of its
    tasks. Numba's own parallel loops take as long again to compile, and threads of a library of their own.
    """
    compiled = _entered(function)
    compiled._cache = cache_of(function)  # ty: ignore[missing-attribute]
    return compiled


@kernel
@no_type_check
def share_of(worker, workers, tasks):
    """The tasks of one of several workers; every kernel calls it, and may use the widest vectors."""
    widest_vectors()
    return range(tasks * worker // workers, tasks * (worker + 1) // workers)


LOG2E = np.float32(1.4426950408889634)
ZERO, _HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

_LOWEST, _HIGHEST = np.float32(-126.0), np.float32(127.0)
_BIAS = 127
_ROUND = np.float32(_BIAS + 0.5)
_E1, _E2, _E3, _E4, _E5 = (
    np.float32(c)
    for c in (
        0.6931469775988572,
        0.24022242085172926,
        0.05550733743690667,
        0.009671512648924286,
        0.0013264727065392945,
    )
)
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9 = (
    np.float32(c)
    for c in (
        0.9999999698794724,
        -0.4999949313933915,
        0.33319096783843116,
        -0.24842982025273727,
        0.1910600602395889,
        -0.13663244228419832,
        0.0782259334166357,
        -0.029505227441675885,
        0.005232691435631362,
    )
)


@kernel
@no_type_check
def exp2(x):
    """2**x for |x| ≤ 126; below it saturates at 2**-126, above at 2**127."""
    x = min(max(x, _LOWEST), _HIGHEST)
    # The sum is positive, so that truncation rounds to the nearest exponent.
    exponent = np.int32(x + _ROUND)
    # Numba subtracts in 64 bits; AVX2 has no vector conversion from those to fp32, and the loop would stay scalar.
    f = x - np.float32(np.int32(exponent - _BIAS))
    p = ONE + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * _E5))))
    return p * np.int32(exponent << 23).view(np.float32)


@kernel
@no_type_check
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp2(-x * LOG2E))


@kernel
@no_type_check
def softplus(x):
    """log(1 + exp(x)), to relative precision at both ends."""
    z = exp2(-abs(x) * LOG2E)
    p = _L5 + z * (_L6 + z * (_L7 + z * (_L8 + z * _L9)))
    p = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * p))))
    return max(x, ZERO) + p
