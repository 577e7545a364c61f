"""Collect all rules into one system `A w = b`, `G w <= h`, stored as loop-nest terms; rows are computed on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from numbers import Real

import numpy as np

from affinet.errors import RuleError
from affinet.language.affine import Values
from affinet.language.calculus.terms import Floats, Integers, Term, is_identity, lower, spanned_bytes
from affinet.language.constants import compact
from affinet.language.constraint import Constraint
from affinet.language.expectations import Expectation, ExpectedRule
from affinet.language.expression import Expression
from affinet.language.forecast import forecast
from affinet.language.nodes import is_curved, weights_of
from affinet.language.origin import Origin
from affinet.language.sense import Norm, Sense
from affinet.language.substitution import substitute, substitute_with_size
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.magnitudes import check_numbers, finite_bounds, without_zeros
from affinet.system.rows import PAIR_BYTES, Rows, gather_rows
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

Shapes = tuple[tuple[int, ...], ...]
Terms = tuple[tuple[Term, ...], ...]


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule of the user, `expression == 0` without zero terms, and the name under which it is reported.

    `sense`, `norm` and `radius` are those of `Constraint`: with a `sense` of `<=` or `>=` the expression is at most or
    at least 0, and its constant is infinite where there is no bound.
    `text` is only shown; `origin` tells how the rule was made. `size` is the sum of the magnitudes from which the
    constant was computed once frozen weights, those named in `constants`, were substituted.
    """

    name: str
    text: str
    expression: Expression
    origin: Origin
    size: Values | None = None
    constants: tuple[str, ...] = ()
    sense: Sense = "=="
    norm: Norm | None = None
    radius: Values = 0.0

    @property
    def titled(self) -> bool:
        """Whether the name differs from the text: a name of the user, or the text of equal rules with a number."""
        return self.name != self.text

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rule's equations or inequalities; a ball has one inequality for each vector."""
        return self.expression.shape if self.norm is None else self.expression.shape[:-1]

    @property
    def equations(self) -> int:
        """The number of equations, or of inequalities."""
        return prod(self.shape)

    @property
    def sign(self) -> float:
        """The sign of the expression where the rule is violated: 1 for `<=`, -1 for `>=`, 0 for either sign."""
        return {"==": 0.0, "<=": 1.0, ">=": -1.0}[self.sense]

    @property
    def bounds_weight(self) -> bool:
        """Whether the rule bounds every entry of a weight by one number, as `w >= 0` does."""
        terms, constant = self.expression.terms, self.expression.constant
        number = isinstance(constant, float) and self.sense != "==" and self.norm is None
        return number and len(terms) == 1 and is_identity(terms[0], self.expression.shape)

    @property
    def curved(self) -> bool:
        """Whether the rule is not affine in the weights."""
        return is_curved(self.expression.affine)

    @property
    def pairs(self) -> int:
        """A bound on the number of (equation, entry) pairs in the sparse form."""
        return sum(_pairs(term, self.expression.shape) for term in self.expression.terms)

    @property
    def nonzeros(self) -> int:
        """The number of pairs without the zeros of dense coefficients: a matrix counts by its share of nonzeros."""
        return sum(int(_pairs(term, self.expression.shape) * _density(term)) for term in self.expression.terms)


