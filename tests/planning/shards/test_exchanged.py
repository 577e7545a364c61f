"""Groups of entries over a mesh: what processes give is what the others take, and all holders compute the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet.blocks.fixed import Fixed
from affinet.blocks.law import Linear, run_alone
from affinet.blocks.namespace import NumPy
from affinet.blocks.ties import Ties
from affinet.planning.shards.division import Exchanged, division_of
from affinet.planning.shards.exchanged import (
    Grouped,
    TiedClasses,
    coordinates,
    holders_of_places,
    partners_of,
)
from affinet.planning.shards.local_places import local_places
from affinet.planning.shards.splits import Split, Splits

N = 130
"""Smaller matrices are read entry by entry."""
SHIFT = np.random.default_rng(5).standard_normal((N, N))
RULES: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda w: w.a == w.b.T,
    "scaled": lambda w: w.a == 3 * w.b.T + SHIFT,
    "layers in other order": lambda w: w.a == w.b.flip(0),
    "symmetric": lambda w: w.a == w.a.T,
    "skew": lambda w: w.a == -w.a.T,
    "skew around a matrix": lambda w: w.a == SHIFT + SHIFT.T - w.a.T,
    "some rows fixed": lambda w: [w.a == w.b.T, w.a[1] == 0],
    "mirrored rows": lambda w: w.a == w.a.flip(0),
    "kernels": lambda w: w.k == w.k.transpose(0, 1),
    "permuted": lambda w: w.a[np.random.default_rng(6).permutation(N)] == w.b,
    "ties of four": lambda w: [w.a[:3] == w.b[N - 3 :], w.a[:3] == w.a[64:67], w.a[:3] == 2 * w.b[20:23]],
}
MESHES: list[tuple[tuple[int, ...], tuple[Split | None, ...]]] = [
    ((2,), (Split(0),)),
    ((3,), (Split(1),)),
    ((2, 3), (None, Split(0))),
    ((7,), (Split(0),)),
    ((4,), (Split(0),)),
]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("mesh", range(len(MESHES)))
def test_holders_exchange_what_they_need(name: str, mesh: int) -> None:
    w = affinet.weights({"a": (N, N), "b": (N, N), "k": (16, 16, 3, 3)})
    sizes, by_dimension = MESHES[mesh]
    for block in affinet.plan(RULES[name](w)).blocks:
        splits = {p.name: Splits(p.shape, sizes, by_dimension) for p, _ in block.entries.sizes}
        if isinstance(block, Ties):
            grouped: Grouped = TiedClasses(block)
        else:
            division = division_of(block, splits)
            if isinstance(block, Fixed):
                continue
            assert isinstance(division, Exchanged)
            if division.dimension is None:
                assert name == "mirrored rows"
                continue
            grouped = division.grouped
        law = block.law()
        assert isinstance(law, Linear)
        _check(grouped, law, splits, len(sizes) - 1)


def _check(grouped: Grouped, law: Linear[Any], splits: dict[str, Splits], dimension: int) -> None:
    mesh, xp, entries = next(iter(splits.values())).mesh, NumPy(), grouped.entries
    count, x = mesh[dimension], np.random.default_rng(0).standard_normal(entries.count)
    parts = [_on(grouped, splits, dimension, coordinate) for coordinate in range(count)]
    found = np.full(len(x), np.nan)
    for coordinate, (groups, partners) in enumerate(parts):
        assert grouped.crossing(splits, coordinate, dimension) == len(partners.sent)
        taken_in = []
        for giver, (others, gifts) in enumerate(parts):
            first = sum(gifts.sent_sizes[:coordinate])
            given = others.places[gifts.sent[first : first + gifts.sent_sizes[coordinate]]]
            assert len(given) == partners.received_sizes[giver]
            taken_in.append(given)
        np.testing.assert_array_equal(np.concatenate(taken_in), groups.places[partners.received])
        np.testing.assert_array_equal(
            np.sort(np.concatenate([partners.local_entries, partners.received])), np.arange(len(groups.places))
        )
        numbers = x[groups.places].reshape(groups.projection.shape)
        nearest = np.asarray(run_alone(groups.projection.nearest(xp, numbers))).reshape(-1)
        known = ~np.isnan(found[groups.places])
        np.testing.assert_array_equal(found[groups.places][known], nearest[known])
        found[groups.places], found[groups.fixed] = nearest, groups.values
    whole = np.asarray(run_alone(law.projection.nearest(xp, x.copy().reshape(law.shape)))).reshape(-1)
    is_moved = ~np.isnan(found)
    # A number of a group is a mean of at most four that are at most 16; each is computed with some roundings.
    np.testing.assert_allclose(found[is_moved], whole[is_moved], rtol=0, atol=16 * 16 * 2.0**-53)
    np.testing.assert_array_equal(whole[~is_moved], x[~is_moved])


def _on(grouped: Grouped, splits: dict[str, Splits], dimension: int, coordinate: int) -> tuple[Any, Any]:
    """The groups of the first process at a coordinate, and its exchange."""
    entries, boxes = grouped.entries, {}
    for name, each in splits.items():
        box = each.box(tuple(coordinate if d == dimension else 0 for d in range(len(each.mesh))))
        assert box is not None
        boxes[name] = box
    every = np.concatenate([places.in_block for places in local_places(entries, boxes).values()])
    groups = grouped.with_any_of(np.sort(every))
    mesh = next(iter(splits.values())).mesh
    holders = coordinates(holders_of_places(entries, splits, groups.places), mesh, dimension)
    return groups, partners_of(groups, holders, coordinate, mesh[dimension])
