"""Explain an entry of a weight: its value or its class, the equations that decide it, and how free it is."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from affinet.analysis.isolated import is_isolated
from affinet.analysis.lookup.entry_names import by_rules, counted, cut, named_columns, quoted
from affinet.analysis.lookup.incidence import Equation, Incidence, equations_at
from affinet.analysis.lookup.tracing import deciding, nearby, path, relating
from affinet.analysis.rule_values import at_bound
from affinet.blocks.standing import standing
from affinet.errors import RuleError, ShapeError, UnknownWeightError, visible
from affinet.language.calculus.terms import Integers, Parameter, Term
from affinet.language.expression import Expression, weight
from affinet.language.sense import Spectrum
from affinet.planning.curved.equal_components import reads_entry
from affinet.plans.backends import numbers_of
from affinet.plans.plan import Plan
from affinet.system.system import Rule

MOST_LOOKED_AT = 50
"""Entries of a slice that are examined, one at random in each equal part; the explanation tells out of how many."""
MOST_SHOWN = 6
"""Equations that are shown; `Explanation.equations` is the number of all."""
MOST_TERMS = 4
FREE, DETERMINED = 1.0 - 1e-9, 1e-9
INDEX = r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|(?:-?\d*:){1,2}-?\d*|-?\d+|\.\.\."""
ENTRY_INDEX = re.compile(rf"\[\s*(?:{INDEX})\s*(?:,\s*(?:{INDEX})\s*)*\]")


@dataclass(frozen=True)
class Statement:
    """One equation or inequality in the user's words: the rule, its index in the rule's shape, and its text."""

    rule: str
    index: tuple[int, ...]
    text: str
    entries: int

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return f'{self.text}    "{cut(self.rule)}"{where}'


@dataclass(frozen=True)
class Explanation:
    """The value, class, freedom and equations of one entry.

    `freedom` is the diagonal of the tangent projector, `P_ii`: 0 determined, 1 free; None where computing it would mean
    solving a large irregular component. `value` is that of a determined entry, `decided_by` the rules that decide it.
    `tied_to` (`classmates` entries, the first few named) move with it; `chain` are the equations that lead to
    `representative`, the entry of its class that the others follow. `shown` are the first of its `equations`, `bounds`
    the first of its `inequalities`. `at_bounds` says which bounds hold with equality at given weights,
    and their prices. `isolated` entries can take only values apart from each other under nonlinear equations.
    """

    entry: str
    freedom: float | None
    value: float | None
    decided_by: tuple[str, ...]
    classmates: int
    tied_to: str
    representative: str
    chain: tuple[Statement, ...]
    equations: int
    shown: tuple[Statement, ...]
    constants: bool
    inequalities: int = 0
    bounds: tuple[Statement, ...] = ()
    at_bounds: tuple[str, ...] = ()
    isolated: bool = False

    def __str__(self) -> str:
        lines = [f"{self.entry} {self._verdict()}"]
        if self.freedom is not None:
            lines.append(f"  free: {self.freedom:.3g} (0 is determined, 1 is free)")
        if self.classmates:
            lines.append(f"  moves with: {self.tied_to}")
        if self.chain:
            lines += [f"  tied to {self.representative} by:", *_chain_lines(self.chain)]
        if self.equations:
            lines += [f"  in {counted(self.equations, 'equation')}:", *(f"    {statement}" for statement in self.shown)]
            if self.equations > len(self.shown):
                lines.append(f"    … {self.equations - len(self.shown):,} more")
        if self.inequalities:
            lines += [f"  in {counted(self.inequalities, 'inequality')}:", *(f"    {bound}" for bound in self.bounds)]
            if self.inequalities > len(self.bounds):
                lines.append(f"    … {self.inequalities - len(self.bounds):,} more")
        lines += [f"  {standing_at}" for standing_at in self.at_bounds]
        if self.constants and self.equations + self.inequalities:
            lines.append("  frozen weights are constants in this plan, at the values they had.")
        return visible("\n".join(lines))

    def _verdict(self) -> str:
        if not self.equations and not self.inequalities and self.freedom == 0.0:
            return "is frozen: in this plan it is a constant, at the value it had."
        if not self.equations and not self.inequalities:
            return "is in no rule: nothing constrains it."
        by = f": {by_rules(self.decided_by)} say{'s' * (len(self.decided_by) == 1)} so" if self.decided_by else ""
        if self.value is not None:
            return f"can only be {self.value:.6g}{by}."
        if self.isolated:
            return "can take isolated values only: along its equations it cannot move."
        if self.freedom is not None and self.freedom <= DETERMINED and not self.classmates:
            return f"can take one value only{by}."
        if self.classmates:
            return (
                f"moves with {counted(self.classmates, 'other entry', 'other entries')}: one number decides them{by}."
            )
        if not self.equations:
            return f"is bounded by {counted(self.inequalities, 'inequality')}, and in no equation."
        them = "it" if self.equations == 1 else "them"
        return f"is held by {counted(self.equations, 'equation')}, and not determined by {them}."


