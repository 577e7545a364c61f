"""A case of conformance: rules over start weights, and the truth about them that a binding is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.weights import weights
from affinet.plans.plan import Plan, compiled
from affinet.system.limits import Limits
from affinet.system.system import System

Arrays = Mapping[str, np.ndarray]
"""The numbers of each weight, by name."""
Kind = Literal["linear equations", "inequalities", "nonlinear equations"]
KINDS: tuple[Kind, ...] = ("linear equations", "inequalities", "nonlinear equations")


class Truth(Protocol):
    """Right answers in float64, computed without the language, the planning and the kernels of affinet."""

    @property
    def rows(self) -> int:
        """The number of equations and inequalities."""

    @property
    def condition(self) -> float:
        """The condition number of the rows."""

    def nearest(self, weights: Arrays) -> Arrays:
        """The nearest point that satisfies the rules."""

    def tangent(self, vectors: Arrays, at: Arrays) -> Arrays:
        """The nearest vectors along which `at`, a point that satisfies the rules, can move a little."""

    def optimum(self, quadratic: Quadratic) -> Arrays:
        """The minimum of a quadratic among the points that satisfy the rules."""

    def excess(self, weights: Arrays, sets: int) -> tuple[Floats, Floats]:
        """By how much each row is violated, and how many units of that a spacing of the dtype allows."""

    def equal(self) -> tuple[tuple[int, int, float], ...]:
        """Pairs of entries that are equal to the bit (1) or opposite (-1), numbered in the order of the weights."""


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The loss `½ Σ curvature · (weights − target)²`, over all weights of a case."""

    target: Arrays
    curvature: Arrays

    def value(self, weights: Arrays) -> float:
        """The loss at weights, in float64."""
        squares = [self.curvature[name] * np.square(weights[name] - self.target[name]) for name in self.target]
        return 0.5 * float(sum(np.sum(values) for values in squares))

    def gradient(self, weights: Arrays) -> Arrays:
        """`curvature · (weights − target)`, which is written in any array library in the same way."""
        return {name: self.curvature[name] * (weights[name] - self.target[name]) for name in self.target}


@dataclass(frozen=True, eq=False)
class Case:
    """Rules over weights of given shapes, with numbers to project and a loss to minimise.

    `rules` takes `affinet.weights(shapes)`, or the weights of any model with these names. `bystanders` are the weights
    that no rule is about. `limits` are those of planning, by which small rules may get the blocks of large ones. Arrays
    are float64; those in another dtype follow by rounding.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    rules: Callable[[Any], list[Any]] = field(repr=False)
    truth: Truth = field(repr=False)
    weights: Arrays = field(repr=False)
    vectors: Arrays = field(repr=False)
    quadratic: Quadratic = field(repr=False)
    bystanders: tuple[str, ...] = ()
    limits: Limits = field(default=Limits(), repr=False)
    kind: Kind = "linear equations"

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    @cached_property
    def plan(self) -> Plan:
        """The plan of the rules over `shapes`."""
        return compiled(System.of(self.rules(weights(dict(self.shapes))), limits=self.limits))

    @property
    def projection(self) -> Arrays:
        """The nearest point to the start weights."""
        return self.truth.nearest(self.weights)

    @property
    def tangent(self) -> Arrays:
        """The part of `vectors` along which the rules stay as they are, at the projection."""
        return self.truth.tangent(self.vectors, self.projection)

    @property
    def optimum(self) -> Arrays:
        """The minimum of the quadratic among the weights that satisfy the rules."""
        return self.truth.optimum(self.quadratic)
