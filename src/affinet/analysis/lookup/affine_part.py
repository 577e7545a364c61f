"""The rules of a system that nonlinear ones do not touch, and their blocks: what findings can look at."""

from __future__ import annotations

from dataclasses import replace

from affinet.blocks.block import Block
from affinet.blocks.law import is_curved
from affinet.system.system import System


def affine_part(system: System, blocks: tuple[Block, ...]) -> tuple[System, tuple[Block, ...]]:
    """The affine rules that share no block with a nonlinear one, numbered anew, and the blocks of these."""
    curved = set(system.curved_rules)
    joined = {
        rule for block in blocks if is_curved(block.law()) or not curved.isdisjoint(block.rules) for rule in block.rules
    }
    if not joined and not curved:
        return system, blocks
    numbers = [number for number in range(len(system.rules)) if number not in joined]
    renumbering = {number: place for place, number in enumerate(numbers)}
    part = replace(system, rules=tuple(system.rules[number] for number in numbers), curved=())
    remaining_blocks = tuple(block.renumbered(renumbering) for block in blocks if joined.isdisjoint(block.rules))
    return part, remaining_blocks
