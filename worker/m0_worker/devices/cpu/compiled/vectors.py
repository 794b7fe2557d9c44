"""Vectors of 32 lanes in compiled kernels: two types, and the operations on them.

A loop over scalars leaves it to the compiler whether and how it is vectorized, and with it the order of the sums. Here
a block's 32 weights are one value from unpacking to the last sum, so the order is what the kernel says, on every
processor: LLVM cuts 32 lanes into whatever registers there are. Addresses are plain integers, and loads need no
alignment.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

if TYPE_CHECKING:
    from collections.abc import Callable

LANES = 32

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
_F16, _F32 = ir.HalfType(), ir.FloatType()
_ALL = list(range(LANES))


def _vector(element: ir.Type, lanes: int = LANES) -> ir.VectorType:
    return ir.VectorType(element, lanes)


class _Lanes(types.Type):
    """A numba type whose values are LLVM vectors."""


class _Bytes(_Lanes):
    pass


class _Floats(_Lanes):
    pass


BYTES = _Bytes("bytes of 32 lanes")
FLOATS = _Floats("floats of 32 lanes")


@register_model(_Bytes)
class _BytesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _vector(_I8))


@register_model(_Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _vector(_F32))


def operation(result: Any, *parameters: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that compiled code can call out of one that emits LLVM's instructions for it."""

    def wrap(emit: Callable[..., Any]) -> Any:
        def typing(_context: Any, *_arguments: Any) -> Any:
            def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
                made = emit(builder, *values)
                return ir.Constant(_I8.as_pointer(), None) if result is types.void else made

            return result(*parameters), generate

        typing.__name__, typing.__doc__ = emit.__name__, emit.__doc__
        typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]  # numba counts the arguments
        return intrinsic(typing)

    return wrap


def load(b: Any, address: Any, kind: ir.Type, align: int = 1) -> Any:
    """Emit a load of any type from an address."""
    value = b.load(b.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def on_x86(b: Any) -> bool:
    """Whether the code is for an x86 processor, whose own instructions may then be named."""
    return str(b.module.triple).startswith(("x86_64", "amd64"))


def _spread(b: Any, scalar: Any, lanes: int = LANES) -> Any:
    kind = _vector(scalar.type, lanes)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_vector(_I32, lanes), [0] * lanes))


def _constant(element: ir.Type, value: float, lanes: int = LANES) -> ir.Constant:
    return ir.Constant(_vector(element, lanes), [value] * lanes)


def _call(b: Any, name: str, kind: ir.Type, *values: Any) -> Any:
    """One of LLVM's elementwise functions."""
    suffix = "v32f32" if kind == _vector(_F32) else "f32"
    function = ir.FunctionType(kind, [kind] * len(values))
    return b.call(cgutils.get_or_insert_function(b.module, function, f"llvm.{name}.{suffix}"), values)


# Scalars of a block.


@operation(FLOATS, types.intp)
def spread_half(b: Any, address: Any) -> Any:
    """An FP16 number in every lane, exactly."""
    return b.fpext(b.bitcast(_spread(b, load(b, address, _I16)), _vector(_F16)), _vector(_F32))


@operation(types.float32, types.intp)
def half(b: Any, address: Any) -> Any:
    """An FP16 number, exactly.

    Converted as the first of four: LLVM loads a lone one into a register that it takes for free, which has the
    conversion wait for the last sum in it.
    """
    bits = b.zext(load(b, address, _I16), _I32)
    four = b.insert_element(_constant(_I32, 0, 4), bits, ir.Constant(_I32, 0))
    halves = b.bitcast(four, _vector(_F16, 8))
    lowest = ir.Constant(_vector(_I32, 4), [0, 1, 2, 3])
    first = b.shuffle_vector(halves, ir.Constant(halves.type, ir.Undefined), lowest)
    return b.extract_element(b.fpext(first, _vector(_F32, 4)), ir.Constant(_I32, 0))


@operation(types.int64, types.intp)
def u8(b: Any, address: Any) -> Any:
    """An unsigned byte."""
    return b.zext(load(b, address, _I8), _I64)


@operation(types.int64, types.intp)
def i8(b: Any, address: Any) -> Any:
    """A signed byte."""
    return b.sext(load(b, address, _I8), _I64)


