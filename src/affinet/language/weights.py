"""Symbols for the weights of a model: by name, by attribute, by index in a Sequential."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from affinet.errors import RuleError, ShapeError, UnknownWeightError
from affinet.language.computed import Refusal
from affinet.language.expression import Expression, weight
from affinet.language.modules import read_module
from affinet.language.terms import Parameter

Value = TypeVar("Value")


def weights(source: Any) -> Weights:
    """The weights of a `torch.nn.Module`, or of a mapping from names to shapes or arrays.

    Parameters that one object keeps under several names are one set of entries. Names see through `torch.compile`
    and data-parallel wrappers. Lazy, parametrized, overlapping and complex parameters are refused when asked for.
    Errors: `RuleError` for any other source, `ShapeError` for a shape that is none.
    """
    if isinstance(source, Weights):
        return source
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        read = read_module(source)
        symbols = {name: weight(Parameter(name, tuple(p.shape))) for name, p in read.parameters.items()}
        return Weights(symbols, {name: symbols[first] for name, first in read.aliases.items()}, read.refused)
    if isinstance(source, Mapping):
        return Weights({name: weight(Parameter(name, _shape(name, of))) for name, of in source.items()}, {}, {})
    raise RuleError(
        f"weights() takes a torch.nn.Module, or a mapping from names to shapes or arrays such as "
        f'{{"weight": (3, 4)}}, and not {type(source).__name__}.'
    )


class Weights:
    """All weights, or those under one module: `w["encoder.weight"]`, `w.encoder.weight`, `w[0].weight`.

    Iterating gives the weights in the order of the model, a tied one once.
    Errors: `UnknownWeightError` with near names, `UnsupportedWeightError` with the reason.
    """

    __slots__ = ("_aliases", "_module", "_modules", "_refused", "_symbols")

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # see `_is_module`: `==` is refused

    def __init__(
        self,
        symbols: Mapping[str, Expression],
        aliases: Mapping[str, Expression],
        refused: Mapping[str, Refusal],
        module: str = "",
    ) -> None:
        self._symbols, self._aliases, self._refused = dict(symbols), dict(aliases), dict(refused)
        self._module = module
        self._modules: dict[str, Weights] = {}

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return find(self, key)
        if isinstance(key, int) and not isinstance(key, bool):
            return find_child(self, key)
        raise UnknownWeightError(f"{key!r:.60}", names_in(self), inside=self._module)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy, pickle and interpreters ask for protocols
            raise AttributeError(name)
        return find(self, name)

    def __iter__(self) -> Iterator[Expression]:
        return iter(self._symbols.values())

    def __len__(self) -> int:
        return len(self._symbols)

    def __contains__(self, name: object) -> bool:
        return name in self._symbols or name in self._aliases

    def __dir__(self) -> list[str]:
        return sorted({name.partition(".")[0] for name in names_in(self)})

    def __repr__(self) -> str:
        shown = [f"{name} {symbol.shape}" for name, symbol in list(self._symbols.items())[:20]]
        more = [f"… ({len(self)} in all)"] if len(self) > 20 else []
        return f"<Weights {', '.join(shown + more) or 'none'}>"

    def _is_module(self, _other: object = None) -> NoReturn:
        subject = repr(self._module) if self._module else "the whole model"
        raise RuleError(
            f"{subject} is a module, not a weight. Weights under it: {', '.join(names_in(self)) or 'none'}."
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _is_module
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _is_module
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = __pos__ = _is_module


def find(weights: Weights, name: str) -> Expression | Weights:
    """The weight of this name, or the weights under the module of this name.

    Errors: `UnknownWeightError`, `UnsupportedWeightError`.
    """
    for names in (weights._symbols, weights._aliases, weights._modules):
        if name in names:
            return names[name]
    if name in weights._refused:
        raise weights._refused[name].error()
    under = _under(weights, name)
    if under is None:
        raise UnknownWeightError(name, names_in(weights), inside=weights._module)
    weights._modules[name] = under
    return under


def find_child(weights: Weights, number: int) -> Expression | Weights:
    """What the module keeps under a number, as a Sequential does; a negative one counts from the last.

    Errors: `UnknownWeightError`, `UnsupportedWeightError`.
    """
    children = {name.partition(".")[0] for name in (*names_in(weights), *weights._refused)}
    numbers = sorted(int(child) for child in children if child.isdecimal())
    return find(weights, str(numbers[-1] + 1 + number if number < 0 and numbers else number))


def names_in(weights: Weights) -> list[str]:
    """The names of all weights, aliases included, relative to the module whose weights these are."""
    return [*weights._symbols, *weights._aliases]


def _under(weights: Weights, name: str) -> Weights | None:
    """The weights under module `name`, with names relative to it; None where there is no such module."""
    ahead = f"{name}."
    symbols, aliases = _within(weights._symbols, ahead), _within(weights._aliases, ahead)
    refused = _within(weights._refused, ahead)
    if not symbols and not aliases and not refused:
        return None
    return Weights(symbols, aliases, refused, f"{weights._module}.{name}" if weights._module else name)


def _within(names: Mapping[str, Value], ahead: str) -> dict[str, Value]:
    return {name.removeprefix(ahead): value for name, value in names.items() if name.startswith(ahead)}


def _shape(name: object, value: Any) -> tuple[int, ...]:
    if not isinstance(name, str) or not name.strip():
        raise RuleError(f"{name!r:.60} is no name of a weight: names are text that is not blank.")
    shape = (value,) if isinstance(value, int) else getattr(value, "shape", value)
    if not isinstance(shape, tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
    ):
        raise ShapeError(
            f"the shape of {name} is {value!r:.60}, which is none: a shape is an integer or a tuple of integers."
        )
    return tuple(shape)
