"""Small arrays on the stack, which LLVM keeps in vector registers.

LLVM cannot prove that heap arrays do not overlap: it guards each inner loop with checks and writes accumulators
back to memory in every round. Stack arrays of constant size need neither. A loop over the LANES of a tile becomes
one or two vector instructions, and the accumulators of a loop around it stay in registers; the tile kernels of the
SSD reach the speed of a matrix product this way.

    rows = carray(stack(4 * LANES), (4, LANES))      # inside a kernel only; never return it
"""

import llvmlite.binding
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "carray", "stack", "widest_vectors"]

LANES = 32 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 16
"""Channels of a tile: two of the widest vectors."""


def _allow_widest(builder):
    # Past llvmlite's list of attributes, which lacks those of a target.
    set.add(builder.function.attributes, '"prefer-vector-width"="512"')


@intrinsic
def widest_vectors(typing_context):
    """Let LLVM use the widest vectors in the calling kernel: on Intel's CPUs it would use half of what there is."""

    def codegen(context, builder, signature, arguments):
        _allow_widest(builder)
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic(prefer_literal=True)
def stack(typing_context, count):
    """Pointer to `count` (a literal) uninitialised float32 on the stack of the calling kernel."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    size = count.literal_value

    def codegen(context, builder, signature, arguments):
        pointer = cgutils.alloca_once(builder, ir.FloatType(), size=context.get_constant(types.intp, size))
        pointer.align = 64
        _allow_widest(builder)
        return pointer

    return types.CPointer(types.float32)(count), codegen