@operation(types.float32, types.int64)
def as_float(b: Any, bits: Any) -> Any:
    """The float32 number with these 32 bits."""
    return b.bitcast(b.trunc(bits, _I32), _F32)


@operation(types.float32, types.intp)
def get(b: Any, address: Any) -> Any:
    """A float32 number."""
    return load(b, address, _F32, 4)


@operation(types.int64, types.intp, types.int64)
def load_word(b: Any, address: Any, index: Any) -> Any:
    """A 64-bit word of a record."""
    return b.load(b.gep(b.inttoptr(address, _I64.as_pointer()), [index]))


@operation(types.void, types.intp, types.float32)
def put(b: Any, address: Any, value: Any) -> None:
    """Store a float32 number."""
    b.store(value, b.inttoptr(address, _F32.as_pointer()))


# 32 bytes.


@operation(BYTES, types.intp)
def load_bytes(b: Any, address: Any) -> Any:
    """32 bytes."""
    return load(b, address, _vector(_I8))


@operation(BYTES, types.intp)
def nibbles(b: Any, address: Any) -> Any:
    """16 bytes as 32 numbers: their low nibbles, then their high ones."""
    pairs = load(b, address, _vector(_I8, 16))
    low, high = b.and_(pairs, _constant(_I8, 15, 16)), b.lshr(pairs, _constant(_I8, 4, 16))
    return b.shuffle_vector(low, high, ir.Constant(_vector(_I32), _ALL))


@operation(BYTES, BYTES, types.int64, types.int64)
def field(b: Any, q: Any, shift: Any, mask: Any) -> Any:
    """Each byte shifted right, and of that the bits of the mask."""
    shifted = b.lshr(q, _spread(b, b.trunc(shift, _I8)))
    return b.and_(shifted, _spread(b, b.trunc(mask, _I8)))


@operation(BYTES, BYTES, BYTES, types.int64)
def with_high(b: Any, low: Any, high: Any, shift: Any) -> Any:
    """Low | high << shift."""
    return b.or_(low, b.shl(high, _spread(b, b.trunc(shift, _I8))))


@operation(BYTES, BYTES, types.int64)
def minus(b: Any, q: Any, k: Any) -> Any:
    """Q - k."""
    return b.sub(q, _spread(b, b.trunc(k, _I8)))


@operation(BYTES, types.intp, BYTES, BYTES)
def where_bit(b: Any, address: Any, yes: Any, no: Any) -> Any:
    """Lane i of `yes` where bit i of the 32 bits at the address is set, of `no` elsewhere."""
    return b.select(b.bitcast(load(b, address, _I32), _vector(_I1)), yes, no)


@operation(FLOATS, BYTES)
def signed(b: Any, q: Any) -> Any:
    """Signed bytes as floats."""
    return b.sitofp(b.sext(q, _vector(_I32)), _vector(_F32))


@operation(FLOATS, BYTES)
def unsigned(b: Any, q: Any) -> Any:
    """Unsigned bytes as floats."""
    return b.sitofp(b.zext(q, _vector(_I32)), _vector(_F32))


def table(*values: int) -> Any:
    """An operation that replaces every byte from 0 to 15 by the signed byte in its place of the table."""

    @operation(BYTES, BYTES)
    def look_up(b: Any, q: Any) -> Any:
        """The table's values for 32 codes."""
        if on_x86(b):  # one instruction, both halves with the same table
            kind = _vector(_I8)
            function = ir.FunctionType(kind, [kind, kind])
            shuffle = cgutils.get_or_insert_function(b.module, function, "llvm.x86.avx2.pshuf.b")
            return b.call(shuffle, [ir.Constant(kind, [*values, *values]), q])
        left = [_constant(_I8, value) for value in values]
        for bit in range(4):  # one bit of the code halves the choice
            chosen = b.icmp_unsigned("!=", b.and_(q, _constant(_I8, 1 << bit)), _constant(_I8, 0))
            left = [b.select(chosen, odd, even) for even, odd in zip(left[::2], left[1::2], strict=True)]
        return left[0]

    return look_up


# 32 floats.


@operation(FLOATS)
def zeros(_b: Any) -> Any:
    """All 0."""
    return _constant(_F32, 0.0)


