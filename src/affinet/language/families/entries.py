"""Rules about single entries: fix them at a value, tie them to each other, fix their sum or their mean."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affinet.errors import ConstantError, RuleError, ShapeError
from affinet.language.affine import Dims
from affinet.language.constants import compact, read_array, read_constant, right_hand_side
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, stack
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import Rules, WeightGroup, over_weights
from affinet.language.weights import Modules, Weights, path_of, relative_names


@over_weights
def fix(w: Expression, where: Any = None, value: Any = 0) -> Constraint:
    """`w[where] == value`; `where` is a mask or any index, None means everywhere.

    A mask with fewer axes than `w` is about the first axes of `w`, as in NumPy's indexing, or about its last axes, as
    in broadcasting, whichever fit. `value` is a number, one for each chosen entry, or an array that broadcasts to `w`.
    Errors: `ShapeError` for a mask or a value that fits both ways, or neither, and for a mask of numbers.
    """
    w = checked_expression("fix", w)
    constant = right_hand_side(value)
    index = _index(w, where)
    selection = w if index is None else w[index]
    fits_chosen, fits_weight = (
        _broadcasts(constant.shape, selection.shape),
        index is not None and _broadcasts(constant.shape, w.shape),
    )
    if fits_chosen and fits_weight and len(constant.shape) > 1:
        shapes = f"({selection}) of shape {selection.shape} and ({w}) of shape {w.shape}"
        raise ShapeError(
            f"the value of shape {constant.shape} fits both {shapes}. "
            f"Write families.fix({selection}, value=…) for the first, or give a value of shape {w.shape} for the "
            f"second."
        )
    if fits_weight and not fits_chosen:
        values = np.broadcast_to(np.broadcast_to(constant.values, constant.shape), w.shape)[index]
        constant = replace(constant, values=compact(np.asarray(values)), shape=selection.shape)
    elif not fits_chosen:
        raise ShapeError(f"the value of shape {constant.shape} does not fit ({selection}) of shape {selection.shape}.")
    return named_rule(selection == constant, "fix", selection, value=constant.wording)


def tie(*expressions: Any) -> Any:
    """All expressions are equal, entry by entry: `a == b`, `b == c`, ….

    Modules, such as `w.layers[1]` and `w.layers[2]`, are tied weight by weight, by the names of the weights in them. A
    single group, such as `w["layers.*.weight"]`, ties its weights to each other; several groups are tied pair by pair.
    Errors: `RuleError` for fewer than two and for modules whose names differ, `ShapeError` where shapes differ.
    """
    if len(expressions) == 1 and isinstance(expressions[0], WeightGroup | Modules):
        return tie(*expressions[0])
    parts: list[Any] = [
        part for argument in expressions for part in (argument if isinstance(argument, Modules) else [argument])
    ]
    if any(isinstance(argument, Weights) for argument in parts):
        return _tie_modules(parts)
    return _tie_expressions(*parts)


@over_weights
def _tie_expressions(*expressions: Expression) -> Constraint:
    parts = [checked_expression("tie", expression) for expression in expressions]
    if len(parts) < 2:
        raise RuleError(
            "tie takes two expressions or more: tie(a, b). To tie entries of one expression, write share(w, pattern)."
        )
    for other in parts[1:]:
        if other.shape != parts[0].shape:
            raise ShapeError(
                f"tie takes equal shapes: ({parts[0]}) has {parts[0].shape} and ({other}) has {other.shape}."
            )
    steps = [first - second for first, second in itertools.pairwise(parts)]
    return named_rule((steps[0] if len(steps) == 1 else stack(steps)) == 0, "tie", *parts)


def _tie_modules(modules: Sequence[Any]) -> Rules:
    """One rule for each name of a weight under the modules; none for weights that are the same object already."""
    for other in modules:
        if not isinstance(other, Weights):
            raise RuleError(f"tie takes weights or modules, not a mix: got {modules[0]!r:.80} and {other!r:.80}.")
    if len(modules) < 2:
        raise RuleError(f"tie takes two modules or more; got only {modules[0]!r:.80}.")
    names = [relative_names(module) for module in modules]
    for module, module_names in zip(modules[1:], names[1:], strict=True):
        unmatched = sorted(set(module_names) ^ set(names[0]))
        if unmatched:
            with_name, without_name = (modules[0], module) if unmatched[0] in names[0] else (module, modules[0])
            raise RuleError(
                f"tie takes modules with weights of the same names: {path_of(with_name)!r} has {unmatched[0]!r}, but "
                f"{path_of(without_name)!r} does not."
            )
    by_name = {name: [module[name] for module in modules] for name in names[0]}
    distinct = {name: members for name, members in by_name.items() if len({str(member) for member in members}) > 1}
    return Rules(tuple(_tie_expressions(*members) for members in distinct.values()), tuple(distinct))


def _index(w: Expression, where: Any) -> Any:
    """`where` as an index of `w`; a mask over the last axes of `w` gets `...` before it."""
    if where is None or isinstance(where, tuple | slice | int) or where is Ellipsis:
        return where
    try:
        mask = read_array(where)[0]
    except ConstantError:
        return where  # indexing raises the error
    if (
        mask.dtype.kind in "iu"
        and mask.size > 2
        and mask.min() >= 0
        and mask.max() <= 1
        and _broadcasts(mask.shape, w.shape)
    ):
        raise ShapeError(
            f"where holds the numbers 0 and 1 in the shape {mask.shape}, which fits ({w}) as a mask would, but numbers "
            f"are read as positions: entries 0 and 1. Give a mask of booleans: mask.astype(bool) or mask.bool()."
        )
    if mask.dtype.kind != "b" or not mask.ndim or mask.shape == w.shape:
        return where
    fits_first, fits_last = w.shape[: mask.ndim] == mask.shape, _broadcasts(mask.shape, w.shape)
    if fits_first and fits_last:
        raise ShapeError(
            f"the mask of shape {mask.shape} fits both the first and the last axes of ({w}) of shape {w.shape}. Write "
            f"where=(mask, ...) for the first axes, or where=(..., mask) for the last."
        )
    if fits_last and mask.shape == w.shape[w.ndim - mask.ndim :]:
        return (..., mask)
    return np.broadcast_to(mask, w.shape) if fits_last else where


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of shape `shape` broadcasts to shape `target`."""
    ahead = len(target) - len(shape)
    return ahead >= 0 and all(n in (1, size) for n, size in zip(shape, target[ahead:], strict=True))


@over_weights
def sum_to(w: Expression, total: Any, dim: Dims = None) -> Constraint:
    """`w.sum(dim) == total`."""
    w = checked_expression("sum_to", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    return named_rule(w.sum(dim) == total, "sum_to", w, total=read_constant(total).wording, **options)


@over_weights
def zero_mean(w: Expression, dim: Dims = None) -> Constraint:
    """The mean over `dim` is zero; without `dim`, over the last axis, or the last two for three axes or more."""
    w = checked_expression("zero_mean", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    axes = dim if dim is not None else (-2, -1) if w.ndim >= 3 else -1
    return named_rule(w.mean(axes) == 0, "zero_mean", w, **options)