@dataclass(frozen=True, eq=False)
class System:
    """The rules in the user's order, the layout of the entries that they read, the tolerance, and limits.

    `rules` are affine in the weights. Those that are not, equations and inequalities, are in `curved`, numbered behind
    the affine ones.
    """

    rules: tuple[Rule, ...]
    layout: Layout
    tolerance: Tolerance
    limits: Limits = Limits()  # noqa: RUF009  # immutable
    curved: tuple[Rule, ...] = ()

    @classmethod
    def of(
        cls,
        rules: Iterable[Constraint] | Constraint,
        *,
        tolerance: float | None = None,
        limits: Limits | None = None,
    ) -> System:
        """Collect constraints, nested lists allowed.

        `tolerance` replaces the epsilon of the constants (the coarsest of their dtypes).
        Raises RuleError for anything that is not a rule, ConstantError for numbers whose products leave float64.
        """
        constraints = list(_flatten(rules))
        named = _name_rules(constraints)
        for rule in named:
            check_numbers(rule.name, rule.expression, rule.sense, rule.radius)
        epsilon = max([DOUBLE_EPSILON, *(rule.expression.epsilon for rule in named)])
        if tolerance is not None:
            if not isinstance(tolerance, Real) or not 0.0 < tolerance < 0.1:
                raise RuleError(f"tolerance is {tolerance!r:.60}; give a number between 0 and 0.1, such as 1e-12.")
            epsilon = tolerance
        for rule in named:
            _check_ball(rule)
        affine = tuple(rule for rule in named if not rule.curved)
        curved = tuple(rule for rule in named if rule.curved)
        return cls(affine, _layout(named), Tolerance(epsilon), limits or Limits(), curved)

    @cached_property
    def every(self) -> tuple[Rule, ...]:
        """All rules by their numbers."""
        return self.rules + self.curved

    @property
    def kinds_at_weights(self) -> str:
        """The kinds of rules whose tangent directions depend on the weights, in words; empty without such rules."""
        has_equations = any(rule.sense == "==" for rule in self.curved)
        kinds = ("inequalities" if self.has_inequalities else "", "nonlinear equations" if has_equations else "")
        return " and ".join(filter(None, kinds))

    def rule(self, number: int) -> Rule:
        """A rule by its number."""
        return self.every[number]

    @property
    def curved_rules(self) -> range:
        """The numbers of the nonlinear rules."""
        return range(len(self.rules), len(self.every))

    @property
    def equations(self) -> int:
        """The number of equations, nonlinear ones included, without inequalities."""
        return sum(rule.equations for rule in self.every if rule.sense == "==")

    @property
    def inequalities(self) -> int:
        """The number of inequalities, those without a bound included; a ball counts one for each vector."""
        return sum(rule.equations for rule in self.every if rule.sense != "==")

    @cached_property
    def has_inequalities(self) -> bool:
        """Whether any rule is an inequality."""
        return any(rule.sense != "==" for rule in self.every)

    @cached_property
    def equation_rules(self) -> tuple[int, ...]:
        """The numbers of the affine rules that are equations."""
        return tuple(number for number, rule in enumerate(self.rules) if rule.sense == "==")

    @cached_property
    def inequality_rules(self) -> tuple[int, ...]:
        """The numbers of the affine rules that are inequalities, balls included."""
        return tuple(number for number, rule in enumerate(self.rules) if rule.sense != "==")

    def with_constants(self, values: Mapping[str, Floats], epsilon: float) -> System:
        """The same rules with frozen parameters, those in `values`, read as constants known to `epsilon`."""
        curved = tuple(_with_constants(rule, values) for rule in self.curved)
        rules = tuple(_with_constants(rule, values) for rule in self.rules)
        rules += tuple(rule for rule in curved if not rule.curved)
        curved = tuple(rule for rule in curved if rule.curved)
        touched = any(parameter.name in values for parameter in self.layout.parameters)
        tolerance = replace(self.tolerance, frozen=max(self.tolerance.frozen, epsilon)) if touched else self.tolerance
        return replace(self, rules=rules, layout=_layout(rules + curved), tolerance=tolerance, curved=curved)

    def only(self, numbers: Iterable[int]) -> System:
        """The system of the numbered rules."""
        chosen = [self.rule(k) for k in numbers]
        affine, curved = (tuple(rule for rule in chosen if rule.curved is side) for side in (False, True))
        return replace(self, rules=affine, curved=curved)

    def rows(self, numbers: Iterable[int]) -> Rows:
        """The sparse equations of the numbered rules, one rule after the other."""
        numbers = list(numbers)
        rhs, size = self.sides(numbers)
        return replace(coefficients(self.layout, *self.terms(numbers)), rhs=rhs, size=size)

    def terms(self, numbers: Sequence[int]) -> tuple[tuple[int, ...], Shapes, Terms, float]:
        """The arguments of `coefficients` for the numbered rules. Raises TooLargeError if memory is short."""
        self._forecast([self.rules[number] for number in numbers])
        expressions = [self.rules[number].expression for number in numbers]
        shapes, terms = (
            tuple(expression.shape for expression in expressions),
            tuple(expression.terms for expression in expressions),
        )
        return tuple(numbers), shapes, terms, self.tolerance.cancellation

    def sides(self, numbers: Sequence[int]) -> tuple[Floats, Floats]:
        """The right-hand sides of the numbered rules, and the magnitudes to which their rounding is relative."""
        rhs, sizes = [np.zeros(0)], [np.zeros(0)]
        for number in numbers:
            rule, shape = self.rules[number], self.rules[number].expression.shape
            constant = np.asarray(rule.expression.constant, np.float64)
            rhs.append(np.broadcast_to(-constant, shape).reshape(rule.equations))
            sizes.append(np.abs(rhs[-1]) if rule.size is None else np.broadcast_to(rule.size, shape).reshape(-1))
        return np.concatenate(rhs), np.concatenate(sizes)

    @staticmethod
    def _forecast(rules: Sequence[Rule]) -> None:
        """Raise TooLargeError, naming the largest rule, before a sparse form is allocated that memory cannot hold."""
        pairs = [max(rule.pairs, rule.equations) for rule in rules]  # an equation of no pair has a right-hand side
        if pairs:
            largest = rules[pairs.index(max(pairs))].name
            context = f" with {len(rules) - 1:,} other rules" if len(rules) > 1 else ""
            what = f'rule "{largest}"{context}, read one equation at a time,'
            forecast(what, sum(pairs), item_bytes=PAIR_BYTES)


