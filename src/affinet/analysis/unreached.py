"""The error for nonlinear equations to which no way was found from given weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

from affinet.blocks.block import Block
from affinet.errors import InfeasibleError
from affinet.system.system import System


def unreached(system: System, blocks: Iterable[Block], violation: Mapping[str, float]) -> InfeasibleError:
    """The error for the rules of these blocks, with the largest violation (rule name → number) at the weights."""
    numbers = sorted({number for block in blocks for number in block.rules})
    rules = [(system.rule(number).name, system.rule(number).text) for number in numbers]
    valueless = next((name for name, _ in rules if not isfinite(violation[name])), None)
    if valueless is not None:
        return InfeasibleError.not_found(
            rules,
            f'At the weights "{valueless}" has no finite value: a logarithm or root of a negative number, a division '
            f"by zero, or a number that is too large. Nothing was changed.",
        )
    worst = max((name for name, _ in rules), key=lambda name: violation[name])
    return InfeasibleError.not_found(
        rules,
        f'The weights violate "{worst}" by {violation[worst]:.3g}, and from there the equations cannot be brought '
        f"nearer to zero: their gradients vanish on the way or depend on each other. Nothing was changed.",
    )
