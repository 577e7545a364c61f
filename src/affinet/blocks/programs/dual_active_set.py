"""Nearest points of small polyhedra by a dual active set, exact to rounding, one cell after the other.

    minimise ½ |x − v|²  subject to  rows x = rhs (the first `equations` rows), rows x ≤ rhs, lower ≤ x ≤ upper

Rows have norm one. Constraint c < m is row c, constraint m + i the bound of entry i that its side names: +1 the upper
bound, −1 the lower. The active constraints have normals N = QR; `basis` holds Qᵀ and `triangle` Rᵀ, so that each column
is contiguous. Violated constraints are added one by one, the most violated first, and constraints whose multiplier
reaches zero on the way are dropped. The dual objective rises with every step, so that the search ends.

Source: D. Goldfarb and A. Idnani, Mathematical Programming 27 (1983); columns of QR are dropped by rotations, and
orthogonalised twice (Golub & Van Loan, 4th ed., 6.5.2 and 5.2.8).
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from math import hypot, inf, sqrt
from typing import NamedTuple

import numpy as np

from affinet.blocks.programs.loop_compiler import compiled, vectorised

EPSILON = float(np.finfo(np.float64).eps)
VIOLATED = 16.0 * EPSILON
"""A constraint holds if its gap is at most this share of |x| + |v| + |rhs|: a few roundings of each."""
DEPENDENT = 1e-12
"""A normal whose part outside the span of the active normals is at most this long counts as dependent on them. The part
is known to about 1e-15, and then has three digits."""


class Working(NamedTuple):
    """Memory of the search, for one cell after the other: at most `n` constraints are active.

    The active constraints in order, their sides and multipliers, Qᵀ (n, n), Rᵀ (n, n), and vectors of n numbers.
    `state` (m + n) has the side of each active constraint, 0 for an inactive one and 2 for one that is left out.
    """

    order: np.ndarray
    sides: np.ndarray
    multipliers: np.ndarray
    basis: np.ndarray
    triangle: np.ndarray
    shares: np.ndarray
    rates: np.ndarray
    normal: np.ndarray
    state: np.ndarray


def memory(m: int, n: int) -> Working:
    """Memory for cells of m rows and n entries."""
    size = max(1, n)
    vectors = [np.zeros(size) for _ in range(3)]
    return Working(
        np.zeros(size, np.int64),
        np.zeros(size),
        vectors[0],
        np.zeros((size, n)),
        np.zeros((size, size)),
        vectors[1],
        vectors[2],
        np.zeros(n),
        np.zeros(m + n, np.int8),
    )


@vectorised(lambda a, b: float(a @ b))
def dot(a: np.ndarray, b: np.ndarray) -> float:  # pragma: no cover - compiled
    """The sum of products."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


def _add_scaled(y: np.ndarray, factor: float, x: np.ndarray) -> None:
    y += factor * x


@vectorised(_add_scaled)
def add_scaled(y: np.ndarray, factor: float, x: np.ndarray) -> None:  # pragma: no cover - compiled
    """`y += factor · x`, in place."""
    for i in range(len(y)):
        y[i] += factor * x[i]


def _rotate(a: np.ndarray, b: np.ndarray, c: float, s: float) -> None:
    a[:], b[:] = c * a + s * b, c * b - s * a


@vectorised(_rotate)
def rotate(a: np.ndarray, b: np.ndarray, c: float, s: float) -> None:  # pragma: no cover - compiled
    """Rotate two vectors into each other, in place."""
    for i in range(len(a)):
        first, second = a[i], b[i]
        a[i] = c * first + s * second
        b[i] = c * second - s * first


@compiled
def outside(rows: np.ndarray, number: int, side: float, k: int, work: Working) -> float:
    """Split a normal into `shares`, its products with the k columns of Q, and the rest `normal`; the rest's length."""
    m, n = rows.shape
    shares, normal, basis = work.shares, work.normal, work.basis
    if number < m:
        for i in range(n):
            normal[i] = side * rows[number, i]
        for j in range(k):
            shares[j] = dot(basis[j], normal)
    else:
        normal[:] = 0.0
        normal[number - m] = side
        for j in range(k):
            shares[j] = side * basis[j, number - m]
    for j in range(k):
        add_scaled(normal, -shares[j], basis[j])
    length = sqrt(dot(normal, normal))
    if k > 0 and length < 0.7:
        # Cancellation leaves a part in the span, relative to the length: a second pass removes it.
        for j in range(k):
            part = dot(basis[j], normal)
            shares[j] += part
            add_scaled(normal, -part, basis[j])
        length = sqrt(dot(normal, normal))
    return length


