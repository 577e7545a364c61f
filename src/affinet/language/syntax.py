"""Read the syntax tree of a rule: a whitelist of what the text may hold, and what each piece of syntax means."""

from __future__ import annotations

import ast
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import numpy as np

from affinet.errors import MAGNITUDES, WITHOUT_MAGNITUDES
from affinet.language import families
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat, einsum, stack
from affinet.language.group_syntax import GROUPS, is_representation, read_representation
from affinet.language.labels import entry_hint, labels_of
from affinet.language.misread import Misread, attempt, suggestion
from affinet.language.numbers_in_text import eye, of_weights_or_number, power_of_numbers, sum_of_entries
from affinet.language.weight_groups import Rules, WeightGroup, over_weights
from affinet.language.weights import Modules, Weights, find, find_child, find_children, find_in_each

ROOT = "w"
"""The name of the whole model, unless the model has a child of that name."""

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
    ast.Pow: operator.pow,
}

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
}

UNBOUNDED = "inf"
"""The bound of entries that have none, unless the model has a child of that name."""

PROPERTIES: dict[str, Callable[[Expression], Expression]] = {"T": lambda x: x.T, "mT": lambda x: x.mT}

METHODS: dict[str, Callable[..., Expression]] = {
    method.__name__: method
    for method in (
        Expression.cos,
        Expression.cumsum,
        Expression.det,
        Expression.diagonal,
        Expression.diff,
        Expression.dot,
        Expression.exp,
        Expression.expand,
        Expression.flatten,
        Expression.flip,
        Expression.inverse,
        Expression.log,
        Expression.mean,
        Expression.movedim,
        Expression.norm,
        Expression.permute,
        Expression.ravel,
        Expression.reciprocal,
        Expression.repeat,
        Expression.repeat_interleave,
        Expression.reshape,
        Expression.roll,
        Expression.rot90,
        Expression.sin,
        Expression.sqrt,
        Expression.square,
        Expression.squeeze,
        Expression.sum,
        Expression.tanh,
        Expression.tile,
        Expression.trace,
        Expression.transpose,
        Expression.tril,
        Expression.triu,
        Expression.unsqueeze,
    )
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        concat,
        einsum,
        eye,
        stack,
        of_weights_or_number(Expression.cos),
        of_weights_or_number(Expression.det),
        of_weights_or_number(Expression.exp),
        of_weights_or_number(Expression.inverse),
        of_weights_or_number(Expression.log),
        of_weights_or_number(Expression.reciprocal),
        of_weights_or_number(Expression.sin),
        of_weights_or_number(Expression.sqrt),
        of_weights_or_number(Expression.tanh),
        sum_of_entries,
    )
}
"""Functions of expressions; those of one number may also be used on plain numbers: `sqrt(2)`."""

FAMILIES: dict[str, Callable[..., Constraint | Rules]] = {
    family.__name__: family
    for family in (
        families.banded,
        families.between,
        families.block_diagonal,
        families.circulant,
        families.concave,
        families.convex,
        families.convolution,
        families.determinant,
        families.doubly_centred,
        families.equal_energy,
        families.equivariant,
        families.fix,
        families.hankel,
        families.involution,
        families.l1_ball,
        families.l2_ball,
        families.linf_ball,
        families.moments,
        families.monotone,
        families.nonnegative,
        families.orthogonal,
        families.persymmetric,
        families.polynomial,
        families.product,
        families.projection_matrix,
        families.psd,
        families.rotation,
        families.rotations,
        families.share,
        families.simplex,
        families.skew,
        families.spd,
        families.spectral_norm,
        families.sum_at_most,
        families.sum_to,
        families.symmetric,
        families.tie,
        families.toeplitz,
        families.transport,
        families.unit_norm,
        families.wavelet,
        families.zero_mean,
    )
}

SUBJECTS: TypeAlias = Expression | WeightGroup | Weights | Modules
"""Values on which arithmetic calls the language; of these, modules refuse it and list the weights they have."""

SIDES = (1, 2, "inputs", "outputs")
"""The arguments of `equivariant` that may be representations."""

ORDERED = ("flatten", "ravel", "reshape")
"""Methods that take NumPy's order of entries, "C" or "F"."""

_LARGEST = 2**63


