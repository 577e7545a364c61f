"""Modules that hold free numbers: each computes one weight of a model from them, through torch's parametrize."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from affinet.blocks.kinds import AnyLinear
from affinet.errors import AttachError
from affinet.kernels.bases.basis import Basis
from affinet.kernels.bases.choosing import linear_blocks
from affinet.kernels.torch.bases.expansion import BlockEntries, Expansion
from affinet.kernels.torch.projector import Projector
from affinet.training.forward_cache import ForwardCache
from affinet.training.projecting import projected
from affinet.training.setting import checked_value, nearest_weights
from affinet.training.sharded_numbers import all_entries, put_entries, refuse_rounded
from affinet.training.weight_gradients import WeightGradients

T = TypeVar("T")


class Shared(Generic[T]):
    """A value that never changes, so that copies of a model share it."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared[T]:
        return self


class Weight(torch.nn.Module):
    """Computes one weight: `model.layer.parametrizations.weight[0]`.

    `free` are the free numbers of a group of weights that rules couple, at the first of them; `untouched` the
    entries of this weight that are in no rule; `unprojected` the numbers that basis="projection" trains in place of the
    weight. A weight with several places keeps them at the first. `like` is an empty tensor of the weight's dtype on its
    device, which is converted when the model is cast or moved.
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
        """The tensors that torch would compute the weight from: an empty tuple, since there are no such tensors."""
        return ()

    def assign(self, value: Any) -> None:
        """Set this weight to `value`, and move the weights of its group to the nearest feasible point.

        Raises ShapeError or AttachError, with nothing changed, where this weight cannot have the value `value`.
        """
        with torch.no_grad():
            self.group.assign(self.name, checked_value(self.name, value, self()))

    def extra_repr(self) -> str:
        """The text that `print(model)` shows."""
        return self.group.description(self.name)


class Expanded:
    """Weights `w0 + N v` that share one v. Not a module, since v must have one name in a model with several weights."""

    def __init__(
        self,
        expansion: Expansion,
        blocks: Sequence[AnyLinear],
        kind: str,
        forward: ForwardCache,
        gradients: WeightGradients,
    ) -> None:
        self._expansion, self._blocks, self._kind, self._forward = Shared(expansion), Shared(blocks), kind, forward
        self._gradients = gradients
        self.first: dict[str, Weight] = {}

    @property
    def expansion(self) -> Expansion:
        """The map from v to the weights."""
        return self._expansion.value

    def blocks(self) -> list[tuple[AnyLinear, Basis]]:
        """Each block of the rules, and its basis."""
        return [(block, basis.basis) for block, basis in zip(self._blocks.value, self.expansion.bases, strict=True)]

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the group."""
        return self.expansion.names

    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; each weight and each block is computed once per forward of the model."""
        free, untouched = self.first[self.names[0]].free, self.first[name].untouched
        refuse_rounded(name, (free, untouched), like)

        def compute() -> Tensor:
            block_cache: BlockEntries = self._forward.cached((id(self), ""), (free,), dict)
            weight = self.expansion.weight(
                name, _numbers(free, like), _numbers(untouched, like), like.dtype, block_cache
            )
            return self._gradients.with_hook(name, weight, (free, untouched))

        return self._forward.cached((id(self), name), (free, untouched), compute)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set one weight, and move the complete group to the nearest feasible point."""
        weights = {member: self.weight(member, self.first[member].like) for member in self.names} | {name: value}
        untouched = value.reshape(-1)[torch.from_numpy(self.expansion.untouched(name)).to(value.device)]
        free = self.expansion.coordinates(nearest_weights(self._blocks.value, weights))
        for numbers, new_numbers in ((self.first[self.names[0]].free, free), (self.first[name].untouched, untouched)):
            if numbers is not None:
                put_entries(numbers, new_numbers)

    def coupled(self, name: str) -> tuple[str, ...]:
        """The weights that rules couple with one, itself included."""
        return self.names

    def forget(self) -> None:
        """Do nothing: `w0 + N v` needs no solver, so nothing is kept between steps."""

    def description(self, name: str) -> str:
        """A line about one weight."""
        other_names = [other for other in self.names if other != name]
        sharing = f", which {', '.join(other_names)} share" if other_names else ""
        return f"{name} from {self.expansion.free:,} free numbers ({self._kind}){sharing}"


