"""What `reparametrize` returns, and the way back to a plain module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.projector import Projector
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport, cost_report
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.freezing import Trained
from affinet.training.losses import check_callable, differentiable, gradients_apart
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
        model: torch.nn.Module,
        trained: Trained,
        replacement: Replacement,
        parameters: Mapping[str, torch.nn.Parameter],
        moved: Mapping[str, float],
        trainable: tuple[int, int],
        groups: Sequence[Expanded | Projected],
    ) -> None:
        self.plan, self.basis = plan, basis
        self.moved = dict(moved)
        self.trainable = Trainable(*trainable)
        self._model, self._trained = model, trained
        self._replacement, self._parameters, self._groups = replacement, dict(parameters), tuple(groups)
        self._measure = Measure(plan)

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the weights as they are now, frozen ones included."""
        return self._measure(self._weights(self._parameters))

    @property
    def projector(self) -> Projector:
        """The projector of the rules over the weights that are computed."""
        return self._trained.projector

    def capture(self) -> None:
        """Keep the gradients of weights from now to the next step, for `multipliers()`, `stationarity()`, `report()`.

        Models of up to 65,536 constrained entries keep them at every backward. Call it before the forward.
        """
        self._replacement.gradients.ask()

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape, from the gradients with respect to weights of the last backward calls.

        Law: at the optimum `∇f = Aᵀν` for `L = f − νᵀ(lhs − rhs)`, so that `ν = ∂f*/∂b` per unit added to the
        right-hand side as the user wrote it, as of `affinet.project`. f is the loss that backward ran through, added
        up over the calls for one step; decay that an optimizer adds to free numbers is not in it. Raises AttachError
        if nothing was kept.
        """
        return self.projector.multipliers(self._kept())

    def stationarity(self) -> float:
        """`‖P g‖ / ‖g‖` of the same gradients: 0 at an optimum of the constrained problem."""
        return self.projector.stationarity(self._kept())

    def report(self, loss_fn: Callable[[], Any] | None = None) -> CostReport:
        """What each rule costs: rules by |ν|, with what loosening each by 0.01 would change in the loss.

        `loss_fn` computes the loss at the present weights and returns it, or calls its backward itself; gradients of
        the model are afterwards what they were. Without it the gradients of the last backward calls are used.
        """
        return cost_report(self.projector, self._kept() if loss_fn is None else self._gradients_of(loss_fn))

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

    def _kept(self) -> dict[str, Tensor]:
        return self._replacement.gradients.total(self._weights(self.projector.names))

    def _weights(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Weights as they are now: computed, or the parameters that they are."""
        computed, parameters = self._replacement.names(), self._parameters
        with torch.no_grad():
            return {
                name: self._replacement.weight(name) if id(parameters[name]) in computed else parameters[name].detach()
                for name in names
            }

    def _gradients_of(self, loss_fn: Callable[[], Any]) -> dict[str, Tensor]:
        check_callable(loss_fn)
        if self._replacement.baked:
            raise AttachError(
                "the model is baked, and no rule is kept on it. Ask for the report before baking, or attach the rules "
                "with affinet.project."
            )
        gradients = self._replacement.gradients
        with gradients.apart(), gradients_apart(self._model.parameters()) as parameters, torch.enable_grad():
            loss = loss_fn()
            if all(parameter.grad is None for parameter in parameters):
                differentiable(loss).backward()
            return gradients.total(self._weights(self.projector.names))

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
