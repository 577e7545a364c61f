"""Groups of weights: an operation on a group applies to each of its weights, and `==` gives one rule for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from affinet.errors import MissingOperationError, ShapeError, TruthValueError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.foreign import UfuncProtocol, missing
from affinet.language.many import Many

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, slots=True)
class Rules:
    """Rules that were written in one line: one for each weight of a group, or those that a family consists of.

    `labels` are the names of the weights, or of the parts of the family.
    Iterating gives the rules. A list of rules may also contain `Rules`.
    """

    rules: tuple[Constraint, ...]
    labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rules as they were written, one line per rule."""
        return "\n".join(rule.text for rule in self.rules)

    @property
    def rows(self) -> int:
        """The number of equations and inequalities of all rules."""
        return sum(rule.rows for rule in self.rules)

    def named(self, name: str) -> Rules:
        """The same rules under a name, which is followed by the weight in brackets if there are several rules."""
        named = [rule.named(name) for rule in self.rules]
        if len(named) > 1:
            named = [rule.named(f"{name} [{label}]") for rule, label in zip(named, self.labels, strict=True)]
        return Rules(tuple(named), self.labels)

    def __iter__(self) -> Iterator[Constraint]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __bool__(self) -> NoReturn:
        first = self.rules[0] if self.rules else None
        raise TruthValueError(*("these rules", "==") if first is None else (first.text, first.sense))

    def __str__(self) -> str:
        return "\n".join(map(str, self.rules))

    def __repr__(self) -> str:
        equations = all(rule.sense == "==" for rule in self.rules)
        return f"<{len(self.rules)} Rules, {self.rows:,} {'equations' if equations else 'equations and inequalities'}>"


NOT_EACH = ("affine", "constant", "epsilon", "keys", "ndim", "shape", "size", "terms")
"""Attributes that expressions have and groups do not."""


