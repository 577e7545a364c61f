"""What `reparametrize` returns, and the way back to a plain module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.precision import undisturbed
from affinet.structure.plan import Plan
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.replacing import Replacement
from affinet.training.stale_optimizers import accept_again


@dataclass(frozen=True)
class Trainable:
    """How many numbers of a model are trained, and how many were without rules."""

    numbers: int
    out_of: int

    def __str__(self) -> str:
        return f"{self.numbers:,} of {self.out_of:,} numbers"


class Reparametrization:
    """A model whose weights are computed from free numbers. Made by `affinet.reparametrize`.

    `plan` is what the user asked for; frozen parameters are constants in what is computed. `moved` says how far each
    weight was moved (Euclidean distance, in the weights' units). Copies of the model (deepcopy) are reparametrized too,
    with numbers of their own; `affinet.bake(copy)` bakes them.
    """

    def __init__(
        self,
        plan: Plan,
        basis: str,
        replacement: Replacement,
        parameters: Mapping[str, torch.nn.Parameter],
        moved: Mapping[str, float],
        trainable: tuple[int, int],
        groups: Sequence[Expanded | Projected],
    ) -> None:
        self.plan, self.basis = plan, basis
        self.moved = dict(moved)
        self.trainable = Trainable(*trainable)
        self._replacement, self._parameters, self._groups = replacement, dict(parameters), tuple(groups)
        self._measures: dict[torch.device, Measure] = {}

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the weights as they are now, frozen ones included."""
        computed = self._replacement.names()
        with torch.no_grad():
            tensors: dict[str, Tensor] = {
                name: self._replacement.weight(name) if id(p) in computed else p.detach()
                for name, p in self._parameters.items()
            }
        device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
        if device not in self._measures:
            self._measures[device] = Measure(self.plan.system, device)
        with undisturbed(device):
            return self._measures[device](tensors)

    def recentre(self) -> None:
        """With basis="projection", put u onto the rules: the weights stay as they are, but for rounding.

        Adam and its like move u off the rules, which `w = Π(u)` takes away again: where u goes far, digits of w go with
        it. Compare `layer.parametrizations.weight[0].unprojected` with `layer.weight`. Nothing recentres by itself; the
        other bases have nothing to recentre.
        """
        for group in self._groups:
            if isinstance(group, Projected) and not self._replacement.baked:
                group.recentre()

    def forget(self) -> None:
        """Drop what solvers keep from the steps before: the next step depends on numbers, gradients and state alone.

        For checkpoints that a training goes on from to the same bits: call it when one is written and when one is read.
        """
        for group in self._groups:
            group.forget()

    def bake(self) -> None:
        """Make the model plain again: feasible weights in the same Parameter objects, of the same class and names.

        `state_dict` has the keys of before in their order, and the outputs are the same bits. Baking twice is no error.
        Make the optimizer anew: the free numbers are gone, and a step of one that holds them raises AttachError. The
        rules are kept no longer; `affinet.project` keeps them through the steps of the new one.
        """
        numbers = self._replacement.numbers()
        self._replacement.bake()
        accept_again(self._replacement, numbers)

    def __repr__(self) -> str:
        far = {name: distance for name, distance in self.moved.items() if distance > 0.0}
        moved = ", ".join(f"{name} by {distance:.3g}" for name, distance in far.items()) or "nothing"
        state = "baked" if self._replacement.baked else self.basis
        return f"<Reparametrization ({state}): {self.trainable} trained; moved {moved}>"


def bake(model: torch.nn.Module) -> torch.nn.Module:
    """Make a reparametrized model plain again, without its handle: a copy, or one that was made elsewhere.

    Returns the model itself. Raises AttachError where nothing in it is reparametrized.
    """
    if not isinstance(model, torch.nn.Module):
        raise AttachError(f"affinet.bake takes the model, a torch.nn.Module, and not {type(model).__name__}.")
    found = list(dict.fromkeys(m.replacement for m in model.modules() if isinstance(m, Weight)))
    if not found:
        raise AttachError(
            "there is nothing to bake: no weight of this model is computed by affinet.reparametrize, or it is baked "
            "already."
        )
    for replacement in found:
        numbers = replacement.numbers()
        replacement.bake()
        accept_again(replacement, numbers)
    return model
