"""Numbers side by side in one register, for kernels that numba compiles (extra ``fast``).

Left to itself the compiler chooses in how many lanes it adds up a loop, and another number for
another loop. Here the lanes are written down, so that the same sum has the same bits wherever a
kernel takes it.

numba looks for changes in the file of a kernel alone: with this one `numba_loops` must change too,
or kernels that are kept on a user's disk are taken for the new ones.
"""

from __future__ import annotations

from platform import machine
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_FEATURES = binding.get_host_cpu_features()

WIDTH = 32 if _FEATURES.get("avx") else 16
"""Bytes of a register."""

_FUSES = _FEATURES.get("fma", False) or machine() in ("aarch64", "arm64")
"""Whether the machine rounds a product and its sum once; one that does not takes long to do so."""


class Lanes(types.Type):  # type: ignore[misc]
    """The type of a register's numbers."""

    def __init__(self, number: Any) -> None:
        self.number, self.count = number, WIDTH * 8 // number.bitwidth
        super().__init__(name=f"Lanes({number}, {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        number = manager.lookup(lanes.number).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(number, lanes.count))


@intrinsic
def lanes_of(_: Any, zero: Any) -> Any:
    """Return how many numbers of the type of ``zero`` go into a register."""
    count = Lanes(zero).count

    def generate(context: Any, _: Any, __: Any, ___: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(zero), generate


@intrinsic
def no_sums(_: Any, zero: Any) -> Any:
    """Return a register of zeros."""
    lanes = Lanes(zero)

    def generate(context: Any, _: Any, __: Any, ___: Any) -> Any:
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(zero), generate


@intrinsic
def loaded(_: Any, address: Any, start: Any, read: Any, zero: Any) -> Any:
    """Return a buffer's numbers from element ``start`` on, of ``read``'s type, as ``zero``'s."""
    lanes = Lanes(zero)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> Any:
        number = context.get_value_type(read)
        begin = builder.inttoptr(arguments[0], ir.PointerType(number))
        place = builder.gep(begin, [arguments[1]])
        found = ir.VectorType(number, lanes.count)
        place = builder.bitcast(place, ir.PointerType(found))
        values = builder.load(place, align=read.bitwidth // 8)
        if read == zero:
            return values
        return builder.fpext(values, context.get_value_type(lanes))

    return lanes(types.uintp, types.intp, read, zero), generate


@intrinsic
def with_square(_: Any, sums: Any, u: Any, v: Any) -> Any:
    """Return ``sums + (u - v)^2``."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        before, one, other = arguments
        difference = builder.fsub(one, other)
        if _FUSES:
            kind = before.type
            name = f"llvm.fma.v{sums.count}f{sums.number.bitwidth}"
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind] * 3), name
            )
            return builder.call(fma, [difference, difference, before])
        return builder.fadd(before, builder.fmul(difference, difference))

    return sums(sums, u, v), generate


@intrinsic
def total_of(_: Any, sums: Any) -> Any:
    """Return the sum of a register's numbers, its halves added until one is left."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        (values,), count = arguments, sums.count
        while count > 1:
            count //= 2
            halves = [
                builder.shuffle_vector(values, values, _places(first, count))
                for first in (0, count)
            ]
            values = builder.fadd(*halves)
        return builder.extract_element(values, ir.Constant(ir.IntType(32), 0))

    return sums.number(sums), generate


def _places(first: int, count: int) -> ir.Constant:
    kind = ir.VectorType(ir.IntType(32), count)
    return ir.Constant(kind, [ir.Constant(ir.IntType(32), first + k) for k in range(count)])
