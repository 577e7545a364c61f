"""Bindings with one mistake each are refused, by the fact that the mistake breaks and with words that name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import affinet
import affinet.testing
from affinet.errors import ConformanceError
from affinet.testing import Case

Arrays = Mapping[str, np.ndarray]


class Right:
    """The projector for NumPy arrays, without multipliers; each wrong binding changes one verb of it."""

    def __init__(self, plan: affinet.Plan, weights: Arrays) -> None:
        self.projector = plan.projector(weights)

    def project(self, weights: Arrays) -> Any:
        return self.projector.project(weights)

    def tangent(self, vectors: Arrays, at: Arrays) -> Any:
        return self.projector.tangent(vectors, at)


class TheWrongWay(Right):
    """`w + A⁺(A w − b)` instead of `w − A⁺(A w − b)`."""

    def project(self, weights: Arrays) -> Any:
        return {name: 2.0 * weights[name] - x for name, x in self.projector.project(weights).items()}


class InAnotherMetric(Right):
    """All of a row's gap is written to its first entry."""

    def project(self, weights: Arrays) -> Any:
        moved = weights["w"].copy()
        moved[:, 0] += 1.0 - moved.sum(axis=1)
        return {**weights, "w": moved}


class WithoutTangent(Right):
    def tangent(self, vectors: Arrays, at: Arrays) -> Any:
        return vectors


class HalfTangent(Right):
    def tangent(self, vectors: Arrays, at: Arrays) -> Any:
        return {name: 0.5 * (x + vectors[name]) for name, x in self.projector.tangent(vectors, at).items()}


class TiesToRounding(Right):
    """Each of two tied entries by a sum of its own."""

    def project(self, weights: Arrays) -> Any:
        projected = self.projector.project(weights)
        return {**projected, "v": np.nextafter(projected["v"], np.inf)}


class TangentTiesToRounding(Right):
    def tangent(self, vectors: Arrays, at: Arrays) -> Any:
        projected = self.projector.tangent(vectors, at)
        return {**projected, "v": np.nextafter(projected["v"], np.inf)}


class InPlace(Right):
    def project(self, weights: Arrays) -> Any:
        projected = self.projector.project(weights)
        for name, array in weights.items():
            array[...] = projected[name]
        return projected


class TangentInPlace(Right):
    def tangent(self, vectors: Arrays, at: Arrays) -> Any:
        projected = self.projector.tangent(vectors, at)
        for name, array in vectors.items():
            array[...] = projected[name]
        return projected


class MovingBystanders(Right):
    def project(self, weights: Arrays) -> Any:
        return {**self.projector.project(weights), "free": 1.0 * weights["free"] + 1e-12}


class NotIdempotent(Right):
    """Points that satisfy the rules are moved to another point that does."""

    def project(self, weights: Arrays) -> Any:
        projected = self.projector.project(weights)
        settled = np.allclose(weights["w"], projected["w"], atol=1e-12)
        moved = projected["w"] + 1e-6 * np.array([1.0, -1.0, 0.0, 0.0, 0.0]) * settled
        return {**projected, "w": moved.astype(projected["w"].dtype)}


class NotANumber(Right):
    def project(self, weights: Arrays) -> Any:
        return {**self.projector.project(weights), "w": np.full_like(weights["w"], np.nan)}


class InSinglePrecision(Right):
    def project(self, weights: Arrays) -> Any:
        return {name: x.astype(np.float32) for name, x in self.projector.project(weights).items()}


class WithoutAWeight(Right):
    def project(self, weights: Arrays) -> Any:
        return {"w": self.projector.project(weights)["w"]}


class DoubledPrices(Right):
    def multipliers(self, gradients: Arrays, at: Arrays) -> Any:
        return {name: 2.0 * nu for name, nu in self.projector.multipliers(gradients).items()}


class AdamThenProject(Right):
    """The recipe that clamps after the step: gradients reach Adam as they are."""

    def minimize(self, case: Case, weights: Arrays) -> Arrays:
        return trained(case, weights, lambda gradients, at: gradients, self.projector.project)


class AdamWithoutRules(Right):
    def minimize(self, case: Case, weights: Arrays) -> Arrays:
        return trained(case, weights, lambda gradients, at: gradients, lambda weights: weights)


