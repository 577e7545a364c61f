"""Read the rules of an estimator, as text or as functions of named weights, and `monotone` by the names of features."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from affinet.errors import AffinetError, EstimatorError, UnknownFeatureError
from affinet.language.constraint import Constraint
from affinet.language.text import parse, parse_lines
from affinet.language.weight_groups import Rules
from affinet.language.weights import Weights

Rule: TypeAlias = str | Callable[..., Any] | Constraint | Rules
AnyRules: TypeAlias = Rule | Sequence[Rule] | None
Monotone: TypeAlias = Mapping[str, int] | Sequence[int] | None

ROOT = "w"
"""The parameter of a function of rules that is given all weights."""


def read_rules(rules: AnyRules, weights: Weights, principal: str = ROOT) -> list[Constraint]:
    """The rules that texts write and functions return, about the weights of an estimator.

    A function is called with weights by the names of its parameters, `w` for all of them. Where `principal` is `w`, a
    parameter of any name stands for all weights. Text of several lines has a rule on each.
    Errors: those of the language; `EstimatorError` for other values, for a parameter that names no weight, and where a
    function of rules fails.
    """
    if rules is None:
        return []
    if isinstance(rules, str):
        return read_rules(_parsed(rules, weights), weights)
    if isinstance(rules, Constraint):
        return [rules]
    if callable(rules):
        return read_rules(_called(rules, weights, principal), weights, principal)
    if isinstance(rules, Iterable) and not isinstance(rules, Mapping):
        return [rule for each in rules for rule in read_rules(each, weights, principal)]
    raise EstimatorError(
        f"rules takes text such as \"coef['age'] >= 0\", a function such as lambda coef: coef['age'] >= 0, or a list "
        f"of these; got {rules!r:.60} ({type(rules).__name__})."
    )


def read_directions(monotone: Monotone, features: Sequence[str]) -> dict[int, int]:
    """Position of a feature → +1 where the prediction may not fall with it, −1 where it may not rise.

    `monotone` maps names of features to 1, −1 or 0, or has such a number for each feature.
    Errors: `UnknownFeatureError` for a name that no feature has, `EstimatorError` for other values.
    """
    if monotone is None:
        return {}
    if isinstance(monotone, Mapping):
        for name in monotone:
            if name not in features:
                raise UnknownFeatureError(str(name), features, "X, for monotone,")
        directions = {list(features).index(name): direction for name, direction in monotone.items()}
    else:
        numbers = np.atleast_1d(np.asarray(monotone))
        if isinstance(monotone, str) or numbers.shape != (len(features),):
            raise EstimatorError(
                f'monotone takes a mapping such as {{"{features[0]}": 1}}, or a number for each of the {len(features)} '
                f"features; got {monotone!r:.60}."
            )
        directions = dict(enumerate(numbers.tolist()))
    for position, direction in directions.items():
        if direction not in (-1, 0, 1):
            raise EstimatorError(
                f"monotone of {features[position]!r} must be 1 (never falls), -1 (never rises) or 0; got "
                f"{direction!r:.60}."
            )
    return {position: int(direction) for position, direction in directions.items() if direction}


def feature_names(estimator: Any) -> list[str]:
    """The names that X had, or x0, x1, … where it had none."""
    names = getattr(estimator, "feature_names_in_", None)
    return [f"x{k}" for k in range(estimator.n_features_in_)] if names is None else [str(name) for name in names]


def _parsed(text: str, weights: Weights) -> Constraint | Rules:
    return parse_lines(text, weights) if "\n" in text.strip() else parse(text.strip(), weights)


def _called(function: Callable[..., Any], weights: Weights, principal: str) -> Any:
    by_name = {**dict(weights.items()), ROOT: weights}
    arguments = []
    for parameter in inspect.signature(function).parameters.values():
        required = parameter.default is parameter.empty or parameter.name in by_name
        if required and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            if parameter.name not in by_name and principal != ROOT:
                raise _unknown_parameter(function, parameter.name, list(weights.keys()))
            arguments.append(by_name.get(parameter.name, weights))
    try:
        return function(*arguments)
    except AffinetError:
        raise
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise EstimatorError(f"the function {name} of rules raised {type(error).__name__}: {error}.") from error


def _unknown_parameter(function: Callable[..., Any], parameter: str, names: Sequence[str]) -> EstimatorError:
    similar = difflib.get_close_matches(parameter, names, n=1, cutoff=0.5)
    hint = f" Did you mean {similar[0]!r}?" if similar else ""
    name = getattr(function, "__name__", repr(function))
    return EstimatorError(
        f"the function {name} of rules has a parameter {parameter!r}, and there is no such weight.{hint} "
        f"There are: {', '.join(names)}; {ROOT} stands for all weights."
    )
