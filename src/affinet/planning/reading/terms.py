"""Reading structure off the terms of one rule, in time that follows its description and not its entries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from affinet.blocks.entry_sets import View
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Dim, Nest, compress, disjoint_sums
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Integers, Term, Variable, lower, row_major_steps
from affinet.language.expression import Expression
from affinet.planning.factors.panels import dense_pieces, joined
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import added_up

LARGEST_CELL = 2**23
"""Numbers that the matrix of one cell may have; beyond, the rule is read one equation at a time."""
LARGEST_TIES = 4_000_000
"""Scaled and shifted ties of at most this many pairs are read one by one, so that each holds to its own rounding. As
slices they hold to the rounding of the largest entry of their cell."""

Regular = RowBatch | Mirror | Pairs


def read(expression: Expression, rule: int, cancellation: float) -> Regular | None:
    """The regular form of a rule, or None where it has none and must be read one equation at a time.

    Coefficients of one entry that add up to at most `cancellation` of their size count as zero.
    """
    if not expression.terms or not expression.size:
        return None
    return _pair(expression, rule) or _batch(expression, rule, cancellation)


def _pair(expression: Expression, rule: int) -> Mirror | Pairs | None:
    """`a · x − b · y == c` with x and y two boxes of entries."""
    terms = expression.terms
    if len(terms) != 2:
        return None
    axes = [axis for axis, n in enumerate(expression.shape) if n > 1]
    first, second = (_view(term, axes) for term in terms)
    if first is None or second is None:
        return None
    constant = np.asarray(expression.constant, np.float64)
    ratio, shift = -terms[1].scalar / terms[0].scalar, -constant / terms[0].scalar
    if shift.ndim:
        shift = np.broadcast_to(shift, expression.shape).reshape([expression.shape[axis] for axis in axes])
    if _apart(first, second):
        return Pairs(first, second, ratio, shift, (rule,))
    return _mirror(first, second, ratio, shift, rule)


def _view(term: Term, axes: list[int]) -> View | None:
    """The box that a term reads once for every output, loops in the order of the output axes."""
    if term.factors or len(term.variables) < len(axes):
        return None
    dims: dict[int, Dim] = {}
    for variable in term.variables:
        if variable.size == 1:
            continue
        if not isinstance(variable.source, int) or len(variable.outputs) != 1 or variable.source == 0:
            return None
        axis, step = variable.outputs[0]
        if not isinstance(step, int) or step != 1 or axis in dims:
            return None
        dims[axis] = (variable.size, variable.source)
    if sorted(dims) != axes or any(term.start[axis] != 0 for axis in axes):
        return None
    view = View(term.parameter, term.offset, tuple(dims[axis] for axis in axes))
    return view if disjoint_sums(Nest(view.dims), Nest(())) else None


def _apart(first: View, second: View) -> bool:
    if first.parameter != second.parameter:
        return True
    (a, b), (c, d) = first.span, second.span
    return b < c or d < a


def _mirror(first: View, second: View, ratio: float, shift: np.ndarray, rule: int) -> Mirror | None:
    """Two readings of one box, the second permuted and flipped, if doing that twice changes nothing."""
    if abs(ratio) != 1.0 or any(step < 0 for _, step in first.dims) or first.span != second.span:
        return None
    places = {(size, step): k for k, (size, step) in enumerate(first.dims)}
    image = [places.get((size, abs(step))) for size, step in second.dims]
    if any(k is None for k in image) or len(set(image)) != len(image):
        return None
    permutation = tuple(k for k in image if k is not None)
    flips = tuple(k for k, (_, step) in enumerate(second.dims) if step < 0)
    twice = all(permutation[permutation[k]] == k for k in range(len(permutation)))
    if not twice or any((permutation[k] in flips) != (k in flips) for k in range(len(permutation))):
        return None
    mirrored = np.flip(np.transpose(shift, permutation), flips) if shift.ndim else shift
    if not np.array_equal(mirrored, -ratio * shift):
        return None
    return Mirror(first, permutation, flips, ratio, shift, (rule,))


def _batch(expression: Expression, rule: int, cancellation: float) -> RowBatch | None:
    """One small matrix over regular cells of one parameter: the loops that all terms share run over the cells."""
    terms = expression.terms
    parameter = terms[0].parameter
    if any(term.parameter != parameter for term in terms):
        return None
    shared = set.intersection(*({_key(v, term) for v in term.variables if _strides(v, term)} for term in terms))
    while True:
        cell = _cell(expression, {key for key in shared if key is not None}, cancellation)
        if cell is None:
            return None
        clashing = _clashing(cell, parameter.shape)
        if not clashing:
            return _assembled(cell, expression, rule, cancellation)
        shared -= clashing


@dataclass(frozen=True)
class _Key:
    """A loop that moves along one output axis and one box of entries by regular steps."""

    axis: int
    start: int
    size: int
    step: int


@dataclass(frozen=True, eq=False)
class _Cell:
    """The rule less its shared loops: local triples, the axes left to rows, and the loops over the cells.

    A large full matrix stands in `matrix`, over the entries, in place of the triples.
    """

    terms: tuple[Term, ...]
    loops: tuple[_Key, ...]
    axes: tuple[int, ...]
    rows: Integers
    entries: Integers
    values: np.ndarray
    count: int
    matrix: np.ndarray | None = None


def _strides(variable: Variable, term: Term) -> bool:
    if not isinstance(variable.source, int) or variable.source <= 0 or len(variable.outputs) != 1:
        return False
    axis, step = variable.outputs[0]
    alone = term.variables_on(axis) == [term.variables.index(variable)]
    in_factor = any(term.variables.index(variable) in factor.variables for factor in term.factors)
    return isinstance(step, int) and step == 1 and alone and not in_factor and variable.size > 1


def _key(variable: Variable, term: Term) -> _Key | None:
    if len(variable.outputs) != 1 or not isinstance(variable.source, int):
        return None
    axis = variable.outputs[0][0]
    return _Key(axis, term.start[axis] or 0, variable.size, variable.source)


def _cell(expression: Expression, shared: set[_Key], cancellation: float) -> _Cell | None:
    covered = {key for key in shared if key.start == 0 and key.size == expression.shape[key.axis]}
    loops = tuple(sorted(covered, key=lambda key: key.axis))
    looped = {key.axis for key in loops}
    axes = tuple(axis for axis in range(len(expression.shape)) if axis not in looped)
    shape = tuple(expression.shape[axis] for axis in axes)
    reduced = tuple(_less(term, looped, axes) for term in expression.terms)
    most = max(prod(shape) * max(term.count for term in reduced), sum(term.count for term in reduced))
    if most > LARGEST_CELL:
        pieces = dense_pieces(reduced, shape)
        if pieces is None:
            return None
        entries, matrix = joined(pieces, np.concatenate([piece.entries for piece in pieces]), cancellation, expression)
        return _Cell(reduced, loops, axes, np.zeros(0, np.int64), entries, np.zeros(0), prod(shape), matrix)
    triples = [lower(term, shape) for term in reduced]
    rows, entries, values = (np.concatenate(parts) for parts in zip(*triples, strict=True))
    return _Cell(reduced, loops, axes, rows, entries, values, prod(shape))


def _less(term: Term, looped: set[int], axes: tuple[int, ...]) -> Term:
    """A term without the loops along the given axes; the axes that stay are renumbered."""
    number = {axis: k for k, axis in enumerate(axes)}
    kept = [k for k, v in enumerate(term.variables) if not any(axis in looped for axis, _ in v.outputs)]
    renumbered = {k: n for n, k in enumerate(kept)}
    variables = tuple(
        replace(term.variables[k], outputs=tuple((number[axis], m) for axis, m in term.variables[k].outputs))
        for k in kept
    )
    factors = tuple(replace(f, variables=tuple(renumbered[k] for k in f.variables)) for f in term.factors)
    return replace(term, variables=variables, factors=factors, start=tuple(term.start[axis] for axis in axes))


def _clashing(cell: _Cell, shape: tuple[int, ...]) -> set[_Key]:
    """Loops along whose steps the cells could meet: those that do not follow an axis on which the cell stands still."""
    if not cell.loops or not len(cell.entries):
        return set()
    inner = distinct(cell.entries)
    dims = tuple((key.size, key.step) for key in cell.loops)
    if disjoint_sums(Nest(dims), compress(inner)[1]):
        return set()
    steps = row_major_steps(shape)
    coordinates = np.unravel_index(inner, shape)
    still = {steps[axis] for axis, c in enumerate(coordinates) if (c == c[0]).all()}
    clashing = {key for key in cell.loops if not any(key.step % step == 0 for step in still)}
    return clashing or {cell.loops[0]}


def _assembled(cell: _Cell, expression: Expression, rule: int, cancellation: float) -> RowBatch | None:
    if cell.matrix is not None:
        return _with_rows(cell, expression, rule, cell.entries, cell.matrix)
    inner, places = ranked(cell.entries)
    uniform = cell.count == 1 and len(cell.values) == len(inner) and (cell.values == cell.values[:1]).all()
    if not uniform and cell.count * len(inner) > LARGEST_CELL:
        return None
    if uniform:
        matrix = np.broadcast_to(cell.values[:1].copy(), (1, len(inner)))
    else:
        matrix = added_up((cell.count, len(inner)), cell.rows, places, cell.values, cancellation)
    return _with_rows(cell, expression, rule, inner, matrix)


def _with_rows(cell: _Cell, expression: Expression, rule: int, inner: Integers, matrix: np.ndarray) -> RowBatch | None:
    outer = Nest(tuple((key.size, key.step) for key in cell.loops))
    rhs = _right_side(cell, expression)
    if any(matrix.strides) and _are_scaled_ties(matrix, rhs) and 2 * expression.size <= LARGEST_TIES:
        return None
    owner = np.full((1, 1), rule).repeat(cell.count, axis=1)
    return row_batch(expression.terms[0].parameter, 0, outer, inner, matrix, rhs, owner)


def _are_scaled_ties(matrix: np.ndarray, rhs: np.ndarray) -> bool:
    """Every equation fixes or ties, and some tie is more than `x == y` or `x == -y`."""
    used = matrix != 0
    lengths = used.sum(axis=1)
    if (lengths > 2).any():
        return False
    sizes = np.abs(matrix)
    scaled = sizes.max(axis=1) != np.where(used, sizes, np.inf).min(axis=1)
    return bool(((lengths == 2) & (scaled | rhs.any(axis=0))).any())


def _right_side(cell: _Cell, expression: Expression) -> np.ndarray:
    constant = np.asarray(expression.constant, np.float64)
    if constant.ndim == 0:
        return np.full((1, cell.count), -float(constant))
    order = [*(key.axis for key in cell.loops), *cell.axes]
    full = np.broadcast_to(-constant, expression.shape).transpose(order)
    return full.reshape(-1, cell.count)
