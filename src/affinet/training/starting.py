"""Compute the first free numbers: those of the nearest feasible point, with the variance restored on request."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affinet.errors import callers_line
from affinet.kernels.torch.bases.expansion import Expansion, entries_at
from affinet.kernels.torch.precision import undisturbed
from affinet.kernels.torch.projector import Projector
from affinet.training.first_move import beyond_dtype
from affinet.training.free_numbers import Expanded, Projected
from affinet.training.freezing import Trained


@dataclass(frozen=True, eq=False)
class Start:
    """The numbers that training starts from.

    `free` are free numbers by the first weight of their group, `untouched` entries in no rule and `weights` complete
    weights by name. `moved` is the distance of each weight from its former value (Euclidean), `fixed` names weights
    that do not depend on any trained number.
    """

    free: dict[str, Tensor]
    untouched: dict[str, Tensor]
    weights: dict[str, Tensor]
    moved: dict[str, float]
    fixed: tuple[str, ...]

    def warn(self) -> None:
        """Warn of weights that cannot be trained any more."""
        if self.fixed:
            warnings.warn(
                f"nothing is left to train in {', '.join(self.fixed)}: the rules fix every entry.",
                stacklevel=callers_line(),
            )


def start_of(trained: Trained, groups: Sequence[Expanded | Projected], restore_variance: bool) -> Start:
    """The start from the present parameters. Raises AttachError where their dtype cannot hold it."""
    former = {name: p.detach() for name, p in trained.parameters.items()}
    device = next((x.device for x in former.values()), torch.device("cpu"))
    start = Start({}, {}, {}, dict.fromkeys(former, 0.0), _fixed_weights(groups))
    with undisturbed(device):
        expansions = [group.expansion for group in groups if isinstance(group, Expanded)]
        if expansions:
            _fill_in_groups(start, expansions, trained, former, restore_variance)
            computed = start.weights
        else:
            start.weights.update(trained.projector.project(former))
            computed = trained.projector.project(start.weights)
        for name, w in computed.items():
            if not bool(torch.isfinite(w).all()):
                raise beyond_dtype(trained.projector.plan, name, w)
            start.moved[name] = float(torch.linalg.vector_norm(w.double() - former[name].double()))
    return start


def _fill_in_groups(
    start: Start,
    expansions: Sequence[Expansion],
    trained: Trained,
    former: Mapping[str, Tensor],
    restore_variance: bool,
) -> None:
    """Fill in the numbers of every group, computed in float64 and rounded at the end."""
    widened = {name: x.to("cpu", torch.float64) for name, x in former.items()}
    projector = Projector(trained.projector.plan, widened)
    nearest = projector.project(widened)
    smallest = (
        projector.project({name: torch.zeros_like(x) for name, x in widened.items()}) if restore_variance else None
    )
    for expansion in expansions:
        v = expansion.coordinates(nearest)
        if smallest is not None:
            v = _restored_variance(expansion, v, expansion.coordinates(smallest), widened)
        _fill_in_group(start, expansion, v, former)


def _fill_in_group(start: Start, expansion: Expansion, v: Tensor, former: Mapping[str, Tensor]) -> None:
    """Fill in the numbers of one group, in the dtype and on the device of its weights."""
    weights = [former[name] for name in expansion.names]
    dtype = max((x.dtype for x in weights), key=lambda dtype: torch.finfo(dtype).bits)
    free = v.to(weights[0].device, dtype)
    expansion.prepare(free)
    start.free[expansion.names[0]] = free
    for name, w in zip(expansion.names, weights, strict=True):
        untouched = torch.from_numpy(expansion.untouched(name)).to(w.device)
        start.untouched[name] = w.reshape(-1)[untouched]
        start.weights[name] = expansion.weight(name, free, start.untouched[name], w.dtype)


def _restored_variance(expansion: Expansion, v: Tensor, centre: Tensor, former: Mapping[str, Tensor]) -> Tensor:
    """`centre + s (v − centre)`, with s such that the entries of `N (v − centre)` vary as those of their block did.

    `centre` is the smallest feasible point. Blocks whose entries did not vary, or do not vary now, do not change.
    """
    scaled = v.clone()
    for (first, last), basis in zip(expansion.spans, expansion.bases, strict=True):
        if basis.free:
            deviation = v[first:last] - centre[first:last]
            former_spread = _deviation([entries_at(former[p.name].reshape(-1), p.positions) for p in basis.places])
            present_spread = _deviation(basis.linear(deviation))
            if present_spread > 1e-12 * former_spread > 0.0:
                scaled[first:last] = centre[first:last] + former_spread / present_spread * deviation
    return scaled


def _deviation(pieces: Iterable[Tensor]) -> float:
    return float(torch.cat(list(pieces)).std(correction=0))


def _fixed_weights(groups: Sequence[Expanded | Projected]) -> tuple[str, ...]:
    """Names of weights that depend neither on free numbers nor on untouched entries."""
    return tuple(
        name
        for group in groups
        if isinstance(group, Expanded)
        for name in group.names
        if not group.expansion.sources(name) and not len(group.expansion.untouched(name))
    )
