"""Many weights in one line: what is done to a group is done to each of its weights, and a rule on it is one on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from affinet.errors import MissingOperationError, ShapeError, TruthValueError
from affinet.language.expression import Constraint, Expression
from affinet.language.foreign import missing
from affinet.language.many import Many

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, slots=True)
class Rules:
    """Rules that were written in one line, one for each weight of a group; `labels` say for which.

    Iterating gives the rules. A list of rules may hold it as it is.
    """

    rules: tuple[Constraint, ...]
    labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rules as they were said, a line for each."""
        return "\n".join(rule.text for rule in self.rules)

    @property
    def rows(self) -> int:
        """The number of equations of all of them."""
        return sum(rule.rows for rule in self.rules)

    def named(self, name: str) -> Rules:
        """The same rules, each under the name and, in brackets, the weight that it is about."""
        named = [rule.named(name) for rule in self.rules]
        if len(named) > 1:
            named = [rule.named(f"{name} [{label}]") for rule, label in zip(named, self.labels, strict=True)]
        return Rules(tuple(named), self.labels)

    def __iter__(self) -> Iterator[Constraint]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self.rules[0].text if self.rules else "these rules")

    def __str__(self) -> str:
        return "\n".join(map(str, self.rules))

    def __repr__(self) -> str:
        return f"<{len(self.rules)} Rules, {self.rows:,} equations>"


NOT_EACH = ("affine", "constant", "epsilon", "keys", "ndim", "shape", "size", "terms")
"""What an expression has and a group has not."""


def over_weights(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`function`, which may be given groups in place of expressions: it is called for each of their weights.

    Several groups are taken pair by pair. The results are a `WeightGroup`, or `Rules`.
    Errors: `ShapeError` for groups of different lengths.
    """

    @wraps(function)
    def each(*arguments: Arguments.args, **options: Arguments.kwargs) -> Any:
        groups = [value for value in (*arguments, *options.values()) if isinstance(value, WeightGroup)]
        if not groups:
            return function(*arguments, **options)
        labels = groups[0].labels
        for other in groups[1:]:
            if len(other) != len(labels):
                raise ShapeError(
                    f"groups of {len(labels)} and of {len(other)} weights, ({groups[0]}) and ({other}), cannot be "
                    f"taken pair by pair."
                )
        found = []
        for k in range(len(labels)):
            own = [value.members[k] if isinstance(value, WeightGroup) else value for value in arguments]
            named = {name: v.members[k] if isinstance(v, WeightGroup) else v for name, v in options.items()}
            found.append(function(*own, **named))  # type: ignore[arg-type]  # what the groups stand for
        return gathered(found, labels)

    return each


def gathered(found: Sequence[Any], labels: tuple[str, ...]) -> Any:
    """Several results as one: rules, or a group of expressions."""
    if all(isinstance(one, Constraint) for one in found):
        return Rules(tuple(found), labels)
    if all(isinstance(one, Expression) for one in found):
        return WeightGroup(tuple(found), labels)
    return tuple(found)


def _on_each(operator: Callable[..., Any]) -> Any:
    return over_weights(operator)


class Ufuncs:
    """As that of an expression: a function for NumPy's own functions, None for other libraries."""

    def __get__(self, instance: object, owner: type) -> Callable[..., Any] | None:
        return _called_by_numpy if instance is None else None


@dataclass(frozen=True, eq=False, slots=True)
class WeightGroup(Many):
    """Several expressions, with the weights that they come from: `w["layers.*.weight"]`.

    Operators, methods and families are applied to each; with another group, pair by pair. `==` gives `Rules`. Iterating
    gives the expressions: `families.tie(*group)`, `affinet.stack(group)`.
    """

    members: tuple[Expression, ...]
    labels: tuple[str, ...]

    __array_ufunc__ = Ufuncs()
    __hash__ = None  # type: ignore[assignment]  # `==` makes rules

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each."""
        return tuple(member.shape for member in self.members)

    def __iter__(self) -> Iterator[Expression]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __str__(self) -> str:
        shown = [str(member) for member in self.members]
        return ", ".join(shown if len(shown) <= 3 else [*shown[:2], "…", shown[-1]])

    def __repr__(self) -> str:
        return f"<WeightGroup of {len(self.members)}: {self}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("members", "labels"):  # copies ask for these before they are there
            raise AttributeError(name)
        found = getattr(Expression, name, None)
        if isinstance(found, property) and name not in NOT_EACH:
            return _on_each(found.__get__)(self)
        if not callable(found) or name in NOT_EACH:
            raise missing(self, name, [*(known for known in dir(Expression) if known not in NOT_EACH), "shapes"])
        return wraps(found)(lambda *arguments, **options: _on_each(found)(self, *arguments, **options))

    def __getitem__(self, key: object) -> Any:
        if isinstance(key, int | slice | np.integer):
            said = f"{key.start or ''}:{'' if key.stop is None else key.stop}" if isinstance(key, slice) else f"{key}"
            raise ShapeError(
                f"[{said}] of the {len(self)} weights ({self}) could mean some of the weights, or a part of each. "
                f"Write [{said}, ...] for the part of each, and list(group)[{said}] for some of the weights."
            )
        return _on_each(Expression.__getitem__)(self, key)

    __neg__, __pos__, __abs__ = map(_on_each, (Expression.__neg__, Expression.__pos__, Expression.__abs__))
    __add__, __radd__ = _on_each(Expression.__add__), _on_each(Expression.__radd__)
    __sub__, __rsub__ = _on_each(Expression.__sub__), _on_each(Expression.__rsub__)
    __mul__, __rmul__ = _on_each(Expression.__mul__), _on_each(Expression.__rmul__)
    __truediv__, __rtruediv__ = _on_each(Expression.__truediv__), _on_each(Expression.__rtruediv__)
    __matmul__, __rmatmul__ = _on_each(Expression.__matmul__), _on_each(Expression.__rmatmul__)
    __pow__, __rpow__ = _on_each(Expression.__pow__), _on_each(Expression.__rpow__)
    __eq__, __ne__ = _on_each(Expression.__eq__), _on_each(Expression.__ne__)
    __lt__, __le__ = _on_each(Expression.__lt__), _on_each(Expression.__le__)
    __gt__, __ge__ = _on_each(Expression.__gt__), _on_each(Expression.__ge__)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Any:
        """As of an expression: SciPy leaves `sparse @ group` to the group."""
        if copy or dtype is not None:
            raise MissingOperationError(
                f"an array cannot hold the weights ({self}): they are not known yet. To put them together write "
                f"affinet.stack(group) or affinet.concat(group)."
            )
        whole = np.empty((), object)
        whole[()] = self
        return whole

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


__all__ = ["Rules", "WeightGroup", "gathered", "over_weights"]
