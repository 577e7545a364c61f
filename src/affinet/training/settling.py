"""Move weights onto their rules when these are attached; weights that hold already keep their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from affinet.errors import AttachError, TooLargeError
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.precision import irregular_dtype, undisturbed
from affinet.kernels.torch.projector import Projector
from affinet.report.verification import Rounding, Weight, verify

Parameters = Mapping[str, torch.nn.Parameter]

PIECE = 2**16
"""Entries whose distance is taken at a time."""


def settle(projector: Projector, parameters: Parameters) -> dict[str, float]:
    """Move the weights to the nearest feasible point; the distance by parameter.

    Law: a block whose rules hold to rounding is left as it is, to the bit, so that a training that goes on from a
    checkpoint goes on from these very weights. Entries that the rules make equal count as holding only where they are
    equal to the bit. Raises AttachError, with the weights as they were, where their dtype cannot hold the point.
    """
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    projector.project_(parameters, passes=2)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if not all_finite(parameter):
                for each, there in before.items():
                    parameters[each].copy_(there)
                raise AttachError(
                    f"the nearest point that satisfies the rules has numbers that {name} cannot hold in "
                    f"{parameter.dtype}: a right-hand side is out of its range. Nothing was changed; use a wider dtype "
                    f"or other right-hand sides."
                )
        _leave_what_holds(projector, parameters, before)
        return {name: _distance(parameter, before[name]) for name, parameter in parameters.items()}


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity: one pass, two where its sum leaves the dtype."""
    tensor = tensor.detach()
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _distance(parameter: Tensor, before: Tensor) -> float:
    """How far a parameter is from where it was, in float64; piece by piece, so that no wide copy leaves the cache."""
    wide = irregular_dtype(before.device)
    pieces = zip(parameter.detach().reshape(-1).split(PIECE), before.reshape(-1).split(PIECE), strict=True)
    squares = [(now.to(wide) - was).square_().sum() for now, was in pieces]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _leave_what_holds(projector: Projector, parameters: Parameters, before: Mapping[str, Tensor]) -> None:
    """Give the blocks whose rules held to rounding their bits back, but for those that leave one point only."""
    holds = _verdicts(projector, before)
    device = next((tensor.device for tensor in before.values()), torch.device("cpu"))
    with undisturbed(device):
        for block, kernel in zip(projector.plan.blocks, projector.kernels(parameters), strict=True):
            if block.rank == block.size:
                continue
            was, now = kernel.read(before), kernel.read(parameters)
            if torch.equal(was, now) or not _little(was, now, [before[name] for name in kernel.names]):
                continue
            if all(holds(rule) for rule in block.rules) and _ties_hold(kernel, was, now):
                kernel.write(parameters, was)


def _little(was: Tensor, now: Tensor, weights: list[Tensor]) -> bool:
    """Whether a move can be rounding at all: spares the rules of all others being looked at."""
    spacing = max(float(torch.finfo(weight.dtype).eps) for weight in weights)
    return bool(torch.linalg.vector_norm(now - was) <= spacing**0.5 * torch.linalg.vector_norm(was))


def _ties_hold(kernel: Kernel, was: Tensor, now: Tensor) -> bool:
    """Whether entries that the block makes equal or opposite are so already, to the bit.

    Which these are shows in the projection of random numbers: it gives them the same bits, and others almost never;
    those that are apart by a constant differ in `now`.
    """
    draw = torch.rand(was.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).add_(0.5)
    tangent = kernel.tangent(draw.to(was.device, was.dtype), None)[0].expand(was.shape)
    along, there, here = (x.detach().to("cpu", torch.float64).numpy().ravel() for x in (tangent, now, was))
    there, here = np.sign(along) * there, np.sign(along) * here
    order = np.lexsort((there, np.abs(along)))
    same = (np.diff(np.abs(along)[order]) == 0) & (np.diff(there[order]) == 0) & (along[order][1:] != 0)
    return bool((np.diff(here[order])[same] == 0).all())


def _verdicts(projector: Projector, weights: Mapping[str, Tensor]) -> Callable[[int], bool]:
    """Whether a rule, by its number, holds to rounding; looked at when first asked."""
    known: dict[int, bool] = {}
    system = projector.plan.system

    def holds(rule: int) -> bool:
        if rule not in known:
            try:
                verdict = next(verify(system.only([rule]), lambda names: {n: weight_of(weights[n]) for n in names}))
                known[rule] = verdict.holds
            except TooLargeError:
                known[rule] = False
        return known[rule]

    return holds


def weight_of(tensor: Tensor) -> Weight:
    """The numbers of a tensor for `verify`, and how its dtype rounds."""
    about = torch.finfo(tensor.dtype)
    # Exact for 16 bits, which NumPy may not know.
    wide = tensor.to("cpu", torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return Weight(wide.reshape(-1).numpy(), Rounding(float(about.eps), float(about.smallest_normal * about.eps)))