def over_weights(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let `function` take groups in place of expressions: it is then called for each of their weights.

    Several groups are combined pair by pair. The results are a `WeightGroup`, or `Rules`.
    Errors: `ShapeError` for groups of different lengths.
    """

    @wraps(function)
    def apply_to_each(*arguments: Arguments.args, **options: Arguments.kwargs) -> Any:
        groups = [value for value in (*arguments, *options.values()) if isinstance(value, WeightGroup)]
        if not groups:
            return function(*arguments, **options)
        labels = groups[0].labels
        for other in groups[1:]:
            if len(other) != len(labels):
                raise ShapeError(
                    f"groups of {len(labels)} and of {len(other)} weights, ({groups[0]}) and ({other}), cannot be "
                    f"combined pair by pair. Take groups with the same number of weights."
                )
        results = []
        for k in range(len(labels)):
            positional = [value.members[k] if isinstance(value, WeightGroup) else value for value in arguments]
            by_name = {name: v.members[k] if isinstance(v, WeightGroup) else v for name, v in options.items()}
            results.append(function(*positional, **by_name))  # type: ignore[arg-type]  # members in place of groups
        return gather_results(results, labels)

    return apply_to_each


def gather_results(results: Sequence[Any], labels: tuple[str, ...]) -> Any:
    """Combine several results into `Rules` or a `WeightGroup`, or else a tuple."""
    if all(isinstance(result, Constraint | Rules) for result in results):
        gathered = [rules_of(result, label) for result, label in zip(results, labels, strict=True)]
        rules = tuple(rule for each in gathered for rule in each)
        return Rules(rules, tuple(label for each in gathered for label in each.labels))
    if all(isinstance(result, Expression) for result in results):
        return WeightGroup(tuple(results), labels)
    return tuple(results)


def rules_of(result: Constraint | Rules, label: str) -> Rules:
    """One rule under a label, or several, whose labels follow it: `hidden.weight, lower`."""
    if isinstance(result, Constraint):
        return Rules((result,), (label,))
    return Rules(result.rules, tuple(f"{label}, {part}" for part in result.labels))


def _apply_to_each(operator: Callable[..., Any]) -> Any:
    return over_weights(operator)


@dataclass(frozen=True, eq=False, slots=True)
class WeightGroup(Many):
    """Several expressions, with the names of the weights that they come from: `w["layers.*.weight"]`.

    Operators, methods and families apply to each expression, and to two groups pair by pair. `==` gives `Rules`.
    Iterating gives the expressions: `families.tie(*group)`, `affinet.stack(group)`.
    """

    members: tuple[Expression, ...]
    labels: tuple[str, ...]

    __array_ufunc__ = UfuncProtocol(lambda *arguments, **options: _called_by_numpy(*arguments, **options))
    __hash__ = None  # type: ignore[assignment]  # `==` makes rules

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each expression."""
        return tuple(member.shape for member in self.members)

    def __iter__(self) -> Iterator[Expression]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __str__(self) -> str:
        texts = [str(member) for member in self.members]
        return ", ".join(texts if len(texts) <= 3 else [*texts[:2], "…", texts[-1]])

    def __repr__(self) -> str:
        return f"<WeightGroup of {len(self.members)}: {self}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("members", "labels"):  # copies ask for these before they are set
            raise AttributeError(name)
        attribute = getattr(Expression, name, None)
        if isinstance(attribute, property) and name not in NOT_EACH:
            return _apply_to_each(attribute.__get__)(self)
        if not callable(attribute) or name in NOT_EACH:
            raise missing(
                self,
                name,
                [*(attribute_name for attribute_name in dir(Expression) if attribute_name not in NOT_EACH), "shapes"],
            )
        return wraps(attribute)(lambda *arguments, **options: _apply_to_each(attribute)(self, *arguments, **options))

    def __getitem__(self, key: object) -> Any:
        if isinstance(key, int | slice | np.integer):
            key_text = (
                f"{key.start or ''}:{'' if key.stop is None else key.stop}" if isinstance(key, slice) else f"{key}"
            )
            raise ShapeError(
                f"[{key_text}] of the {len(self)} weights ({self}) could mean some of the weights, or a part of each "
                f"weight. Write [{key_text}, ...] for the part of each, or list(group)[{key_text}] for some of the "
                f"weights."
            )
        return _apply_to_each(Expression.__getitem__)(self, key)

    __neg__, __pos__, __abs__ = map(_apply_to_each, (Expression.__neg__, Expression.__pos__, Expression.__abs__))
    __add__, __radd__ = _apply_to_each(Expression.__add__), _apply_to_each(Expression.__radd__)
    __sub__, __rsub__ = _apply_to_each(Expression.__sub__), _apply_to_each(Expression.__rsub__)
    __mul__, __rmul__ = _apply_to_each(Expression.__mul__), _apply_to_each(Expression.__rmul__)
    __truediv__, __rtruediv__ = _apply_to_each(Expression.__truediv__), _apply_to_each(Expression.__rtruediv__)
    __matmul__, __rmatmul__ = _apply_to_each(Expression.__matmul__), _apply_to_each(Expression.__rmatmul__)
    __pow__, __rpow__ = _apply_to_each(Expression.__pow__), _apply_to_each(Expression.__rpow__)
    __eq__, __ne__ = _apply_to_each(Expression.__eq__), _apply_to_each(Expression.__ne__)
    __lt__, __le__ = _apply_to_each(Expression.__lt__), _apply_to_each(Expression.__le__)
    __gt__, __ge__ = _apply_to_each(Expression.__gt__), _apply_to_each(Expression.__ge__)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Any:
        """An array of one object, as for expressions: SciPy then leaves `sparse @ group` to the group."""
        if copy or dtype is not None:
            raise MissingOperationError(
                f"an array cannot hold ({self}), which stand for weights without values. To join weights write "
                f"affinet.stack(group) or affinet.concat(group)."
            )
        holder = np.empty((), object)
        holder[()] = self
        return holder

    def __array_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        return over_weights(function)(*args, **kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return over_weights(function)(*args, **(kwargs or {}))


def _called_by_numpy(subject: WeightGroup, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    return over_weights(getattr(ufunc, method))(*inputs, **options)


__all__ = ["Rules", "WeightGroup", "gather_results", "over_weights"]
