"""The hooks around optimizer steps that add the terms of an augmented Lagrangian to the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError, GradientError
from affinet.kernels.torch.measuring import Measure
from affinet.language.expectations import ExpectedRule
from affinet.language.nodes import weights_of
from affinet.system.system import System
from affinet.training.attaching import Place, check_gradients, check_places, check_still_held
from affinet.training.augmented.expected_terms import NONE, ExpectedTerms, Strength
from affinet.training.augmented.weight_terms import WeightTerms
from affinet.training.capture import Capture
from affinet.training.decay import Decay, decay_kind, signed_rates
from affinet.training.directions import Directions, negated
from affinet.training.hooked_optimizers import HookedOptimizers
from affinet.training.losses import gradients_of
from affinet.training.nesting import Nest, parameter_ids
from affinet.training.scaling import unscale
from affinet.training.step_start import StepStart, forget_curvature, undone_if_refused

Parameters = Mapping[str, torch.nn.Parameter]

MEASURED = 10
"""Steps, per optimizer, of whose gradients the largest decides on ρ."""
REACH = 0.1
"""The reach of penalties of expected values, relative to `max(1, ‖w‖)` at the first step."""


class Lagrangian:
    """The terms of all rules, and the hooks of one or several optimizers.

    Each optimizer gets, before its step, the gradients of the terms by its own weights; after the step its gradients
    are again those of the loss, to the bit. The largest of the first ten gradients decides how large penalties are:
    `ρ = penalty ‖g‖ / max(1, ‖w‖)`, which makes training indifferent to the scale of the loss.
    """

    def __init__(
        self,
        system: System,
        parameters: Parameters,
        expected: Sequence[ExpectedRule],
        nests: tuple[Nest, ...],
        places: tuple[Place, ...],
        *,
        penalty: float,
        dual_rate: float,
        decay: Decay | None,
    ) -> None:
        self.system, self._all, self._places = system, dict(parameters), places
        self.hooked = HookedOptimizers(nests)
        self._line_searching = {id(nested.stepper) for nested in nests if isinstance(nested.core, optim.LBFGS)}
        self._coupled = [decay_kind(nested.core, decay) == "coupled" for nested in nests]
        self._factor, self._dual_rate = penalty, dual_rate
        self._penalty: float | None = None
        self._size = 1.0
        self._measured = 0
        self._measure = Measure(system)
        self.weight_terms = WeightTerms(system, self._all)
        self.expected_terms = ExpectedTerms(expected, self._trained)
        self._scope = self._all if not expected else {**self._all, **self._parameters_elsewhere()}
        self._names = {id(parameter): name for name, parameter in self._scope.items()}
        self._directions = Directions(nests, self._scope)
        self.capture = Capture(self._scope)
        self._largest_rates = [0.0] * len(self.hooked)
        self._added: dict[int, list[_Addition]] = {}
        self._seen_calls = 0
        self._last_maximized: frozenset[str] = frozenset()

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The trained weights that rules are about; with expectations, all trained weights."""
        return {name: parameter for name, parameter in self._scope.items() if parameter.requires_grad}

    @property
    def every_parameter(self) -> dict[str, torch.nn.Parameter]:
        """All weights that rules are about, frozen ones included."""
        return dict(self._all)

    @property
    def penalty(self) -> float:
        """ρ; 1 before there was a gradient."""
        return 1.0 if self._penalty is None else self._penalty

    def attach(self) -> None:
        """Register the hooks on every optimizer."""
        self.hooked.attach(self._before, self._after)

    def terms(self, batch: tuple[Any, ...]) -> Tensor:
        """The terms of the expectations for a batch, to be added to its loss."""
        return self.expected_terms.terms(batch, NONE if self._penalty is None else self._strength())

    def violation(self) -> dict[str, float]:
        """Rule name → largest violation of the present weights, or of the averaged value."""
        return {**self._measure(self._all), **self.expected_terms.violation()}

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν, with the dual step that is due; reversed for rules about maximized weights alone."""
        self.weight_terms.settle()
        return negated({**self.weight_terms.multipliers(), **self.expected_terms.multipliers()}, self._reversed())

    def residual_gradient(self, gradients: Mapping[str, Tensor]) -> tuple[float, float]:
        """`‖∇f + Jᵀλ‖` and `‖∇f‖`, for gradients of the loss with the terms of its expectations."""
        self.weight_terms.settle()
        gradients = negated(gradients, self._maximized())
        normal = self.weight_terms.normal(frozenset(self.parameters))
        squares = [
            (gradient.double() + normal[name].double() if name in normal else gradient.double()).square().sum()
            for name, gradient in gradients.items()
        ]
        sizes = [gradient.double().square().sum() for gradient in gradients.values()]
        return tuple(sqrt(float(torch.stack(parts).sum())) if parts else 0.0 for parts in (squares, sizes))  # type: ignore[return-value]

    def gradients_of(self, loss_fn: Callable[[], Any]) -> dict[str, Tensor]:
        """`∇f + λ w` of a loss by the trained weights that rules are about, λ being the decay that is coupled."""
        stepped = [p for optimizer in self.hooked.live() for group in optimizer.param_groups for p in group["params"]]
        rates = self._rates()
        return gradients_of(loss_fn, self.parameters, stepped, lambda name: rates.get(name, 0.0))

    def state(self) -> dict[str, Any]:
        """A copy of all that later steps depend on, beyond the model and the optimizers."""
        return {
            "penalty": self._penalty,
            "size": self._size,
            "measured": self._measured,
            "seen": self._seen_calls,
            "largest_rates": list(self._largest_rates),
            "weights": self.weight_terms.state(),
            "expectations": self.expected_terms.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from a saved state. Raises AttachError for the state of other rules or optimizers."""
        rates = state["largest_rates"]
        numbers = [state["size"], *(rates if isinstance(rates, list) else [None])]
        numbers += [] if state["penalty"] is None else [state["penalty"]]
        fits = all(isinstance(number, float) for number in numbers) and len(rates) == len(self.hooked)
        if not fits or not isinstance(state["seen"], int) or not isinstance(state["measured"], int):
            raise AttachError(
                "the saved state does not belong to this training: its penalty or the learning rates of its optimizers "
                "are missing. Attach the same rules to the same optimizers, or leave the handle's state out."
            )
        self.weight_terms.load_state(state["weights"])
        self.expected_terms.load_state(state["expectations"])
        self._penalty, self._size, self._measured = state["penalty"], state["size"], state["measured"]
        self._seen_calls = state["seen"]
        self._largest_rates = list(state["largest_rates"])

    def _before(
        self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Add the terms to the gradients, or let the closure do so each time it has computed them."""
        check_places(self._places)
        trained = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        check_still_held(self.hooked.listed(), trained)
        self.expected_terms.held, self.expected_terms.searched = False, None  # after a step that raised
        for observer in self.hooked.observers:
            observer.before_step(self.hooked.position(optimizer))
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._add_terms(optimizer)
            return None
        if id(optimizer) in self._line_searching:
            # The function that is minimized has changed with the multipliers, so its earlier curvature is another's.
            forget_curvature(optimizer)
            self.expected_terms.searched = 0.0 if self._penalty is None else self._penalty
        adding_closure = self._with_terms(optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": adding_closure}
        return (args[0], adding_closure, *args[2:]), kwargs

    def _with_terms(self, optimizer: optim.Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure with the gradients of the terms, and with their value where it returns its loss."""

        evaluations = 0
        start = StepStart(optimizer) if id(optimizer) in self._line_searching else None

        def adding_closure() -> Any:
            nonlocal evaluations
            evaluations += 1
            with undone_if_refused(start):
                loss = closure()
                self._added.pop(id(optimizer), None)  # these are new gradients, whatever their versions
                value = self._add_terms(optimizer, evaluations)
            self.expected_terms.held = True  # a line search compares values of one function
            if value is None or loss is None:
                return loss
            return loss + value.to(loss.device, loss.dtype) if isinstance(loss, Tensor) else loss + float(value)

        return adding_closure

    def _add_terms(self, optimizer: optim.Optimizer, evaluation: int = 1) -> Tensor | None:
        """Add the gradients of the terms to those of the optimizer; return the value of the terms.

        `evaluation` counts those of a closure: from one to the next, multipliers and penalties do not change.
        """
        of_optimizer = self._parameters_of(optimizer)
        check_gradients({name: parameter.grad for name, parameter in of_optimizer.items()})
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            return None  # a step without gradients moves nothing
        if _are_unchanged(self._added.get(id(optimizer))):
            return None  # hooks that are called twice in one step
        self._check_expectations(optimizer)
        scale = getattr(optimizer, "grad_scale", None)
        scale = scale if isinstance(scale, Tensor) else None
        if evaluation == 1 or self._penalty is None:
            self._find_penalty(optimizer, scale)
        rates, wanted = self._rates(), self.hooked.gradients_wanted()
        self.capture.take({n: p.grad for n, p in self.parameters.items()}, rates, scale, wanted=wanted)
        if not self.weight_terms:
            self._added[id(optimizer)] = []
            return None
        point = self.weight_terms.begin_step() if evaluation == 1 else self.weight_terms.point()
        constrained = frozenset(name for name in of_optimizer if name in self._all)
        additions, value = self.weight_terms.gradients(point, self.penalty, constrained)
        maximized = self._maximized()
        self._added[id(optimizer)] = [
            _Addition.to(of_optimizer[name], -addition if name in maximized else addition, scale)
            for name, addition in additions.items()
        ]
        return value

    def _after(self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Give the optimizer its own gradients back, and note the dual step."""
        self.expected_terms.held, self.expected_terms.searched = False, None
        added = self._added.pop(id(optimizer), None)
        skipped = getattr(optimizer, "found_inf", None)
        for observer in self.hooked.observers:
            observer.before_projection(self.hooked.position(optimizer))
        if added is not None:
            for addition in added:
                addition.remove()
            searching = id(optimizer) in self._line_searching
            rate: float | Tensor = (1.0 if searching else self._dual_rate) / len(self.hooked)
            if skipped is not None:
                rate = torch.where(skipped != 0, 0.0, rate)
            self.weight_terms.stepped(rate * self.penalty)
            share = 1.0 if searching else self._share(optimizer)
            self.expected_terms.stepped(self._strength(line_search=searching), share * rate)
            self._seen_calls = self.expected_terms.calls
        for observer in self.hooked.observers:
            observer.after_projection(self.hooked.position(optimizer), skipped)

    def _share(self, optimizer: optim.Optimizer) -> float:
        """The learning rate by its largest so far: averaged violations fall to 0 no faster than weights can move."""
        position = self.hooked.position(optimizer)
        rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
        present = max((float(rate) for rate in rates), default=0.0)
        self._largest_rates[position] = max(self._largest_rates[position], present)
        largest = self._largest_rates[position]
        return present / largest if largest > 0.0 else 1.0

    def _check_expectations(self, optimizer: optim.Optimizer) -> None:
        """Raise GradientError where the loss of this step cannot contain the terms of the expectations."""
        never = self.expected_terms.calls == 0
        if self.expected_terms and (never or (len(self.hooked) == 1 and self._is_stale())):
            names = ", ".join(f'"{name}"' for name in self.expected_terms.names)
            raise GradientError(
                f"{type(optimizer).__name__} steps, and the terms of {names} were not computed for this step. Add "
                f"them to the loss before its backward: loss = criterion(...) + handle.terms(...); the step was not "
                f"taken."
            )

    def _is_stale(self) -> bool:
        return not self.expected_terms.held and self.expected_terms.calls == self._seen_calls

    def _find_penalty(self, optimizer: optim.Optimizer, scale: Tensor | None) -> None:
        """Let the largest of the first gradients decide on ρ.

        One gradient alone may be that of a loss which is flat on the rules and falls steeply off them.
        """
        # With expectations, later gradients contain their terms.
        most = 1 if self.expected_terms else MEASURED * len(self.hooked)
        if self._measured >= most:
            return
        parameters = self.parameters
        if len(self.hooked) > 1:
            if scale is not None:  # those of the other optimizers may be scaled or not
                parameters = self._parameters_of(optimizer)
            unscale(other for other in self.hooked.live() if other is not optimizer)
        norms = [p.grad.detach().double().square().sum() for p in parameters.values() if p.grad is not None]
        if scale is not None:
            norms = [norm / scale.double().square() for norm in norms]
        gradient = sqrt(float(torch.stack(norms).sum())) if norms else 0.0
        weights = [p.detach().double().square().sum() for p in parameters.values()]
        if 0.0 < gradient < float("inf"):
            if self._penalty is None:
                self._size = max(1.0, sqrt(float(torch.stack(weights).sum())))
            self._penalty = max(self._penalty or 0.0, self._factor * gradient / self._size)
            self._measured += 1

    def _strength(self, *, line_search: bool = False) -> Strength:
        """How strong the terms of expectations are; a line search minimises them as they are, without a reach."""
        return Strength(self.penalty, float("inf") if line_search else REACH * self._size)

    def _rates(self) -> dict[str, float]:
        rates: dict[str, float] = {}
        maximized = self._maximized()
        for optimizer, coupled in zip(self.hooked.listed(), self._coupled, strict=True):
            if coupled and optimizer is not None:
                rates.update(signed_rates(optimizer, self._names, maximized))
        return rates

    def _maximized(self) -> frozenset[str]:
        """The names of the weights that move up; as it was last known, once an optimizer does not exist any more."""
        live = self.hooked.live()
        if len(live) == len(self.hooked):
            self._last_maximized = self._directions.maximized(live, self._names)
        return self._last_maximized

    def _reversed(self) -> frozenset[str]:
        """The names of the rules about maximized weights alone."""
        maximized = self._maximized()
        if not maximized:
            return frozenset()
        read = {rule.name: {p.name for p in weights_of([rule.expression.affine])} for rule in self.system.every}
        every = self.expected_terms.names if maximized.issuperset(self._scope) else ()
        return frozenset([*(name for name, names in read.items() if names and names <= maximized), *every])

    def _parameters_of(self, optimizer: optim.Optimizer) -> dict[str, torch.nn.Parameter]:
        """The trained weights of one of the optimizers."""
        ids = parameter_ids(optimizer)
        return {name: parameter for name, parameter in self.parameters.items() if id(parameter) in ids}

    def _parameters_elsewhere(self) -> dict[str, torch.nn.Parameter]:
        """The parameters of the optimizers that no rule names, under numbers."""
        known = {id(parameter) for parameter in self._all.values()}
        listed = [p for optimizer in self.hooked.live() for group in optimizer.param_groups for p in group["params"]]
        return {f"parameter {k}": p for k, p in enumerate(listed) if id(p) not in known}

    def _trained(self) -> list[torch.nn.Parameter]:
        return list(self.parameters.values())


class _Addition:
    """What was added to the gradient of one weight, and the gradient as it was."""

    def __init__(self, parameter: torch.nn.Parameter, before: Tensor | None, scale: Tensor | None) -> None:
        self._parameter, self._before, self._scale = parameter, before, scale
        gradient = parameter.grad
        assert gradient is not None
        self._mark = (ref(gradient), gradient._version)

    @classmethod
    @torch.no_grad()
    def to(cls, parameter: torch.nn.Parameter, addition: Tensor, scale: Tensor | None) -> _Addition:
        """Add a tensor to the gradient of a weight, in the units of scaled gradients."""
        addition = addition if scale is None else addition * scale
        before = None if parameter.grad is None else parameter.grad.detach().clone()
        if parameter.grad is None:
            parameter.grad = addition.to(parameter.dtype)
        else:
            parameter.grad.add_(addition)
        return cls(parameter, before, scale)

    @property
    def unchanged(self) -> bool:
        """Whether the gradient is still the tensor that was added to, and has not been written to since."""
        reference, version = self._mark
        gradient = self._parameter.grad
        return gradient is not None and gradient is reference() and gradient._version == version

    @torch.no_grad()
    def remove(self) -> None:
        """Give the weight the gradient of the loss back; a fused optimizer leaves gradients unscaled."""
        if self._before is None:
            self._parameter.grad = None
        elif self._parameter.grad is not None and self._parameter.grad is self._mark[0]():
            before = self._before if self._scale is None else self._before / self._scale
            self._parameter.grad.copy_(before)


def _are_unchanged(additions: list[_Addition] | None) -> bool:
    return additions is not None and all(addition.unchanged for addition in additions)


__all__ = ["Lagrangian"]