def coefficients(layout: Layout, numbers: tuple[int, ...], shapes: Shapes, terms: Terms, cancellation: float) -> Rows:
    """The sparse equations of numbered rules, each with a shape and terms; right-hand sides are zero.

    All rules are read in one pass, so that a rule of a single equation needs no array for itself.
    """
    pieces, counts, first = _Triples(layout), [], 0
    for shape, rule_terms in zip(shapes, terms, strict=True):
        for term in rule_terms:
            pieces.add(term, shape, first)
        counts.append(prod(shape))
        first += counts[-1]
    many = np.array(counts, np.int64)
    indices = np.arange(first) - np.repeat(np.cumsum(many) - many, many)
    owners = np.repeat(np.array(numbers, np.int64), many)
    return gather_rows(*pieces.arrays(), np.zeros(first), owners, indices, cancellation)


def _pairs(term: Term, shape: tuple[int, ...]) -> int:
    return term.count * prod(n for n, start in zip(shape, term.start, strict=True) if start is None)


def _density(term: Term) -> float:
    """The share of nonzero coefficients in the sparsest factor; views of a few numbers count as full."""
    arrays = [factor.values for factor in term.factors if spanned_bytes(factor.values) >= factor.values.nbytes]
    return min((np.count_nonzero(values) / values.size for values in arrays if values.size), default=1.0)


