"""How a kernel reads and writes bf16, whose arithmetic is float32.

NumPy has no bf16: such an array comes as uint16, the upper halves of float32 numbers. Which of the two an array holds
is known when a kernel is compiled for it, so that one text serves both, and the float32 kernel holds no trace of this.

    out[c] = held(out, 2 * value(row[c]))
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BITS, _HALF, _FLOAT = ir.IntType(32), ir.IntType(16), ir.FloatType()
_NAN = 0x7FC0


@intrinsic
def value(typing_context, number):
    """A number of an array, float32 or the bits of a bf16, as float32."""
    if number == types.float32:
        return types.float32(number), lambda context, builder, signature, arguments: arguments[0]
    if number != types.uint16:
        return None

    def codegen(context, builder, signature, arguments):
        bits = builder.zext(arguments[0], _BITS)
        return builder.bitcast(builder.shl(bits, _BITS(16)), _FLOAT)

    return types.float32(number), codegen


@intrinsic
def held(typing_context, array, number):
    """A float32 as `array` holds it: itself, or the bits of the nearest bf16, of two equally near the even one."""
    if number != types.float32:
        return None
    if array.dtype == types.float32:
        return types.float32(array, number), lambda context, builder, signature, arguments: arguments[1]
    if array.dtype != types.uint16:
        return None

    def codegen(context, builder, signature, arguments):
        number = arguments[1]
        bits = builder.bitcast(number, _BITS)
        odd = builder.and_(builder.lshr(bits, _BITS(16)), _BITS(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, _BITS(0x7FFF))), _BITS(16))
        broken = builder.fcmp_unordered("uno", number, number)
        return builder.select(broken, _HALF(_NAN), builder.trunc(rounded, _HALF))

    return types.uint16(array, number), codegen
