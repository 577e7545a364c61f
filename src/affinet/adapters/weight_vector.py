"""Lay the weights of a plan end to end in one vector, for solvers that know no names, and read them back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.errors import ConstantError, RuleError, ShapeError, UnknownWeightError, UnsupportedWeightError
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.constants import read_array
from affinet.language.weights import weights as weights_of
from affinet.plans.plan import Plan
from affinet.system.layout import Layout


@dataclass(frozen=True, eq=False)
class WeightVector:
    """Which entry of which weight each number of a vector is: weights by name, each flattened row-major.

    The layout has the weights of the plan, and further weights about which the plan has no rule.
    """

    layout: Layout
    plan: Plan

    @classmethod
    def of(cls, plan: Plan, weights: Mapping[str, Any] | None = None) -> WeightVector:
        """The vector of the weights that the rules of a plan read; with `weights`, of all weights in them too.

        `weights` maps names to shapes or arrays. Raises ShapeError for a shape that is not that of the plan, and
        RuleError for what is not a plan.
        """
        if not isinstance(plan, Plan):
            raise RuleError(f"affinet.scipy takes a plan, affinet.plan(rules), and not {type(plan).__name__}.")
        symbols = {} if weights is None else dict(weights_of(weights).items())
        further = [Parameter(name, symbol.shape) for name, symbol in symbols.items()]
        for parameter in plan.parameters:
            if parameter.name in symbols and symbols[parameter.name].shape != parameter.shape:
                raise _other_shape(parameter, symbols[parameter.name].shape)
        return cls(Layout.of([*plan.parameters, *further]), plan)

    @property
    def size(self) -> int:
        return self.layout.size

    @cached_property
    def columns(self) -> Integers:
        """The places in the vector of the entries of the plan, in the order of the plan's system."""
        parts = [self.layout.start(parameter) + np.arange(parameter.size) for parameter in self.plan.parameters]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def to_vector(self, weights: Mapping[str, Any]) -> Floats:
        """All weights in one float64 vector; other names in `weights` are passed over.

        Raises UnknownWeightError for a missing weight, ShapeError for another shape, UnsupportedWeightError for
        what is not an array of real numbers, RuleError for what is not a mapping.
        """
        if not isinstance(weights, Mapping):
            raise RuleError(
                f"to_vector takes a mapping from names to arrays, such as dict(model.named_parameters()), and not "
                f"{type(weights).__name__}."
            )
        return np.concatenate([np.zeros(0), *(_numbers(weights, parameter) for parameter in self.layout.parameters)])

    def from_vector(self, vector: Any) -> dict[str, Floats]:
        """Name → a new float64 array of the weight's shape.

        Raises ShapeError for a vector of another length, ConstantError for what is not a vector of real numbers.
        """
        array = _array(vector)
        if array.dtype.kind not in "biuf":
            raise ConstantError(f"the vector is of dtype {array.dtype}. Give real numbers.")
        numbers = np.array(array, np.float64)
        if numbers.shape != (self.size,):
            names = ", ".join(f"{parameter.name} {parameter.shape}" for parameter in self.layout.parameters[:20])
            raise ShapeError(
                f"the vector has shape {numbers.shape}, and its weights ({names}) take shape {(self.size,)}. Give a "
                f"vector in the order of to_vector."
            )
        return {
            parameter.name: numbers[start : start + parameter.size].reshape(parameter.shape)
            for parameter, start in zip(self.layout.parameters, self.layout.starts, strict=True)
        }


def to_vector(plan: Plan, weights: Mapping[str, Any]) -> Floats:
    """The weights that the rules of a plan read, in one float64 vector: by name, each flattened row-major.

    Raises UnknownWeightError for a missing weight, ShapeError for another shape, UnsupportedWeightError for what is not
    an array of real numbers, RuleError for what is not a plan or not a mapping.
    """
    return WeightVector.of(plan).to_vector(weights)


def from_vector(plan: Plan, vector: Any) -> dict[str, Floats]:
    """The inverse of `to_vector`: name → a new float64 array. Raises ShapeError for a vector of another length."""
    return WeightVector.of(plan).from_vector(vector)


def _numbers(weights: Mapping[str, Any], parameter: Parameter) -> Floats:
    if parameter.name not in weights:
        raise UnknownWeightError(parameter.name, [str(name) for name in weights])
    try:
        array = _array(weights[parameter.name])
    except ConstantError as error:
        raise UnsupportedWeightError(parameter.name, error.message.rstrip("."), "Give an array of numbers.") from None
    if array.dtype.kind not in "biuf":
        raise UnsupportedWeightError(parameter.name, f"its dtype is {array.dtype}", "Give real numbers.")
    if array.shape != parameter.shape:
        raise _other_shape(parameter, array.shape)
    return np.asarray(array, np.float64).reshape(-1)


def _array(value: Any) -> NDArray[Any]:
    """The numbers of any array; of a tensor of torch also where it requires gradients. Raises ConstantError."""
    torch = sys.modules.get("torch")
    return read_array(value.detach() if torch is not None and isinstance(value, torch.Tensor) else value)[0]


def _other_shape(parameter: Parameter, shape: tuple[int, ...]) -> ShapeError:
    return ShapeError(
        f"{parameter.name} has shape {tuple(shape)}, and the rules are about a weight of shape {parameter.shape}. "
        f"Give the weights that the rules were made for."
    )
