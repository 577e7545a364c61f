"""A plan over a mesh of processes: what its rules send between these in a step, from shapes alone."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from affinet.analysis.lookup.together import groups_of
from affinet.analysis.summary import format_table
from affinet.blocks.kinds import AnyBlock
from affinet.errors import AttachError, visible
from affinet.language.calculus.terms import Parameter
from affinet.planning.shards.splits import Split, Splits
from affinet.planning.shards.traffic import WIDE, Message, Traffic, traffic_of
from affinet.system.system import System

Placements = Sequence[Any]
"""For each dimension of a mesh the axis along which a weight is split, None for copies; or placements of torch."""


@dataclass(frozen=True, eq=False)
class ShardedPlan:
    """What the rules of a plan send in a step, by rule. `print` shows a table.

    `mesh` are the numbers of processes along each dimension, `itemsize` the bytes of a number of the weights.
    """

    system: System
    blocks: tuple[AnyBlock, ...]
    mesh: tuple[int, ...]
    itemsize: int
    traffic: tuple[Traffic, ...]
    """Of each block."""
    presence_messages: tuple[int, ...]
    """Numbers of processes that tell each other which weights have a gradient, along each dimension of the mesh."""

    @property
    def bytes_a_step(self) -> int:
        """Bytes that one process gives to messages in a step: for the gradient, the weights, and what is present."""
        return self.presence_bytes + sum(each.bytes_sent(self.itemsize) for each in self.traffic)

    @property
    def presence_bytes(self) -> int:
        """Bytes that say which weights have a gradient: one for each, where rules need anything from others."""
        return len(self.system.layout.parameters) if self.presence_messages else 0

    @property
    def messages(self) -> frozenset[Message]:
        """The messages that blocks share in a step; one dtype where weights are float64."""
        every = frozenset[Message]().union(*(each.messages for each in self.traffic))
        if self.itemsize >= WIDE:
            return frozenset(replace(each, is_wide=True, for_doubles=False) for each in every)
        return frozenset(each for each in every if not each.for_doubles)

    @property
    def messages_a_step(self) -> int:
        """All-reduces and all-to-alls in a step: rules share them, except those whose entries are gathered."""
        unshared = sum(each.own_messages for each in self.traffic)
        return len(self.presence_messages) + unshared + sum(len(each.dimensions) for each in self.messages)

    def bytes_by_rule(self) -> dict[str, int]:
        """Rule name → bytes of the blocks that it is part of; rules that share blocks share their bytes."""
        every = self.system.every
        return {
            rule.name: sum(
                traffic.bytes_sent(self.itemsize)
                for block, traffic in zip(self.blocks, self.traffic, strict=True)
                if number in block.rules
            )
            for number, rule in enumerate(every)
        }

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("rules", "bytes a step", "exchanged")]
        traffic = dict(zip(map(id, self.blocks), self.traffic, strict=True))
        for rules, members in groups_of(len(self.system.every), self.blocks):
            parts = [traffic[id(block)] for block in members]
            ways: list[str] = sorted({part.way for part in parts if part.way != "local"})
            names = ", ".join(self.system.rule(rule).name for rule in rules)
            shown = names if len(names) <= MOST_LETTERS else f"{names[: MOST_LETTERS - 1]}…"
            lines.append(
                (shown, f"{sum(part.bytes_sent(self.itemsize) for part in parts):,}", " and ".join(ways) or "nothing")
            )
        processes = " × ".join(f"{size:,}" for size in self.mesh)
        total = f"Of {processes} processes each sends {self.bytes_a_step:,} bytes a step for the rules."
        return visible("\n".join([*format_table(lines), total]))


MOST_LETTERS = 60
"""Of the names of rules in a line."""


def sharded_plan(
    system: System,
    blocks: tuple[AnyBlock, ...],
    mesh: Any,
    placements: Placements | Mapping[str, Placements] | None,
    itemsize: int,
) -> ShardedPlan:
    """The blocks of a plan over a mesh. Raises AttachError for other meshes or placements."""
    sizes = _sizes_of(mesh)
    if type(itemsize) is not int or itemsize not in (2, 4, 8):
        raise AttachError(
            f"itemsize is {itemsize!r:.40}; it is how many bytes a number of the weights has: 2 (bfloat16, float16), "
            f"4 (float32) or 8 (float64)."
        )
    if placements is None:
        if len(sizes) > 1:
            raise AttachError(
                f"a mesh of {len(sizes)} dimensions needs placements: for each dimension the axis along which weights "
                f"are split, or None for copies. Write plan.sharded({mesh!r:.40}, placements=(None, 0))."
            )
        placements = {p.name: (0 if p.shape else None,) for p in system.layout.parameters}
    if not isinstance(placements, Mapping):
        placements = {p.name: placements for p in system.layout.parameters}
    _refuse_missing(placements, [p.name for p in system.layout.parameters])
    splits = {p.name: _splits_of(p, sizes, placements[p.name]) for p in system.layout.parameters}
    traffic = tuple(traffic_of(block, splits) for block in blocks)
    asking: set[int] = set()
    if any(each.way != "local" for each in traffic):
        asking = {dimension for of_weight in splits.values() for dimension in of_weight.dimensions}
    return ShardedPlan(
        system, blocks, sizes, itemsize, traffic, tuple(sizes[dimension] for dimension in sorted(asking))
    )


def _sizes_of(mesh: Any) -> tuple[int, ...]:
    shape = getattr(mesh, "shape", mesh)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape) if isinstance(shape, Sequence) else ()
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise AttachError(
            f"a mesh is a number of processes, or one for each of its dimensions: 8 or (2, 4). This is {mesh!r:.60}."
        )
    return sizes


def _refuse_missing(placements: Mapping[str, Placements], weights: Sequence[str]) -> None:
    """Raise AttachError unless there are placements for all weights of rules; others of the model may be there too."""
    missing = [name for name in weights if name not in placements]
    if not missing:
        return
    fact = f"there are no placements for {', '.join(missing[:4])}"
    for name in [str(name) for name in placements if name not in weights][:1]:
        close = difflib.get_close_matches(name, missing, n=2, cutoff=0.5)
        question = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
        fact += f", and no rule is about {name!r:.60}{question}"
    raise AttachError(f"{fact}. Give placements for all weights of rules.")


def _splits_of(parameter: Parameter, sizes: tuple[int, ...], placements: Placements) -> Splits:
    """The splits of a weight. Raises AttachError for placements that it cannot have."""
    listed = list(placements) if isinstance(placements, Sequence) else []
    axes = [_axis_of(placement) for placement in listed]
    if len(axes) != len(sizes) or any(axis is not None and type(axis) is not int for axis in axes):
        raise AttachError(
            f"the placements of {parameter.name} are {placements!r:.60}, and a mesh of {len(sizes)} "
            f"dimension{'s' * (len(sizes) > 1)} needs a tuple of {len(sizes)}: for each dimension the axis along which "
            f"the weight is split, or None for copies. Write {_example(placements, len(sizes))}, for example."
        )
    rank = len(parameter.shape)
    outside = [axis for axis in axes if axis is not None and not -rank <= axis < rank]
    if outside:
        raise AttachError(
            f"{parameter.name} of shape {parameter.shape} has no axis {outside[0]} to be split along. Give placements "
            f"by name where weights are split in different ways: {{{parameter.name!r}: (None,), …}}."
        )
    splits = [
        None if axis is None else Split(axis % rank, getattr(placement, "split_factor", 1))
        for axis, placement in zip(axes, listed, strict=True)
    ]
    return Splits(parameter.shape, sizes, tuple(splits))


def _example(placements: Any, dimensions: int) -> tuple[int | None, ...]:
    """Placements for a mesh, with the axis of `placements` where they are one axis instead of a tuple."""
    axis = _axis_of(placements)
    return (*[None] * (dimensions - 1), axis if axis is None or type(axis) is int else 0)


def _axis_of(placement: Any) -> Any:
    is_replicate = getattr(placement, "is_replicate", None)
    if is_replicate is None:
        return placement
    return None if is_replicate() else getattr(placement, "dim", placement)
