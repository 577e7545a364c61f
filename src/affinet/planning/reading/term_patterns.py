"""Read the regular form of a rule from its terms, in time that grows with its description and not with its entries."""

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
from affinet.planning.factors.panels import dense_pieces, join_pieces
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import added_up

LARGEST_CELL = 2**23
"""Largest number of coefficients in the matrix of a cell; larger rules are read one equation at a time."""
LARGEST_TIES = 4_000_000
"""Scaled and shifted ties of at most this many pairs are read one by one, so that each holds to its own rounding. As
slices they hold to the rounding of the largest entry of their cell."""

Regular = RowBatch | Mirror | Pairs


def read(expression: Expression, rule: int, cancellation: float) -> Regular | None:
    """The regular form of a rule; None if the rule must be read one equation at a time.

    Coefficients of one entry that add up to at most `cancellation` of their size count as zero.
    """
    if not expression.terms or not expression.size:
        return None
    return _read_pair(expression, rule) or _read_batch(expression, rule, cancellation)


def read_shifted(expression: Expression) -> tuple[View, int, float] | None:
    """Read `a · (w[i + 1] − w[i]) + constant` along one loop of a box: the box, the number of the loop, and a."""
    terms = expression.terms
    if len(terms) != 2 or terms[0].scalar != -terms[1].scalar or terms[0].parameter != terms[1].parameter:
        return None
    axes = [axis for axis, n in enumerate(expression.shape) if n > 1]
    first, second = (read_view(term, axes) for term in terms)
    if first is None or second is None or first.dims != second.dims:
        return None
    if any(step < 0 for _, step in first.dims):
        return None
    low, scalar = (first, terms[1].scalar) if first.offset < second.offset else (second, terms[0].scalar)
    shift = abs(first.offset - second.offset)
    matching = [axis for axis, (_, step) in enumerate(first.dims) if step == shift]
    if len(matching) != 1 or len(expression.shape) != len(axes):
        return None
    dims = tuple((n + (axis == matching[0]), step) for axis, (n, step) in enumerate(first.dims))
    box = View(first.parameter, low.offset, dims)
    return (box, matching[0], scalar) if disjoint_sums(Nest(dims), Nest(())) else None


def _read_pair(expression: Expression, rule: int) -> Mirror | Pairs | None:
    """Read `a · x − b · y == c`, with x and y two boxes of entries."""
    terms = expression.terms
    if len(terms) != 2:
        return None
    axes = [axis for axis, n in enumerate(expression.shape) if n > 1]
    first, second = (read_view(term, axes) for term in terms)
    if first is None or second is None:
        return None
    constant = np.asarray(expression.constant, np.float64)
    ratio, shift = -terms[1].scalar / terms[0].scalar, -constant / terms[0].scalar
    if shift.ndim:
        shift = np.broadcast_to(shift, expression.shape).reshape([expression.shape[axis] for axis in axes])
    if _are_disjoint(first, second):
        return Pairs(first, second, ratio, shift, (rule,))
    return _read_mirror(first, second, ratio, shift, rule)


def read_view(term: Term, axes: list[int]) -> View | None:
    """The box of which a term reads one entry per output, loops in output order; None if it does not."""
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


def _are_disjoint(first: View, second: View) -> bool:
    if first.parameter != second.parameter:
        return True
    (a, b), (c, d) = first.span, second.span
    return b < c or d < a


def _read_mirror(first: View, second: View, ratio: float, shift: np.ndarray, rule: int) -> Mirror | None:
    """Read two views of one box as a mirror, if the permutation and flips of the second are their own inverse."""
    if abs(ratio) != 1.0 or any(step < 0 for _, step in first.dims) or first.span != second.span:
        return None
    places = {(size, step): k for k, (size, step) in enumerate(first.dims)}
    images = [places.get((size, abs(step))) for size, step in second.dims]
    if any(k is None for k in images) or len(set(images)) != len(images):
        return None
    permutation = tuple(k for k in images if k is not None)
    flips = tuple(k for k, (_, step) in enumerate(second.dims) if step < 0)
    is_involution = all(permutation[permutation[k]] == k for k in range(len(permutation)))
    if not is_involution or any((permutation[k] in flips) != (k in flips) for k in range(len(permutation))):
        return None
    mirrored_shift = np.flip(np.transpose(shift, permutation), flips) if shift.ndim else shift
    if not np.array_equal(mirrored_shift, -ratio * shift):
        return None
    return Mirror(first, permutation, flips, ratio, shift, (rule,))


def _read_batch(expression: Expression, rule: int, cancellation: float) -> RowBatch | None:
    """Read one small matrix over regular cells of one parameter: the loops that all terms share run over the cells."""
    terms = expression.terms
    parameter = terms[0].parameter
    if any(term.parameter != parameter for term in terms):
        return None
    shared_loops = set.intersection(
        *({_make_key(v, term) for v in term.variables if _is_regular_loop(v, term)} for term in terms)
    )
    while True:
        cell = _make_cell(expression, {key for key in shared_loops if key is not None}, cancellation)
        if cell is None:
            return None
        clashing = _find_clashing(cell, parameter.shape)
        if not clashing:
            return _assemble(cell, expression, rule, cancellation)
        shared_loops -= clashing


@dataclass(frozen=True)
class _Key:
    """A loop that moves along one output axis and one box of entries by regular steps."""

    axis: int
    start: int
    size: int
    step: int