@operation(FLOATS, types.intp)
def load_floats(b: Any, address: Any) -> Any:
    """32 float32 numbers."""
    return load(b, address, _vector(_F32), 4)


@operation(FLOATS, types.intp)
def load_halves(b: Any, address: Any) -> Any:
    """32 FP16 numbers, exactly."""
    return b.fpext(load(b, address, _vector(_F16)), _vector(_F32))


@operation(FLOATS, types.intp)
def load_bfloats(b: Any, address: Any) -> Any:
    """32 BF16 numbers, exactly."""
    upper = b.shl(b.zext(load(b, address, _vector(_I16)), _vector(_I32)), _constant(_I32, 16))
    return b.bitcast(upper, _vector(_F32))


@operation(types.void, types.intp, FLOATS)
def store_floats(b: Any, address: Any, x: Any) -> None:
    """Store 32 float32 numbers."""
    b.store(x, b.inttoptr(address, _vector(_F32).as_pointer()), align=4)


@operation(FLOATS, types.float32)
def spread(b: Any, s: Any) -> Any:
    """The same number in every lane."""
    return _spread(b, s)


@operation(FLOATS, types.float32, types.float32)
def spread_two(b: Any, first: Any, second: Any) -> Any:
    """One number in the first 16 lanes, another in the last 16."""
    return b.shuffle_vector(_spread(b, first, 16), _spread(b, second, 16), ir.Constant(_vector(_I32), _ALL))


@operation(FLOATS, FLOATS, FLOATS)
def times(b: Any, x: Any, y: Any) -> Any:
    """X y."""
    return b.fmul(x, y)


@operation(FLOATS, FLOATS, FLOATS)
def plus(b: Any, x: Any, y: Any) -> Any:
    """X + y."""
    return b.fadd(x, y)


@operation(FLOATS, FLOATS, FLOATS, FLOATS)
def fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """X y + z, rounded once."""
    return _call(b, "fma", _vector(_F32), x, y, z)


@operation(FLOATS, FLOATS, FLOATS)
def larger(b: Any, x: Any, y: Any) -> Any:
    """The larger of x and y; where one is no number, y."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


@operation(FLOATS, FLOATS)
def exp(b: Any, x: Any) -> Any:
    """e^x for x at most 0, to one unit in the last place; 0 below -87; no number of no number.

    e^x = 2^n e^r with n = round(x / ln 2), ln 2 in two parts so that r is exact, and e^r by a polynomial of degree 6.
    """
    kind = _vector(_F32)

    def f(value: float) -> ir.Constant:
        return _constant(_F32, value)

    low = b.fcmp_ordered("<", x, f(-87.0))
    n = _call(b, "rint", kind, b.fmul(x, f(1.4426950408889634)))
    r = _call(b, "fma", kind, n, f(-0.693145751953125), x)
    r = _call(b, "fma", kind, n, f(-1.428606765330187e-06), r)
    y = f(1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        y = _call(b, "fma", kind, y, r, f(coefficient))
    exponent = b.shl(b.fptosi(n, _vector(_I32)), _constant(_I32, 23))
    y = b.bitcast(b.add(b.bitcast(y, _vector(_I32)), exponent), kind)
    return b.select(b.fcmp_unordered("uno", x, x), x, b.select(low, f(0.0), y))


def _halved(b: Any, x: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Join upper and lower half of the lanes until one is left: a tree, whose shape is the order of the sum."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        parts = [
            b.shuffle_vector(
                x,
                ir.Constant(x.type, ir.Undefined),
                ir.Constant(_vector(_I32, lanes), list(range(at, at + lanes))),
            )
            for at in (0, lanes)
        ]
        x = join(*parts)
    return b.extract_element(x, ir.Constant(_I32, 0))


@operation(types.float32, FLOATS)
def first(b: Any, x: Any) -> Any:
    """The first lane."""
    return b.extract_element(x, ir.Constant(_I32, 0))


@operation(types.float32, FLOATS)
def total(b: Any, x: Any) -> Any:
    """The sum of the lanes."""
    return _halved(b, x, b.fadd)


@operation(types.float32, FLOATS)
def largest(b: Any, x: Any) -> Any:
    """The largest lane."""
    return _halved(b, x, lambda low, high: b.select(b.fcmp_ordered(">", low, high), low, high))
