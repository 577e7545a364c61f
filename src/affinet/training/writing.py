"""Whether somebody wrote to the weights between two steps, and whether that took them off the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from affinet.kernels.torch.projector import Projector

ROUNDINGS, COARSE_ROUNDINGS = 64.0, 4.0
"""Weights are off the rules where the projection moves an entry by more than so many spacings of the largest entry, of
float32 and float64, or of 16 bits.

Weights on the rules that are rounded are off by half a spacing, averages of many such (EMA, SWA) by some spacings.
Sixteen bits are never that far off: they are averaged in float32.
"""
COARSE = 1e-5
"""Dtypes whose spacing at one is larger than this are of 16 bits."""
GROWN = 1e3
"""A violation of so many times what it was after other steps is no rounding. Averages are off by some tens of times."""
SAME = 2.0
"""A violation of up to so many times what it was after other steps may be what a solver leaves that falls short."""


@dataclass(frozen=True)
class Mark:
    """A parameter as a step left it: the version that every write raises, where its numbers lie, how they round."""

    version: int
    address: int
    spacing: float


Marks = Mapping[str, Mark]


def marks_of(parameters: Mapping[str, Tensor]) -> Marks:
    """The parameters as they are now."""
    return {name: Mark(p._version, p.data_ptr(), torch.finfo(p.dtype).eps) for name, p in parameters.items()}


def written(marks: Marks, parameters: Mapping[str, Tensor]) -> list[str]:
    """Which parameters were written to or given other memory since they were marked.

    Writes through `.data` raise no version, and are not among them.
    """
    return [
        name
        for name, p in parameters.items()
        if name in marks and (p._version != marks[name].version or p.data_ptr() != marks[name].address)
    ]


@dataclass
class Rounding:
    """What violations come to after steps, relative to the largest weight.

    The rounding of an equation over a million entries is far below a million roundings, which is all that
    `off_the_rules` can tell from it: one entry that is written to is lost in these. Rules that hold to the bit have
    none.
    """

    usual: dict[str, float] = field(default_factory=dict)

    def sees(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> None:
        """After a step."""
        size = _sizes(parameters)
        for rule, off in violation.items() if size > 0.0 else ():
            self.usual[rule] = max(self.usual.get(rule, 0.0), off / size)

    def exceeded(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> bool:
        """Whether some rule is off by far more than after any step that was seen, and there more than nothing."""
        size = _sizes(parameters)
        return any(off > GROWN * self.usual[rule] * size > 0.0 for rule, off in violation.items() if rule in self.usual)

    def as_usual(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> bool:
        """Whether every rule is off by about what steps leave."""
        size = _sizes(parameters)
        return all(off <= SAME * self.usual.get(rule, 0.0) * size for rule, off in violation.items())


def cast(marks: Marks, parameters: Mapping[str, Tensor]) -> bool:
    """Whether a parameter has another dtype than when it was marked."""
    return any(name in marks and torch.finfo(p.dtype).eps != marks[name].spacing for name, p in parameters.items())


def off_the_rules(projector: Projector, marks: Marks, parameters: Mapping[str, Tensor]) -> list[str]:
    """Which parameters the projection would move by more than rounding; nothing is written to.

    Law: where w* satisfies the rules and w is w* rounded, `Π(w) − w = −(I − P)(w − w*)` is no longer than `w − w*`.
    Weights that were cast count in the coarser of both dtypes.
    """
    if not parameters:
        return []
    found = {name: p.detach() for name, p in parameters.items()}
    copies = {name: weight.clone() for name, weight in found.items()}
    projector.project_(copies)
    moved = torch.stack([_largest(copies[name].sub_(weight)) for name, weight in found.items()])
    spacing = max(
        torch.finfo(p.dtype).eps if name not in marks else max(torch.finfo(p.dtype).eps, marks[name].spacing)
        for name, p in parameters.items()
    )
    most = (ROUNDINGS if spacing < COARSE else COARSE_ROUNDINGS) * spacing * _sizes(parameters)
    return [name for name, far in zip(found, moved.tolist(), strict=True) if far > most]


def _sizes(parameters: Mapping[str, Tensor]) -> float:
    """The size of the largest entry."""
    return (
        max(torch.stack([_largest(p.detach()) for p in parameters.values()]).tolist(), default=0.0)
        if parameters
        else 0.0
    )


def _largest(x: Tensor) -> Tensor:
    if not x.numel():
        return torch.zeros((), device=x.device)
    low, high = torch.aminmax(x)  # reads once and writes nothing, unlike x.abs().amax()
    return torch.maximum(-low, high).float()
