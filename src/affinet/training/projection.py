"""The sandwich: project the gradient before the optimizer sees it, let it step, project the weights after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError
from affinet.kernels.torch.projector import Projector, check
from affinet.language.constraint import Constraint
from affinet.language.modules import read_module
from affinet.structure.plan import Plan, plan
from affinet.training.attaching import check_gradients, check_optimizer, trained
from affinet.training.decay import Decay, decay_kind, signed_rates
from affinet.training.handle import Handle

_attached: WeakKeyDictionary[optim.Optimizer, Handle] = WeakKeyDictionary()


def project(
    model: torch.nn.Module,
    optimizer: optim.Optimizer,
    rules: Plan | Iterable[Constraint] | Constraint,
    *,
    decay: Decay | None = None,
) -> Handle:
    """Keep the weights of `model` on the rules through every step of `optimizer`; the training loop stays as it is.

    Moves the weights to the nearest feasible point at once (`handle.moved` says how far). From then on every
    `optimizer.step()` sees projected gradients and ends on the rules, and its limit is the optimum of the constrained
    problem. Frozen parameters (`requires_grad=False`) count as constants at their value now.

    `decay` says whether the optimizer adds λ·w to the gradient ("coupled") or shrinks weights apart from it
    ("decoupled"); it is known for torch.optim's own.

    Raises AttachError (nothing changed) where model, optimizer and rules do not belong together or the optimizer is
    attached already; InfeasibleError where rules contradict each other or the frozen weights.
    """
    check_optimizer(optimizer, {})
    if optimizer in _attached:
        raise AttachError(
            "this optimizer already keeps rules. Give all rules to one affinet.project call, or take the first off "
            "with handle.remove()."
        )
    compiled = rules if isinstance(rules, Plan) else plan(rules)
    parameters = read_module(model).parameters
    check(compiled, parameters)
    left, constrained = trained(compiled, parameters)
    check_optimizer(optimizer, constrained)
    projector = Projector(left, constrained)
    sandwich = _Sandwich(projector, constrained, decay_kind(optimizer, decay))
    moved = _settled(projector, constrained)
    handle = Handle(compiled, projector, constrained, moved, optimizer, sandwich.attach(optimizer))
    _attached[optimizer] = handle
    return handle


def _settled(projector: Projector, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, float]:
    """Move the weights to the nearest feasible point; the distance by parameter."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    projector.project_(parameters, passes=2)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if not bool(torch.isfinite(parameter).all()):
                for each, there in before.items():
                    parameters[each].copy_(there)
                raise AttachError(
                    f"the nearest point that satisfies the rules has numbers that {name} cannot hold in "
                    f"{parameter.dtype}: a right-hand side is out of its range. Nothing was changed; use a wider dtype "
                    f"or other right-hand sides."
                )
        return {
            name: float(torch.linalg.vector_norm(parameter.double() - before[name].double()))
            for name, parameter in parameters.items()
        }


class _Sandwich:
    """The two hooks of one optimizer. It never writes to `param_groups`, and a step that raises leaves nothing behind.

    Hooks that fire twice (a subclass whose `step` calls `super().step()`) do no harm: both projections are idempotent.
    """

    def __init__(self, projector: Projector, parameters: dict[str, torch.nn.Parameter], decay: Decay) -> None:
        self._projector = projector
        self._parameters = parameters
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._coupled = decay == "coupled"

    def attach(self, optimizer: optim.Optimizer) -> Callable[[], None]:
        """Register the hooks; returns what takes them away."""
        before = optimizer.register_step_pre_hook(self._before)
        after = optimizer.register_step_post_hook(self._after)

        held = ref(optimizer)  # the handle is kept with the optimizer, and must not keep it alive

        def detach() -> None:
            before.remove()
            after.remove()
            alive = held()
            if alive is not None:
                _attached.pop(alive, None)

        return detach

    def _before(
        self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Project the gradients, or have the closure do it each time it has computed them."""
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._project_gradients(optimizer)
            return None
        wrapped = self._wrapped(optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    def _after(self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._projector.project_(self._parameters)

    def _wrapped(self, optimizer: optim.Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def projected() -> Any:
            loss = closure()
            self._project_gradients(optimizer)
            return loss

        return projected

    def _project_gradients(self, optimizer: optim.Optimizer) -> None:
        gradients: dict[str, Tensor | None] = {name: p.grad for name, p in self._parameters.items()}
        check_gradients(gradients)
        rates = signed_rates(optimizer, self._names) if self._coupled else {}
        self._projector.project_gradients_(gradients, self._parameters, rates)
