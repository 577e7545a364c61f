"""Hold a binding to the truth of a case: each fact is an error of a result and the bound that rounding allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np

from affinet.errors import ConformanceError, UnsupportedWeightError
from affinet.language.calculus.terms import Floats
from affinet.plans.plan import Plan
from affinet.testing.equation_truth import LinearEquations
from affinet.testing.truth import Arrays, Case

DTYPES = ("float32", "float64")


class Binding(Protocol):
    """The projections of a plan in some array library, between mappings of names to arrays.

    A binding may also have `multipliers(gradients, at)`, by rule as `affinet.Projector.multipliers`, and
    `minimize(case, weights)`, which trains from these weights on the loss `case.quadratic`.
    """

    def project(self, weights: Any) -> Mapping[str, Any]:
        """The nearest point that satisfies the rules; what NumPy can make arrays of."""

    def tangent(self, vectors: Any, at: Any) -> Mapping[str, Any]:
        """The part of vectors along which the rules stay as they are at the weights `at`."""


Bind = Callable[[Plan, Arrays], Binding]
"""Makes the binding of a plan, for weights with the names, shapes and dtype of these arrays."""


@dataclass(frozen=True)
class Conformance:
    """What was measured of a binding on one case: fact → error as a share of its bound, at most 1."""

    case: str
    dtype: str
    shares: Mapping[str, float]

    def __str__(self) -> str:
        width = max(len(fact) for fact in self.shares)
        lines = [f"  {fact:<{width}}  {share:.2g} of its bound" for fact, share in self.shares.items()]
        return "\n".join([f"{self.case} in {self.dtype}", *lines])


@dataclass(frozen=True, eq=False)
class _Fact:
    """The error of a result beyond which it is wrong, and what that means."""

    name: str
    error: float
    bound: float
    meaning: str

    @property
    def share(self) -> float:
        """The error as a share of its bound; a bound of zero is a promise to the bit."""
        if self.bound > 0.0:
            return self.error / self.bound
        return 0.0 if self.error == 0.0 else float("inf")


def check(bind: Bind, case: Case, dtype: str = "float64") -> Conformance:
    """Compare the binding of a case's plan with the truth, at weights rounded to a dtype.

    Bounds are those of docs/numerics.md, and √spacing for what `minimize` returns: near an optimum a loss is flat, so
    that its own rounding hides moves up to that size. Raises ConformanceError, which is an AssertionError, for the
    first fact that does not hold.
    """
    if dtype not in DTYPES:
        raise UnsupportedWeightError(
            f"An array of {dtype}", "cases are in float32 and float64", f"Give dtype as one of {', '.join(DTYPES)}."
        )
    shares = {}
    for fact in _facts(bind, case, dtype):
        if not fact.share <= 1.0:  # NaN included
            raise ConformanceError(case.name, dtype, fact.name, fact.error, fact.bound, fact.meaning)
        shares[fact.name] = fact.share
    return Conformance(case.name, dtype, shares)


def _facts(bind: Bind, case: Case, dtype: str) -> Iterator[_Fact]:
    start = _Start(case, dtype)
    binding = bind(case.plan, start.copies(start.weights))
    yield from _projection_facts(binding, start)
    yield from _tangent_facts(binding, start)
    multipliers = getattr(binding, "multipliers", None)
    if multipliers is not None and isinstance(case.truth, LinearEquations):
        yield _multiplier_fact(multipliers, case.truth, start)
    minimize = getattr(binding, "minimize", None)
    if minimize is not None:
        yield from _optimum_facts(minimize, start)


class _Start:
    """A case in a dtype: the rounded numbers, and what rounding allows."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.dtype = case, np.dtype(dtype)
        self.spacing = float(np.finfo(dtype).eps)
        self.sets = len(case.plan.system.every)
        self.weights, self.vectors = self.rounded(case.weights), self.rounded(case.vectors)
        self.at = self.rounded(case.truth.nearest(self.weights))

    def rounded(self, arrays: Arrays) -> Arrays:
        return {name: np.asarray(array, self.dtype) for name, array in arrays.items()}

    def copies(self, arrays: Arrays) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in arrays.items()}

    def of_two_projections(self, *arrays: Arrays) -> float:
        """How far two computations of a projection may be apart in norm: the arrays are what was put in and came out.

        `8 + 2 s (√m + √n) + √m √n κ² 2⁻⁵² / spacing` spacings of their norms, for s sets that meet.
        """
        truth, entries = self.case.truth, self._entries
        sums = self.sets * (sqrt(truth.rows) + sqrt(entries))
        factor = truth.condition**2 * sqrt(truth.rows * entries) * 2.0**-52 / self.spacing
        return (8.0 + 2.0 * sums + factor) * self.spacing * sum(_norm(x) for x in arrays)

    def of_repetition(self, weights: Arrays) -> float:
        """How far projecting again may move: `1 + √n κ` spacings of the norm."""
        return (1.0 + sqrt(self._entries) * self.case.truth.condition) * self.spacing * _norm(weights)

    @property
    def _entries(self) -> int:
        return sum(array.size for name, array in self.weights.items() if name not in self.case.bystanders)


