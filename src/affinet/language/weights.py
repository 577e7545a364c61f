"""Symbols for the weights of a model: by name, by attribute, by index in a Sequential, and many by one pattern."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from affinet.errors import RuleError, ShapeError, UnknownWeightError
from affinet.language.calculus.terms import Parameter
from affinet.language.computed import Refusal
from affinet.language.expression import Expression, weight
from affinet.language.labels import entry_hint
from affinet.language.modules import is_of_keras, read_module
from affinet.language.patterns import is_pattern, matching
from affinet.language.trees import arrays_of, is_tree, refusal_of
from affinet.language.weight_groups import WeightGroup

Value = TypeVar("Value")


def weights(source: Any) -> Weights:
    """The weights of a `torch.nn.Module`, of a tree of JAX arrays, or of a mapping from names to shapes or arrays.

    The names in a tree are the keys on the way to an array, joined by dots: `dense.kernel`, `layers.0.weight`; the key
    `params` and the attribute `value` of Flax are left out.
    A parameter with several names is one set of entries. Names skip `torch.compile` and data-parallel wrappers. Lazy,
    parametrized, overlapping and complex parameters are refused when they are asked for.
    Errors: `RuleError` for any other source, such as a model of Keras, `ShapeError` for values that are neither a shape
    nor an array.
    """
    if isinstance(source, Weights):
        return source
    if is_of_keras(source):
        raise RuleError(
            f"{type(source).__name__} is of Keras, whose weights have other names: write affinet.keras.weights(model), "
            f"and train with affinet.keras.project."
        )
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        module_weights = read_module(source)
        symbols = {name: weight(Parameter(name, tuple(p.shape))) for name, p in module_weights.parameters.items()}
        return Weights(
            symbols, {name: symbols[first] for name, first in module_weights.aliases.items()}, module_weights.refused
        )
    if is_tree(source):
        return _weights_of_tree(source)
    if isinstance(source, Mapping):
        return Weights({name: weight(Parameter(name, _shape(name, value))) for name, value in source.items()}, {}, {})
    raise RuleError(
        f"weights() takes a torch.nn.Module, a tree of JAX arrays, or a mapping from names to shapes or arrays such as "
        f'{{"weight": (3, 4)}}; got {type(source).__name__}.'
    )


class Weights:
    """All weights, or those under one module: `w["encoder.weight"]`, `w.encoder.weight`, `w[0].weight`.

    `w["layers.*.weight"]` and `w.layers[1:].weight` are a `WeightGroup`. Iterating gives the weights in the order of
    the model, a tied weight once; `items()`, `keys()` and `values()` give them as a mapping does, unless a module has
    such a name.
    Errors: `UnknownWeightError` with similar names, `UnsupportedWeightError` with the reason.
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

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return find(self, key)
        if isinstance(key, slice):
            return find_children(self, key)
        if isinstance(key, int) and not isinstance(key, bool):
            return find_child(self, key)
        raise UnknownWeightError(f"{key!r:.60}", names_in(self), inside=self._module)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy, pickle and interpreters ask for protocols
            raise AttributeError(name)
        if name in MAPPING and name not in dir(self):
            return partial(MAPPING[name], self)
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
    __pow__ = __rpow__ = _is_module


