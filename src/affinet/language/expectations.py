"""Rules about expected values: the mean over the data of a function of a batch compares with a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from affinet.errors import ConstantError, RuleError, TruthValueError
from affinet.language.calculus.terms import Floats
from affinet.language.sense import Sense


@dataclass(frozen=True, eq=False)
class Expectation:
    """The mean over the data of what `function` returns; comparing it with a number makes a rule.

    `function` gets what the training loop passes to `handle.terms(...)`, and returns a tensor with one number (or one
    array) per sample that counts, along the first axis. An empty tensor says that the batch has no such sample.
    """

    function: Callable[..., Any]

    __hash__ = None  # type: ignore[assignment]  # `==` makes a rule, so an expectation cannot be a key

    def __eq__(self, other: object) -> ExpectedRule:  # type: ignore[override]
        return _rule(self, "==", other)

    def __le__(self, other: object) -> ExpectedRule:
        return _rule(self, "<=", other)

    def __ge__(self, other: object) -> ExpectedRule:
        return _rule(self, ">=", other)


@dataclass(frozen=True, eq=False)
class ExpectedRule:
    """A rule about an expected value, `E[function(batch)] sense bound`, which `affinet.lagrange` trains towards."""

    function: Callable[..., Any]
    sense: Sense
    bound: Floats
    name: str

    def named(self, name: str) -> ExpectedRule:
        """The same rule under a name."""
        if not isinstance(name, str) or not name.strip():
            raise RuleError(f"the name of a rule must be text that is not empty; got {name!r:.60} for ({self.name}).")
        return replace(self, name=name)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self.name, self.sense)

    def __repr__(self) -> str:
        return f'<ExpectedRule "{self.name}">'


def expectation(function: Callable[..., Any]) -> Expectation:
    """The mean over the data of a function of a batch, to be compared with a number by `==`, `<=` or `>=`.

    `function` gets the arguments of `handle.terms(...)`, and returns a tensor with one number (or array) per sample
    that counts, along its first axis: its mean over all samples of all batches is what the rule is about. Example, at
    most 0.02 of loss for the samples of one class:

        affinet.expectation(lambda output, y: cross_entropy(output[y == 3], y[y == 3], reduction="none")) <= 0.02

    Raises RuleError for what cannot be called.
    """
    if not callable(function):
        raise RuleError(
            f"affinet.expectation takes a function of a batch that returns a number per sample; "
            f"{type(function).__name__} cannot be called."
        )
    return Expectation(function)


def _rule(expected: Expectation, sense: Sense, other: object) -> ExpectedRule:
    name = getattr(expected.function, "__name__", type(expected.function).__name__)
    try:
        bound = np.array(other, np.float64)
    except (TypeError, ValueError):
        bound = np.array(np.nan)
    if not np.isfinite(bound).all():
        raise ConstantError(f"the expected value of {name} is compared with {other!r:.60}; give finite numbers.")
    shown = f"{float(bound):.6g}" if not bound.shape else f"numbers of shape {bound.shape}"
    return ExpectedRule(expected.function, sense, bound, f"E[{name}] {sense} {shown}")