@compiled
def append(number: int, side: float, length: float, multiplier: float, k: int, work: Working) -> int:
    """Add the constraint that `outside` has split; the new count of active constraints."""
    work.order[k], work.sides[k], work.multipliers[k] = number, side, multiplier
    for i in range(len(work.normal)):
        work.basis[k, i] = work.normal[i] / length
    for j in range(k):
        work.triangle[k, j] = work.shares[j]
    work.triangle[k, k] = length
    work.state[number] = 1 if side > 0.0 else -1
    return k + 1


@compiled
def drop(place: int, k: int, work: Working) -> int:
    """Remove the active constraint at a place, by rotations; the new count."""
    triangle = work.triangle
    work.state[work.order[place]] = 0
    for j in range(place, k - 1):
        work.order[j], work.sides[j] = work.order[j + 1], work.sides[j + 1]
        work.multipliers[j] = work.multipliers[j + 1]
        for i in range(j + 2):
            triangle[j, i] = triangle[j + 1, i]
    for j in range(place, k - 1):
        size = hypot(triangle[j, j], triangle[j, j + 1])
        c, s = triangle[j, j] / size, triangle[j, j + 1] / size
        for column in range(j, k - 1):
            first, second = triangle[column, j], triangle[column, j + 1]
            triangle[column, j] = c * first + s * second
            triangle[column, j + 1] = c * second - s * first
        rotate(work.basis[j], work.basis[j + 1], c, s)
    return k - 1


@compiled
def rates_of(k: int, work: Working) -> None:
    """`rates = R⁻¹ shares`: how the multipliers fall as that of the new constraint rises."""
    rates = work.rates
    for j in range(k):
        rates[j] = work.shares[j]
    for j in range(k - 1, -1, -1):
        rates[j] /= work.triangle[j, j]
        add_scaled(rates[:j], -rates[j], work.triangle[j, :j])


