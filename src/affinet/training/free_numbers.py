"""The modules that hold free numbers: each computes one weight of a model from them, through torch's parametrize."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.kernels.torch.bases.expansion import Expansion, Kept
from affinet.kernels.torch.projector import Projector
from affinet.training.one_forward import OneForward

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
    weight that has several places keeps them at the first.
    """

    def __init__(self, name: str, group: Expanded | Projected) -> None:
        super().__init__()
        self.name, self.group = name, group
        self.free: torch.nn.Parameter | None = None
        self.untouched: torch.nn.Parameter | None = None
        self.unprojected: torch.nn.Parameter | None = None
        self.replacement: Any = None

    def forward(self, original: Tensor) -> Tensor:
        """The weight, of the dtype and on the device of `original`, the empty tensor that stands in its place."""
        with _without_autocast(original.device):
            return self.group.weight(self.name, original)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What torch asks for when somebody sets the weight. Raises AttachError."""
        if self.replacement is None:  # asked at registration, where this says that there is none
            raise NotImplementedError
        raise AttachError(
            f"{self.name} is computed from free numbers by affinet.reparametrize and cannot be set. Call "
            f"affinet.bake(model), set it, and reparametrize again."
        )

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return self.group.said(self.name)


class Expanded:
    """Weights `w0 + N v` that share one v. No module: several reach it, and it has to have one name in the model."""

    def __init__(self, expansion: Expansion, kind: str, forward: OneForward) -> None:
        self._expansion, self._kind, self._forward = Shared(expansion), kind, forward
        self.first: dict[str, Weight] = {}

    @property
    def expansion(self) -> Expansion:
        """How weights follow from v."""
        return self._expansion.value

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the group."""
        return self.expansion.names

    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; within a forward of the model each weight and each block is computed once."""
        v, rest = self.first[self.names[0]].free, self.first[name].untouched

        def computed() -> Tensor:
            kept: Kept = self._forward.kept((id(self), ""), (v,), dict)
            return self.expansion.weight(name, _numbers(v, like), _numbers(rest, like), like.dtype, kept)

        return self._forward.kept((id(self), name), (v, rest), computed)

    def forget(self) -> None:
        """Nothing is kept from step to step: no solver is needed for `w0 + N v`."""

    def said(self, name: str) -> str:
        """A line about one weight."""
        others = [other for other in self.names if other != name]
        shared = f", which {', '.join(others)} share" if others else ""
        return f"{name} from {self.expansion.free:,} free numbers ({self._kind}){shared}"


class Projected:
    """Weights Π(u), projected together; the gradient with respect to u is P g."""

    def __init__(self, projector: Projector, names: Sequence[str], forward: OneForward) -> None:
        self._projector, self.names, self._forward = Shared(projector), tuple(names), forward
        self.first: dict[str, Weight] = {}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def weight(self, name: str, like: Tensor) -> Tensor:
        """One weight; within a forward of the model all are projected once, together."""
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

    def forget(self) -> None:
        """Drop what solvers keep from the steps before."""
        self._projector.value.forget()

    def said(self, name: str) -> str:
        """A line about one weight."""
        return f"{name} projected from numbers of its own shape"

    def _projected(self, unprojected: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = _Projection.apply(self._projector.value, self.names, *unprojected)
        return found


class _Projection(torch.autograd.Function):
    """`Π(u)`; its derivative is the tangent projector."""

    @staticmethod
    def forward(ctx: Any, projector: Projector, names: tuple[str, ...], *unprojected: Tensor) -> tuple[Tensor, ...]:
        ctx.projector, ctx.names = projector, names
        found = projector.project(dict(zip(names, unprojected, strict=True)))
        return tuple(found[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, *_Tangent.apply(ctx.projector, ctx.names, *gradients)


class _Tangent(torch.autograd.Function):
    """`P g`, rounding noise set to zero as in the sandwich; P is its own derivative and its own transpose."""

    @staticmethod
    def forward(ctx: Any, projector: Projector, names: tuple[str, ...], *vectors: Tensor) -> tuple[Tensor, ...]:
        ctx.projector, ctx.names = projector, names
        copies = {name: vector.detach().clone() for name, vector in zip(names, vectors, strict=True)}
        projector.project_gradients_(copies, copies, {})
        return tuple(copies[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, *_Tangent.apply(ctx.projector, ctx.names, *gradients)


def _numbers(parameter: torch.nn.Parameter | None, like: Tensor) -> Tensor:
    """A parameter, or no numbers where there is none."""
    return like.new_zeros(0) if parameter is None else parameter


def _exporting() -> bool:
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # before torch 2.7 one could not ask
    return bool(asked())


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
