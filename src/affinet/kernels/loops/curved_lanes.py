"""Follows steps on nonlinear equations in small equal cells: tangent planes, and returns by Gauss and Newton's method.

Cells are computed by blocks of lanes (`program_lanes.py`), a block by one thread and in one order, so that results have
the same bits on any number of threads. Cells whose equations depend on each other, or whose return is not as short and
straight as near the set, are marked and stay as they are: the law over array operations takes them.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, inside, summing_inside
from affinet.kernels.loops.openmp import share_out
from affinet.kernels.loops.program_lanes import copy_row, differentiate, evaluate, product, scaled_sum, values_and_sizes

Arrays = tuple[np.ndarray, ...]
PIVOT = 1e-7
"""Least pivot of the Gram matrix of rows of norm one: below it, the digits of its inverse are too few."""
CORRECTIONS = 6
"""Most corrections of a return: near the set each squares the distance, and two or three are enough."""
DECREASE = 1e-4
"""Share of a violation by which a correction must lower it."""
FARTHEST = 4.0
"""As in `blocks/curved_set.py`."""
ROUNDING = 8.0
"""Roundoffs of weights by which a return may move them whatever the length of the step."""


@compiled
def follow_cells(
    lands: bool,
    arrays: Arrays,
    program: Arrays,
    limits: tuple[float, float],
    face: Arrays,
    scratch: Arrays,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Before a step, project gradients along tangent planes; where it `lands`, follow the step to the set.

    Before a step `arrays` are gradients, weights, and the projected gradients, which may be the gradients themselves;
    noise is set to zero, by the first of the `limits`. `face` receives the rows of norm one (cells, rows, width), the
    inverse of their Gram matrix (cells, rows, rows), and a mark for cells that were left out, which are not written.

    After it, they are the weights after the step, those before it, and the weights on the set. The step is taken along
    the planes of `face`. Equations hold to the first of the limits times their sizes then, before weights are rounded;
    those of cells that do not move must hold to the second times that.

    It is one function for both, since to compile what both call takes half a minute. `scratch` has arrays per thread.
    """
    blocks = (len(arrays[0]) + scratch[0].shape[2] - 1) // scratch[0].shape[2]
    if threads > 1:
        share_out(some_cells, (lands, arrays, program, limits, face, scratch, blocks), threads, threads)
    else:
        some_cells(lands, arrays, program, limits, face, scratch, blocks, 0, 1)