@dataclass(frozen=True, eq=False, slots=True)
class Modules:
    """The weights under several modules: `w.layers[1:]`; an attribute or index is looked up in each module.

    Iterating gives the modules: `families.tie(*w.layers[1:])`.
    """

    members: tuple[Weights, ...]

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # `==` is refused

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            known = dict.fromkeys(name for member in self.members for name in names_in(member))
            raise UnknownWeightError(f"{key!r:.60}", known)
        return find_in_each(self, key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "members":
            raise AttributeError(name)
        return find_in_each(self, name)

    def __iter__(self) -> Iterator[Weights]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<Modules {', '.join(member._module for member in self.members)}>"

    def _is_modules(self, _other: object = None) -> NoReturn:
        self.members[0]._is_module()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _is_modules
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _is_modules
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = __pos__ = _is_modules
    __pow__ = __rpow__ = _is_modules


MAPPING: Mapping[str, Callable[[Weights], Any]] = {
    "items": lambda weights: weights._symbols.items(),
    "keys": lambda weights: weights._symbols.keys(),
    "values": lambda weights: weights._symbols.values(),
}
"""Methods of a mapping, from names relative to the module to their weights, a tied weight once."""


def find(weights: Weights, name: str) -> Expression | Weights | WeightGroup | Modules:
    """The weight of this name, or the weights under the module of this name; for a pattern all that match.

    Errors: `UnknownWeightError`, `UnsupportedWeightError`.
    """
    if is_pattern(name):
        return _find_all(weights, name)
    for names in (weights._symbols, weights._aliases, weights._modules):
        if name in names:
            return names[name]
    if name in weights._refused:
        raise weights._refused[name].error()
    weights_under = _weights_under(weights, name)
    if weights_under is None:
        hint = next(filter(None, (entry_hint(each.affine, name) for each in weights._symbols.values())), "")
        raise UnknownWeightError(name, names_in(weights), inside=weights._module, hint=hint)
    weights._modules[name] = weights_under
    return weights_under


def find_in_each(modules: Modules, name: str) -> WeightGroup | Modules:
    """The results of `find` for each of the modules.

    Errors: as `find`.
    """
    return _combine([find(member, name) for member in modules.members])


def find_child(weights: Weights, number: int) -> Expression | Weights | WeightGroup | Modules:
    """The child with this number, as of a Sequential; a negative number counts from the last child.

    Errors: `UnknownWeightError`, `UnsupportedWeightError`.
    """
    numbers = _child_numbers(weights)
    return find(weights, str(numbers[-1] + 1 + number if number < 0 and numbers else number))


def find_children(weights: Weights, numbers: slice) -> WeightGroup | Modules:
    """The children with the numbers of a slice; children without weights are left out.

    Errors: `UnknownWeightError` where no child has weights, `UnsupportedWeightError`.
    """
    child_numbers = _child_numbers(weights)
    chosen_numbers = [k for k in range(child_numbers[-1] + 1 if child_numbers else 0)[numbers] if k in child_numbers]
    if not chosen_numbers:
        bounds = (numbers.start, numbers.stop, numbers.step)
        slice_text = ":".join("" if bound is None else str(bound) for bound in (bounds if bounds[2] else bounds[:2]))
        raise UnknownWeightError(f"[{slice_text}]", names_in(weights), inside=weights._module)
    return _combine([find(weights, str(k)) for k in chosen_numbers])


def path_of(weights: Weights) -> str:
    """The name of the module whose weights these are; empty for the whole model."""
    return weights._module


def relative_names(weights: Weights) -> list[str]:
    """The names of all weights, including aliases and weights that cannot be constrained."""
    return [*dict.fromkeys((*names_in(weights), *weights._refused))]


def names_in(weights: Weights) -> list[str]:
    """The names of all weights, including aliases, relative to the module whose weights these are."""
    return [*weights._symbols, *weights._aliases]


def _child_numbers(weights: Weights) -> list[int]:
    children = {name.partition(".")[0] for name in (*names_in(weights), *weights._refused)}
    return sorted(int(child) for child in children if child.isdecimal())


def _find_all(weights: Weights, pattern: str) -> WeightGroup | Modules:
    """The weights that match a pattern, each once; if no weight matches, the modules that match."""
    named = weights._symbols | weights._aliases
    matches = matching(pattern, [*named, *(name for name in weights._refused if name not in named)])
    for name in matches:
        if name in weights._refused:
            raise weights._refused[name].error()
    if not matches:
        paths = dict.fromkeys(
            name[:end] for name in (*named, *weights._refused) for end, letter in enumerate(name) if letter == "."
        )
        modules = matching(pattern, paths)
        if not modules:
            raise UnknownWeightError(pattern, names_in(weights), inside=weights._module)
        return _combine([find(weights, name) for name in modules])
    return _combine(list({id(named[name]): named[name] for name in matches}.values()))


def _combine(results: Sequence[Any]) -> WeightGroup | Modules:
    """Combine several results of `find` into a group of weights, or into modules; groups among them are flattened."""
    flat = [
        value for result in results for value in (result if isinstance(result, WeightGroup | Modules) else [result])
    ]
    weights = [value for value in flat if isinstance(value, Expression)]
    if len(weights) == len(flat):
        return WeightGroup(tuple(weights), tuple(map(str, weights)))
    modules = [value for value in flat if isinstance(value, Weights)]
    if len(modules) < len(flat):
        shown = ", ".join(f"{value!r:.60}" for value in flat[:4])
        raise RuleError(f"some of these are weights and some are modules: {shown}. Name each of them by itself.")
    return Modules(tuple(modules))


def _weights_under(weights: Weights, name: str) -> Weights | None:
    """The weights under module `name`, with names relative to it; None where there is no such module."""
    prefix = f"{name}."
    symbols, aliases = _names_under(weights._symbols, prefix), _names_under(weights._aliases, prefix)
    refused = _names_under(weights._refused, prefix)
    if not symbols and not aliases and not refused:
        return None
    return Weights(symbols, aliases, refused, f"{weights._module}.{name}" if weights._module else name)


def _names_under(names: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    return {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}


def _weights_of_tree(tree: Any) -> Weights:
    symbols: dict[str, Expression] = {}
    refused: dict[str, Refusal] = {}
    for name, leaf in arrays_of(tree).items():
        refusal = refusal_of(name, leaf)
        if refusal is None:
            symbols[name] = weight(Parameter(name, tuple(leaf.shape)))
        else:
            refused[name] = refusal
    return Weights(symbols, {}, refused)


def _shape(name: object, value: Any) -> tuple[int, ...]:
    if not isinstance(name, str) or not name.strip():
        raise RuleError(f"the name of a weight must be text that is not blank; got {name!r:.60}.")
    shape = (value,) if isinstance(value, int) else getattr(value, "shape", value)
    if not isinstance(shape, tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
    ):
        raise ShapeError(
            f"the shape of {name} must be an integer or a tuple of integers, none negative; got {value!r:.60}. Where "
            f"these are the numbers of the weight, give an array: numpy.asarray(…)."
        )
    return tuple(shape)