@dataclass(frozen=True, eq=False)
class _Cell:
    """A rule without its shared loops: (row, entry, value) triples, the axes of the rows, and the loops over cells.

    A large full matrix over the entries is stored in `matrix` instead of the triples.
    """

    terms: tuple[Term, ...]
    loops: tuple[_Key, ...]
    axes: tuple[int, ...]
    rows: Integers
    entries: Integers
    values: np.ndarray
    count: int
    matrix: np.ndarray | None = None


def _is_regular_loop(variable: Variable, term: Term) -> bool:
    if not isinstance(variable.source, int) or variable.source <= 0 or len(variable.outputs) != 1:
        return False
    axis, step = variable.outputs[0]
    only_loop = term.variables_on(axis) == [term.variables.index(variable)]
    in_factor = any(term.variables.index(variable) in factor.variables for factor in term.factors)
    return isinstance(step, int) and step == 1 and only_loop and not in_factor and variable.size > 1


def _make_key(variable: Variable, term: Term) -> _Key | None:
    if len(variable.outputs) != 1 or not isinstance(variable.source, int):
        return None
    axis = variable.outputs[0][0]
    return _Key(axis, term.start[axis] or 0, variable.size, variable.source)


def _make_cell(expression: Expression, shared: set[_Key], cancellation: float) -> _Cell | None:
    covered = {key for key in shared if key.start == 0 and key.size == expression.shape[key.axis]}
    loops = tuple(sorted(covered, key=lambda key: key.axis))
    looped = {key.axis for key in loops}
    axes = tuple(axis for axis in range(len(expression.shape)) if axis not in looped)
    shape = tuple(expression.shape[axis] for axis in axes)
    reduced = tuple(_remove_loops(term, looped, axes) for term in expression.terms)
    most = max(prod(shape) * max(term.count for term in reduced), sum(term.count for term in reduced))
    if most > LARGEST_CELL:
        pieces = dense_pieces(reduced, shape)
        if pieces is None:
            return None
        entries, matrix = join_pieces(
            pieces, np.concatenate([piece.entries for piece in pieces]), cancellation, expression
        )
        return _Cell(reduced, loops, axes, np.zeros(0, np.int64), entries, np.zeros(0), prod(shape), matrix)
    triples = [lower(term, shape) for term in reduced]
    rows, entries, values = (np.concatenate(parts) for parts in zip(*triples, strict=True))
    return _Cell(reduced, loops, axes, rows, entries, values, prod(shape))


def _remove_loops(term: Term, looped: set[int], axes: tuple[int, ...]) -> Term:
    """The term without the loops along `looped` axes; the remaining `axes` are renumbered."""
    number = {axis: k for k, axis in enumerate(axes)}
    outer_loops = [k for k, v in enumerate(term.variables) if not any(axis in looped for axis, _ in v.outputs)]
    renumbered = {k: n for n, k in enumerate(outer_loops)}
    variables = tuple(
        replace(term.variables[k], outputs=tuple((number[axis], m) for axis, m in term.variables[k].outputs))
        for k in outer_loops
    )
    factors = tuple(replace(f, variables=tuple(renumbered[k] for k in f.variables)) for f in term.factors)
    return replace(term, variables=variables, factors=factors, start=tuple(term.start[axis] for axis in axes))


def _find_clashing(cell: _Cell, shape: tuple[int, ...]) -> set[_Key]:
    """Loops along which cells could share entries: those off the axes on which a cell is one entry wide."""
    if not cell.loops or not len(cell.entries):
        return set()
    inner = distinct(cell.entries)
    dims = tuple((key.size, key.step) for key in cell.loops)
    if disjoint_sums(Nest(dims), compress(inner)[1]):
        return set()
    steps = row_major_steps(shape)
    coordinates = np.unravel_index(inner, shape)
    still_steps = {steps[axis] for axis, c in enumerate(coordinates) if (c == c[0]).all()}
    clashing = {key for key in cell.loops if not any(key.step % step == 0 for step in still_steps)}
    return clashing or {cell.loops[0]}


def _assemble(cell: _Cell, expression: Expression, rule: int, cancellation: float) -> RowBatch | None:
    if cell.matrix is not None:
        return _make_row_batch(cell, expression, rule, cell.entries, cell.matrix)
    inner, places = ranked(cell.entries)
    uniform = cell.count == 1 and len(cell.values) == len(inner) and (cell.values == cell.values[:1]).all()
    if not uniform and cell.count * len(inner) > LARGEST_CELL:
        return None
    if uniform:
        matrix = np.broadcast_to(cell.values[:1].copy(), (1, len(inner)))
    else:
        matrix = added_up((cell.count, len(inner)), cell.rows, places, cell.values, cancellation)
    return _make_row_batch(cell, expression, rule, inner, matrix)


def _make_row_batch(
    cell: _Cell, expression: Expression, rule: int, inner: Integers, matrix: np.ndarray
) -> RowBatch | None:
    outer = Nest(tuple((key.size, key.step) for key in cell.loops))
    rhs = _right_side(cell, expression)
    if any(matrix.strides) and _are_scaled_ties(matrix, rhs) and 2 * expression.size <= LARGEST_TIES:
        return None
    owner = np.full((1, 1), rule).repeat(cell.count, axis=1)
    return row_batch(expression.terms[0].parameter, 0, outer, inner, matrix, rhs, owner)


def _are_scaled_ties(matrix: np.ndarray, rhs: np.ndarray) -> bool:
    """Whether every equation fixes or ties, and a tie has a ratio or a shift, unlike `x == y` and `x == -y`."""
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
