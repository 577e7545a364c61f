"""Interprets programs of nonlinear equations for many cells at a time: their values, sizes and derivatives.

Each number of a program is a row of *lanes*, one for each of the cells that are computed together, so that what a step
of the program costs to interpret is shared by them. Arrays are (numbers, lanes), float64.

A program is a tuple of arrays. `steps` has a row for each step: kind, exponent, size of its matrices, first number that
it makes, count of those, the maps of its operands, and where their values are stored. `maps` has a row for each affine
map: rows, length of a row, where its columns and its coefficients begin, whether these differ from cell to cell, where
its constants begin, and whether they differ. The last map is that of the outputs.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import cos, exp, log, sin, sqrt, tanh

import numpy as np

from affinet.kernels.loops.jit import inside, summing_inside

Arrays = tuple[np.ndarray, ...]
MULTIPLY, POWER, SQRT, RECIPROCAL, AFFINE, SIN, COS, TANH, EXP, LOG, DET, INVERSE = range(12)
KINDS = {
    "multiply": MULTIPLY,
    "power": POWER,
    "sqrt": SQRT,
    "reciprocal": RECIPROCAL,
    "affine": AFFINE,
    "sin": SIN,
    "cos": COS,
    "tanh": TANH,
    "exp": EXP,
    "log": LOG,
    "det": DET,
    "inverse": INVERSE,
}
"""The number of each kind of step."""
LARGEST_MATRIX = 3
"""The largest matrices whose determinants and inverses are written out."""
STEP_FIELDS, MAP_FIELDS = 9, 7


@inside
def evaluate(program: Arrays, z: np.ndarray, saved: np.ndarray, cells: np.ndarray) -> None:  # pragma: no cover
    """Compute the numbers of all steps from the entries, which are the first rows of z."""
    steps = program[0]
    for number in range(len(steps)):
        kind, exponent, size, first, count, map_a, map_b, save_a, save_b = steps[number]
        combine(program, map_a, z, saved, save_a, cells)
        if kind == MULTIPLY:
            combine(program, map_b, z, saved, save_b, cells)
            for r in range(count):
                product(saved[save_a + r], saved[save_b + r], z[first + r])
        elif kind in (DET, INVERSE):
            entries = size * size
            for r in range(count if kind == DET else count // entries):
                matrix = saved[save_a + r * entries : save_a + (r + 1) * entries]
                if kind == DET:
                    determinant(matrix, size, z[first + r])
                else:
                    invert(matrix, size, z[first + r * entries : first + (r + 1) * entries])
        else:
            for r in range(count):
                apply(kind, exponent, saved[save_a + r], z[first + r])


@inside
def values_and_sizes(
    program: Arrays, z: np.ndarray, values: np.ndarray, sizes: np.ndarray, cells: np.ndarray
) -> None:  # pragma: no cover
    """The left sides of the equations (rows, lanes), and the sums of the sizes of their terms."""
    _, maps, columns, coefficients, constants = program
    rows, length, column, value, by_cell, constant, constant_by_cell = maps[len(maps) - 1]
    for r in range(rows):
        fill(constants, constant, r, rows, constant_by_cell, cells, values[r])
        magnitudes(values[r], sizes[r])
        for k in range(length):
            at, source = value + r * length + k, z[columns[column + r * length + k]]
            if by_cell:
                for lane in range(len(source)):
                    term = coefficients[at + cells[lane] * rows * length] * source[lane]
                    values[r, lane] += term
                    sizes[r, lane] += abs(term)
            elif coefficients[at] != 0.0:
                scaled_sum(values[r], coefficients[at], source)
                scaled_size(sizes[r], coefficients[at], source)


@inside
def differentiate(
    program: Arrays, z: np.ndarray, saved: np.ndarray, pulled: np.ndarray, derivatives: np.ndarray, cells: np.ndarray
) -> None:  # pragma: no cover
    """The derivatives (rows, width, lanes) of the left sides by the entries, backwards from each of them.

    `pulled` has a row more than there are numbers, to work in.
    """
    steps, maps = program[0], program[1]
    for row in range(derivatives.shape[0]):
        pulled[:] = 0.0
        scratch = pulled[len(pulled) - 1]
        scratch[:] = 1.0
        spread(program, len(maps) - 1, row, scratch, pulled, cells)
        for back in range(len(steps)):
            number = len(steps) - 1 - back
            kind, exponent, size, first, count, map_a, map_b, save_a, save_b = steps[number]
            if kind in (DET, INVERSE):
                entries = size * size
                for r in range(count if kind == DET else count // entries):
                    matrix = saved[save_a + r * entries : save_a + (r + 1) * entries]
                    for entry in range(entries):
                        if kind == DET:
                            cofactor(matrix, size, entry, scratch)
                            product(scratch, pulled[first + r], scratch)
                        else:
                            last = first + (r + 1) * entries
                            pull_inverse(z[last - entries : last], pulled[last - entries : last], size, entry, scratch)
                        spread(program, map_a, r * entries + entry, scratch, pulled, cells)
                continue
            for r in range(count):
                vector = pulled[first + r]
                if kind == MULTIPLY:
                    product(vector, saved[save_b + r], scratch)
                    spread(program, map_a, r, scratch, pulled, cells)
                    product(vector, saved[save_a + r], scratch)
                    spread(program, map_b, r, scratch, pulled, cells)
                else:
                    slope(kind, exponent, saved[save_a + r], z[first + r], scratch)
                    product(scratch, vector, scratch)
                    spread(program, map_a, r, scratch, pulled, cells)
        for k in range(derivatives.shape[1]):
            copy_row(pulled[k], derivatives[row, k])


@inside
def combine(
    program: Arrays, number: int, z: np.ndarray, out: np.ndarray, place: int, cells: np.ndarray
) -> None:  # pragma: no cover
    """The values of an affine map, from row `place` of `out` on."""
    _, maps, columns, coefficients, constants = program
    rows, length, column, value, by_cell, constant, constant_by_cell = maps[number]
    for r in range(rows):
        target = out[place + r]
        fill(constants, constant, r, rows, constant_by_cell, cells, target)
        for k in range(length):
            at, source = value + r * length + k, z[columns[column + r * length + k]]
            if by_cell:
                for lane in range(len(target)):
                    target[lane] += coefficients[at + cells[lane] * rows * length] * source[lane]
            elif coefficients[at] != 0.0:
                scaled_sum(target, coefficients[at], source)


@inside
def spread(
    program: Arrays, number: int, row: int, vector: np.ndarray, pulled: np.ndarray, cells: np.ndarray
) -> None:  # pragma: no cover
    """Add the transposed map: what one of its rows adds to the numbers that it reads."""
    _, maps, columns, coefficients, _ = program
    rows, length, column, value, by_cell, _, _ = maps[number]
    for k in range(length):
        at, target = value + row * length + k, pulled[columns[column + row * length + k]]
        if by_cell:
            for lane in range(len(target)):
                target[lane] += coefficients[at + cells[lane] * rows * length] * vector[lane]
        elif coefficients[at] != 0.0:
            scaled_sum(target, coefficients[at], vector)


@inside
def copy_row(source: np.ndarray, target: np.ndarray) -> None:  # pragma: no cover
    """`target = source`. An assignment of arrays takes 12 s more to compile, for the text of its error alone."""
    for lane in range(len(target)):
        target[lane] = source[lane]


@inside
def fill(
    constants: np.ndarray, first: int, row: int, rows: int, by_cell: int, cells: np.ndarray, out: np.ndarray
) -> None:  # pragma: no cover
    """The constant of one row of a map."""
    if by_cell:
        for lane in range(len(out)):
            out[lane] = constants[first + row + cells[lane] * rows]
    else:
        out[:] = constants[first + row]


@summing_inside
def magnitudes(x: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """The sizes of numbers."""
    for lane in range(len(out)):
        out[lane] = abs(x[lane])


@summing_inside
def scaled_size(target: np.ndarray, factor: float, source: np.ndarray) -> None:  # pragma: no cover
    """`target += |factor · source|`."""
    for lane in range(len(target)):
        target[lane] += abs(factor * source[lane])


@summing_inside
def scaled_sum(target: np.ndarray, factor: float, source: np.ndarray) -> None:  # pragma: no cover
    """`target += factor · source`."""
    for lane in range(len(target)):
        target[lane] += factor * source[lane]


@summing_inside
def product(first: np.ndarray, second: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """The products of two rows, which may be written over one of them."""
    for lane in range(len(out)):
        out[lane] = first[lane] * second[lane]


@inside
def apply(kind: int, exponent: int, x: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """A function of one number."""
    for lane in range(len(out)):
        value = x[lane]
        if kind == POWER:
            out[lane] = power(value, exponent)
        elif kind == SQRT:
            out[lane] = sqrt(value) if value >= 0.0 else np.nan
        elif kind == RECIPROCAL:
            out[lane] = 1.0 / value
        elif kind == SIN:
            out[lane] = sin(value)
        elif kind == COS:
            out[lane] = cos(value)
        elif kind == TANH:
            out[lane] = tanh(value)
        elif kind == EXP:
            out[lane] = exp(value)
        elif kind == LOG:
            out[lane] = log(value) if value > 0.0 else np.nan
        else:
            out[lane] = value


@inside
def slope(kind: int, exponent: int, x: np.ndarray, made: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """The derivative of a function of one number, from the number and the value."""
    for lane in range(len(out)):
        value = x[lane]
        if kind == POWER:
            out[lane] = exponent * power(value, exponent - 1)
        elif kind == SQRT:
            out[lane] = 0.5 / made[lane]
        elif kind == RECIPROCAL:
            out[lane] = -made[lane] * made[lane]
        elif kind == SIN:
            out[lane] = cos(value)
        elif kind == COS:
            out[lane] = -sin(value)
        elif kind == TANH:
            out[lane] = 1.0 - made[lane] * made[lane]
        elif kind == EXP:
            out[lane] = made[lane]
        elif kind == LOG:
            out[lane] = 1.0 / value
        else:
            out[lane] = 1.0


@inside
def power(x: float, exponent: int) -> float:  # pragma: no cover
    """`x ** exponent` by squarings."""
    result, base, remaining = 1.0, x, abs(exponent)
    while remaining:
        if remaining & 1:
            result *= base
        base *= base
        remaining >>= 1
    return result if exponent >= 0 else 1.0 / result


@inside
def determinant(a: np.ndarray, size: int, out: np.ndarray) -> None:  # pragma: no cover
    """Of matrices (size², lanes)."""
    for lane in range(len(out)):
        if size == 1:
            out[lane] = a[0, lane]
        elif size == 2:
            out[lane] = a[0, lane] * a[3, lane] - a[1, lane] * a[2, lane]
        else:
            first = a[4, lane] * a[8, lane] - a[5, lane] * a[7, lane]
            second = a[5, lane] * a[6, lane] - a[3, lane] * a[8, lane]
            third = a[3, lane] * a[7, lane] - a[4, lane] * a[6, lane]
            out[lane] = a[0, lane] * first + a[1, lane] * second + a[2, lane] * third


@inside
def cofactor(a: np.ndarray, size: int, entry: int, out: np.ndarray) -> None:  # pragma: no cover
    """The derivative of the determinant by one entry."""
    i, j = entry // size, entry % size
    for lane in range(len(out)):
        if size == 1:
            out[lane] = 1.0
        elif size == 2:
            out[lane] = a[3 - entry, lane] if i == j else -a[3 - entry, lane]
        else:
            above, below, left, right = (i + 1) % 3 * 3, (i + 2) % 3 * 3, (j + 1) % 3, (j + 2) % 3
            out[lane] = a[above + left, lane] * a[below + right, lane] - a[above + right, lane] * a[below + left, lane]


@inside
def invert(a: np.ndarray, size: int, out: np.ndarray) -> None:  # pragma: no cover
    """The inverses of matrices (size², lanes), by their cofactors."""
    for entry in range(size * size):
        transposed = entry % size * size + entry // size
        cofactor(a, size, entry, out[transposed])
    for lane in range(a.shape[1]):
        total = 0.0
        for k in range(size):
            total += a[k, lane] * out[k * size, lane]
        for entry in range(size * size):
            out[entry, lane] /= total


@inside
def pull_inverse(
    inverse: np.ndarray, vector: np.ndarray, size: int, entry: int, out: np.ndarray
) -> None:  # pragma: no cover
    """What `Σ vector_ij inverse_ij` changes by with one entry of the matrix."""
    k, m = entry // size, entry % size
    for lane in range(len(out)):
        total = 0.0
        for i in range(size):
            for j in range(size):
                total += inverse[i * size + k, lane] * vector[i * size + j, lane] * inverse[m * size + j, lane]
        out[lane] = -total