def read_rule(node: ast.expr, weights: Weights) -> Constraint | Rules:
    """Read a rule from its syntax tree; a rule about a group of weights gives several.

    Errors: `Misread` for syntax outside the language, `Located` for errors of the language.
    """
    if isinstance(node, ast.Compare):
        return _comparison(node, weights)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAMILIES:
        rule: Constraint | Rules = _call_function(node, FAMILIES[node.func.id], [], weights)
        return rule
    _read(node, weights)  # errors inside are raised first
    raise Misread(
        node,
        f"this is not a rule: it has no `==`, `<=` or `>=`. "
        f"Families that are rules by themselves: {', '.join(FAMILIES)}",
    )


def _comparison(node: ast.Compare, weights: Weights) -> Constraint | Rules:
    if len(node.ops) > 1:
        way_out = (
            "write `a == b == c` as two rules, or as tie(a, b, c)"
            if isinstance(node.ops[0], ast.Eq)
            else "write `0 <= a <= 1` as between(0, a, 1)"
        )
        raise Misread(node.comparators[1], f"a rule has one comparison; {way_out}")
    if isinstance(node.ops[0], ast.Lt | ast.Gt):
        symbol = "<=" if isinstance(node.ops[0], ast.Lt) else ">="
        raise Misread(node, f"among the weights of a strict inequality there is no nearest point; write `{symbol}`")
    compare = COMPARISONS.get(type(node.ops[0]))
    if compare is None:
        raise Misread(node, "rules are written with `==`, `<=` or `>=`")
    left, right = _read(node.left, weights), _read(node.comparators[0], weights)
    if not isinstance(left, SUBJECTS) and not isinstance(right, SUBJECTS):
        raise Misread(node, "neither side of the comparison has weights in it")
    sides = _checked_operand(node.left, left), _checked_operand(node.comparators[0], right)
    rule: Constraint | Rules = attempt(node, compare, *sides)
    return rule


def _read(node: ast.AST, weights: Weights) -> Any:
    """Read a piece of syntax: an expression, weights under a module, a number, a list, or part of an index."""
    match node:
        case ast.Constant(value):
            return _constant(node, value)
        case ast.Name(id=name):
            return _name(node, name, weights)
        case ast.Attribute():
            return _attribute(node, weights)
        case ast.Subscript():
            return _subscript(node, weights)
        case ast.Call():
            return _call(node, weights)
        case ast.UnaryOp():
            return _unary(node, weights)
        case ast.BinOp():
            return _binary(node, weights)
        case ast.List(elts=items):
            return [_read(item, weights) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_read(item, weights) for item in items)
        case ast.Slice(lower, upper, step):
            return slice(*(None if part is None else _read(part, weights) for part in (lower, upper, step)))
    return _refuse(node)


def _constant(node: ast.AST, value: object) -> object:
    if value is None or value is Ellipsis or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(node, value)
    raise Misread(
        node, f'{str(value)[:40]!r} is not a number: text is allowed only as a name in brackets: {ROOT}["0.weight"]'
    )


def _number(node: ast.AST, value: float) -> float:
    """Numbers too large for an index as float64, so that text cannot make integers grow without bound."""
    try:
        number = value if isinstance(value, int) and abs(value) < _LARGEST else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Misread(node, "this number is larger than any float64")
    return number


def _name(node: ast.AST, name: str, weights: Weights) -> Any:
    if name == ROOT and name not in dir(weights):
        return weights
    if name == UNBOUNDED and name not in dir(weights):
        return math.inf
    if (name in FAMILIES or name in FUNCTIONS) and name not in dir(weights):
        raise Misread(node, f"{name} is a function: write {name}(…)")
    return attempt(node, find, weights, name)


def _attribute(node: ast.Attribute, weights: Weights) -> Any:
    subject = _read(node.value, weights)
    if isinstance(subject, Weights):
        return attempt(node, find, subject, node.attr)
    if isinstance(subject, Modules):
        return attempt(node, find_in_each, subject, node.attr)
    if isinstance(subject, Expression | WeightGroup):
        if node.attr in PROPERTIES:
            return attempt(node, over_weights(PROPERTIES[node.attr]), subject)
        if node.attr in METHODS:
            raise Misread(node, f"{node.attr} is a method: write .{node.attr}(…)")
        hint = entry_hint(subject.affine, node.attr) if isinstance(subject, Expression) else ""
        raise Misread(node, f"expressions have no {node.attr}.{hint}" if hint else _unknown_method(node.attr))
    raise Misread(node, "only weights and expressions in them have a `.`")


