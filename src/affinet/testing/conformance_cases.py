"""The cases of conformance: each kind of equations, inequalities and nonlinear equations over a few small weights.

Rules are written twice: in the language of affinet, and as residuals in NumPy or as a formula. Numbers are seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np

from affinet.language.families.balls import l2_ball
from affinet.language.families.bounds import between
from affinet.language.families.lengths import unit_norm
from affinet.language.families.matrix_equations import orthogonal
from affinet.language.families.sequences import monotone
from affinet.language.families.sums_of_nonnegative import simplex
from affinet.system.limits import Limits
from affinet.testing.closed_forms import (
    ClosedForm,
    ball_of,
    between_bounds,
    nondecreasing,
    orthogonal_half_spaces,
    orthonormal_rows,
    simplex_of,
    sphere,
)
from affinet.testing.equation_truth import LinearEquations, Residuals
from affinet.testing.truth import Case, Quadratic, Truth

Rules = Callable[[Any], list[Any]]
Shapes = Mapping[str, tuple[int, ...]]

MIXING = np.array([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 1.0]])
NORMALS, LEVELS = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 2.0, -2.0]]), np.array([0.5, 0.25])
PLACES = np.array([[0, 3, 7], [1, 3, 9], [2, 7, 8], [4, 9, 11], [5, 8, 11], [6, 10, 1]])
COEFFICIENTS = np.array([[1, 2, -1], [3, 1, 1], [-1, 1, 2], [2, 1, 1], [1, -1, 3], [1, 2, 1]], np.float64)
WEIGHTING = np.array([[1.0, -1.0, 0.5], [2.0, 0.0, 1.0], [0.25, 1.0, -2.0]])

AS_LARGE = Limits(one_by_one=0, fixed_from=8)
"""Limits by which the rules of a case become the blocks that those of weights with 65,536 entries become."""
AS_LARGE_COMPONENT = Limits(dense_rows=4)
"""Limits by which connected equations become the block that more than 512 of them become."""


@cache
def cases() -> tuple[Case, ...]:
    """All cases: linear equations, the same planned as those of large weights, inequalities, nonlinear equations."""
    equations = (*_sums(), *_ties(), *_mixed_equations())
    large = [replace(case, name=f"{case.name} as of large weights", limits=AS_LARGE) for case in equations]
    irregular = next(case for case in equations if case.name == "irregular equations")
    sparse = replace(irregular, name=f"{irregular.name} as of many", limits=AS_LARGE_COMPONENT)
    inequalities = (replace(case, kind="inequalities") for case in _inequalities())
    nonlinear = (replace(case, kind="nonlinear equations") for case in _nonlinear())
    return (*equations, *large, sparse, *inequalities, *nonlinear)


def _sums() -> tuple[Case, ...]:
    return (
        _equations(
            "sums of rows", {"w": (4, 5)}, lambda w: [w.w.sum(dim=1) == 1], lambda a: [a["w"].sum(axis=1) - 1.0]
        ),
        _equations(
            "sums of rows and columns",
            {"w": (4, 4)},
            lambda w: [w.w.sum(dim=1) == 1, w.w.sum(dim=0) == 1],
            lambda a: [a["w"].sum(axis=1) - 1.0, a["w"].sum(axis=0) - 1.0],
        ),
        _equations(
            "sums of kernels",
            {"w": (2, 3, 3, 3)},
            lambda w: [w.w.sum(dim=(2, 3)) == 0],
            lambda a: [a["w"].sum(axis=(2, 3))],
        ),
        _equations(
            "sums across two weights",
            {"w": (3, 4), "v": (3,)},
            lambda w: [w.w.sum(dim=1) == w.v],
            lambda a: [a["w"].sum(axis=1) - a["v"]],
        ),
    )


def _ties() -> tuple[Case, ...]:
    return (
        _equations("fixed entries", {"w": (3, 4)}, lambda w: [w.w[0] == 0.25], lambda a: [a["w"][0] - 0.25]),
        _equations("tied weights", {"w": (3, 4), "v": (4,)}, lambda w: [w.w[0] == w.v], lambda a: [a["w"][0] - a["v"]]),
        _equations(
            "opposite weights", {"w": (3, 4), "v": (3, 4)}, lambda w: [w.w == -w.v], lambda a: [a["w"] + a["v"]]
        ),
        _equations(
            "multiples",
            {"w": (3, 4), "v": (4,)},
            lambda w: [w.w[0] == 2 * w.v + 1],
            lambda a: [a["w"][0] - 2.0 * a["v"] - 1.0],
        ),
        _equations(
            "transposed weights", {"w": (3, 4), "v": (4, 3)}, lambda w: [w.w == w.v.T], lambda a: [a["w"] - a["v"].T]
        ),
        _equations("symmetric matrix", {"w": (4, 4)}, lambda w: [w.w == w.w.T], lambda a: [a["w"] - a["w"].T]),
        _equations(
            "symmetric matrix with sums",
            {"w": (4, 4)},
            lambda w: [w.w == w.w.T, w.w.sum(dim=1) == 1],
            lambda a: [a["w"] - a["w"].T, a["w"].sum(axis=1) - 1.0],
        ),
    )


def _mixed_equations() -> tuple[Case, ...]:
    return (
        _equations(
            "matrix times weight",
            {"w": (4, 3)},
            lambda w: [MIXING @ w.w == 0.5],
            lambda a: [MIXING @ a["w"] - 0.5],
        ),
        _equations(
            "tied columns with sums",
            {"w": (3, 4)},
            lambda w: [w.w[:, 0] == w.w[:, 1], w.w.sum(dim=1) == 1],
            lambda a: [a["w"][:, 0] - a["w"][:, 1], a["w"].sum(axis=1) - 1.0],
        ),
        _equations(
            "sums with one more equation",
            {"w": (3, 3)},
            lambda w: [w.w.sum(dim=1) == 1, (WEIGHTING * w.w).sum() == 2],
            lambda a: [a["w"].sum(axis=1) - 1.0, np.atleast_1d((WEIGHTING * a["w"]).sum() - 2.0)],
        ),
        _equations(
            "chain of overlapping equations",
            {"w": (12,)},
            lambda w: [w.w[2:] - 2 * w.w[1:-1] + w.w[:-2] == 0.125],
            lambda a: [a["w"][2:] - 2.0 * a["w"][1:-1] + a["w"][:-2] - 0.125],
        ),
        _equations(
            "irregular equations",
            {"w": (12,)},
            lambda w: [(COEFFICIENTS * w.w[PLACES]).sum(dim=1) == 0.5],
            lambda a: [(COEFFICIENTS * a["w"][PLACES]).sum(axis=1) - 0.5],
        ),
        _equations(
            "sums of two weights with tied columns",
            {"w": (6, 6), "v": (6, 6)},
            lambda w: [*(x.sum(dim=d) == 1 for x in (w.w, w.v) for d in (0, 1)), w.w[:, :2] == w.v[:, 2:4]],
            lambda a: [*(a[n].sum(axis=d) - 1.0 for n in ("w", "v") for d in (0, 1)), a["w"][:, :2] - a["v"][:, 2:4]],
        ),
    )


def _inequalities() -> tuple[Case, ...]:
    return (
        _closed("bounds", (3, 4), lambda w: [between(-0.5, w.w, 0.75)], between_bounds(-0.5, 0.75)),
        _closed("simplex", (3, 5), lambda w: [simplex(w.w, dim=1)], simplex_of(1.0, 5)),
        _closed("order", (3, 6), lambda w: [monotone(w.w, dim=1)], nondecreasing(6)),
        _closed("ball", (3, 4), lambda w: [l2_ball(w.w, 1.0, dim=1)], ball_of(1.0)),
        _closed(
            "half-spaces",
            (3, 4),
            lambda w: [w.w @ NORMALS.T <= LEVELS],
            orthogonal_half_spaces(NORMALS, LEVELS),
            isotropic=True,
        ),
    )


def _nonlinear() -> tuple[Case, ...]:
    return (
        _closed("unit rows", (3, 4), lambda w: [unit_norm(w.w, dim=1)], sphere()),
        _closed("orthonormal rows", (3, 5), lambda w: [orthogonal(w.w)], orthonormal_rows(3), isotropic=True),
    )


def _equations(name: str, shapes: Shapes, rules: Rules, residuals: Residuals) -> Case:
    return _case(name, shapes, rules, LinearEquations(shapes, residuals))


def _closed(name: str, shape: tuple[int, ...], rules: Rules, truth: ClosedForm, *, isotropic: bool = False) -> Case:
    return _case(name, {"w": shape}, rules, truth, isotropic=isotropic)


def _case(name: str, shapes: Shapes, rules: Rules, truth: Truth, *, isotropic: bool = False) -> Case:
    """The case with seeded numbers, and a further weight `free` that no rule is about.

    Curvatures are between 1 and 2, so that plain gradient descent reaches the optimum in a few dozen steps.
    """
    dice = np.random.default_rng(crc32(name.encode()))
    every = {**shapes, "free": (3,)}
    weights, vectors, target = ({n: dice.standard_normal(s) for n, s in every.items()} for _ in range(3))
    curvature = {n: np.full(s, 1.5) if isotropic else dice.uniform(1.0, 2.0, s) for n, s in every.items()}
    if isinstance(truth, LinearEquations):
        truth = LinearEquations(every, truth.residuals)
    return Case(name, every, rules, truth, weights, vectors, Quadratic(target, curvature), bystanders=("free",))