@compiled
def bound(number: int, side: float, rhs: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """The right-hand side of `side · constraint ≤ …`."""
    m = len(rhs)
    if number < m:
        return side * rhs[number]
    return upper[number - m] if side > 0.0 else -lower[number - m]


@compiled
def correct(
    rows: np.ndarray, rhs: np.ndarray, lower: np.ndarray, upper: np.ndarray, x: np.ndarray, k: int, work: Working
) -> None:
    """Move x onto the active constraints: `x −= Q R⁻ᵀ (Nᵀx − b)`; R⁻ᵀ of the gaps is kept in `shares`."""
    m, shares = len(rhs), work.shares
    for j in range(k):
        number, side = work.order[j], work.sides[j]
        product = dot(rows[number], x) if number < m else x[number - m]
        gap = side * product - bound(number, side, rhs, lower, upper)
        shares[j] = (gap - dot(work.triangle[j, :j], shares[:j])) / work.triangle[j, j]
    for j in range(k):
        add_scaled(x, -shares[j], work.basis[j])


@compiled
def resolve(
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    v: np.ndarray,
    x: np.ndarray,
    k: int,
    work: Working,
) -> None:
    """The nearest point x to v on the active constraints, refined twice, and their multipliers."""
    for i in range(len(v)):
        x[i] = v[i]
    correct(rows, rhs, lower, upper, x, k, work)
    rates_of(k, work)
    for j in range(k):
        work.multipliers[j] = work.rates[j]
    for _ in range(2):
        correct(rows, rhs, lower, upper, x, k, work)
    for j in range(k):
        number = work.order[j] - len(rhs)
        if number >= 0:
            x[number] = upper[number] if work.sides[j] > 0.0 else lower[number]


@compiled
def is_equation(equations: int, number: int, m: int, lower: np.ndarray, upper: np.ndarray) -> bool:
    """Whether a constraint is an equation, which is never dropped: a row, or a bound of an entry with one value."""
    if number < m:
        return number < equations
    return lower[number - m] == upper[number - m]


@compiled
def drop_negative(
    equations: int,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    v: np.ndarray,
    x: np.ndarray,
    k: int,
    work: Working,
) -> int:
    """Drop active constraints with negative multipliers until none is left: a start for the dual search."""
    m = len(rhs)
    resolve(rows, rhs, lower, upper, v, x, k, work)
    while True:
        before = k
        for place in range(k - 1, -1, -1):
            if work.multipliers[place] < 0.0 and not is_equation(equations, work.order[place], m, lower, upper):
                k = drop(place, k, work)
        if k == before:
            return k
        resolve(rows, rhs, lower, upper, v, x, k, work)


@compiled
def most_violated(
    equations: int,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x: np.ndarray,
    blur: np.ndarray,
    noise: float,
    share: float,
    work: Working,
) -> tuple[int, float, float]:
    """The inactive constraint with the largest gap above rounding, its side and its gap; −1 where all hold."""
    m, n = rows.shape
    number, side, largest = -1, 1.0, 0.0
    for c in range(m):
        if work.state[c] != 0 or rhs[c] == inf:
            continue
        gap, sign = dot(rows[c], x) - rhs[c], 1.0
        if c < equations and gap < 0.0:
            gap, sign = -gap, -1.0
        if gap > largest and gap > share * (noise + abs(rhs[c])) + blur[c]:
            number, side, largest = c, sign, gap
    for i in range(n):
        if work.state[m + i] != 0:
            continue
        above, below = x[i] - upper[i], lower[i] - x[i]
        if above > largest and above > share * (noise + abs(upper[i])):
            number, side, largest = m + i, 1.0, above
        if below > largest and below > share * (noise + abs(lower[i])):
            number, side, largest = m + i, -1.0, below
    return number, side, largest


@compiled
def blocking(equations: int, m: int, lower: np.ndarray, upper: np.ndarray, k: int, work: Working) -> tuple[int, float]:
    """The active constraint whose multiplier reaches zero first, and after which step; −1 where none does."""
    place, step, largest = -1, inf, 0.0
    for j in range(k):
        largest = max(largest, abs(work.rates[j]))
    for j in range(k):
        if work.rates[j] > 1e-12 * largest and not is_equation(equations, work.order[j], m, lower, upper):
            reach = work.multipliers[j] / work.rates[j]
            if reach < step:
                place, step = j, reach
    return place, step


@compiled
def enforce(
    equations: int,
    number: int,
    side: float,
    gap: float,
    rows: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    x: np.ndarray,
    k: int,
    work: Working,
) -> int:
    """Make a violated constraint active, and drop those that block it; the new count.

    One that contradicts the active constraints, which only rounding can bring about, is left out.
    """
    multiplier = 0.0
    while True:
        length = outside(rows, number, side, k, work)
        rates_of(k, work)
        place, partial = blocking(equations, len(rows), lower, upper, k, work)
        full = gap / (length * length) if length > DEPENDENT and k < len(work.order) else inf
        step = min(full, partial)
        if step == inf:
            work.state[number] = 2
            return k
        for j in range(k):
            work.multipliers[j] = max(0.0, work.multipliers[j] - step * work.rates[j])
        multiplier += step
        if full < inf:
            add_scaled(x, -step, work.normal)
            gap -= step * length * length
        if full <= partial:
            return append(number, side, length, multiplier, k, work)
        k = drop(place, k, work)


@compiled
def search(
    equations: int,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    v: np.ndarray,
    x: np.ndarray,
    blur: np.ndarray,
    k: int,
    work: Working,
) -> int:
    """Search from active constraints without negative multipliers; x at the end, and the count of the active ones.

    After many steps, which rounding alone can need, what counts as violated is doubled every few steps: the search
    ends, with constraints that hold as well as they can.
    """
    m, n = rows.shape
    far, share, steps = sqrt(dot(v, v)), VIOLATED, 0
    for _ in range(8):
        while True:
            number, side, gap = most_violated(
                equations, rows, rhs, lower, upper, x, blur, far + sqrt(dot(x, x)), share, work
            )
            if number < 0:
                break
            k = enforce(equations, number, side, gap, rows, lower, upper, x, k, work)
            steps += 1
            if steps > 20 * (m + n) + 200 and steps % 8 == 0:
                share *= 2.0
        k = drop_negative(equations, rows, rhs, lower, upper, v, x, k, work)
        number, side, gap = most_violated(
            equations, rows, rhs, lower, upper, x, blur, far + sqrt(dot(x, x)), share, work
        )
        if number < 0:
            break
    for i in range(n):
        x[i] = min(max(x[i], lower[i]), upper[i])
    return k


@compiled
def start(
    equations: int, rows: np.ndarray, guess: np.ndarray, lower: np.ndarray, upper: np.ndarray, work: Working
) -> int:
    """Factor the bounds of a guess (m + n sides), then the equations and its rows, without dependent ones; their count.

    Normals of bounds are orthonormal. Entries at a bound are eliminated from the rows.
    """
    m, n = rows.shape
    k = 0
    work.state[:] = 0
    for i in range(n):
        side = float(guess[m + i])
        if side != 0.0 and abs(upper[i] if side > 0.0 else lower[i]) < inf:
            work.normal[:] = 0.0
            work.normal[i] = side
            work.shares[:k] = 0.0
            k = append(m + i, side, 1.0, 0.0, k, work)
    bounds = k
    for c in range(m):
        if k < n and (c < equations or guess[c] != 0):
            length = outside_bounds(rows[c], bounds, k, m, work)
            if length > DEPENDENT:
                k = append(c, 1.0, length, 0.0, k, work)
    return k


@compiled
def outside_bounds(row: np.ndarray, bounds: int, k: int, m: int, work: Working) -> float:
    """`outside` where the first columns of Q are normals of bounds, which only take out entries."""
    shares, normal, basis = work.shares, work.normal, work.basis
    for i in range(len(row)):
        normal[i] = row[i]
    for j in range(bounds):
        entry = work.order[j] - m
        shares[j] = work.sides[j] * row[entry]
        normal[entry] = 0.0
    for j in range(bounds, k):
        shares[j] = 0.0
    length = sqrt(dot(normal, normal))
    for _ in range(2):
        for j in range(bounds, k):
            part = dot(basis[j], normal)
            shares[j] += part
            add_scaled(normal, -part, basis[j])
        length = sqrt(dot(normal, normal))
    return length


@compiled
def solve_cells(
    equations: int,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    targets: np.ndarray,
    guesses: np.ndarray,
    blur: np.ndarray,
    x: np.ndarray,
    multipliers: np.ndarray,
    sides: np.ndarray,
    work: Working,
) -> None:
    """The nearest points x (cells, n) to the targets, from guesses (cells, m + n) of the active constraints.

    `multipliers` and `sides` (cells, m + n) are written for the active constraints. `rows` (cells, m, n) or (1, m, n)
    for all cells. Gaps of rows up to `blur` (cells, m) count as rounding.
    """
    for cell in range(len(targets)):
        matrix = rows[cell if len(rows) > 1 else 0]
        k = start(equations, matrix, guesses[cell], lower[cell], upper[cell], work)
        k = drop_negative(equations, matrix, rhs[cell], lower[cell], upper[cell], targets[cell], x[cell], k, work)
        k = search(equations, matrix, rhs[cell], lower[cell], upper[cell], targets[cell], x[cell], blur[cell], k, work)
        multipliers[cell, :] = 0.0
        sides[cell, :] = 0
        for j in range(k):
            multipliers[cell, work.order[j]] = work.multipliers[j]
            sides[cell, work.order[j]] = 1 if work.sides[j] > 0.0 else -1


@compiled
def face_parts(
    equations: int,
    rows: np.ndarray,
    rhs: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    faces: np.ndarray,
    x: np.ndarray,
    affine: bool,
    work: Working,
) -> None:
    """Move x (cells, n) in place onto faces (cells, m + n); without `affine`, to the parts along them."""
    m, n = rows.shape[1:]
    for cell in range(len(x)):
        matrix, point = rows[cell if len(rows) > 1 else 0], x[cell]
        k = start(equations, matrix, faces[cell], lower[cell], upper[cell], work)
        if affine:
            for _ in range(3):
                correct(matrix, rhs[cell], lower[cell], upper[cell], point, k, work)
        else:
            for _ in range(2):
                for j in range(k):
                    add_scaled(point, -dot(work.basis[j], point), work.basis[j])
        for i in range(n):
            side = faces[cell, m + i]
            if side != 0:
                point[i] = 0.0 if not affine else upper[cell, i] if side > 0 else lower[cell, i]
