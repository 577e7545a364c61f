"""Look up names of positions along an axis: `coef["age"]` where the last axis of the weight has names of features."""

from __future__ import annotations

from collections.abc import Sequence

from affinet.errors import ShapeError, UnknownFeatureError
from affinet.language.affine import Affine
from affinet.language.calculus.terms import Parameter, is_identity
from affinet.language.wording import Word, say

Labels = tuple[tuple[str, ...] | None, ...]
"""For each axis the names of its positions, or None for an axis without names."""


def labelled(name: str, shape: tuple[int, ...], *axes: Sequence[str] | None) -> Parameter:
    """A weight whose last axes have names for their positions; None for an axis without names."""
    named = [None if names is None else tuple(map(str, names)) for names in axes]
    return Parameter(name, shape, labels=(*[None] * (len(shape) - len(named)), *named))


def labels_of(affine: Affine) -> Labels:
    """The labels of a whole weight; empty for every other expression, whose entries stand in other places."""
    if len(affine.terms) != 1 or not isinstance(affine.wording, Word):
        return ()
    labels = affine.terms[0].parameter.labels
    return labels if any(labels) and is_identity(affine.terms[0], affine.shape) else ()


def positions_of(affine: Affine, labels: Labels, items: tuple[object, ...]) -> tuple[object, ...]:
    """The items of an index with positions in place of names; a single name is of the axis that has it.

    Errors: `UnknownFeatureError` for a name that is not among the labels of its axis, `ShapeError` for a name of
    several positions and for an axis without names.
    """
    if len(items) == 1:
        items = (*[slice(None)] * _axis_of(affine, labels, items[0]), items[0])
    ellipsis = next((place for place, item in enumerate(items) if item is Ellipsis), len(items))
    behind = sum(item is not None for item in items[ellipsis + 1 :])
    positions: list[object] = []
    axis = 0
    for item in items:
        positions.append(item if item is Ellipsis else _position(affine, labels, axis, item))
        axis = len(labels) - behind if item is Ellipsis else axis + (item is not None)
    return tuple(positions)


def has_names(items: tuple[object, ...]) -> bool:
    """Whether an index has names in it."""
    return any(map(_is_named, items))


def shown_key(item: object) -> object:
    """An item of an index as a report shows it."""
    return Word(repr(item)) if isinstance(item, list | tuple) else item


def entry_hint(affine: Affine, name: str) -> str:
    """The sentence that says how an entry of this name is written, or an empty text where there is no such entry."""
    if not any(name in names for names in labels_of(affine) if names):
        return ""
    return f" {name!r} is the name of an entry: write {say(affine.wording)}[{name!r}]."


def _is_named(item: object) -> bool:
    return isinstance(item, str) or (isinstance(item, list) and any(isinstance(each, str) for each in item))


def _axis_of(affine: Affine, labels: Labels, item: object) -> int:
    """The axis of a single name or list: the one that has the name, or else the last axis with names."""
    name = next(each for each in item if isinstance(each, str)) if isinstance(item, list) else item
    axes = [axis for axis, names in enumerate(labels) if names and name in names]
    if len(axes) > 1:
        raise ShapeError(
            f"{name!r} is a name along axes {axes[0]} and {axes[1]} of {say(affine.wording)}. Give an index for each "
            f"axis, such as [:, {name!r}]."
        )
    return axes[0] if axes else max(axis for axis, names in enumerate(labels) if names is not None)


def _position(affine: Affine, labels: Labels, axis: int, item: object) -> object:
    names = labels[axis] if 0 <= axis < len(labels) else None
    if not _is_named(item):
        return item
    if names is None:
        raise ShapeError(
            f"{item!r:.60} is an index of an axis of {say(affine.wording)} that has no names. Give positions there."
        )
    if isinstance(item, list):
        return [_position(affine, labels, axis, each) for each in item]
    if item not in names:
        raise UnknownFeatureError(str(item), names, say(affine.wording), _place_of(affine, labels, item))
    if names.count(str(item)) > 1:
        raise ShapeError(
            f"{item!r} is the name of {names.count(str(item))} positions of {say(affine.wording)}. Give the number of "
            f"the one that is meant."
        )
    return names.index(str(item))


def _place_of(affine: Affine, labels: Labels, item: object) -> str:
    """The sentence about a name that stands at the place of another axis."""
    for axis, names in enumerate(labels):
        if names and item in names:
            index = ", ".join([":"] * axis + [repr(item)] + [":"] * (len(labels) - axis - 1))
            return f" It is a name along axis {axis}: {say(affine.wording)}[{index}]."
    return ""
