"""Support for another array library, held to the cases of `affinet.testing`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import affinet
import affinet.testing
from affinet.errors import ConformanceError, UnsupportedWeightError
from tests.errors.case import case


class Unprojected:
    """A binding that returns what it is given."""

    def __init__(self, plan: affinet.Plan, weights: Mapping[str, np.ndarray]) -> None:
        pass

    def project(self, weights: Mapping[str, np.ndarray]) -> Any:
        return weights

    def tangent(self, vectors: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray]) -> Any:
        return vectors


class Transposed(Unprojected):
    """A binding that returns transposed matrices."""

    def project(self, weights: Mapping[str, np.ndarray]) -> Any:
        return {name: array.T for name, array in weights.items()}


@case(ConformanceError, "A binding does not project weights.", "Compare its projection with the truth of the case.")
def a_binding_that_does_not_project() -> None:
    affinet.testing.check(Unprojected, affinet.testing.cases()[0])


@case(ConformanceError, "A binding returns other shapes.", "Return every weight as it was given.")
def a_binding_that_returns_other_shapes() -> None:
    affinet.testing.check(Transposed, affinet.testing.cases()[0])


@case(UnsupportedWeightError, "Cases have no numbers in this dtype.", "Check float32 and float64.")
def a_case_in_integers() -> None:
    affinet.testing.check(affinet.Plan.projector, affinet.testing.cases()[0], "int64")


@case(NotImplementedError, "A case has no linear equations.", "Decline it, by letting the error pass.")
def the_equations_of_a_simplex() -> None:
    affinet.testing.equations(next(case for case in affinet.testing.cases() if case.name == "simplex"))
