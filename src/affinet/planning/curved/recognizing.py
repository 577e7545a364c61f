"""Recognise nonlinear rules of a known form: vectors of given or bounded lengths, and orthonormal rows or columns.

Such a rule is read from its terms, in a time that does not grow with its entries, if no other rule reads its weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from affinet.blocks.ball import Ball
from affinet.blocks.curved import Curved
from affinet.blocks.entry_sets import View
from affinet.blocks.offsets import Dim, Nest, merged
from affinet.blocks.places import Stepped
from affinet.blocks.regular import RowBatch
from affinet.blocks.sphere_cells import SphereCells
from affinet.blocks.stiefel_cells import StiefelCells
from affinet.language.affine import Affine
from affinet.language.arithmetic import subtract
from affinet.language.calculus.terms import Floats, is_identity, row_major_steps
from affinet.language.expression import Expression
from affinet.language.nodes import Node, same, weights_of
from affinet.language.rearranging import swap
from affinet.planning.reading.term_patterns import read, read_view
from affinet.system.layout import Layout
from affinet.system.system import Rule, System, coefficients


def recognized(system: System, numbers: Sequence[int]) -> tuple[list[Curved | Ball], list[int]]:
    """The blocks of the numbered rules that have a known form, and the numbers of the others."""
    readers = Counter(
        name for rule in system.every for name in {parameter.name for parameter in weights_of([rule.expression.affine])}
    )
    blocks: list[Curved | Ball] = []
    remaining: list[int] = []
    for number in numbers:
        rule = system.rule(number)
        is_separate = all(readers[parameter.name] == 1 for parameter in weights_of([rule.expression.affine]))
        block = _block(rule, number, system) if is_separate else None
        if block is None:
            remaining.append(number)
        else:
            blocks.append(block)
    return blocks, remaining


def _block(rule: Rule, number: int, system: System) -> Curved | Ball | None:
    affine = rule.expression.affine
    squares = _squares(affine, number, system)
    if rule.sense != "==":
        return None if squares is None else squares.balls(number, rule.sign)
    return _orthonormal(affine, number, system) if squares is None else squares.spheres(number)


@dataclass(frozen=True, eq=False)
class _Squares:
    """`Σ a w²` and `r` with positive a and r, in cells of one weight.

    The rule states `side · (Σ a w² − r)`.
    """

    entries: Stepped
    shape: tuple[int, int]
    coefficients: Floats
    values: Floats
    side: float

    def spheres(self, number: int) -> Curved:
        if self._is_uniform:
            sphere = SphereCells(self.shape, np.ones((1, 1)), self._radius)
        else:
            sphere = SphereCells(self.shape, np.ascontiguousarray(self.coefficients), np.sqrt(self.values))
        return Curved(self.entries, sphere, None, self.shape[0], (number,))

    def balls(self, number: int, sign: float) -> Ball | None:
        """The balls of a rule that is violated where its expression has this sign; None for ellipsoids."""
        if not self._is_uniform or sign * self.side < 0.0 or not np.isfinite(self.values).all():
            return None
        return Ball(self.entries, *self.shape, 2, self._radius, (number,))

    @property
    def _is_uniform(self) -> bool:
        coefficients = self.coefficients
        return not any(coefficients.strides) or bool((coefficients == coefficients.flat[0]).all())

    @property
    def _radius(self) -> Floats:
        return np.asarray(np.sqrt(self.values / float(self.coefficients.flat[0])))


def _squares(affine: Affine, number: int, system: System) -> _Squares | None:
    """`Σ a w² == r`, or the square root of such a sum, in cells of one weight or of a box of its entries."""
    root_side, affine = _squared(affine) or (1.0, affine)
    squares = affine.terms[0].parameter
    if not isinstance(squares, Node) or squares.kind != "power" or squares.exponent != 2:
        return None
    box = _box(squares.operands[0])
    batch = read(Expression(affine), number, system.tolerance.cancellation)
    if box is None or not isinstance(batch, RowBatch) or len(batch.matrix) != 1 or batch.parameter != squares:
        return None
    places = _places_in(box, squares.shape, batch)
    coefficients, values, side = batch.matrix, batch.rhs, root_side
    if (coefficients < 0.0).all():
        coefficients, values, side = -coefficients, -values, -side
    if places is None or not (coefficients > 0.0).all() or not (values > 0.0).all():
        return None
    return _Squares(places, (batch.cells, batch.inner.size), coefficients, values, side)


def _squared(affine: Affine) -> tuple[float, Affine] | None:
    """The sign of a and `x == c²` of the rule `a sqrt(x) == a c` with positive c; None for another rule."""
    if len(affine.terms) != 1:
        return None
    term, constant = affine.terms[0], np.asarray(affine.constant, np.float64)
    root = term.parameter
    if not isinstance(root, Node) or root.kind != "sqrt" or not is_identity(replace(term, scalar=1.0), affine.shape):
        return None
    lengths = -constant / term.scalar
    if not (lengths > 0.0).all():
        return None
    squares = lengths * lengths
    right = replace(affine, terms=(), constant=squares if squares.ndim else float(squares))
    return float(np.sign(term.scalar)), subtract(root.operands[0], right)


def _orthonormal(affine: Affine, number: int, system: System) -> Curved | None:
    """`W Wᵀ == I` or `Wᵀ W == I` of a matrix or a box of it, or the equations on and above its diagonal."""
    nodes = {term.parameter for term in affine.terms}
    products = affine.terms[0].parameter
    if len(nodes) != 1 or not isinstance(products, Node) or products.kind != "matmul" or len(products.shape) != 2:
        return None
    left, right = products.operands
    if not same(swap(left, -2, -1, left.wording), right):
        return None
    of_rows, of_columns = _box(left), _box(right)
    box = of_rows or of_columns
    size, width = left.shape
    if box is None or size > width or not _says_identity(affine, products, system):
        return None
    shape = (1, *(left.shape if of_rows is not None else right.shape))
    places = Stepped(box.parameter, box.offset, Nest(()), Nest(merged(box.dims)))
    stiefel = StiefelCells((1, shape[1], shape[2]), of_columns=of_rows is None)
    return Curved(places, stiefel, None, stiefel.equations, (number,))


def _says_identity(affine: Affine, products: Node, system: System) -> bool:
    """Whether each equation sets one product to its value in the identity, and each pair of rows has an equation."""
    layout = Layout((products,))
    rows = coefficients(layout, (0,), (affine.shape,), (affine.terms,), system.tolerance.cancellation)
    if (rows.lengths != 1).any():
        return False
    size = products.shape[0]
    first, second = np.divmod(rows.columns, size)
    constant = np.broadcast_to(np.asarray(affine.constant, np.float64), affine.shape).reshape(-1)
    if not (-constant == rows.values * (first == second)).all():
        return False
    covered = np.zeros((size, size), bool)
    covered[np.minimum(first, second), np.maximum(first, second)] = True
    return bool(covered[np.triu_indices(size)].all())


def _box(affine: Affine) -> View | None:
    """The box of entries of one weight of which an expression is made, entry by entry and in ascending order."""
    if len(affine.terms) != 1 or np.any(affine.constant) or isinstance(affine.terms[0].parameter, Node):
        return None
    term = affine.terms[0]
    box = read_view(term, [axis for axis, n in enumerate(affine.shape) if n > 1])
    if box is None or term.scalar != 1.0 or any(step <= 0 for _, step in box.dims):
        return None
    reaches = [(size - 1) * step for size, step in box.dims]
    is_ascending = all(step > sum(reaches[k + 1 :]) for k, (_, step) in enumerate(box.dims))
    return box if is_ascending else None


def _places_in(box: View, shape: tuple[int, ...], batch: RowBatch) -> Stepped | None:
    """The places in a weight of the cells of a node of this shape, whose entries are those of the box."""
    axes = [(size, near) for size, near in zip(shape, row_major_steps(shape), strict=True) if size > 1]
    steps = [step for _, step in box.dims]
    if batch.inner.size * batch.cells == prod(shape) and box.dims == tuple(axes):
        return Stepped(box.parameter, box.offset + batch.offset, batch.outer, batch.inner)
    if not isinstance(batch.outer, Nest) or not isinstance(batch.inner, Nest):
        return None
    ends = [batch.offset // near % size for size, near in axes]
    offset = box.offset + sum(end * step for end, step in zip(ends, steps, strict=True))
    nests = []
    for nest in (batch.outer, batch.inner):
        dims: list[Dim] = []
        for count, stride in nest.dims:
            loops = _split(count, stride, axes)
            if loops is None:
                return None
            for axis, size, move in loops:
                dims.append((size, move * steps[axis]))
                ends[axis] += (size - 1) * move
        nests.append(Nest(merged(dims)))
    is_inside = all(end < size for end, (size, _) in zip(ends, axes, strict=True))
    return Stepped(box.parameter, offset, *nests) if is_inside else None


def _split(count: int, stride: int, axes: Sequence[Dim]) -> list[tuple[int, int, int]] | None:
    """A loop over a row-major array as loops of (axis, size, move) along its axes, the last one fastest.

    Loops end inside their axes only if they begin there, which is for the caller to test. None where the loop is no
    sequence of whole axes.
    """
    loops: list[tuple[int, int, int]] = []
    for axis in reversed(range(len(axes))):
        size, near = axes[axis]
        move, remainder = divmod(stride, near)
        if count == 1 or remainder or move <= 0:
            break
        if move >= size:
            continue
        if (count - 1) * move < size:
            return [(axis, count, move), *loops]
        whole = size // move
        if size % move or count % whole:
            return None
        loops.insert(0, (axis, whole, move))
        count, stride = count // whole, near * size
    return loops if count == 1 else None