class Sandwich(Right):
    """Gradients are projected before Adam, weights after it."""

    def minimize(self, case: Case, weights: Arrays) -> Arrays:
        return trained(case, weights, self.projector.tangent, self.projector.project)


def trained(case: Case, weights: Arrays, tangent: Callable[..., Any], project: Callable[..., Any]) -> Arrays:
    """600 steps of Adam with a rate that falls to zero (Kingma and Ba, 2015)."""
    weights = project(weights)
    mean, square = ({name: np.zeros_like(x) for name, x in weights.items()} for _ in range(2))
    for step in range(600):
        gradients = tangent(case.quadratic.gradient(weights), weights)
        rate = 0.05 * (1.0 + np.cos(np.pi * step / 600)) / 2.0
        moved = {}
        for name, g in gradients.items():
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g**2
            update = mean[name] / (1.0 - 0.9 ** (step + 1))
            size = np.sqrt(square[name] / (1.0 - 0.999 ** (step + 1))) + 1e-8
            moved[name] = weights[name] - rate * update / size
        weights = project(moved)
    return weights


SUMS, TIES = "sums of rows", "tied weights"
WRONG: list[tuple[type, str, str]] = [
    (TheWrongWay, SUMS, r"'projected weights satisfy the rules' does not hold. It is off by .*Row \d+ of the rules"),
    (TheWrongWay, "simplex", "'projected weights satisfy the rules' does not hold"),
    (TheWrongWay, "unit rows", "'projected weights satisfy the rules' does not hold"),
    (InAnotherMetric, SUMS, "'the projection is the nearest point' .*another point that does is nearer"),
    (
        WithoutTangent,
        SUMS,
        "'the tangent is the nearest direction along the rules' .*came back as they were: gradients",
    ),
    (WithoutTangent, "ball", "'the tangent is the nearest direction along the rules' .*came back as they were"),
    (HalfTangent, SUMS, "'the tangent is the nearest direction along the rules' .*It is not the part of the vectors"),
    (
        TiesToRounding,
        TIES,
        "'projected entries are equal to the bit' .*this has to hold to the bit. .*write one number",
    ),
    (TangentTiesToRounding, TIES, "'tangent entries are equal to the bit' .*drift apart in training"),
    (InPlace, SUMS, "'project keeps what it is given' .*has to return new ones"),
    (TangentInPlace, SUMS, "'tangent keeps what it is given' .*has to return new ones"),
    (MovingBystanders, SUMS, "'project keeps weights in no rule' .*No rule is about free"),
    (NotIdempotent, SUMS, "'projecting twice is projecting once' .*moved by more than rounding"),
    (NotANumber, SUMS, "'projected weights satisfy the rules' does not hold. It is off by nan"),
    (InSinglePrecision, SUMS, r"project returns other arrays .*'w' is \(4, 5\) float32 instead of \(4, 5\) float64"),
    (WithoutAWeight, SUMS, r"'free' is missing instead of \(3,\) float64. It has to return every weight"),
    (DoubledPrices, SUMS, "'multipliers are the prices of the rules' .*nearest to the gradients"),
    (AdamThenProject, SUMS, "'training ends at the optimum' .*gradients reach the optimizer unprojected"),
    (AdamThenProject, "simplex", "'training ends at the optimum' .*projecting weights after its steps alone"),
    (AdamWithoutRules, SUMS, "'trained weights satisfy the rules' does not hold"),
]


@pytest.mark.parametrize(("binding", "name", "words"), WRONG, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_binding_is_refused(binding: type, name: str, words: str) -> None:
    with pytest.raises(ConformanceError, match=words) as refusal:
        affinet.testing.check(binding, case_of(name))
    assert isinstance(refusal.value, AssertionError)
    assert str(refusal.value).startswith(f"case {name!r} in float64: ")


@pytest.mark.parametrize("name", [SUMS, TIES, "unit rows"])
def test_the_right_binding_passes_under_the_same_adam(name: str) -> None:
    affinet.testing.check(Sandwich, case_of(name))


def case_of(name: str) -> Case:
    return next(case for case in affinet.testing.cases() if case.name == name)