@dataclass(frozen=True)
class SliceExplanation:
    """How many entries of a slice, `looked_at` out of `entries`, are determined, tied, held by equations, or free."""

    where: str
    entries: int
    looked_at: int
    determined: int
    tied: int
    held: int
    untouched: int
    freedom: float | None
    rules: tuple[str, ...]
    bounded: int = 0

    def __str__(self) -> str:
        summary = f"{counted(self.entries, 'entry')}"
        if self.looked_at < self.entries:
            summary += f", of which {self.looked_at:,} were looked at, drawn at random"
        lines = [f"{self.where}: {summary}"]
        for count, what in (
            (self.determined, "determined: can take one value only"),
            (self.tied, "tied: one number decides each together with other entries"),
            (self.held, "held by equations, and not determined"),
            (self.bounded, "bounded by inequalities, and in no equation"),
            (self.untouched, "in no rule"),
        ):
            if count:
                lines.append(f"  {count:,} {what}")
        if self.freedom is not None:
            lines.append(f"  free: {self.freedom:.3g} on average (0 is determined, 1 is free)")
        if self.rules:
            lines.append(f"  by {quoted(self.rules)}")
        return visible("\n".join(lines))


def explain(
    plan: Plan,
    entry: str | Expression,
    *,
    weights: Any = None,
    prices: Mapping[str, Any] | None = None,
) -> Explanation | SliceExplanation:
    """Explain why an entry has its value or its freedom; for a slice, count what constrains its entries.

    `weights` (a model, or name → tensor or array) and `prices` (rule → array, as `handle.multipliers()` returns them)
    add, for one entry, which inequalities are at their bound there and what these cost.

    `entry`: text such as `"hidden.weight[0, 1]"` or `"hidden.weight[0, :]"`, or the indexed weight itself,
    `w.hidden.weight[0, 1]`. Time grows with the description of the rules, not with the size of the weights. A plan
    knows the weights that its rules are about: for another weight, an indexed weight is answered ("in no rule") and
    text raises UnknownWeightError. Raises ShapeError for an index that does not fit or a weight of another shape than
    in the plan, RuleError for anything that is not an entry or slice of one weight.
    """
    if not isinstance(plan, Plan):
        raise RuleError(f"explain takes a plan, made with affinet.plan(rules), and not {type(plan).__name__}.")
    if isinstance(entry, str) and _is_frozen(plan, entry.partition("[")[0].strip()):
        return Explanation(entry.strip(), 0.0, None, (), 0, "", entry.strip(), (), 0, (), constants=True)
    expression = _read_entry(plan, entry)
    parameter = _entry_term(expression, 0).parameter
    if parameter not in plan.parameters:
        return _explain_unplanned(str(expression), expression.size, frozen=_is_frozen(plan, parameter.name))
    incidence = plan.incidence
    if expression.size == 1:
        return _explain_entry(plan, incidence, _column(plan, expression, 0), weights, prices)
    return _explain_slice(plan, incidence, expression)


def _explain_unplanned(name: str, size: int, *, frozen: bool) -> Explanation | SliceExplanation:
    """Explain entries of a weight that is not in the plan, though its symbol shows that it exists."""
    if frozen:
        return Explanation(name, 0.0, None, (), 0, "", name, (), 0, (), constants=True)
    if size == 1:
        return Explanation(name, 1.0, None, (), 0, "", name, (), 0, (), constants=False)
    return SliceExplanation(name, size, size, 0, 0, 0, size, 1.0, ())