def _subscript(node: ast.Subscript, weights: Weights) -> Any:
    subject = _read(node.value, weights)
    if isinstance(subject, Weights | Modules):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return attempt(node, operator.getitem, subject, node.slice.value)
        key = _read(node.slice, weights)
        if isinstance(key, slice) and isinstance(subject, Weights) and _of_integers(key):
            return attempt(node, find_children, subject, key)
        if type(key) is not int or isinstance(subject, Modules):
            raise Misread(node.slice, 'modules are indexed by a number or a name, as in layers[0] or w["0.weight"]')
        return attempt(node, find_child, subject, key)
    if isinstance(subject, Expression | WeightGroup):
        return attempt(node, operator.getitem, subject, _key(node.slice, subject, weights))
    raise Misread(node, "only weights and expressions in them can be indexed")


def _key(node: ast.expr, subject: Expression | WeightGroup, weights: Weights) -> Any:
    """Read an index; names are allowed where the weight has labels, as in `coef["age"]`."""
    if not isinstance(subject, Expression) or not labels_of(subject.affine):
        return _read(node, weights)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_key(item, subject, weights) for item in node.elts)
    if isinstance(node, ast.List):
        return [_key(item, subject, weights) for item in node.elts]
    return _read(node, weights)


def _call(node: ast.Call, weights: Weights) -> Any:
    if isinstance(node.func, ast.Name):
        name = node.func.id
        if name in FUNCTIONS:
            return _call_function(node, FUNCTIONS[name], [], weights)
        if name in GROUPS:
            raise Misread(
                node,
                f"{name} is a group: its spaces, such as {name}(3).T(1), are allowed only as inputs= and outputs= of "
                f"equivariant, without a list around them",
            )
        if name in FAMILIES:
            raise Misread(node, f"{name}(…) is a rule by itself: write it alone, without a comparison")
        known_names = [*FUNCTIONS, *FAMILIES]
        if name in MAGNITUDES:
            raise Misread(node, f"{name} is not a function that rules can have. {WITHOUT_MAGNITUDES.rstrip('.')}")
        raise Misread(
            node, f"there is no function {name}.{suggestion(name, known_names)} Functions: {', '.join(known_names)}"
        )
    if not isinstance(node.func, ast.Attribute):
        raise Misread(node, "only methods of expressions and named functions can be called")
    subject = _read(node.func.value, weights)
    if isinstance(subject, Expression | WeightGroup) and node.func.attr in METHODS:
        return _call_function(node, over_weights(METHODS[node.func.attr]), [subject], weights)
    if isinstance(subject, Weights | Modules):
        attempt(node, find if isinstance(subject, Weights) else find_in_each, subject, node.func.attr)
        raise Misread(node, "weights and modules cannot be called")
    raise Misread(node, _unknown_method(node.func.attr))


def _call_function(node: ast.Call, function: Callable[..., Any], subjects: list[Any], weights: Weights) -> Any:
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            raise Misread(argument, "a `*` before an argument is not part of the language")
    positional: list[Any] = []
    for argument in node.args:
        subject = positional[0] if positional else None
        positional.append(_argument(function, argument, len(positional), subject, weights))
    options: dict[str, Any] = {}
    for keyword in sorted(
        node.keywords, key=lambda keyword: keyword.arg != "w"
    ):  # w limits the size of the other arguments
        if keyword.arg is None:
            raise Misread(keyword.value, "a `**` before an argument is not part of the language")
        subject = positional[0] if positional else options.get("w")
        options[keyword.arg] = _argument(function, keyword.value, keyword.arg, subject, weights)
    signature = inspect.signature(function)
    try:
        signature.bind(*subjects, *positional, **options)
    except TypeError as error:
        parameters_text = ", ".join(list(signature.parameters)[len(subjects) :])
        raise Misread(node, f"{function.__name__}: {error}. It takes ({parameters_text})") from None
    return attempt(node, function, *subjects, *positional, **options)


def _argument(function: Callable[..., Any], node: ast.expr, place: int | str, subject: Any, weights: Weights) -> Any:
    """Read an argument by its position or name: any value, and for some functions a text or a representation."""
    if function is einsum and place == 0:
        return _text(node)
    if function is families.orthogonal and place in (1, "of") and isinstance(node, ast.Constant):
        return node.value
    if function.__name__ in ORDERED and isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if function is families.equivariant and place in SIDES and is_representation(node):
        return read_representation(node, _longest_axis(subject))
    return _read(node, weights)


def _longest_axis(subject: Any) -> int:
    members = subject.members if isinstance(subject, WeightGroup) else [subject]
    return max((length for member in members if isinstance(member, Expression) for length in member.shape), default=1)


