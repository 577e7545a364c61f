"""Set a computed weight (`layer.weight = value`): check the value, and find the nearest weights on the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.blocks.kinds import AnyLinear
from affinet.errors import AttachError, ShapeError, counted
from affinet.kernels.torch.precision import undisturbed
from affinet.kernels.torch.preparing import eager


def checked_value(name: str, value: Any, weight: Tensor) -> Tensor:
    """`value` as numbers that the weight can hold, detached from autograd. Raises ShapeError or AttachError."""
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise AttachError(f"{name} was set to {kind}; give a torch.Tensor of a real floating dtype, like the weight.")
    if value.shape != weight.shape:
        raise ShapeError(f"{name} has shape {tuple(weight.shape)} and was set to a tensor of {tuple(value.shape)}.")
    if count := int((~torch.isfinite(value)).sum()):
        raise AttachError(
            f"{name} was set to a tensor with {counted(count, 'number that is', 'numbers that are')} not finite; the "
            f"rules would spread them. Nothing was changed."
        )
    return value.detach()


def nearest_weights(blocks: Iterable[AnyLinear], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The nearest point that satisfies all blocks, in float64 on the CPU."""
    points = {name: w.detach().to("cpu", torch.float64, copy=True) for name, w in weights.items()}
    with undisturbed(torch.device("cpu")):
        for block in blocks:
            kernel, state = eager(block, points), None
            for _ in range(2):  # the second pass refines a long move
                feasible, state = kernel.land(kernel.read(points), state)
                kernel.write(points, feasible)
    return points