def _projection_facts(binding: Binding, start: _Start) -> Iterator[_Fact]:
    case, truth = start.case, start.case.truth
    arguments = start.copies(start.weights)
    projected = _checked_arrays(binding.project(arguments), start, "project")
    yield _Fact(
        "project keeps what it is given",
        _gap(arguments, start.weights),
        0.0,
        "the arrays that were given to project have changed; project has to return new ones",
    )
    yield _Fact(
        "project keeps weights in no rule",
        _gap({n: projected[n] for n in case.bystanders}, start.weights),
        0.0,
        f"no rule is about {', '.join(case.bystanders)}, and project changed it",
    )
    yield from _satisfaction(projected, start, "projected weights satisfy the rules")
    yield _Fact(
        "projected entries are equal to the bit",
        _inequality_of_ties(projected, start),
        0.0,
        "entries that the rules make equal or opposite differ; write one number to all of them instead of computing "
        "each from a sum of its own",
    )
    nearest = truth.nearest(start.weights)
    yield _Fact(
        "the projection is the nearest point",
        _distance(projected, nearest),
        start.of_two_projections(start.weights, nearest),
        "the projected weights satisfy the rules, but another point that does is nearer in the Euclidean norm",
    )
    repeated = _checked_arrays(binding.project(start.copies(projected)), start, "project")
    yield _Fact(
        "projecting twice is projecting once",
        _distance(repeated, projected),
        start.of_repetition(projected),
        "weights that satisfy the rules are moved by more than rounding",
    )


def _tangent_facts(binding: Binding, start: _Start) -> Iterator[_Fact]:
    truth = start.case.truth
    arguments = start.copies(start.vectors)
    tangent_part = _checked_arrays(binding.tangent(arguments, start.copies(start.at)), start, "tangent")
    yield _Fact(
        "tangent keeps what it is given",
        _gap(arguments, start.vectors),
        0.0,
        "the arrays that were given to tangent have changed; tangent has to return new ones",
    )
    wanted = truth.tangent(start.vectors, start.at)
    bound = start.of_two_projections(start.vectors, wanted)
    unprojected = _distance(tangent_part, start.vectors) <= bound
    yield _Fact(
        "the tangent is the nearest direction along the rules",
        _distance(tangent_part, wanted),
        bound,
        "the vectors came back as they were: gradients have to be projected too, or optimizers come to rest elsewhere"
        if unprojected
        else "it is not the part of the vectors along which the rules stay as they are",
    )
    yield _Fact(
        "tangent entries are equal to the bit",
        _inequality_of_ties(tangent_part, start),
        0.0,
        "entries that the rules make equal or opposite have tangents that differ, and drift apart in training",
    )


