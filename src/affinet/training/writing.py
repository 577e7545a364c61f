"""Detect writes to the weights between two steps, and whether these broke the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from affinet.kernels.torch.projector import Projector
from affinet.language.dtensors import gathered, is_distributed

ROUNDINGS, COARSE_ROUNDINGS = 64.0, 4.0
"""Weights violate the rules where the projection moves an entry by more than this many spacings of the largest entry,
for float32 and float64, or for 16 bits.

Feasible weights that are rounded are off by half a spacing, averages of many such weights (EMA, SWA) by some spacings.
Weights of 16 bits are never that far off: they are averaged in float32.
"""
COARSE = 1e-5
"""Dtypes whose spacing at 1 is larger than this have 16 bits."""
ABNORMAL = 1e3
"""A violation above this multiple of the usual one is not rounding. Averages reach some tens of times."""
NORMAL = 2.0
"""A violation up to this multiple of the usual one may come from a solver that has not converged."""


@dataclass(frozen=True)
class Mark:
    """The state of a parameter after a step: its version, which every write raises, its address, its spacing."""

    version: int
    address: int
    spacing: float


Marks = Mapping[str, Mark]


def marks_of(parameters: Mapping[str, Tensor]) -> Marks:
    """Marks of the present parameters."""
    return {name: Mark(p._version, p.data_ptr(), torch.finfo(p.dtype).eps) for name, p in parameters.items()}


def written_parameters(marks: Marks, parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters that were written to or got other memory since they were marked.

    Writes through `.data` do not raise the version and are not detected. Nor are writes to weights that several
    processes hold: versions may differ between them, and a check that only some of them make would never end.
    """
    return [
        name
        for name, p in parameters.items()
        if name in marks
        and not is_distributed(p)
        and (p._version != marks[name].version or p.data_ptr() != marks[name].address)
    ]


@dataclass
class UsualViolations:
    """The usual violations after steps, relative to the largest weight.

    The rounding of an equation with a million entries is far below a million roundings, the bound in
    `parameters_off_rules`, which therefore misses a write to one entry. Rules that hold to the bit have no rounding.
    """

    usual: dict[str, float] = field(default_factory=dict)

    def update(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> None:
        """Add the violations after a step."""
        size = _largest_entry(parameters)
        for rule, distance in violation.items() if size > 0.0 else ():
            self.usual[rule] = max(self.usual.get(rule, 0.0), distance / size)

    def is_abnormal(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> bool:
        """Whether the violation of some rule is far above its usual one, which is not zero."""
        size = _largest_entry(parameters)
        return any(
            distance > ABNORMAL * self.usual[rule] * size > 0.0
            for rule, distance in violation.items()
            if rule in self.usual
        )

    def is_usual(self, violation: Mapping[str, float], parameters: Mapping[str, Tensor]) -> bool:
        """Whether the violation of every rule is about its usual one."""
        size = _largest_entry(parameters)
        return all(distance <= NORMAL * self.usual.get(rule, 0.0) * size for rule, distance in violation.items())


def was_cast(marks: Marks, parameters: Mapping[str, Tensor]) -> bool:
    """Whether a parameter has another dtype than when it was marked."""
    return any(name in marks and torch.finfo(p.dtype).eps != marks[name].spacing for name, p in parameters.items())


def parameters_off_rules(projector: Projector, marks: Marks, parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters that the projection would move by more than rounding; nothing is changed.

    Law: where w* satisfies the rules and w is w* rounded, `Π(w) − w = −(I − P)(w − w*)` is not longer than `w − w*`.
    Weights that were cast count in the coarser of both dtypes.
    """
    if not parameters:
        return []
    weights = {name: p.detach() for name, p in parameters.items()}
    copies = {name: weight.clone() for name, weight in weights.items()}
    projector.project_(copies)
    moves = torch.stack([_largest(copies[name].sub_(weight)) for name, weight in weights.items()])
    spacing = max(
        torch.finfo(p.dtype).eps if name not in marks else max(torch.finfo(p.dtype).eps, marks[name].spacing)
        for name, p in parameters.items()
    )
    largest_allowed = (ROUNDINGS if spacing < COARSE else COARSE_ROUNDINGS) * spacing * _largest_entry(parameters)
    return [name for name, move in zip(weights, moves.tolist(), strict=True) if move > largest_allowed]


def _largest_entry(parameters: Mapping[str, Tensor]) -> float:
    """The largest absolute value in all parameters."""
    return (
        max(torch.stack([_largest(p.detach()) for p in parameters.values()]).tolist(), default=0.0)
        if parameters
        else 0.0
    )


def _largest(x: Tensor) -> Tensor:
    if not x.numel():
        return torch.zeros((), device=x.device)
    low, high = torch.aminmax(gathered(x))  # reads once and writes nothing, unlike x.abs().amax()
    return torch.maximum(-low, high).float()
