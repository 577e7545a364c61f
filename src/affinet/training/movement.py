"""Measure how far a step moved the weights, and how far the projection moved them after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from affinet.kernels.torch.precision import irregular_dtype, regular_dtype
from affinet.language.dtensors import gathered


@dataclass(frozen=True)
class Movement:
    """Euclidean lengths over the constrained weights.

    `step` is from before the optimizer's step to after it, `projection` from there to the projected weights, `net` from
    before the step to the projected weights, and `rounding` the effect of rounding the weights: `ε ‖w‖`.
    """

    step: float
    projection: float
    net: float
    rounding: float

    @property
    def finite(self) -> bool:
        """Whether the weights are numbers, before and after."""
        return isfinite(self.step) and isfinite(self.net)

    @property
    def undone(self) -> float:
        """The share of the step's squared length that the projection undid; 0 where the optimizer moved nothing."""
        undone_square, net_square = self.projection**2, self.net**2
        return (
            undone_square / (undone_square + net_square)
            if self.step != 0.0 and undone_square + net_square != 0.0
            else 0.0
        )


class Footprint:
    """Copies of the weights before a step and before the projection after it."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._weights = [parameter.detach() for parameter in parameters.values()]
        self._before = [weight.clone() for weight in self._weights]
        self._stepped: list[Tensor] = []

    def copy_stepped(self) -> None:
        """Copy the weights that the optimizer has moved."""
        self._stepped = [weight.clone() for weight in self._weights]

    def movement(self) -> Movement:
        """The lengths, once the weights are projected; overwrites the copies, and waits for the device once."""
        if not self._weights:
            return Movement(0.0, 0.0, 0.0, 0.0)
        pairs = list(zip(self._weights, self._before, self._stepped, strict=True))
        # In place: new pages of memory cost many times more than the arithmetic.
        step = _length(stepped.sub_(before) for _, before, stepped in pairs)
        net = _length(before.sub_(weight) for weight, before, _ in pairs)
        projection = _length(stepped.add_(before) for _, before, stepped in pairs)
        rounding = _length(self._weights, spacing=True)
        return Movement(*torch.stack([step, projection, net, rounding]).tolist())


def _length(parts: Iterable[Tensor], *, spacing: bool = False) -> Tensor:
    """The norm of all parts together; with `spacing`, each part is multiplied by the spacing of its dtype at 1."""
    norms = [
        gathered(torch.linalg.vector_norm(part, dtype=regular_dtype(part.dtype))).to(irregular_dtype(part.device))
        * (torch.finfo(part.dtype).eps if spacing else 1.0)
        for part in parts
    ]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total