def _explain_entry(
    plan: Plan,
    incidence: Incidence,
    column: int,
    weights: Any,
    prices: Mapping[str, Any] | None,
) -> Explanation:
    layout = plan.system.layout
    curved, curved_sides = _curved(plan, column)
    keys, sides = incidence.of(column), plan.inequality_incidence.of(column)
    bounds, balls = [plan.inequality_incidence.equation(*key) for key in sides[:MOST_SHOWN]], _balls(plan, column)
    shown = [incidence.equation(*key) for key in keys[:MOST_SHOWN]]
    position = standing(plan.blocks, column, layout)
    free, value, mates, root = 1.0 if not keys and not curved else None, None, np.array([column]), None
    if position is not None:
        free, value = position.block.freedom(position.place), position.block.value(position.place)
        mates, root = position.mates(layout)
    companions = mates[mates != column]
    goal = column
    if len(companions):
        goal = int(companions[0]) if root is None or root == column else root
    chain, rules = _find_reasons(incidence, column, goal, free)
    if not rules and not chain and position is not None and sides and free is not None and free <= DETERMINED:
        rules = position.block.rules  # inequalities that leave no room
    return Explanation(
        layout.describe(column),
        None if free is None else min(1.0, max(0.0, free)),
        value,
        tuple(plan.system.rule(rule).name for rule in rules),
        len(companions),
        named_columns(layout, companions) if len(companions) else "",
        layout.describe(goal),
        tuple(_word_equation(plan, equation) for equation in chain),
        len(keys) + len(curved),
        (*(_word_equation(plan, equation) for equation in shown), *curved)[:MOST_SHOWN],
        any(rule.size is not None for rule in plan.system.every),
        len(sides) + len(balls) + len(curved_sides),
        (*(_word_equation(plan, bound) for bound in bounds), *balls, *curved_sides)[:MOST_SHOWN],
        ()
        if weights is None
        else tuple(_standings(plan, sides[:MOST_LOOKED_AT], balls, curved_sides, weights, prices or {})),
        isolated=bool(curved) and position is not None and is_isolated(position.block, position.place),
    )


def _curved(plan: Plan, column: int) -> tuple[list[Statement], list[Statement]]:
    """The nonlinear rules that read an entry: equations, and inequalities."""
    if not plan.system.curved:
        return [], []
    position = standing(plan.blocks, column, plan.system.layout)
    numbers = position.block.rules if position is not None else ()
    rules = [
        plan.system.rule(number)
        for number in numbers
        if number in plan.system.curved_rules and (len(numbers) == 1 or reads_entry(plan.system, number, column))
    ]
    equations, sides = (
        [Statement(rule.name, (), rule.text, 0) for rule in rules if (rule.sense == "==") is exact]
        for exact in (True, False)
    )
    return equations, sides