def _multiplier_fact(multipliers: Callable[..., Any], truth: LinearEquations, start: _Start) -> _Fact:
    """Least squares moves by `√(m n) (2 κ + κ² ρ)` roundings (Golub & Van Loan, 4th ed., 5.3.7), ρ a small residual.

    κ is that of the rows as written, which is at most that of rows of norm one times the quotient of their norms.
    """
    case = start.case
    gradients = start.rounded(case.quadratic.gradient(truth.optimum(case.quadratic)))
    prices = multipliers(start.copies(gradients), start.rounded(case.optimum))
    ordered = [prices[rule.name] for rule in case.plan.system.every]
    flat = np.concatenate([np.ravel(np.asarray(value, np.float64)) for value in ordered])
    wanted = np.concatenate(truth.multipliers(gradients))
    sizes = np.linalg.svd(truth.A, compute_uv=False)
    nonzero = sizes[sizes > 1e-12 * sizes[0]]
    condition = float(nonzero[0] / nonzero[-1])
    roundings = sqrt(truth.A.size) * (2.0 * condition + condition**2)
    error = float(np.linalg.norm(flat - wanted)) if flat.shape == wanted.shape else float("nan")
    return _Fact(
        "multipliers are the prices of the rules",
        error,
        roundings * start.spacing * (float(np.linalg.norm(wanted)) + _norm(gradients) / float(nonzero[-1])),
        "ν with Aᵀν nearest to the gradients has another value",
    )


def _optimum_facts(minimize: Callable[..., Any], start: _Start) -> Iterator[_Fact]:
    case = start.case
    trained = _checked_arrays(minimize(case, start.copies(start.weights)), start, "minimize")
    yield from _satisfaction(trained, start, "trained weights satisfy the rules")
    optimum = case.optimum
    yield _Fact(
        "training ends at the optimum",
        _distance(trained, optimum),
        sqrt(start.spacing) * (_norm(optimum) + _norm(case.quadratic.target)),
        f"the trained weights satisfy the rules, but their loss is {case.quadratic.value(trained):.6g} and that of the "
        f"optimum is {case.quadratic.value(optimum):.6g}. Either training was too short, or gradients reach the "
        f"optimizer unprojected: projecting weights after its steps alone ends elsewhere under Adam",
    )


def _satisfaction(weights: Arrays, start: _Start, name: str) -> Iterator[_Fact]:
    gaps, allowed = start.case.truth.excess(weights, start.sets)
    bounds = start.spacing * allowed
    worst = _worst(gaps, bounds)
    yield _Fact(name, float(gaps[worst]), float(bounds[worst]), f"row {worst} of the rules is violated")


def _worst(gaps: Floats, bounds: Floats) -> int:
    """The row that is violated most, relative to its bound; one that is not a number first."""
    shares = np.divide(gaps, bounds, out=np.where(gaps > 0.0, np.inf, 0.0), where=bounds > 0.0)
    return int(np.argmax(np.where(np.isnan(gaps), np.inf, shares)))


def _inequality_of_ties(arrays: Arrays, start: _Start) -> float:
    flat = np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in start.case.shapes])
    gaps = np.array([abs(flat[i] - sign * flat[j]) for i, j, sign in start.case.truth.equal()])
    return float(gaps.max(initial=0.0))


def _checked_arrays(result: Any, start: _Start, verb: str) -> Arrays:
    """The result of a verb as NumPy arrays; raises ConformanceError unless names, shapes and dtypes are those given."""
    arrays = {name: np.asarray(value) for name, value in dict(result).items()}
    wanted = {name: f"{shape} {start.dtype}" for name, shape in start.case.shapes.items()}
    made = {name: f"{array.shape} {array.dtype}" for name, array in arrays.items()}
    if made != wanted:
        raise ConformanceError.of_form(start.case.name, str(start.dtype), verb, made, wanted)
    return arrays


def _gap(arrays: Arrays, wanted: Arrays) -> float:
    gaps = [np.ravel(np.abs(np.asarray(x, np.float64) - wanted[name])) for name, x in arrays.items()]
    return float(np.concatenate([np.zeros(1), *gaps]).max())


def _distance(arrays: Arrays, wanted: Arrays) -> float:
    return _norm({name: np.asarray(arrays[name], np.float64) - wanted[name] for name in wanted})


def _norm(arrays: Arrays) -> float:
    return float(np.linalg.norm([np.linalg.norm(np.asarray(x, np.float64)) for x in arrays.values()]))
