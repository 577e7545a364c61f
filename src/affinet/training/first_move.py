"""Move weights onto their rules when these are attached; weights that hold already keep their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from affinet.analysis.lookup.entry_names import by_rules
from affinet.blocks.standing import standing
from affinet.errors import AttachError, TooLargeError
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.precision import irregular_dtype, undisturbed
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.rounded_weights import weight_of
from affinet.language.dtensors import gathered, gathered_all
from affinet.plans.plan import Plan
from affinet.report.verification import verify
from affinet.training.unresolved_gaps import warn_of_unresolved_gaps

Parameters = Mapping[str, torch.nn.Parameter]

PIECE = 2**16
"""Entries whose distance is computed at a time."""


def settle(projector: Projector, parameters: Parameters) -> dict[str, float]:
    """Move the weights to the nearest feasible point; return the distance by parameter.

    Law: a block whose rules hold to rounding is not changed by a bit, so that a training resumed from a checkpoint
    continues from the same weights. Entries that the rules make equal count as holding only if their bits are equal.
    Raises AttachError, with the weights unchanged, where their dtype cannot hold the point. Warns
    (UnresolvedGapWarning) of distances that it cannot hold.
    """
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    projector.project_(parameters, passes=2)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if not all_finite(parameter):
                out_of_range = beyond_dtype(projector.plan, name, parameter)
                for other, former in before.items():
                    parameters[other].copy_(former)
                raise out_of_range
        _refuse_unreached(projector, parameters, before)
        _restore_satisfied_blocks(projector, parameters, before)
        warn_of_unresolved_gaps(projector.plan.system, gathered_all(parameters))
        return {name: _distance(parameter, before[name]) for name, parameter in parameters.items()}


def beyond_dtype(plan: Plan, name: str, weight: Tensor) -> AttachError:
    """The error for a nearest point with numbers beyond the dtype of a weight: it names the rules of the first one."""
    layout = plan.system.layout
    (parameter,) = (parameter for parameter in plan.parameters if parameter.name == name)
    position = int((~torch.isfinite(gathered(weight).detach().reshape(-1))).nonzero()[0])
    column = layout.start(parameter) + position
    place = standing(plan.blocks, column, layout)
    rules = [plan.system.rule(rule).name for rule in (() if place is None else place.block.rules)]
    return AttachError(
        f"the nearest point that satisfies the rules has numbers that {name} cannot hold in {weight.dtype}, at "
        f"{layout.describe(column)} by {by_rules(rules)}: a right-hand side is out of its range, which ends at "
        f"{torch.finfo(weight.dtype).max:.6g}. Nothing was changed; use a wider dtype or other right-hand sides."
    )


def _refuse_unreached(projector: Projector, parameters: Parameters, before: Mapping[str, Tensor]) -> None:
    """Raise InfeasibleError, with the weights unchanged, for nonlinear equations to which no way was found."""
    blocks = projector.unreached(parameters)
    if not blocks:
        return
    for name, former in before.items():
        parameters[name].copy_(former)
    raise projector.not_found(blocks, parameters)


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity: one pass, two where its sum leaves the dtype."""
    tensor = tensor.detach()
    return bool(torch.isfinite(gathered(tensor.sum()))) or bool(torch.isfinite(gathered(tensor)).all())


def _distance(parameter: Tensor, before: Tensor) -> float:
    """The distance of a parameter from its former value, in float64; by pieces, so that copies stay in the cache."""
    dtype = irregular_dtype(before.device)
    after, former = gathered(parameter).detach(), gathered(before)
    pieces = zip(after.reshape(-1).split(PIECE), former.reshape(-1).split(PIECE), strict=True)
    squares = [(piece.to(dtype) - other).square_().sum() for piece, other in pieces]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _restore_satisfied_blocks(projector: Projector, parameters: Parameters, before: Mapping[str, Tensor]) -> None:
    """Restore the bits of blocks whose rules held to rounding, except blocks with a single feasible point."""
    holds = _verdicts(projector, gathered_all(before))
    device = next((tensor.device for tensor in before.values()), torch.device("cpu"))
    with undisturbed(device):
        for block, kernel in projector.pairs(parameters):
            if block.rank == block.size:
                continue
            former, moved = kernel.read(before), kernel.read(parameters)
            if torch.equal(former, moved) or not _may_be_rounding(
                former, moved, [before[name] for name in kernel.names]
            ):
                continue
            if all(holds(rule) for rule in block.rules) and _ties_hold(kernel, former, moved):
                kernel.write(parameters, former)


def _may_be_rounding(former: Tensor, moved: Tensor, weights: list[Tensor]) -> bool:
    """Whether a move may be rounding: if not, the rules of the block need no check."""
    spacing = max(float(torch.finfo(weight.dtype).eps) for weight in weights)
    return bool(torch.linalg.vector_norm(moved - former) <= spacing**0.5 * torch.linalg.vector_norm(former))


def _ties_hold(kernel: Kernel | ConvexKernel, former: Tensor, moved: Tensor) -> bool:
    """Whether entries that the block makes equal or opposite have equal bits already.

    The projection of random numbers shows these entries: it gives them the same bits, and other entries almost never;
    entries that differ by a constant differ in `moved`.
    """
    random_numbers = torch.rand(former.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).add_(0.5)
    vector = random_numbers.to(former.device, former.dtype)
    tangent = kernel.along_at(vector, former) if isinstance(kernel, ConvexKernel) else kernel.tangent(vector, None)[0]
    tangent = tangent.expand(former.shape)
    tangents, targets, values = (x.detach().to("cpu", torch.float64).numpy().ravel() for x in (tangent, moved, former))
    targets, values = np.sign(tangents) * targets, np.sign(tangents) * values
    order = np.lexsort((targets, np.abs(tangents)))
    is_tied = (np.diff(np.abs(tangents)[order]) == 0) & (np.diff(targets[order]) == 0) & (tangents[order][1:] != 0)
    return bool((np.diff(values[order])[is_tied] == 0).all())


def _verdicts(projector: Projector, weights: Mapping[str, Tensor]) -> Callable[[int], bool]:
    """A function that returns whether a rule, by its number, holds to rounding; each rule is checked once."""
    verdicts: dict[int, bool] = {}
    system = projector.plan.system

    def holds(rule: int) -> bool:
        if rule not in verdicts:
            try:
                verdict = next(verify(system.only([rule]), lambda names: {n: weight_of(weights[n]) for n in names}))
                verdicts[rule] = verdict.holds
            except TooLargeError:
                verdicts[rule] = False
        return verdicts[rule]

    return holds
