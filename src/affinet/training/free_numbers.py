"""The modules that hold free numbers: each computes one weight of a model from them, through torch's parametrize."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from affinet.blocks.kinds import AnyBlock
from affinet.errors import AttachError
from affinet.kernels.torch.bases.basis import Basis
from affinet.kernels.torch.bases.expansion import Expansion, Kept
from affinet.kernels.torch.projector import Projector
from affinet.training.one_forward import OneForward
from affinet.training.projecting import projected
from affinet.training.setting import checked, nearest
from affinet.training.weight_gradients import WeightGradients

T = TypeVar("T")


class Shared(Generic[T]):
    """A value that never changes, and that copies of a model therefore share."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared[T]:
        return self


class Weight(torch.nn.Module):
    """Computes one weight: `model.layer.parametrizations.weight[0]`.

    `free` are the free numbers of a group of weights that rules couple, at the first of them; `untouched` the
    entries of this weight that are in no rule; `unprojected` what basis="projection" trains in the weight's stead. A
    weight that has several places keeps them at the first. `like` is an empty tensor of the weight's dtype, on its
    device, which follows where the model is cast or moved.
    """

    like: Tensor

    def __init__(self, name: str, group: Expanded | Projected, like: Tensor) -> None:
        super().__init__()
        self.name, self.group = name, group
        self.free: torch.nn.Parameter | None = None
        self.untouched: torch.nn.Parameter | None = None
        self.unprojected: torch.nn.Parameter | None = None
        self.replacement: Any = None
        self.register_buffer("like", like, persistent=False)

    def forward(self) -> Tensor:
        """The weight."""
        with _without_autocast(self.like.device):
            return self.group.weight(self.name, self.like)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """What torch asks for at registration: there is no tensor of torch's own that the weight is computed from."""
        return ()

    def assign(self, value: Any) -> None:
        """Move the weights of the group to the nearest feasible point to `value` here and what they are elsewhere.

        Raises ShapeError or AttachError, with nothing changed, where `value` can be no value of this weight.
        """
        with torch.no_grad():
            self.group.assign(self.name, checked(self.name, value, self()))

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return self.group.said(self.name)


