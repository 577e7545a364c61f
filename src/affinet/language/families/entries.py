"""Rules about single entries: fixed at a value, equal to each other, adding up to a total."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affinet.errors import ConstantError, RuleError, ShapeError
from affinet.language.constants import compacted, read_array, read_constant, right_hand_side
from affinet.language.expression import Constraint, Dims, Expression, stack
from affinet.language.families.saying import checked, said
from affinet.language.weight_groups import Rules, WeightGroup, over_weights
from affinet.language.weights import Modules, Weights, path_of, relative_names


@over_weights
def fix(w: Expression, where: Any = None, value: Any = 0) -> Constraint:
    """`w[where] == value`; `where` is a mask or any index, None means everywhere.

    A mask with fewer axes than `w` is about its first axes, as in NumPy's indexing, or about its last ones, as in
    broadcasting: whichever fit. `value` is a number, one for each chosen entry, or an array that broadcasts to `w`.
    Errors: `ShapeError` for a mask or a value that fits both ways, or neither, and for a mask of numbers.
    """
    w = checked("fix", w)
    constant = right_hand_side(value)
    index = _index(w, where)
    chosen = w if index is None else w[index]
    by_entry, whole = _fits(constant.shape, chosen.shape), index is not None and _fits(constant.shape, w.shape)
    if by_entry and whole and len(constant.shape) > 1:
        shapes = f"({chosen}) of shape {chosen.shape} and ({w}) of shape {w.shape}"
        raise ShapeError(
            f"the value of shape {constant.shape} fits {shapes}. "
            f"Write families.fix({chosen}, value=…) for the first, or give it the whole shape of the second."
        )
    if whole and not by_entry:
        values = np.broadcast_to(np.broadcast_to(constant.values, constant.shape), w.shape)[index]
        constant = replace(constant, values=compacted(np.asarray(values)), shape=chosen.shape)
    elif not by_entry:
        raise ShapeError(f"the value of shape {constant.shape} does not fit ({chosen}) of shape {chosen.shape}.")
    return said(chosen == constant, "fix", chosen, value=constant.wording)


def tie(*expressions: Any) -> Any:
    """All of them are equal, entry by entry: `a == b`, `b == c`, ….

    Of modules, such as `w.layers[1]` and `w.layers[2]`: the weights of one name under them. A group alone, such as
    `w["layers.*.weight"]`, ties its weights together; several groups are tied pair by pair.
    Errors: `RuleError` for fewer than two and for modules whose names differ, `ShapeError` where shapes differ.
    """
    if len(expressions) == 1 and isinstance(expressions[0], WeightGroup | Modules):
        return tie(*expressions[0])
    several: list[Any] = [part for one in expressions for part in (one if isinstance(one, Modules) else [one])]
    if any(isinstance(one, Weights) for one in several):
        return _tied_modules(several)
    return _tied(*several)


@over_weights
def _tied(*expressions: Expression) -> Constraint:
    tied = [checked("tie", expression) for expression in expressions]
    if len(tied) < 2:
        raise RuleError(
            "tie takes two expressions or more: tie(a, b). To tie the entries of one, write share(w, pattern)."
        )
    for other in tied[1:]:
        if other.shape != tied[0].shape:
            raise ShapeError(
                f"tie takes equal shapes: ({tied[0]}) has {tied[0].shape} and ({other}) has {other.shape}."
            )
    steps = [first - second for first, second in itertools.pairwise(tied)]
    return said((steps[0] if len(steps) == 1 else stack(steps)) == 0, "tie", *tied)


def _tied_modules(modules: Sequence[Any]) -> Rules:
    """One rule for each name under the modules; weights that are one object already need none."""
    for other in modules:
        if not isinstance(other, Weights):
            raise RuleError(f"tie takes weights, or modules, and not both: {modules[0]!r:.80} and {other!r:.80}.")
    if len(modules) < 2:
        raise RuleError(f"tie takes two modules or more: {modules[0]!r:.80} is one.")
    names = [relative_names(module) for module in modules]
    for module, own in zip(modules[1:], names[1:], strict=True):
        apart = sorted(set(own) ^ set(names[0]))
        if apart:
            having, lacking = (modules[0], module) if apart[0] in names[0] else (module, modules[0])
            raise RuleError(
                f"tie takes modules with weights of the same names: {path_of(having)!r} has {apart[0]!r}, and "
                f"{path_of(lacking)!r} has not."
            )
    tied = {name: [module[name] for module in modules] for name in names[0]}
    apart_in_memory = {name: each for name, each in tied.items() if len({str(one) for one in each}) > 1}
    return Rules(tuple(_tied(*each) for each in apart_in_memory.values()), tuple(apart_in_memory))


def _index(w: Expression, where: Any) -> Any:
    """`where` as an index of `w`: a mask over its last axes has `...` before it."""
    if where is None or isinstance(where, tuple | slice | int) or where is Ellipsis:
        return where
    try:
        mask = read_array(where)[0]
    except ConstantError:
        return where  # which the index then says
    if mask.dtype.kind in "iu" and mask.size > 2 and mask.min() >= 0 and mask.max() <= 1 and _fits(mask.shape, w.shape):
        raise ShapeError(
            f"where holds the numbers 0 and 1 in the shape {mask.shape}, as a mask of ({w}) would, and numbers are "
            f"positions: entries 0 and 1 again and again. Give a mask of booleans, mask.astype(bool) or mask.bool()."
        )
    if mask.dtype.kind != "b" or not mask.ndim or mask.shape == w.shape:
        return where
    first, last = w.shape[: mask.ndim] == mask.shape, _fits(mask.shape, w.shape)
    if first and last:
        raise ShapeError(
            f"the mask of shape {mask.shape} fits the first axes of ({w}) of shape {w.shape} and its last ones. Write "
            f"where=(mask, ...) for the first, and where=(..., mask) for the last."
        )
    if last and mask.shape == w.shape[w.ndim - mask.ndim :]:
        return (..., mask)
    return np.broadcast_to(mask, w.shape) if last else where


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to another one."""
    ahead = len(whole) - len(shape)
    return ahead >= 0 and all(n in (1, wanted) for n, wanted in zip(shape, whole[ahead:], strict=True))


@over_weights
def sum_to(w: Expression, total: Any, dim: Dims = None) -> Constraint:
    """`w.sum(dim) == total`."""
    w = checked("sum_to", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    return said(w.sum(dim) == total, "sum_to", w, total=read_constant(total).wording, **options)


@over_weights
def zero_mean(w: Expression, dim: Dims = None) -> Constraint:
    """The mean over `dim` is zero; without `dim` over the last axis, of kernels (three axes or more) the last two."""
    w = checked("zero_mean", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    axes = dim if dim is not None else (-2, -1) if w.ndim >= 3 else -1
    return said(w.mean(axes) == 0, "zero_mean", w, **options)
