"""The first free numbers: those of the nearest feasible point, with the variance restored where asked."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affinet.errors import AttachError, callers_line
from affinet.kernels.torch.bases.expansion import Expansion, taken
from affinet.kernels.torch.precision import undisturbed
from affinet.kernels.torch.projector import Projector
from affinet.training.free_numbers import Expanded, Projected
from affinet.training.freezing import Trained


@dataclass(frozen=True, eq=False)
class Start:
    """What training starts from.

    `free` are free numbers by the first weight of their group, `untouched` entries in no rule and `weights` whole
    weights by name. `moved` is how far each weight is from where it was (Euclidean), `idle` names those that no trained
    number reaches.
    """

    free: dict[str, Tensor]
    untouched: dict[str, Tensor]
    weights: dict[str, Tensor]
    moved: dict[str, float]
    idle: tuple[str, ...]

    def warn(self) -> None:
        """Say which weights cannot be trained any more."""
        if self.idle:
            warnings.warn(
                f"nothing is left to train in {', '.join(self.idle)}: the rules fix every entry.",
                stacklevel=callers_line(),
            )


def start_of(trained: Trained, groups: Sequence[Expanded | Projected], restore_variance: bool) -> Start:
    """The start from the parameters as they are; raises AttachError where their dtype cannot hold it."""
    before = {name: p.detach() for name, p in trained.parameters.items()}
    device = next((x.device for x in before.values()), torch.device("cpu"))
    found = Start({}, {}, {}, dict.fromkeys(before, 0.0), _idle(groups))
    with undisturbed(device):
        expansions = [group.expansion for group in groups if isinstance(group, Expanded)]
        if expansions:
            _expanded(found, expansions, trained, before, restore_variance)
            computed = found.weights
        else:
            found.weights.update(trained.projector.project(before))
            computed = trained.projector.project(found.weights)
        for name, w in computed.items():
            if not bool(torch.isfinite(w).all()):
                raise AttachError(
                    f"the nearest point that satisfies the rules has numbers that {name} cannot hold in {w.dtype}: a "
                    f"right-hand side is out of its range. Nothing was changed; use a wider dtype or other right-hand "
                    f"sides."
                )
            found.moved[name] = float(torch.linalg.vector_norm(w.double() - before[name].double()))
    return found


def _expanded(
    found: Start,
    expansions: Sequence[Expansion],
    trained: Trained,
    before: Mapping[str, Tensor],
    restore_variance: bool,
) -> None:
    """Fill in the numbers of every group, all of it in float64 until the last."""
    wide = {name: x.to("cpu", torch.float64) for name, x in before.items()}
    projector = Projector(trained.projector.plan, wide)
    nearest = projector.project(wide)
    smallest = projector.project({name: torch.zeros_like(x) for name, x in wide.items()}) if restore_variance else None
    for expansion in expansions:
        v = expansion.coordinates(nearest)
        if smallest is not None:
            v = _with_variance(expansion, v, expansion.coordinates(smallest), wide)
        _cast(found, expansion, v, before)


def _cast(found: Start, expansion: Expansion, v: Tensor, before: Mapping[str, Tensor]) -> None:
    """The numbers of one group in the dtype and on the device of its weights."""
    mine = [before[name] for name in expansion.names]
    dtype = max((x.dtype for x in mine), key=lambda dtype: torch.finfo(dtype).bits)
    free = v.to(mine[0].device, dtype)
    expansion.prepare(free)
    found.free[expansion.names[0]] = free
    for name, w in zip(expansion.names, mine, strict=True):
        rest = torch.from_numpy(expansion.untouched(name)).to(w.device)
        found.untouched[name] = w.reshape(-1)[rest]
        found.weights[name] = expansion.weight(name, free, found.untouched[name], w.dtype)


def _with_variance(expansion: Expansion, v: Tensor, centre: Tensor, before: Mapping[str, Tensor]) -> Tensor:
    """`centre + s (v − centre)`, s such that the entries of `N (v − centre)` vary as those of their block did before.

    `centre` is the smallest feasible point. A block whose entries did not vary, or do not now, is left as it is.
    """
    scaled = v.clone()
    for (first, last), basis in zip(expansion.spans, expansion.bases, strict=True):
        if basis.free:
            away = v[first:last] - centre[first:last]
            wanted = _deviation([taken(before[p.name].reshape(-1), p.positions) for p in basis.places])
            spread = _deviation(basis.linear(away))
            if spread > 1e-12 * wanted > 0.0:
                scaled[first:last] = centre[first:last] + wanted / spread * away
    return scaled


def _deviation(pieces: Iterable[Tensor]) -> float:
    return float(torch.cat(list(pieces)).std(correction=0))


def _idle(groups: Sequence[Expanded | Projected]) -> tuple[str, ...]:
    """Weights that neither free numbers nor entries of their own reach."""
    return tuple(
        name
        for group in groups
        if isinstance(group, Expanded)
        for name in group.names
        if not group.expansion.sources(name) and not len(group.expansion.untouched(name))
    )
