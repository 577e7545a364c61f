"""Group regular rows so that groups share no entry: single batches, and products of batches that commute."""

from __future__ import annotations

from collections.abc import Hashable

from affinet.blocks.commuting import Commuting
from affinet.blocks.offsets import Nest, Offsets
from affinet.blocks.regular import RowBatch
from affinet.blocks.slices import Slices
from affinet.planning.overlaps.merging import product, stack
from affinet.system.rows import Rows
from affinet.system.system import System

Products = dict[tuple[RowBatch, ...], Commuting | Slices]


def group_batches(batches: list[RowBatch], system: System) -> tuple[list[list[RowBatch]], Products, list[Rows]]:
    """Groups that share no entry, the products of groups that commute, and clashing batches as single equations.

    Of clashing batches the one over more entries stays a group, and of two over equally many entries that with more
    equations: few remaining equations can be a border. Raises Contradiction if a product cannot hold.
    """
    groups: list[list[RowBatch]] = []
    products: Products = {}
    clashing: list[Rows] = []
    for cluster in _find_clusters(batches):
        placed: list[list[RowBatch]] = []
        for batch in sorted(_stack_all(cluster, system.limits.most_stacked), key=lambda b: (-b.size, -b.equations)):
            meeting = [group for group in placed if any(_share_entries(batch, other) for other in group)]
            if not meeting:
                placed.append([batch])
                continue
            combined = product([*meeting[0], batch], system.tolerance, system.limits) if len(meeting) == 1 else None
            if combined is None:
                clashing.append(batch.rows(system.layout))
            else:
                meeting[0].append(batch)
                # If one set of sums implies all others, it is all that remains of the product.
                products[tuple(meeting[0])] = combined if len(combined.slices) > 1 else combined.slices[0]
        groups += placed
    return groups, products, clashing


def _find_clusters(batches: list[RowBatch]) -> list[list[RowBatch]]:
    """Clusters of batches whose ranges of positions overlap, directly or through others."""
    ordered = sorted(batches, key=lambda batch: (batch.parameter.name, batch.span))
    clusters: list[list[RowBatch]] = []
    reach: tuple[str, int] = ("", -1)
    for batch in ordered:
        if not clusters or reach[0] != batch.parameter.name or batch.span[0] > reach[1]:
            clusters.append([])
            reach = (batch.parameter.name, batch.span[1])
        clusters[-1].append(batch)
        reach = (reach[0], max(reach[1], batch.span[1]))
    return clusters


def _stack_all(cluster: list[RowBatch], most_stacked: int) -> list[RowBatch]:
    """Stack batches over the same loops, in their order.

    Only batches of equal loops are compared: with thousands of small batches over different loops, a comparison of
    every pair took nine tenths of the time of a plan.
    """
    stacked: list[RowBatch] = []
    indices_by_loops: dict[Hashable, list[int]] = {}
    for batch in cluster:
        indices = indices_by_loops.setdefault(_loop_key(batch.outer), [])
        for k in indices:
            combined = stack(stacked[k], batch, most_stacked) if _share_entries(stacked[k], batch) else None
            if combined is not None:
                stacked[k] = combined
                break
        else:
            indices.append(len(stacked))
            stacked.append(batch)
    return stacked


def _loop_key(outer: Offsets) -> Hashable:
    """A hashable key that is equal for equal offsets."""
    return outer if isinstance(outer, Nest) else outer.positions.tobytes()


def _share_entries(first: RowBatch, second: RowBatch) -> bool:
    """Whether two batches have an entry in common."""
    small, large = sorted((first, second), key=lambda batch: batch.size)
    (a, b), (c, d) = first.span, second.span
    if b < c or d < a:
        return False
    if large.span == small.span and large.size == small.size == b - a + 1:
        return True
    return len(large.cells_of(small.positions().ravel())) > 0
