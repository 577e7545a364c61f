"""Rules about kernels and stencils, the last axes of a weight: symmetry under turns, moments that fix a derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import factorial, prod
from numbers import Integral
from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.constants import read_constant
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.matrices import checked_matrices, checked_square
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.families.sharing import tie_to_first
from affinet.language.weight_groups import over_weights
from affinet.language.wording import Word


@over_weights
def rotations(w: Expression, order: int = 4, *, flips: bool = False) -> Constraint:
    """Kernels, the last two axes, are unchanged by a quarter turn (`order=4`) or a half turn (`order=2`).

    With `flips` they are also unchanged by a reflection: the group is D4 (D2) in place of C4 (C2). Turns are about the
    centre of the kernel, whose size may be odd or even; quarter turns need square kernels. In a (2k + 1) × (2k + 1)
    kernel C4 leaves k² + k + 1 numbers free, D4 (k + 1)(k + 2) / 2.
    A half turn is one strided pair of views. The others tie the places of an orbit to its first place, by one table of
    n² numbers for a stack of kernels. This is less to solve and eight times as exact as `w == rot90(w)`, a quarter of
    whose equations is redundant.
    """
    if order not in (2, 4) or isinstance(order, bool):
        raise RuleError(f"rotations takes order=4 (quarter turns) or order=2 (half turns); got {order!r:.60}.")
    w = checked_square("rotations of order 4", w) if order == 4 else checked_matrices("rotations", w)
    options: dict[str, Any] = {"flips": True} if flips else {}
    if order == 2 and not flips:
        rule = w == w.flip(-2, -1)
    else:
        rule = tie_to_first(w.flatten(-2), _orbit_numbers(w.shape[-2:], order, flips).reshape(-1), None) == 0
    return named_rule(rule, "rotations", w, order=int(order), **options)


def _orbit_numbers(shape: tuple[int, ...], order: int, flips: bool) -> Integers:
    """The number of every place's orbit: the smallest place in it."""
    places = np.arange(prod(shape)).reshape(shape)
    turns = [np.rot90(places, k) for k in range(0, 4, 4 // order)]
    orbit: Integers = np.minimum.reduce([*turns, *(np.flip(turn, 1) for turn in turns if flips)])
    return orbit


@over_weights
def moments(w: Expression, offsets: Any, *, derivative: int | Sequence[int], order: int) -> Constraint:
    """`Σ_j w[..., j] x_j^p / p! == (1 if p == derivative else 0)` for p = 0, …, order - 1: a stencil for a derivative.

    `offsets` x are the points at which the last axis samples, in units of length (multiply by the spacing of the grid).
    A stencil that satisfies this differentiates polynomials of degree below `order` exactly, so it approximates the
    derivative to the order `order - derivative` of the spacing. For several axes `derivative` is a tuple, `offsets` a
    list with one array per axis, and the moments `Π_a x_a^{p_a} / p_a!` of all p with `Σ p_a < order` are fixed.
    Errors: `ShapeError` where offsets do not fit the axes, `RuleError` where no moment would fix the derivative.
    Source: Fornberg 1988, Generation of finite difference formulas; the matrix is a scaled Vandermonde matrix.
    """
    w = checked_expression("moments", w)
    degrees, points, epsilon = _grid(w, offsets, derivative)
    if isinstance(order, bool) or not isinstance(order, Integral) or order <= sum(degrees):
        raise RuleError(
            f"order must be an integer above {sum(degrees)}, the order of the derivative; got {order!r:.60}. Moments "
            f"below that order do not determine the derivative."
        )
    powers = [p for p in product(range(int(order)), repeat=len(points)) if sum(p) < order]
    matrix = np.stack([_monomial(points, p) for p in powers])
    targets = np.array([float(p == degrees) for p in powers])
    flat = w if len(points) == 1 else w.flatten(w.ndim - len(points))
    rule = flat @ matrix.T == targets
    affine = replace(rule.expression.affine, epsilon=max(rule.expression.epsilon, epsilon))
    rule = replace(rule, expression=Expression(affine))
    arguments = {"offsets": _points_text(points), "derivative": degrees[0] if len(degrees) == 1 else degrees}
    return named_rule(rule, "moments", w, **arguments, order=int(order))


def _grid(w: Expression, offsets: Any, derivative: int | Sequence[int]) -> tuple[tuple[int, ...], list[Floats], float]:
    """The order of the derivative and the offsets along each axis, and the spacing of their dtype."""
    on_many_axes = isinstance(derivative, Sequence) and not isinstance(derivative, str)
    degrees = tuple(derivative) if isinstance(derivative, Sequence) else (derivative,)
    if not degrees or not all(
        isinstance(degree, Integral) and not isinstance(degree, bool) and degree >= 0 for degree in degrees
    ):
        raise RuleError(f"derivative must be an integer that is at least 0, or one per axis; got {derivative!r:.60}.")
    constants = [read_constant(x) for x in (offsets if on_many_axes else [offsets])]
    shapes = tuple(x.shape for x in constants)
    axes = w.shape[w.ndim - len(degrees) :] if w.ndim >= len(degrees) else ()
    if shapes != tuple((n,) for n in axes) or len(shapes) != len(degrees):
        raise ShapeError(
            f"the offsets of a stencil are one array for each of its {len(degrees)} axes, of the length of the axis: "
            f"({w}) has shape {w.shape}, and the offsets have {', '.join(map(str, shapes)) or 'none'}."
        )
    return (
        tuple(int(degree) for degree in degrees),
        [np.broadcast_to(x.values, x.shape) for x in constants],
        max(x.epsilon for x in constants),
    )


def _monomial(points: Sequence[Floats], powers: Sequence[int]) -> Floats:
    """`Π_a x_a^{p_a} / p_a!` on the grid, flattened row-major."""
    grid = np.ones(())
    for x, p in zip(points, powers, strict=True):
        grid = grid[..., None] * (x**p / factorial(p))
    return grid.reshape(prod(len(x) for x in points))


def _points_text(points: Sequence[Floats]) -> Word:
    texts = [f"[{', '.join(f'{x:g}' for x in axis)}]" if len(axis) <= 6 else f"array({len(axis)})" for axis in points]
    return Word(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
