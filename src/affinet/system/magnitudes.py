"""Check the magnitudes of the numbers of rules, whose products and quotients must stay within float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from affinet.errors import ConstantError
from affinet.language.affine import Values
from affinet.language.calculus.terms import Floats, Term, without_repetitions
from affinet.language.expression import Expression
from affinet.language.nodes import nodes_of
from affinet.language.sense import Sense, unbounded
from affinet.system.malformed import LARGEST


def check_numbers(name: str, expression: Expression, sense: Sense = "==", radius: Values = 0.0) -> None:
    """Raise ConstantError for coefficients or constants beyond LARGEST, which a plan file could not hold either.

    The constant of an inequality may be infinite where there is no bound. Expressions under nodes are checked, too.
    """
    inner = [operand for node in nodes_of(expression.affine) for operand in node.operands]
    constants = [finite_bounds(expression.constant, sense), radius, *(operand.constant for operand in inner)]
    terms = [*expression.terms, *(term for operand in inner for term in operand.terms)]
    numbers = [_largest(np.asarray(each)) for each in constants] + [_bound(term, _largest) for term in terms]
    if not all(number <= LARGEST for number in numbers):
        raise ConstantError(
            f'rule "{name}" has numbers beyond {LARGEST:g}, whose products leave the range of float64. '
            f"Write it in other units."
        )


def finite_bounds(constant: Values, sense: Sense) -> Values:
    """The constant of a rule, with 0 for the entries that are infinite since the inequality has no bound there."""
    if sense == "==":
        return constant
    missing = constant == -unbounded(sense)
    if isinstance(constant, float):
        return 0.0 if missing else constant
    return np.where(missing, 0.0, constant) if np.any(missing) else constant


def without_zeros(expression: Expression) -> Expression:
    """The expression without terms whose coefficients are all zero: no equation reads the weights of these terms."""
    nonzero = tuple(term for term in expression.terms if _bound(term, _largest) != 0.0)
    if len(nonzero) == len(expression.terms):
        return expression
    return Expression(replace(expression.affine, terms=nonzero))


def too_far_apart(rules: Iterable[tuple[str, Expression]]) -> ConstantError:
    """The error for rules (name, expression) whose numbers are in range but have quotients beyond float64."""
    rules = list(rules)
    large = [(max(_magnitudes(expression, _largest)), name) for name, expression in rules]
    small = [(min(_magnitudes(expression, _smallest)), name) for name, expression in rules]
    (most, largest), (least, smallest) = max(large), min(small)
    if smallest == largest:
        subject = f'numbers of rule "{largest}" lie too far apart to compute with, from {least:.3g} to {most:.3g}: '
    else:
        subject = (
            f'numbers of the rules lie too far apart to compute with, from {least:.3g} in "{smallest}" to {most:.3g} '
            f'in "{largest}": '
        )
    return ConstantError(
        f"{subject}quotients of them leave the range of float64. Measure weights in units in which coefficients are of "
        f"similar size, or write 0 for those that are negligible."
    )


def all_between(least: float, most: float, expressions: Iterable[Expression]) -> bool:
    """Whether the magnitudes of all nonzero numbers certainly lie in this range."""
    return all(
        all(least <= size for size in _magnitudes(expression, _smallest))
        and all(size <= most for size in _magnitudes(expression, _largest))
        for expression in expressions
    )


def _magnitudes(expression: Expression, of: Callable[[Floats], float]) -> Iterator[float]:
    """A bound for the constants of an expression, then one for the coefficients of each term.

    Infinite constants of inequalities stand for no bound and do not count.
    """
    constants = np.asarray(expression.constant)
    infinite = np.isinf(constants)
    yield of(np.where(infinite, 0.0, constants) if infinite.any() else constants)
    for term in expression.terms:
        yield _bound(term, of)


def _bound(term: Term, of: Callable[[Floats], float]) -> float:
    """A bound for the coefficients of a term, multiplied in the order of `lower`: 0 only where they are all 0 there."""
    bound = abs(term.scalar)
    for factor in term.factors:
        bound *= of(factor.values)
    return bound


def _largest(values: Floats) -> float:
    """The largest magnitude."""
    values = without_repetitions(values)
    return max(-float(values.min()), float(values.max())) if values.size else 0.0


def _smallest(values: Floats) -> float:
    """The smallest nonzero magnitude; infinite where all numbers are zero."""
    sizes = np.abs(without_repetitions(values))
    return float(sizes[sizes > 0].min(initial=np.inf))


__all__ = ["all_between", "check_numbers", "finite_bounds", "too_far_apart", "without_zeros"]
