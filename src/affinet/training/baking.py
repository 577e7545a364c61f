"""A handle on a reparametrized model (`Reparametrization`), and the way back to a plain module (`bake`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.projector import Projector
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport, Trainable, cost_report, write_page_of
from affinet.report.observation import Observation
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.freezing import Trained
from affinet.training.handle_page import HandleView
from affinet.training.losses import check_callable, differentiable, without_gradients
from affinet.training.process_meeting import await_call
from affinet.training.replacing import Replacement
from affinet.training.sharded_numbers import refuse_sharded
from affinet.training.stale_optimizers import accept_again


class Reparametrization:
    """A model whose weights are computed from free numbers. Made by `affinet.reparametrize`.

    `plan` is the plan of the user's rules; frozen parameters are constants in the computation. `moved` is how far each
    weight was moved (Euclidean distance, in the weights' units). Copies of the model (deepcopy) are reparametrized too,
    with separate numbers; `affinet.bake(copy)` bakes them.
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
        self._measure = Measure(plan.system)

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the present weights, including frozen ones."""
        await_call("handle.violation()", self._parameters | self._replacement.numbers())
        return self._measure(self._weights(self._parameters))

    @property
    def projector(self) -> Projector:
        """The projector of the rules over the computed weights."""
        return self._trained.projector

    def capture(self) -> None:
        """Keep the gradients of weights from now to the next step, for `multipliers()`, `stationarity()`, `report()`.

        Models of up to 65,536 constrained entries keep them at every backward. Call it before the forward.
        """
        self._replacement.gradients.request()

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape, from the gradients with respect to weights of the last backward calls.

        Law: at the optimum `∇f = Aᵀν` for `L = f − νᵀ(lhs − rhs)`, so that `ν = ∂f*/∂b` per unit added to the
        right-hand side as the user wrote it, as of `affinet.project`. f is the loss that backward ran through, added
        up over the calls for one step, without decay that an optimizer adds to free numbers. Raises AttachError if no
        gradients were kept.
        """
        return self.projector.multipliers(self._weight_gradients(), at=self._weights(self.projector.names))

    def stationarity(self, loss_fn: Callable[[], Any] | None = None) -> float:
        """`‖P g‖ / ‖g‖` of the same gradients, or of those of `loss_fn` as in `report`: 0 at an optimum."""
        gradients = self._weight_gradients() if loss_fn is None else self._gradients_of(loss_fn)
        return self.projector.stationarity(gradients, at=self._weights(self.projector.names))

    def report(self, loss_fn: Callable[[], Any] | None = None) -> CostReport:
        """The cost of each rule: rules by |ν|, with the change of the loss if each were loosened by 0.01.

        `loss_fn` computes the loss at the present weights and returns it, or calls its backward itself; gradients of
        the model are restored afterwards. Without it the gradients of the last backward calls are used.
        """
        gradients = self._weight_gradients() if loss_fn is None else self._gradients_of(loss_fn)
        at = self._weights(self.projector.names)
        return cost_report(self.projector, gradients, at=at, page_source=self._view().contents)

    def html(self, path: str | PathLike[str], *, history: Sequence[Observation] = ()) -> Path:
        """Write one HTML page about the rules and the present weights; return its path.

        With gradients of weights that were kept it has the prices of the rules, as `report().html(path)`; without, it
        says how to get them. Raises ReportError where the page cannot be written.
        """
        try:
            prices: CostReport | None = self.report()
        except AttachError:
            prices = None
        return write_page_of(self._view().contents, prices, path, history)

    def recentre(self) -> None:
        """With basis="projection", move u onto the rules; the weights do not change, except for rounding.

        Optimizers like Adam move u away from the rules, and `w = Π(u)` removes that part: where u is far away, w loses
        digits. Compare `layer.parametrizations.weight[0].unprojected` with `layer.weight`. Recentring is never
        automatic; the other bases do not need it.
        """
        for group in self._groups:
            if isinstance(group, Projected) and not self._replacement.baked:
                group.recentre()

    def forget(self) -> None:
        """Drop what solvers keep from earlier steps: the next step then depends only on numbers, gradients and state.

        For checkpoints from which a training resumes with the same bits: call it when writing and when reading one.
        """
        for group in self._groups:
            group.forget()

    def bake(self) -> None:
        """Make the model plain again: feasible weights in the same Parameter objects, of the same class and names.

        `state_dict` has its former keys in their order, and outputs keep their bits. Baking twice does nothing more.
        Make a new optimizer: the free numbers are discarded, and a step of an optimizer that holds them raises
        AttachError. The rules do not hold any more; `affinet.project` keeps them through the steps of a new optimizer.
        """
        numbers = self._replacement.numbers()
        self._replacement.bake()
        accept_again(self._replacement, numbers)

    def _view(self) -> HandleView:
        """What a page shows of these rules."""
        model, system = type(self._model).__name__, self.plan.system
        return HandleView(model, system, self.plan, self._weights, self.violation, self.moved)

    def _weight_gradients(self) -> dict[str, Tensor]:
        self._refuse_sharded()
        return self._replacement.gradients.total(self._weights(self.projector.names))

    def _weights(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The present weights: computed ones, and plain parameters."""
        computed, parameters = self._replacement.names(), self._parameters
        with torch.no_grad():
            return {
                name: self._replacement.weight(name) if id(parameters[name]) in computed else parameters[name].detach()
                for name in names
            }

    def _gradients_of(self, loss_fn: Callable[[], Any]) -> dict[str, Tensor]:
        check_callable(loss_fn)
        self._refuse_sharded()
        if self._replacement.baked:
            raise AttachError(
                "the model is baked, so it has no rules any more. Call report before baking, or attach the rules "
                "with affinet.project."
            )
        gradients = self._replacement.gradients
        with gradients.separate_sum(), without_gradients(self._model.parameters()) as parameters, torch.enable_grad():
            loss = loss_fn()
            if all(parameter.grad is None for parameter in parameters):
                differentiable(loss).backward()
            return gradients.total(self._weights(self.projector.names))

    def _refuse_sharded(self) -> None:
        refuse_sharded(
            self._replacement.numbers().values(),
            "A report of multipliers",
            "affinet.project computes them over processes.",
        )

    def __repr__(self) -> str:
        distances = {name: distance for name, distance in self.moved.items() if distance > 0.0}
        moved = ", ".join(f"{name} by {distance:.3g}" for name, distance in distances.items()) or "nothing"
        state = "baked" if self._replacement.baked else self.basis
        return f"<Reparametrization ({state}): {self.trainable} trained; moved {moved}>"


def bake(model: torch.nn.Module) -> torch.nn.Module:
    """Make a reparametrized model plain again without its handle, for example a copy.

    Returns the model itself. Raises AttachError where no weight of it is reparametrized.
    """
    if not isinstance(model, torch.nn.Module):
        raise AttachError(f"affinet.bake takes the model, a torch.nn.Module, and not {type(model).__name__}.")
    replacements = list(dict.fromkeys(m.replacement for m in model.modules() if isinstance(m, Weight)))
    if not replacements:
        raise AttachError(
            "there is nothing to bake: no weight of this model is computed by affinet.reparametrize, or it is baked "
            "already."
        )
    for replacement in replacements:
        numbers = replacement.numbers()
        replacement.bake()
        accept_again(replacement, numbers)
    return model
