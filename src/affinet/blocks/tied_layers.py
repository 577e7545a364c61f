"""Ties of complete weights entry by entry, as class means along a first axis: no entry changes its place.

Weights that are split over devices stay so; a row of all entries with a class for each would gather them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from affinet.blocks.classes import Classes, Means
from affinet.blocks.law import Rounds, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.places import Part
from affinet.blocks.ties import Averages, Ties
from affinet.language.calculus.terms import Floats, Integers

MOST_AXES = 4
"""Weights with more axes are compared without turning them."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The projection of ties of weights of one shape, on them as an array of shape (weights, *axes).

    Each class has one entry in every weight. `turns` are the orders of the axes of each weight in which entries of one
    class are at one place, as transposing is; `reference` is the weight with all representatives. Sums run over the
    weights in their order, as those of `Means` do, so that both have the same bits.
    """

    classes: Classes
    axes: tuple[int, ...]
    turns: tuple[tuple[int, ...], ...]
    reference: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.turns), *self.axes)

    @property
    def wide(self) -> bool:
        """True: as of all ties."""
        return True

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        """Law: every class becomes its mean."""
        yield from ()
        return self._expanded(xp, self._mean(xp, self._turned(xp, x), affine=True), affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        yield from ()
        weights = self._turned(xp, x)
        z = self._mean(xp, weights, affine=False)
        if floor:
            sizes = (_total([w * w for w in weights]) / float(len(weights))) ** 0.5
            z = silenced(xp, z, sizes * (2.0 * floor))
        return self._expanded(xp, z, affine=False)

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: every class becomes its mean, weighted by the metric."""
        yield from ()
        reference, differences = self._differences(xp, self._turned(xp, x), affine=True)
        scaled = [self._scaled(xp, m, number) for number, m in enumerate(self._turned(xp, metric))]
        total = _total([difference * m for difference, m in zip(differences, scaled, strict=True)])
        z = reference + total / _total([self._scaled(xp, m, number) for number, m in enumerate(scaled)])
        return self._expanded(xp, z, affine=True)

    def _mean(self, xp: Namespace, weights: Sequence[Array], *, affine: bool) -> Array:
        """The number of each class."""
        reference, differences = self._differences(xp, weights, affine=affine)
        total = _total([self._scaled(xp, difference, number) for number, difference in enumerate(differences)])
        return reference + total / xp.array(self._weight, reference)

    def _differences(self, xp: Namespace, weights: Sequence[Array], *, affine: bool) -> tuple[Array, Sequence[Array]]:
        """The representatives, and the difference of each entry from the value that its representative implies."""
        if affine:
            weights = [self._moved(xp, w, number, -1.0) for number, w in enumerate(weights)]
        reference = weights[self.reference]
        return reference, [w - self._scaled(xp, reference, number) for number, w in enumerate(weights)]

    def _expanded(self, xp: Namespace, z: Array, *, affine: bool) -> Array:
        """Every entry from the number of its class; equal and opposite entries get the same bits."""
        numbers, weights = xp.hold(z), []
        for number, turn in enumerate(self.turns):
            w = self._scaled(xp, numbers, number)
            w = self._moved(xp, w, number, 1.0) if affine else w
            weights.append(_permuted(xp, w, np.argsort(turn).tolist()))
        return xp.stack(weights, -1 - len(self.axes))

    def _turned(self, xp: Namespace, x: Array) -> list[Array]:
        """Each weight, with entries of one class at one place."""
        return [_permuted(xp, x[number], turn) for number, turn in enumerate(self.turns)]

    def _scaled(self, xp: Namespace, x: Array, number: int) -> Array:
        scale = self._scales[number]
        return x if np.all(scale == 1.0) else x * xp.array(scale, x)

    def _moved(self, xp: Namespace, x: Array, number: int, sign: float) -> Array:
        shift = self._shifts[number]
        return x + xp.array(sign * shift, x) if np.any(shift) else x

    @cached_property
    def _scales(self) -> list[Floats]:
        return self._of_weights(self.classes.scale)

    @cached_property
    def _shifts(self) -> list[Floats]:
        return self._of_weights(self.classes.shift)

    @cached_property
    def _weight(self) -> Floats:
        """`D` at the places of the entries."""
        return _single(self.classes.weight[self.classes.class_of[: self.classes.count]].reshape(self.axes))

    def _of_weights(self, values: Floats) -> list[Floats]:
        """Numbers of the entries for each weight, turned as it is."""
        if len(values) == 1:
            return [np.asarray(values[0])] * len(self.turns)
        layers = values.reshape(self.shape)
        return [_single(layer.transpose(turn)) for layer, turn in zip(layers, self.turns, strict=True)]