@inside
def some_cells(
    lands: bool,
    arrays: Arrays,
    program: Arrays,
    limits: tuple[float, float],
    face: Arrays,
    scratch: Arrays,
    blocks: int,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the blocks, as many parts as there is scratch."""
    parts, count = len(scratch[0]), len(arrays[0])
    width = arrays[0].shape[1]
    for part in range(first, last):
        z, saved, pulled = scratch[0][part], scratch[1][part], scratch[2][part]
        rows, inverse, vectors, sums = scratch[3][part], scratch[4][part], scratch[5][part], scratch[6][part]
        cells, state = scratch[7][part], scratch[8][part]
        lanes, x, start, step = z.shape[1], vectors[:width], vectors[width : 2 * width], vectors[2 * width :]
        for block in range(blocks * part // parts, blocks * (part + 1) // parts):
            for lane in range(lanes):
                # Lanes beyond the last cell compute it again.
                cells[lane] = min(block * lanes + lane, count - 1)
            read_cells(arrays[0], cells, x)
            read_cells(arrays[1], cells, start)
            state[:] = 0
            if lands:
                read_face(face, cells, rows, inverse)
                take_step(x, start, rows, inverse, sums, state, z)
            else:
                for k in range(width):
                    copy_row(start[k], z[k])
                sum_squares(x, sums[0])
            arrive(lands, program, z, saved, pulled, rows, inverse, sums[2:], step, cells, state, limits)
            if not lands:
                project(x, rows, inverse, sums[2:])
                if len(rows) > 1:  # the second time removes what the inverse of a Gram matrix left
                    project(x, rows, inverse, sums[2:])
                write_face(face, cells, rows, inverse)
            inside = min(lanes, count - block * lanes)
            if lands:
                write_landed(z, start, sums, cells[:inside], state, limits[0], face[2], arrays[2])
            else:
                write_projected(x, sums[0], cells[:inside], state, limits[0], face[2], arrays[0], arrays[2])


@inside
def write_landed(
    z: np.ndarray,
    start: np.ndarray,
    sums: np.ndarray,
    cells: np.ndarray,
    state: np.ndarray,
    u: float,
    marks: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover
    """Write the cells that arrived near their start, and those that rest; mark the others."""
    for lane in range(len(cells)):
        cell, far = cells[lane], 0.0
        for k in range(len(start)):
            far += (z[k, lane] - start[k, lane]) ** 2
        reach = FARTHEST * sqrt(sums[0, lane]) + ROUNDING * u * sqrt(sums[1, lane])
        arrived = state[lane] == 1 and sqrt(far) <= reach
        marks[cell] = 0 if arrived or state[lane] == 4 else 1
        if marks[cell] == 0:
            for k in range(len(start)):
                out[cell, k] = z[k, lane] if arrived else start[k, lane]


@inside
def write_projected(
    x: np.ndarray,
    squares: np.ndarray,
    cells: np.ndarray,
    state: np.ndarray,
    quiet: float,
    marks: np.ndarray,
    g: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover
    """Write projected gradients without their noise; mark the cells that were given up."""
    for lane in range(len(cells)):
        cell, level = cells[lane], quiet * sqrt(squares[lane] / len(x))
        marks[cell] = state[lane]
        if state[lane] == 0:
            for k in range(len(x)):
                out[cell, k] = 0.0 if abs(x[k, lane]) <= quiet * abs(g[cell, k]) + level else x[k, lane]


@inside
def take_step(
    x: np.ndarray,
    start: np.ndarray,
    rows: np.ndarray,
    inverse: np.ndarray,
    sums: np.ndarray,
    state: np.ndarray,
    z: np.ndarray,
) -> None:  # pragma: no cover
    """The ends of the steps from `start` to x along the planes, in the first rows of z; x becomes the step.

    `sums` receives the squares of the lengths of the steps and of the weights. Lanes that rest are marked by 3.
    """
    for k in range(len(x)):
        scaled_sum(x[k], -1.0, start[k])
    sum_squares(x, sums[0])
    for lane in range(len(state)):
        if sums[0, lane] == 0.0:
            state[lane] = 3
    # What rounding leaves across the plane is small, and corrected with the rest.
    project(x, rows, inverse, sums[2:])
    sum_squares(x, sums[0])
    sum_squares(start, sums[1])
    for k in range(len(x)):
        copy_row(start[k], z[k])
        scaled_sum(z[k], 1.0, x[k])


@inside
def read_face(face: Arrays, cells: np.ndarray, rows: np.ndarray, inverse: np.ndarray) -> None:  # pragma: no cover
    """The planes of some cells as rows of lanes."""
    for lane in range(len(cells)):
        for i in range(len(rows)):
            for k in range(rows.shape[1]):
                rows[i, k, lane] = face[0][cells[lane], i, k]
            for k in range(len(rows)):
                inverse[i, k, lane] = face[1][cells[lane], i, k]


@inside
def write_face(face: Arrays, cells: np.ndarray, rows: np.ndarray, inverse: np.ndarray) -> None:  # pragma: no cover
    """The planes of some cells from rows of lanes."""
    for lane in range(len(cells)):
        for i in range(len(rows)):
            for k in range(rows.shape[1]):
                face[0][cells[lane], i, k] = rows[i, k, lane]
            for k in range(len(rows)):
                face[1][cells[lane], i, k] = inverse[i, k, lane]


@inside
def arrive(
    lands: bool,
    program: Arrays,
    z: np.ndarray,
    saved: np.ndarray,
    pulled: np.ndarray,
    rows: np.ndarray,
    inverse: np.ndarray,
    sums: np.ndarray,
    step: np.ndarray,
    cells: np.ndarray,
    state: np.ndarray,
    limits: tuple[float, float],
) -> None:  # pragma: no cover
    """Correct the entries, the first rows of z, until the equations hold; only make their planes unless it `lands`.

    `state` of a lane: 0 is searched, 1 holds, 2 is given up; 3 rests, and becomes 4 if it holds well enough, or else 2.
    """
    count = len(rows)
    norms, scaled, values = sums[:count], sums[count : 2 * count], sums[2 * count : 3 * count]
    sizes, former = sums[3 * count : 4 * count], sums[4 * count]
    excess, work = sums[4 * count + 1], sums[4 * count + 2 :]
    evaluate(program, z, saved, cells)
    for correction in range(CORRECTIONS + 1):
        if correction == 0 or any_searched(state):
            differentiate(program, z, saved, pulled, rows, cells)
        if lands and correction == 0:
            values_and_sizes(program, z, values, sizes, cells)
            norms[:] = 1.0
            measure(z, rows, norms, values, sizes, limits[0], excess, work[0])
            judge_start(excess, limits[1], state)
        if not any_searched(state):
            return
        normalize(rows, norms, work[0])
        invert_gram(rows, inverse, state, work)
        if not lands:
            return
        former[:] = 0.0
        for i in range(count):
            for lane in range(len(state)):
                scaled[i, lane] = values[i, lane] / norms[i, lane]
                former[lane] += scaled[i, lane] ** 2
        step[:] = 0.0
        add_across(scaled, rows, inverse, step, work[0])
        for k in range(len(step)):
            for lane in range(len(state)):
                if state[lane] == 0:
                    z[k, lane] -= step[k, lane]
        evaluate(program, z, saved, cells)
        values_and_sizes(program, z, values, sizes, cells)
        measure(z, rows, norms, values, sizes, limits[0], excess, work[0])
        judge(values, norms, former, excess, correction == CORRECTIONS, state)


@inside
def judge_start(excess: np.ndarray, resting_below: float, state: np.ndarray) -> None:  # pragma: no cover
    """Which lanes hold already, which rest well enough, and which have no finite values."""
    for lane in range(len(state)):
        if state[lane] == 3:
            state[lane] = 4 if excess[lane] <= resting_below else 2
        elif excess[lane] <= 1.0:
            state[lane] = 1
        elif not excess[lane] < inf:
            state[lane] = 2


@inside
def judge(
    values: np.ndarray, norms: np.ndarray, former: np.ndarray, excess: np.ndarray, is_last: bool, state: np.ndarray
) -> None:  # pragma: no cover
    """Which of the searched lanes hold after a correction, and which it did not help enough."""
    for lane in range(len(state)):
        if state[lane] == 0:
            after = 0.0
            for i in range(len(values)):
                after += (values[i, lane] / norms[i, lane]) ** 2
            if excess[lane] <= 1.0:
                state[lane] = 1
            elif is_last or not sqrt(after) <= (1.0 - DECREASE) * sqrt(former[lane]):
                state[lane] = 2


@inside
def any_searched(state: np.ndarray) -> bool:  # pragma: no cover
    """Whether a lane is searched."""
    count = 0
    for lane in range(len(state)):
        count += state[lane] == 0
    return count > 0


@inside
def read_cells(x: np.ndarray, cells: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """Entries of cells as rows of lanes."""
    for lane in range(len(cells)):
        for k in range(x.shape[1]):
            out[k, lane] = x[cells[lane], k]


@summing_inside
def sum_squares(x: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """The sums of squares of each lane."""
    out[:] = 0.0
    for k in range(len(x)):
        for lane in range(len(out)):
            out[lane] += x[k, lane] * x[k, lane]


@inside
def normalize(rows: np.ndarray, norms: np.ndarray, work: np.ndarray) -> None:  # pragma: no cover
    """Rows (rows, width, lanes) of norm one, in place; `norms` receives their norms, 1 for rows of zeros."""
    for i in range(len(rows)):
        sum_squares(rows[i], norms[i])
        inverted(norms[i], work)
        for k in range(rows.shape[1]):
            product(rows[i, k], work, rows[i, k])


@summing_inside
def inverted(squares: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """The roots of squares, in place, and their inverses; both are 1 where a square is zero."""
    for lane in range(len(out)):
        squares[lane] = sqrt(squares[lane]) if squares[lane] > 0.0 else 1.0
        out[lane] = 1.0 / squares[lane]


@summing_inside
def invert_gram(rows: np.ndarray, inverse: np.ndarray, state: np.ndarray, work: np.ndarray) -> None:  # pragma: no cover
    """`(rows rowsᵀ)⁻¹` (rows, rows, lanes) by elimination; searched lanes with a small pivot are given up.

    `work` has two rows of lanes.
    """
    count, least, factor = len(rows), work[0], work[1]
    for i in range(count):
        for j in range(i + 1):
            multiply_sum(rows[i], rows[j], inverse[i, j])
            if i != j:
                copy_row(inverse[i, j], inverse[j, i])
    least[:] = inf
    for p in range(count):
        for lane in range(len(least)):
            pivot = inverse[p, p, lane]
            least[lane] = pivot if not pivot >= least[lane] else least[lane]
            factor[lane] = 1.0 / pivot
            inverse[p, p, lane] = 1.0
        for j in range(count):
            product(inverse[p, j], factor, inverse[p, j])
        for i in range(count):
            if i != p:
                for lane in range(len(least)):
                    factor[lane] = -inverse[i, p, lane]
                    inverse[i, p, lane] = 0.0
                for j in range(count):
                    product_added(inverse[p, j], factor, inverse[i, j])
    for lane in range(len(least)):
        if not least[lane] > PIVOT and state[lane] == 0:
            state[lane] = 2


@summing_inside
def multiply_sum(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """`Σ_k x_k y_k` in each lane."""
    out[:] = 0.0
    for k in range(len(x)):
        for lane in range(len(out)):
            out[lane] += x[k, lane] * y[k, lane]


@summing_inside
def product_added(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """`out += x y` in each lane."""
    for lane in range(len(out)):
        out[lane] += x[lane] * y[lane]


@inside
def project(x: np.ndarray, rows: np.ndarray, inverse: np.ndarray, work: np.ndarray) -> None:  # pragma: no cover
    """`x − rowsᵀ (rows rowsᵀ)⁻¹ rows x`, in place; `work` has two rows of lanes more than there are equations."""
    count = len(rows)
    for i in range(count):
        multiply_sum(rows[i], x, work[i])
        negate(work[i])
    add_across(work[:count], rows, inverse, x, work[count])


@inside
def add_across(
    values: np.ndarray, rows: np.ndarray, inverse: np.ndarray, out: np.ndarray, work: np.ndarray
) -> None:  # pragma: no cover
    """`out += rowsᵀ (rows rowsᵀ)⁻¹ values`."""
    for i in range(len(rows)):
        work[:] = 0.0
        for j in range(len(rows)):
            product_added(inverse[i, j], values[j], work)
        for k in range(len(out)):
            product_added(work, rows[i, k], out[k])


@summing_inside
def negate(x: np.ndarray) -> None:  # pragma: no cover
    """`−x`, in place."""
    for lane in range(len(x)):
        x[lane] = -x[lane]


@inside
def measure(
    z: np.ndarray,
    rows: np.ndarray,
    norms: np.ndarray,
    values: np.ndarray,
    sizes: np.ndarray,
    u: float,
    excess: np.ndarray,
    work: np.ndarray,
) -> None:  # pragma: no cover
    """The largest violation of a lane in units of u times its terms and its derivatives times the weights.

    Derivatives are rows times norms.
    """
    excess[:] = 0.0
    for i in range(len(rows)):
        work[:] = 0.0
        for k in range(rows.shape[1]):
            size_added(rows[i, k], z[k], work)
        for lane in range(len(excess)):
            violation, limit = abs(values[i, lane]), u * (sizes[i, lane] + norms[i, lane] * work[lane])
            ratio = 0.0 if violation == 0.0 else violation / limit
            if not ratio <= excess[lane]:
                excess[lane] = ratio if ratio == ratio else inf


@summing_inside
def size_added(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:  # pragma: no cover
    """`out += |x y|` in each lane."""
    for lane in range(len(out)):
        out[lane] += abs(x[lane] * y[lane])