def _of_integers(key: slice) -> bool:
    return all(bound is None or type(bound) is int for bound in (key.start, key.stop, key.step)) and key.step != 0


def _text(node: ast.expr) -> str:
    """Read the subscripts of einsum, which are text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise Misread(node, 'einsum takes its subscripts first, in quotes: einsum("ij->i", …)')


def _unary(node: ast.UnaryOp, weights: Weights) -> Any:
    if not isinstance(node.op, ast.USub | ast.UAdd):
        _refuse(node)
    operand = _checked_operand(node.operand, _read(node.operand, weights))
    if isinstance(operand, list):
        raise Misread(node, "a list cannot have a sign; write the signs inside the list")
    return attempt(node, operator.neg if isinstance(node.op, ast.USub) else operator.pos, operand)


def _binary(node: ast.BinOp, weights: Weights) -> Any:
    """Read `a + b - c + …` in a loop over its left operands, since it nests as deep as it is long."""
    operations: list[ast.BinOp] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp):
        operations.append(first)
        first = first.left
    value = _read(first, weights)
    for step in reversed(operations):
        if type(step.op) not in OPERATORS:
            _refuse(step)
        value = _operate(
            step, _checked_operand(step.left, value), _checked_operand(step.right, _read(step.right, weights))
        )
    return value


def _operate(node: ast.BinOp, left: Any, right: Any) -> Any:
    operate = OPERATORS[type(node.op)]
    if isinstance(left, SUBJECTS) or isinstance(right, SUBJECTS):
        return attempt(node, operate, left, right)
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return _operate_on_matrix(node, left, right)
    if isinstance(left, list) or isinstance(right, list) or isinstance(node.op, ast.MatMult):
        raise Misread(node, "lists are constants: they are added to, multiplied with or compared to weights only")
    try:
        return _number(node, power_of_numbers(left, right) if isinstance(node.op, ast.Pow) else operate(left, right))
    except ZeroDivisionError:
        raise Misread(node, "this divides by zero") from None
    except OverflowError:
        raise Misread(node, "this number is larger than any float64") from None
    except ValueError:
        raise Misread(node, "this power of a negative number is not a real number") from None


def _operate_on_matrix(node: ast.BinOp, left: Any, right: Any) -> Any:
    """A multiple of an identity matrix."""
    numbers = [side for side in (left, right) if not isinstance(side, np.ndarray)]
    scaled = isinstance(node.op, ast.Mult) or (isinstance(node.op, ast.Div) and isinstance(left, np.ndarray))
    if not scaled or not numbers or isinstance(numbers[0], list):
        raise Misread(node, "an identity matrix is multiplied with numbers, and added to or compared with weights")
    if isinstance(node.op, ast.Div) and not right:
        raise Misread(node, "this divides by zero")
    return OPERATORS[type(node.op)](left, right)


def _checked_operand(node: ast.AST, value: Any) -> Any:
    """`value`, checked to be an operand: an expression, weights (which then refuse arithmetic), or a constant."""
    if isinstance(value, SUBJECTS | list | np.ndarray) or (
        isinstance(value, int | float) and not isinstance(value, bool)
    ):
        return value
    raise Misread(node, "arithmetic takes weights, numbers and lists of numbers")


def _unknown_method(name: str) -> str:
    known_names = [*METHODS, *PROPERTIES]
    return f"expressions have no {name}.{suggestion(name, known_names)} They have: {', '.join(known_names)}"


_NAMES_OF_SYNTAX: dict[type[ast.AST], str] = {
    ast.Lambda: "`lambda`",
    ast.JoinedStr: "a formatted string",
    ast.NamedExpr: "`:=`",
    ast.IfExp: "`if … else`",
    ast.BoolOp: "`and` / `or`",
    ast.Compare: "`==` inside an expression (it stands once, between the two sides); a comparison here",
    ast.Await: "`await`",
    ast.Yield: "`yield`",
    ast.YieldFrom: "`yield`",
    ast.Starred: "`*` before a value",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
}


def _refuse(node: ast.AST) -> NoReturn:
    kind: type[ast.AST] = type(node.op) if isinstance(node, ast.BinOp | ast.UnaryOp) else type(node)
    name = _NAMES_OF_SYNTAX.get(kind, f"`{kind.__name__.lower()}`")
    raise Misread(
        node,
        f"{name} is not part of the language, which has numbers, weights, + - * / @ **, [indices], methods, "
        f"functions, stack and concat",
    )