def _balls(plan: Plan, column: int) -> list[Statement]:
    """The balls that an entry lies in."""
    layout = plan.system.layout
    parameter = layout.parameters[layout.number(column)]
    statements = []
    for rule in plan.system.rules:
        for term in rule.expression.terms if rule.norm is not None else ():
            if term.parameter == parameter:
                rows, _ = equations_at(term, rule.expression.shape, column - layout.start(parameter))
                width = rule.expression.shape[-1]
                places = [np.unravel_index(row // width, rule.shape) for row in rows.tolist()] if rule.shape else [()]
                statements += [
                    Statement(rule.name, tuple(int(k) for k in place), rule.text, width)
                    for place in (places if len(rows) else ())
                ]
    return statements


def _standings(
    plan: Plan,
    keys: Sequence[tuple[int, int]],
    balls: Sequence[Statement],
    curved: Sequence[Statement],
    weights: Any,
    prices: Mapping[str, Any],
) -> Iterator[str]:
    """The inequalities at their bound: `at its lower bound 0, price 0.3`, or the rule and row of several entries.

    `curved` are nonlinear rules; of one with several inequalities those at their bound are counted.
    """
    values = numbers_of(plan, weights)
    rules = {rule.name: rule for rule in plan.system.every}
    active: dict[str, np.ndarray] = {}

    def standing_of(rule: Rule, index: int) -> tuple[bool, str]:
        """Whether an inequality is at its bound, and its price in words."""
        if rule.name not in active:
            active[rule.name] = at_bound(rule, values).reshape(-1)
        cost = prices.get(rule.name)
        price = "" if cost is None else f", price {float(np.asarray(cost).reshape(-1)[index]) + 0.0:.4g}"
        return bool(active[rule.name][index]), price

    for ball in balls:
        rule = rules[ball.rule]
        index = int(np.ravel_multi_index(ball.index, rule.shape)) if ball.index else 0
        is_active, price = standing_of(rule, index)
        if is_active:
            radius = float(np.broadcast_to(rule.radius, rule.shape)[ball.index])
            what = "matrix at its bound" if isinstance(rule.norm, Spectrum) else "vector at its radius"
            yield f"in a {what} {radius:.6g}{price}"
    for number, index in keys:
        rule = plan.system.rules[number]
        is_active, price = standing_of(rule, index)
        if not is_active:
            continue
        row = plan.inequality_incidence.equation(number, index)
        if len(row.values) == 1:
            side = "upper" if (row.values[0] > 0) == (rule.sense == "<=") else "lower"
            yield f"at its {side} bound {row.rhs / row.values[0] + 0.0:.6g}{price}"
        else:
            yield f"{_word_equation(plan, row)} is at its bound{price}"
    for statement in curved:
        rule = rules[statement.rule]
        is_active, price = standing_of(rule, 0)
        if rule.equations == 1 and is_active:
            yield f"{statement} is at its bound{price}"
        elif rule.equations > 1 and (count := int(np.count_nonzero(active[rule.name]))):
            yield f"{statement}: {count:,} of {counted(rule.equations, 'inequality')} at the bound"


def _find_reasons(
    incidence: Incidence, column: int, goal: int, free: float | None
) -> tuple[list[Equation], tuple[int, ...]]:
    """The chain of ties to `goal`, and the rules that decide the entry where there is no chain."""
    if goal != column:
        chain = path(incidence, column, goal)
        component = nearby(incidence, column) if chain is None else None
        return chain or [], relating(component, column, goal) if component is not None else ()
    if free is None or free > DETERMINED:
        return [], ()
    keys = incidence.of(column)
    outright = {rule for rule, index in keys[:MOST_LOOKED_AT] if len(incidence.equation(rule, index).columns) == 1}
    component = None if outright else nearby(incidence, column)
    if component is not None:
        return [], deciding(component, column)
    return [], tuple(sorted(outright or {rule for rule, _ in keys}))


def _explain_slice(plan: Plan, incidence: Incidence, expression: Expression) -> SliceExplanation:
    places = _sample_places(expression.size)
    counts, rules, free = Counter[str](), dict[str, None](), list[float | None]()
    for place in places.tolist():
        column = _column(plan, expression, place)
        position, keys = standing(plan.blocks, column, plan.system.layout), incidence.of(column)
        sides = plan.inequality_incidence.of(column)
        balls, (curved, curved_sides) = _balls(plan, column), _curved(plan, column)
        rules.update((each.rule, None) for each in (*curved, *curved_sides))
        rules.update((plan.system.rules[rule].name, None) for rule, _ in (*keys, *sides))
        rules.update((ball.rule, None) for ball in balls)
        if position is None:
            counts["held" if keys or curved else "bounded" if sides or balls or curved_sides else "untouched"] += 1
            free.append(1.0)
            continue
        free.append(position.block.freedom(position.place))
        mates = position.mates(plan.system.layout)[0]
        freedom = free[-1]
        kind = "determined" if freedom is not None and freedom <= DETERMINED else "tied" if len(mates) > 1 else "held"
        if kind == "held" and not keys and not curved:
            kind = "bounded"
        counts[kind] += 1
    known_free = [value for value in free if value is not None]
    mean = float(np.mean(known_free)) if len(known_free) == len(free) else None
    return SliceExplanation(
        str(expression),
        expression.size,
        len(places),
        counts["determined"],
        counts["tied"],
        counts["held"],
        counts["untouched"],
        mean,
        tuple(rules),
        counts["bounded"],
    )


def _sample_places(size: int) -> Integers:
    """Places in a slice, one drawn at random from each equal part: equal steps could hit only a diagonal."""
    parts = min(size, MOST_LOOKED_AT)
    bounds = [part * size // parts for part in range(parts + 1)]
    return np.random.default_rng(0).integers(bounds[:-1], bounds[1:])


def _read_entry(plan: Plan, entry: str | Expression) -> Expression:
    known_weights = {parameter.name: parameter for parameter in plan.parameters}
    expression = parse_entry(entry, partial(_planned_weight, known_weights)) if isinstance(entry, str) else entry
    if not isinstance(expression, Expression) or not expression.size:
        raise RuleError(
            f'{entry!r:.60} is not an entry of a weight. Give one as text, "hidden.weight[0, 1]", or as an indexed '
            f"weight, w.hidden.weight[0, 1]."
        )
    for term in expression.terms:
        planned = known_weights.get(term.parameter.name, term.parameter)
        if planned != term.parameter:
            raise ShapeError(
                f"{planned.name} has the shape {term.parameter.shape} here and {planned.shape} in this plan: it "
                f"was made for another model. Use the symbols that its rules were written with, or plan for this model."
            )
    return expression


def _is_frozen(plan: Plan, name: str) -> bool:
    """Whether the weight of this name was read as a constant in every rule that is about it."""
    if any(parameter.name == name for parameter in plan.parameters):
        return False
    return any(name in rule.constants for rule in plan.system.every)


def _planned_weight(weights: Mapping[str, Parameter], name: str) -> Expression:
    if name not in weights:
        raise UnknownWeightError(name, weights, of_plan=True)
    return weight(weights[name])


def parse_entry(text: str, find: Callable[[str], Expression]) -> Expression:
    """The entry or slice that `text` names: `name` or `name[index, …]`.

    An index is an integer, a slice, `...`, or in quotation marks the name that a position has.

    `find` gives the weight of a name. Raises what it raises, RuleError for another index, and ShapeError for an index
    that does not fit.
    """
    name, bracket, indices = text.strip().partition("[")
    unindexed = find(name.strip())
    if not bracket:
        return unindexed
    try:
        if ENTRY_INDEX.fullmatch(bracket + indices.rstrip()) is None:
            raise ValueError("parts that are not indices")
        items = tuple(_index(part) for part in re.findall(INDEX, indices))
    except (ValueError, SyntaxError):  # or an escape in a name that Python does not have
        raise RuleError(
            f"{text!r:.80} is not an entry: an index holds integers and slices, as in {name}[0, 1] or {name}[0, :]."
        ) from None
    return unindexed[items]


def _index(part: str) -> object:
    if part[0] in "'\"":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(part)
    if part == "...":
        return Ellipsis
    if ":" in part:
        return slice(*(int(number) if number else None for number in part.split(":")))
    return int(part)


def _column(plan: Plan, expression: Expression, place: int) -> int:
    term = _entry_term(expression, place)
    return plan.system.layout.start(term.parameter) + term.offset


def _entry_term(expression: Expression, place: int) -> Term:
    """The one term of an entry of an indexed weight. Raises RuleError for sums and multiples."""
    entry = expression[tuple(int(k) for k in np.unravel_index(place, expression.shape))]
    plain = len(entry.terms) == 1 and not entry.terms[0].variables and not entry.terms[0].factors
    if not plain or entry.terms[0].scalar != 1.0 or np.any(entry.constant):
        raise RuleError(
            f"({expression}) is computed from weights; explain takes entries as they are, such as w.a[0, 1]."
        )
    return entry.terms[0]


def _word_equation(plan: Plan, equation: Equation) -> Statement:
    rule = plan.system.rules[equation.rule]
    shape = rule.shape
    index = tuple(int(k) for k in np.unravel_index(equation.index, shape)) if shape else ()
    text = ""
    for column, value in zip(
        equation.columns[:MOST_TERMS].tolist(), equation.values[:MOST_TERMS].tolist(), strict=True
    ):
        sign = ("-" if value < 0 else "") if not text else (" - " if value < 0 else " + ")
        size = "" if abs(value) == 1.0 else f"{abs(value):.6g} * "
        text += f"{sign}{size}{plan.system.layout.describe(column)}"
    if len(equation.columns) > MOST_TERMS:
        text += f" + … ({len(equation.columns):,} entries)"
    return Statement(rule.name, index, f"{text} {rule.sense} {equation.rhs + 0.0:.6g}", len(equation.columns))


def _chain_lines(chain: Sequence[Statement]) -> list[str]:
    """Lines for the links of a chain, without the middle of a long chain."""
    lines = [f"    {statement}" for statement in chain]
    if len(lines) > 2 * MOST_SHOWN:
        lines[MOST_SHOWN:-MOST_SHOWN] = [f"    … {len(lines) - 2 * MOST_SHOWN:,} more …"]
    return lines