class _Triples:
    """Collects (row, column, value) triples; terms without loops stay plain numbers until `arrays`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._single: list[tuple[int, int, float]] = []
        self._rows: list[Integers] = []
        self._columns: list[Integers] = []
        self._values: list[Floats] = []

    def add(self, term: Term, shape: tuple[int, ...], first: int) -> None:
        start = self._layout.start(term.parameter)
        if not shape and not term.variables and not term.factors:
            self._single.append((first, start + term.offset, term.scalar))
            return
        rows, entries, values = lower(term, shape)
        self._rows.append(rows + first)
        self._columns.append(entries + start)
        self._values.append(values)

    def arrays(self) -> tuple[Integers, Integers, Floats]:
        single = self._single
        rows = np.array([row for row, _, _ in single], np.int64)
        columns = np.array([column for _, column, _ in single], np.int64)
        values = np.array([value for _, _, value in single], np.float64)
        return (
            np.concatenate([rows, *self._rows]),
            np.concatenate([columns, *self._columns]),
            np.concatenate([values, *self._values]),
        )


def _flatten(rules: object) -> Iterable[Constraint]:
    if isinstance(rules, Constraint):
        yield rules
    elif isinstance(rules, ExpectedRule | Expectation):
        shown = f'"{rules.name}"' if isinstance(rules, ExpectedRule) else "an expectation"
        raise RuleError(
            f"{shown} is about an expected value over the data, which no projection of weights can hold. Train towards "
            f"it with affinet.lagrange(model, optimizer, rules)."
        )
    elif isinstance(rules, str | bytes | Mapping) or hasattr(rules, "shape") or not isinstance(rules, Iterable):
        raise RuleError(
            f"{rules!r:.80} of type {type(rules).__name__} is not a rule. A rule is an equation or inequality between "
            f"weights such as w.hidden.weight[0, 1] == w.hidden.weight[2, 3], made with `==`, `<=` or `>=` from "
            f"affinet.weights(model), or one of affinet.families; text becomes one through affinet.parse(text, "
            f"weights)."
        )
    else:
        for rule in rules:
            yield from _flatten(rule)


def _name_rules(constraints: list[Constraint]) -> tuple[Rule, ...]:
    """Rules with unique names: the user's name, else the text; repeated names are numbered."""
    labels = [str(constraint.name or constraint.text) for constraint in constraints]
    repeated = {label for label, n in Counter(labels).items() if n > 1}
    names, counts, rules = set(labels), Counter[str](), []
    for label, constraint in zip(labels, constraints, strict=True):
        name = label
        if label in repeated:
            counts[label] += 1
            while counts[label] > 1 and (name := f"{label} ({counts[label]})") in names:
                counts[label] += 1
            names.add(name)
        rules.append(
            Rule(
                name,
                constraint.text,
                without_zeros(constraint.expression),
                constraint.origin,
                sense=constraint.sense,
                norm=constraint.norm,
                radius=constraint.radius,
            )
        )
    return tuple(rules)


def _with_constants(rule: Rule, values: Mapping[str, Floats]) -> Rule:
    """The rule with the weights in `values` read as constants, and the sum of the magnitudes that these add up from."""
    if rule.curved:
        return _with_constants_in_nodes(rule, values)
    known = [term for term in rule.expression.terms if term.parameter.name in values]
    if not known:
        return rule
    positive = tuple(
        replace(term, scalar=abs(term.scalar), factors=tuple(replace(f, values=np.abs(f.values)) for f in term.factors))
        for term in known
    )
    constant = np.abs(finite_bounds(rule.expression.constant, rule.sense))
    absolute = Expression(replace(rule.expression.affine, terms=positive, constant=constant))
    size = substitute(absolute, {name: np.abs(value) for name, value in values.items()}).constant
    constants = tuple(sorted({*rule.constants, *(term.parameter.name for term in known)}))
    return replace(rule, expression=substitute(rule.expression, values), size=size, constants=constants)


def _with_constants_in_nodes(rule: Rule, values: Mapping[str, Floats]) -> Rule:
    read = {weight.name for weight in weights_of([rule.expression.affine])} & values.keys()
    if not read:
        return rule
    constants = tuple(sorted({*rule.constants, *read}))
    expression, size = substitute_with_size(rule.expression, values)
    expression = without_zeros(expression)
    affine_size = None if is_curved(expression.affine) else compact(size)
    return replace(rule, expression=expression, size=affine_size, constants=constants)


def _layout(rules: Iterable[Rule]) -> Layout:
    return Layout.of(weights_of(rule.expression.affine for rule in rules))


def _check_ball(rule: Rule) -> None:
    """Refuse balls of expressions that are not affine. Raises RuleError."""
    if rule.norm is not None and rule.curved:
        raise RuleError(
            f'rule "{rule.name}" bounds the norm of an expression x that is not affine in the weights. A Euclidean '
            f"norm is bounded by (x * x).sum() <= radius**2."
        )
