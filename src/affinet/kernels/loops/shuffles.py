"""Square blocks of a matrix brought together with the transposed blocks of another, in registers.

A loop over entries turns a block one number at a time. Vector instructions turn as many as a cache line holds at once,
and touch each line once; LLVM finds them only where the shuffles are spelt out.
"""

# mypy: disable-error-code="untyped-decorator,misc"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 64
"""Bytes of a row of a block: a line of the cache, and the widest vector that processors have."""


@intrinsic
def fold_mean(typing: Any, x: Any, y: Any, at: Any, to: Any, widths: Any, factor: Any, weight: Any, faint: Any) -> Any:
    """`x[i, k]` and `factor · y[k, i]` become their mean, |factor| 1, for a block of flat x at `at` and of y at `to`.

    `widths` are the lengths of rows of both; means below `faint · (|x| + |y|)` become zero. x may be y.
    """
    return _typed(x, y, widths), _generator(x, lambda b, one, other, factor, _: _mean(b, one, other, factor))


@intrinsic
def fold_pair(typing: Any, x: Any, y: Any, at: Any, to: Any, widths: Any, factor: Any, weight: Any, faint: Any) -> Any:
    """`x += weight · (yᵀ − factor · x)` and `y = factor · xᵀ`, for a block as above; x is not y."""
    return _typed(x, y, widths), _generator(x, _nearer)


def _typed(x: Any, y: Any, widths: Any) -> Any:
    return types.void(x, y, types.intp, types.intp, widths, x.dtype, x.dtype, x.dtype)


def _mean(builder: Any, one: Any, other: Any, factor: Any) -> Any:
    half = ir.Constant(one.type, [0.5] * one.type.count)
    return builder.fmul(builder.fadd(one, builder.fmul(factor, other)), half)


def _nearer(builder: Any, one: Any, other: Any, factor: Any, weight: Any) -> Any:
    return builder.fadd(one, builder.fmul(builder.fsub(other, builder.fmul(factor, one)), weight))


def _generator(x: Any, together: Any) -> Any:
    lanes = LINE * 8 // x.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = context.get_data_type(x.dtype)
        rows = []
        for array, kind, place, width in (
            (values[0], signature.args[0], values[2], builder.extract_value(values[4], 0)),
            (values[1], signature.args[1], values[3], builder.extract_value(values[4], 1)),
        ):
            data = context.make_array(kind)(context, builder, array).data
            starts = [builder.add(place, builder.mul(width, ir.Constant(width.type, k))) for k in range(lanes)]
            vector = ir.VectorType(number, lanes).as_pointer()
            rows.append([builder.bitcast(builder.gep(data, [start]), vector) for start in starts])
        align = x.dtype.bitwidth // 8
        ones, others = ([builder.load(row, align=align) for row in side] for side in rows)
        factor, weight, faint = (_everywhere(builder, value, lanes) for value in values[5:])
        found = [
            _loud(builder, together(builder, one, other, factor, weight), one, other, faint)
            for one, other in zip(ones, _turned(builder, others), strict=True)
        ]
        back = [builder.fmul(factor, row) for row in _turned(builder, found)]
        for side, numbers in ((rows[1], back), (rows[0], found)):
            for row, vector in zip(side, numbers, strict=True):
                builder.store(vector, row, align=align)
        return context.get_dummy_value()

    return generate


def _loud(builder: Any, found: Any, one: Any, other: Any, faint: Any) -> Any:
    """`found`, zero where it is noise; what is not finite is none."""
    width = "f32" if found.type.element == ir.FloatType() else "f64"
    kind = ir.FunctionType(found.type, [found.type])
    size = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{found.type.count}{width}")
    noise = builder.fmul(faint, builder.fadd(builder.call(size, [one]), builder.call(size, [other])))
    quiet = builder.fcmp_ordered("<", builder.call(size, [found]), noise)
    return builder.select(quiet, ir.Constant(found.type, [0.0] * found.type.count), found)


def _everywhere(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), _mask([0] * lanes))


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The transpose of a square of vectors: in step s, places whose numbers differ in bit s change sides."""
    rows, lanes, step = list(rows), len(rows), 1
    while step < lanes:
        low = [k if not k & step else lanes + k - step for k in range(lanes)]
        high = [k + step if not k & step else lanes + k for k in range(lanes)]
        for i in range(lanes):
            if not i & step:
                one, other = rows[i], rows[i + step]
                rows[i] = builder.shuffle_vector(one, other, _mask(low))
                rows[i + step] = builder.shuffle_vector(one, other, _mask(high))
        step *= 2
    return rows


def _mask(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
