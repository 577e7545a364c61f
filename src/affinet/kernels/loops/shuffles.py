"""Combines square blocks of a matrix with transposed blocks of another matrix, in registers.

A loop over entries transposes a block one number at a time. Vector instructions transpose all numbers of a cache line
at once and touch each line once; LLVM generates them only where the shuffles are written explicitly.
"""

# mypy: disable-error-code="untyped-decorator,misc"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 64
"""Bytes of a row of a block: a cache line, and the widest vector register of processors."""


@intrinsic
def fold_mean(typing: Any, x: Any, y: Any, at: Any, to: Any, widths: Any, factor: Any, weight: Any, faint: Any) -> Any:
    """`x[i, k]` and `factor · y[k, i]` become their mean, |factor| 1, for a block of flat x at `at` and of y at `to`.

    `widths` are the lengths of rows of both; means below `faint · (|x| + |y|)` become zero. x may be y.
    """
    return _typed(x, y, widths), _generator(x, lambda b, u, v, factor, _: _mean(b, u, v, factor))


@intrinsic
def fold_pair(typing: Any, x: Any, y: Any, at: Any, to: Any, widths: Any, factor: Any, weight: Any, faint: Any) -> Any:
    """`x += weight · (yᵀ − factor · x)` and `y = factor · xᵀ`, for a block as above; x is not y."""
    return _typed(x, y, widths), _generator(x, _nearer)


def _typed(x: Any, y: Any, widths: Any) -> Any:
    return types.void(x, y, types.intp, types.intp, widths, x.dtype, x.dtype, x.dtype)


def _mean(builder: Any, x: Any, y: Any, factor: Any) -> Any:
    half = ir.Constant(x.type, [0.5] * x.type.count)
    return builder.fmul(builder.fadd(x, builder.fmul(factor, y)), half)


def _nearer(builder: Any, x: Any, y: Any, factor: Any, weight: Any) -> Any:
    return builder.fadd(x, builder.fmul(builder.fsub(y, builder.fmul(factor, x)), weight))


def _generator(x: Any, combine: Any) -> Any:
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
        x_rows, y_rows = ([builder.load(row, align=align) for row in side] for side in rows)
        factor, weight, faint = (_everywhere(builder, value, lanes) for value in values[5:])
        results = [
            _loud(builder, combine(builder, x_row, y_row, factor, weight), x_row, y_row, faint)
            for x_row, y_row in zip(x_rows, _turned(builder, y_rows), strict=True)
        ]
        back = [builder.fmul(factor, row) for row in _turned(builder, results)]
        for side, numbers in ((rows[1], back), (rows[0], results)):
            for row, vector in zip(side, numbers, strict=True):
                builder.store(vector, row, align=align)
        return context.get_dummy_value()

    return generate


def _loud(builder: Any, result: Any, x: Any, y: Any, faint: Any) -> Any:
    """`result`, with zero where it is noise; infinities and NaN are never noise."""
    width = "f32" if result.type.element == ir.FloatType() else "f64"
    kind = ir.FunctionType(result.type, [result.type])
    size = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{result.type.count}{width}")
    noise = builder.fmul(faint, builder.fadd(builder.call(size, [x]), builder.call(size, [y])))
    quiet = builder.fcmp_ordered("<", builder.call(size, [result]), noise)
    return builder.select(quiet, ir.Constant(result.type, [0.0] * result.type.count), result)


def _everywhere(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), _mask([0] * lanes))


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The transpose of a square of vectors: in step s, places whose indices differ in bit s are swapped."""
    rows, lanes, step = list(rows), len(rows), 1
    while step < lanes:
        low = [k if not k & step else lanes + k - step for k in range(lanes)]
        high = [k + step if not k & step else lanes + k for k in range(lanes)]
        for i in range(lanes):
            if not i & step:
                low_row, high_row = rows[i], rows[i + step]
                rows[i] = builder.shuffle_vector(low_row, high_row, _mask(low))
                rows[i + step] = builder.shuffle_vector(low_row, high_row, _mask(high))
        step *= 2
    return rows


def _mask(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