def separated(
    block_parts: tuple[Part, ...], block_classes: Classes
) -> list[tuple[tuple[Part, ...], Layers | Averages]]:
    """Sets of parts that share no class, with the projection of each: complete weights by layers, and the rest."""
    block = Ties(block_parts, block_classes, ())
    pieces: list[tuple[tuple[Part, ...], Layers | Averages]] = []
    is_other = np.ones(block.classes.count, bool)
    for numbers, classes in _complete_parts(block):
        parts = tuple(block.parts[number] for number in numbers)
        chosen = np.zeros(block.classes.count, bool)
        chosen[classes] = True
        layers = _layers(block.only(chosen).classes if len(parts) < len(block.parts) else block.classes, parts)
        if layers is not None:
            pieces.append((parts, layers))
            is_other &= ~chosen
    if is_other.any():
        remaining = block if is_other.all() else block.only(is_other)
        pieces.append((remaining.parts, Averages(Means(remaining.classes))))
    return pieces


def _complete_parts(block: Ties) -> list[tuple[list[int], Integers]]:
    """The numbers of complete parameters of the same classes, which no other entries have, and these classes."""
    groups: dict[bytes, tuple[list[int], Integers]] = {}
    sizes, first = np.bincount(block.classes.class_of, minlength=block.classes.count), 0
    for number, part in enumerate(block.parts):
        classes = np.sort(block.classes.class_of[first : first + part.size])
        first += part.size
        if part.listed is None and not len(part.missing):
            groups.setdefault(classes.tobytes(), ([], classes))[0].append(number)
    return [(numbers, classes) for numbers, classes in groups.values() if (sizes[classes] == len(numbers)).all()]


def _layers(classes: Classes, parts: Sequence[Part]) -> Layers | None:
    """The projection of complete weights along a first axis; None where entries would have to move for it."""
    axes, count = parts[0].parameter.shape, classes.count
    references = np.unique(classes.representative // max(count, 1))
    if len(references) != 1 or len(classes.class_of) != count * len(parts):
        return None
    rows = classes.class_of.reshape(len(parts), count)
    if any(part.parameter.shape != axes for part in parts):
        return None
    turns = [_turn(row.reshape(axes), rows[0].reshape(axes)) for row in rows]
    known = tuple(turn for turn in turns if turn is not None)
    return Layers(classes, axes, known, int(references[0])) if len(known) == len(turns) else None


def _turn(row: Integers, wanted: Integers) -> tuple[int, ...] | None:
    """The order of axes that makes one array of classes the other."""
    plain = tuple(range(row.ndim))
    for turn in permutations(plain) if row.ndim <= MOST_AXES else [plain]:
        turned = row.transpose(turn)
        if turned.shape == wanted.shape and np.array_equal(turned, wanted):
            return turn
    return None


def _total(arrays: Sequence[Array]) -> Array:
    """The sum, one array after the other."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def _permuted(xp: Namespace, x: Array, order: Sequence[int]) -> Array:
    return x if list(order) == sorted(order) else xp.permute(x, order)


def _single(values: Floats) -> Floats:
    """The number itself where all are one number."""
    return np.asarray(values.flat[0]) if values.size and (values == values.flat[0]).all() else values
