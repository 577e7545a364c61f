"""Regular rows in groups that share no entry: alone, or those that commute as one product."""

from __future__ import annotations

from collections.abc import Hashable

from affinet.blocks.commuting import Commuting
from affinet.blocks.offsets import Nest, Offsets
from affinet.blocks.regular import RowBatch
from affinet.blocks.slices import Slices
from affinet.planning.overlaps.merging import product, stacked
from affinet.system.rows import Rows
from affinet.system.system import System

Products = dict[tuple[RowBatch, ...], Commuting | Slices]


def grouped(batches: list[RowBatch], system: System) -> tuple[list[list[RowBatch]], Products, list[Rows]]:
    """Batches that share no entry, or that commute as one product; what does neither, one equation at a time.

    Of batches that clash the one over more entries stays, and of two over the same ones that of more equations: the
    fewer equations are left, the more likely they can be a border. Raises Contradiction where a product cannot hold.
    """
    groups: list[list[RowBatch]] = []
    products: Products = {}
    clashing: list[Rows] = []
    for cluster in _clusters(batches):
        placed: list[list[RowBatch]] = []
        for batch in sorted(_stack_all(cluster, system.limits.most_stacked), key=lambda b: (-b.size, -b.equations)):
            meeting = [group for group in placed if any(_share(batch, other) for other in group)]
            if not meeting:
                placed.append([batch])
                continue
            found = product([*meeting[0], batch], system.tolerance, system.limits) if len(meeting) == 1 else None
            if found is None:
                clashing.append(batch.rows(system.layout))
            else:
                meeting[0].append(batch)
                # Sums that imply all others are slices again.
                products[tuple(meeting[0])] = found if len(found.slices) > 1 else found.slices[0]
        groups += placed
    return groups, products, clashing


def _clusters(batches: list[RowBatch]) -> list[list[RowBatch]]:
    """Batches whose ranges of positions overlap, directly or through others."""
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
    """Batches over the same loops become one, in the order they came.

    Only batches of equal loops are compared: of thousands of small ones, each with loops of its own, comparing every
    pair took nine tenths of the time of a plan.
    """
    done: list[RowBatch] = []
    alike: dict[Hashable, list[int]] = {}
    for batch in cluster:
        places = alike.setdefault(_loops(batch.outer), [])
        for k in places:
            both = stacked(done[k], batch, most_stacked) if _share(done[k], batch) else None
            if both is not None:
                done[k] = both
                break
        else:
            places.append(len(done))
            done.append(batch)
    return done


def _loops(outer: Offsets) -> Hashable:
    """What is equal for equal offsets, and can be looked up."""
    return outer if isinstance(outer, Nest) else outer.positions.tobytes()


def _share(one: RowBatch, other: RowBatch) -> bool:
    """Whether two batches have an entry in common."""
    small, large = sorted((one, other), key=lambda batch: batch.size)
    (a, b), (c, d) = one.span, other.span
    if b < c or d < a:
        return False
    if large.span == small.span and large.size == small.size == b - a + 1:
        return True
    return len(large.cells_of(small.positions().ravel())) > 0