class Projected:
    """Weights Π(u), projected together; the gradient with respect to u is P g."""

    def __init__(
        self, projector: Projector, names: Sequence[str], forward: ForwardCache, gradients: WeightGradients
    ) -> None:
        self._projector, self.names, self._forward = Shared(projector), tuple(names), forward
        self._gradients = gradients
        self.first: dict[str, Weight] = {}

    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; all weights are projected once per forward of the model."""
        from affinet.training.graph_breaks import outside_graphs

        refuse_rounded(name, self.unprojected(), like)
        weight: Tensor = outside_graphs(lambda: self._weight(name))
        return weight

    def _weight(self, name: str) -> Tensor:
        if _exporting():
            raise AttachError(
                f'{name} is computed by a projection (basis="projection"), which has no graph to export. Call '
                f"affinet.bake(model) first: the baked model has the same weights, and exports."
            )
        unprojected = self.unprojected()
        weights: tuple[Tensor, ...] = self._forward.cached(
            (id(self), ""), unprojected, lambda: self._projected(unprojected)
        )
        return weights[self.names.index(name)]

    def unprojected(self) -> tuple[Tensor, ...]:
        """The u of every weight."""
        numbers = tuple(self.first[name].unprojected for name in self.names)
        return tuple(u for u in numbers if u is not None)

    @torch.no_grad()
    def recentre(self) -> None:
        """`u ← Π(u)`: the weights do not change, except for rounding."""
        unprojected = self.unprojected()
        for u, w in zip(unprojected, self._projected(unprojected), strict=True):
            put_entries(u, w)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set one weight, and move the weights that rules couple with it to the nearest feasible point."""
        unprojected = dict(zip(self.names, self.unprojected(), strict=True))
        present = dict(zip(self.names, self._projected(tuple(unprojected.values())), strict=True))
        coupled = self.coupled(name)
        weights = {member: present[member] for member in coupled} | {name: value}
        for member, w in nearest_weights(
            [block for block, names in self._blocks() if names & set(coupled)], weights
        ).items():
            put_entries(unprojected[member], w)

    def coupled(self, name: str) -> tuple[str, ...]:
        """The weights that rules couple with one, itself included."""
        blocks = self._blocks()
        coupled: set[str] = {name}
        previous: set[str] = set()
        while coupled != previous:
            previous = set(coupled)
            coupled.update(*(names for _, names in blocks if names & previous))
        return tuple(member for member in self.names if member in coupled)

    def blocks(self) -> list[tuple[AnyLinear, Basis]]:
        """An empty list: blocks are projected onto, without a basis."""
        return []

    def _blocks(self) -> list[tuple[AnyLinear, set[str]]]:
        """Each block with the names of its weights."""
        projector = self._projector.value
        tensors = dict(zip(self.names, map(all_entries, self.unprojected()), strict=True))
        kernels = projector.kernels(tensors)
        return [
            (block, set(kernel.names)) for block, kernel in zip(linear_blocks(projector.plan), kernels, strict=True)
        ]

    def forget(self) -> None:
        """Drop what solvers keep from earlier steps."""
        self._projector.value.forget()

    def description(self, name: str) -> str:
        """A line about one weight."""
        return f"{name} projected from numbers of its own shape"

    def _projected(self, unprojected: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        weights = projected(self._projector.value, self.names, tuple(map(all_entries, unprojected)))
        return tuple(
            self._gradients.with_hook(name, weight, unprojected)
            for name, weight in zip(self.names, weights, strict=True)
        )


def _numbers(parameter: torch.nn.Parameter | None, like: Tensor) -> Tensor:
    """A parameter, or an empty tensor where it is None."""
    return like.new_zeros(0) if parameter is None else all_entries(parameter)


def _exporting() -> bool:
    is_exporting = getattr(
        torch.compiler, "is_exporting", torch.compiler.is_compiling
    )  # before torch 2.7 one could not ask
    return bool(is_exporting())


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    enabled = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()