class Expanded:
    """Weights `w0 + N v` that share one v. No module: several reach it, and it has to have one name in the model."""

    def __init__(
        self,
        expansion: Expansion,
        blocks: Sequence[AnyBlock],
        kind: str,
        forward: OneForward,
        gradients: WeightGradients,
    ) -> None:
        self._expansion, self._blocks, self._kind, self._forward = Shared(expansion), Shared(blocks), kind, forward
        self._gradients = gradients
        self.first: dict[str, Weight] = {}

    @property
    def expansion(self) -> Expansion:
        """How weights follow from v."""
        return self._expansion.value

    def blocks(self) -> list[tuple[AnyBlock, Basis]]:
        """Each block of the rules, and its basis."""
        return list(zip(self._blocks.value, self.expansion.bases, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the group."""
        return self.expansion.names

    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; within a forward of the model each weight and each block is computed once."""
        v, rest = self.first[self.names[0]].free, self.first[name].untouched

        def computed() -> Tensor:
            kept: Kept = self._forward.kept((id(self), ""), (v,), dict)
            weight = self.expansion.weight(name, _numbers(v, like), _numbers(rest, like), like.dtype, kept)
            return self._gradients.watched(name, weight, (v, rest))

        return self._forward.kept((id(self), name), (v, rest), computed)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set one weight, and move all of the group to the nearest feasible point."""
        weights = {each: self.weight(each, self.first[each].like) for each in self.names} | {name: value}
        rest = value.reshape(-1)[torch.from_numpy(self.expansion.untouched(name)).to(value.device)]
        v = self.expansion.coordinates(nearest(self._blocks.value, weights))
        for numbers, found in ((self.first[self.names[0]].free, v), (self.first[name].untouched, rest)):
            if numbers is not None:
                numbers.copy_(found)

    def coupled(self, name: str) -> tuple[str, ...]:
        """The weights that rules couple with one, itself included."""
        return self.names

    def forget(self) -> None:
        """Nothing is kept from step to step: no solver is needed for `w0 + N v`."""

    def said(self, name: str) -> str:
        """A line about one weight."""
        others = [other for other in self.names if other != name]
        shared = f", which {', '.join(others)} share" if others else ""
        return f"{name} from {self.expansion.free:,} free numbers ({self._kind}){shared}"


class Projected:
    """Weights Π(u), projected together; the gradient with respect to u is P g."""

    def __init__(
        self, projector: Projector, names: Sequence[str], forward: OneForward, gradients: WeightGradients
    ) -> None:
        self._projector, self.names, self._forward = Shared(projector), tuple(names), forward
        self._gradients = gradients
        self.first: dict[str, Weight] = {}

    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; within a forward of the model all are projected once, together."""
        from affinet.training.graph_breaks import outside_graphs

        computed: Tensor = outside_graphs(lambda: self._weight(name))
        return computed

    def _weight(self, name: str) -> Tensor:
        if _exporting():
            raise AttachError(
                f'{name} is computed by a projection (basis="projection"), which has no graph to export. Call '
                f"affinet.bake(model) first: the baked model has the same weights, and exports."
            )
        unprojected = self.unprojected()
        found: tuple[Tensor, ...] = self._forward.kept(
            (id(self), ""), unprojected, lambda: self._projected(unprojected)
        )
        return found[self.names.index(name)]

    def unprojected(self) -> tuple[Tensor, ...]:
        """The u of every weight."""
        found = tuple(self.first[name].unprojected for name in self.names)
        return tuple(u for u in found if u is not None)

    @torch.no_grad()
    def recentre(self) -> None:
        """`u ← Π(u)`: the weights stay, but for rounding."""
        unprojected = self.unprojected()
        for u, w in zip(unprojected, self._projected(unprojected), strict=True):
            u.copy_(w)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set one weight, and move those that rules couple with it to the nearest feasible point."""
        unprojected = dict(zip(self.names, self.unprojected(), strict=True))
        now = dict(zip(self.names, self._projected(tuple(unprojected.values())), strict=True))
        linked = self.coupled(name)
        weights = {each: now[each] for each in linked} | {name: value}
        for each, w in nearest([block for block, names in self._blocks() if names & set(linked)], weights).items():
            unprojected[each].copy_(w)

    def coupled(self, name: str) -> tuple[str, ...]:
        """The weights that rules couple with one, itself included."""
        blocks = self._blocks()
        linked: set[str] = {name}
        before: set[str] = set()
        while linked != before:
            before = set(linked)
            linked.update(*(names for _, names in blocks if names & before))
        return tuple(each for each in self.names if each in linked)

    def blocks(self) -> list[tuple[AnyBlock, Basis]]:
        """None: blocks are projected on, without a basis."""
        return []

    def _blocks(self) -> list[tuple[AnyBlock, set[str]]]:
        """Each block with the weights that it is about."""
        projector, tensors = self._projector.value, dict(zip(self.names, self.unprojected(), strict=True))
        kernels = projector.kernels(tensors)
        return [(block, set(kernel.names)) for block, kernel in zip(projector.plan.blocks, kernels, strict=True)]

    def forget(self) -> None:
        """Drop what solvers keep from the steps before."""
        self._projector.value.forget()

    def said(self, name: str) -> str:
        """A line about one weight."""
        return f"{name} projected from numbers of its own shape"

    def _projected(self, unprojected: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found = projected(self._projector.value, self.names, unprojected)
        return tuple(
            self._gradients.watched(name, weight, unprojected) for name, weight in zip(self.names, found, strict=True)
        )


def _numbers(parameter: torch.nn.Parameter | None, like: Tensor) -> Tensor:
    """A parameter, or no numbers where there is none."""
    return like.new_zeros(0) if parameter is None else parameter


def _exporting() -> bool:
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # before torch 2.7 one could not ask
    return bool(asked())


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
