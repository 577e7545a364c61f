"""Finds the entries of a block in the boxes that a process holds: from the shorter of both, the block or the boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from affinet.blocks.places import Places
from affinet.language.calculus.terms import Integers
from affinet.planning.shards.splits import HeldBox
from affinet.system.layout import Layout


@dataclass(frozen=True, eq=False)
class LocalPlaces:
    """Entries of one weight, where they are in the part that a process holds, and their places in the block."""

    in_part: Integers
    in_block: Integers


def local_places(entries: Places, boxes: Mapping[str, HeldBox]) -> dict[str, LocalPlaces]:
    """The entries of a block that a process with these boxes holds, by weight. The order of each is arbitrary."""
    layout = Layout.of(parameter for parameter, _ in entries.sizes)
    if entries.count < sum(boxes[parameter.name].size for parameter in layout.parameters):
        return _of_entries(entries, boxes, layout)
    return _of_boxes(entries, boxes, layout)


def _of_entries(entries: Places, boxes: Mapping[str, HeldBox], layout: Layout) -> dict[str, LocalPlaces]:
    """Look for every entry of the block in the boxes."""
    every = np.arange(entries.count)
    columns = entries.columns(every, layout)
    numbers, is_in_block = layout.numbers(columns), entries.find(columns, layout) == every
    places = {}
    for number, (parameter, start) in enumerate(zip(layout.parameters, layout.starts, strict=True)):
        in_parameter = every[(numbers == number) & is_in_block]
        in_part = boxes[parameter.name].find(columns[in_parameter] - start)
        places[parameter.name] = LocalPlaces(in_part[in_part >= 0], in_parameter[in_part >= 0])
    return places


def _of_boxes(entries: Places, boxes: Mapping[str, HeldBox], layout: Layout) -> dict[str, LocalPlaces]:
    """Look for every entry of the boxes in the block."""
    places = {}
    for parameter in layout.parameters:
        in_block = entries.find(boxes[parameter.name].positions() + layout.start(parameter), layout)
        places[parameter.name] = LocalPlaces(np.flatnonzero(in_block >= 0), in_block[in_block >= 0])
    return places
