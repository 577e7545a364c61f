"""The multipliers and penalties of rules about expected values, and their terms of the loss.

With s the sum over the samples of a batch that count, and n their number, the expected value is `E[s] / E[n]`: both
are averaged over batches, so that a batch without such a sample adds two zeros, instead of a ratio of small numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError, GradientError
from affinet.language.expectations import ExpectedRule
from affinet.training.augmented.weight_terms import MEMORY, REFRESH

AVERAGED = 0.1
"""The weight of the present batch in the averages from which violations are computed."""
INTEGRATED = 0.3
"""The share of the reach within which violations count in full for multipliers."""


@dataclass(frozen=True)
class Strength:
    """How strong the terms are: ρ, and the distance of weights within which a penalty is quadratic.

    Training cannot begin where expected values are as asked, so that violations are large at first. Beyond `reach` the
    penalty is linear, and multipliers grow as at `INTEGRATED` of it: else they run on while the weights are on their
    way, and drown the loss for long in Adam's average of squared gradients.
    """

    penalty: float
    reach: float


NONE = Strength(0.0, 1.0)
"""Before the first gradients."""

Parameters = Callable[[], Sequence[torch.nn.Parameter]]


class ExpectedTerms:
    """The rules about expected values of one training."""

    def __init__(self, rules: Sequence[ExpectedRule], parameters: Parameters) -> None:
        """`parameters` returns what is trained, by whose gradients rules are brought to one scale."""
        self._rules = [_ExpectedTerm(rule) for rule in rules]
        self._parameters = parameters
        self.calls = 0
        """How often terms were computed for a step."""
        self.held = False
        """Whether averages stay as they are: a closure is evaluated again for the same step."""
        self.searched: float | None = None
        """ρ during a line search, which compares values of one function: that of the present batch, not averaged."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules."""
        return tuple(term.rule.name for term in self._rules)

    def terms(self, batch: tuple[Any, ...], strength: Strength) -> Tensor:
        """The terms of the loss for a batch; averages are updated where gradients are recorded."""
        learns = torch.is_grad_enabled() and not self.held
        total = torch.zeros(())
        parameters = list(self._parameters()) if learns else []
        for term in self._rules:
            if self.searched is not None and torch.is_grad_enabled():
                part = term.searched_loss(batch, self.searched, parameters, first=not self.held)
            else:
                part = term.loss(batch, strength, parameters, learns=learns)
            total = part if total.device != part.device and not total.requires_grad else total + part
        self.calls += int(learns)
        return total

    def stepped(self, strength: Strength, rate: float | Tensor) -> None:
        """Take the dual step of this rate."""
        for term in self._rules:
            term.step(strength, rate)

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν = ∂f*/∂rhs as written; a single 0 before the first batch."""
        return {term.rule.name: term.price() for term in self._rules}

    def violation(self) -> dict[str, float]:
        """Rule name → by how much the averaged value violates the rule; nan before the first sample."""
        return {term.rule.name: term.violation() for term in self._rules}

    def state(self) -> dict[str, Any]:
        """A copy of all that later steps depend on."""
        return {"calls": self.calls, "rules": [term.state() for term in self._rules]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from a saved state. Raises AttachError for the state of other rules."""
        rules, calls = state.get("rules"), state.get("calls")
        if not isinstance(rules, list) or len(rules) != len(self._rules) or not isinstance(calls, int):
            raise AttachError(
                "the saved averages do not belong to these rules: the number of expectations is another. Attach the "
                "same rules, or leave the handle's state out."
            )
        for term, saved in zip(self._rules, rules, strict=True):
            term.load_state(saved)
        self.calls = calls


class _ExpectedTerm:
    """One rule, with what it has learned."""

    def __init__(self, rule: ExpectedRule) -> None:
        self.rule = rule
        self._sign = -1.0 if rule.sense == ">=" else 1.0
        self._multiplier: Tensor | None = None
        self._sum: Tensor | None = None
        self._count, self._samples, self._batches = 0.0, 0, 0
        self._squared_norm = 0.0

    def loss(
        self, batch: tuple[Any, ...], strength: Strength, parameters: Sequence[torch.nn.Parameter], *, learns: bool
    ) -> Tensor:
        values = self._values(batch)
        total, count = values.sum(0), len(values)
        if learns:
            self._average(total.detach().double(), count)
        if self._multiplier is None or not self._samples:
            return total.sum() * 0.0
        slope = self._multiplier + self._penalty(strength.penalty) * self._within(strength.reach)
        slope = slope if self.rule.sense == "==" else slope.clamp(min=0.0)
        # The squared norm of this batch serves later batches: one of its own would weigh the batch by its gradient.
        if learns and count and ((self._batches - 1) % REFRESH == 0 or not self._squared_norm):
            self._measure(total / count, parameters)
        term: Tensor = ((self._sign * slope).to(total.dtype) * total).sum() * (self._batches / self._samples)
        return term

    def searched_loss(
        self, batch: tuple[Any, ...], penalty: float, parameters: Sequence[torch.nn.Parameter], *, first: bool
    ) -> Tensor:
        """The value of the terms for a batch; its mean replaces the average, for the dual step after the search."""
        values = self._values(batch)
        total, count = values.sum(0), len(values)
        self._average(total.detach().double(), count)
        if not count or self._multiplier is None:
            return total.sum() * 0.0
        self._sum, self._count = total.detach().double(), float(count)
        if first:
            self._measure(total / count, parameters)
        bound = torch.as_tensor(self.rule.bound, device=total.device)
        rate, residual = self._penalty(penalty), self._sign * (total / count - bound.to(total.dtype))
        multiplier = self._multiplier.to(total.dtype)
        if self.rule.sense == "==":
            return (multiplier * residual + 0.5 * rate * residual.square()).sum()
        if not rate:
            return (multiplier * residual).sum()
        slope = (multiplier + rate * residual).clamp(min=0.0)
        return ((slope.square() - multiplier.square()) / (2.0 * rate)).sum()

    def step(self, strength: Strength, rate: float | Tensor) -> None:
        if self._multiplier is None or not self._samples:
            return
        moved = self._multiplier + rate * self._penalty(strength.penalty) * self._within(INTEGRATED * strength.reach)
        self._multiplier = moved if self.rule.sense == "==" else moved.clamp(min=0.0)

    def price(self) -> Tensor:
        if self._multiplier is None:
            return torch.zeros((), dtype=torch.float64)
        return (-self._sign * self._multiplier.cpu()) + 0.0

    def violation(self) -> float:
        if self._multiplier is None or not self._count:
            return float("nan")
        residual = self._residual()
        return float((residual.abs() if self.rule.sense == "==" else residual.clamp(min=0.0)).amax())

    def state(self) -> dict[str, Any]:
        return {
            "multiplier": None if self._multiplier is None else self._multiplier.clone(),
            "sum": None if self._sum is None else self._sum.clone(),
            "numbers": [self._count, self._samples, self._batches, self._squared_norm],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        multiplier, total = state["multiplier"], state["sum"]
        self._multiplier = None if multiplier is None else multiplier.clone()
        self._sum = None if total is None else total.clone()
        self._count, self._samples, self._batches, self._squared_norm = state["numbers"]

    def _values(self, batch: tuple[Any, ...]) -> Tensor:
        """What the function returns for a batch, a number or an array per sample."""
        values = self.rule.function(*batch)
        if not isinstance(values, Tensor) or not values.is_floating_point():
            kind = f"a tensor of {values.dtype}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
            raise GradientError(
                f'the function of "{self.rule.name}" returned {kind}; it has to return a tensor of real numbers, one '
                f"(or one array) per sample that counts."
            )
        values = values if values.ndim else values.unsqueeze(0)
        if torch.is_grad_enabled() and len(values) and not values.requires_grad:
            raise GradientError(
                f'the function of "{self.rule.name}" returned numbers without a gradient. Compute them from the '
                f"output of the model, without torch.no_grad(), detach() or item()."
            )
        if not bool(torch.isfinite(values).all()):
            raise GradientError(
                f'the function of "{self.rule.name}" returned numbers that are not finite. The mean over no sample is '
                f'nan: return a number per sample (reduction="none") and no mean, so that a batch without such samples '
                f"returns an empty tensor."
            )
        shape = values.shape[1:]
        if self._multiplier is not None and self._multiplier.shape != shape:
            raise GradientError(
                f'the function of "{self.rule.name}" returned an array of shape {tuple(shape)} per sample, and before '
                f"{tuple(self._multiplier.shape)}. The shape has to stay the same."
            )
        return values

    def _average(self, total: Tensor, count: int) -> None:
        if self._multiplier is None or self._sum is None:
            bound = torch.as_tensor(self.rule.bound, device=total.device)
            self._multiplier = torch.zeros(
                torch.broadcast_shapes(total.shape, bound.shape), device=total.device
            ).double()
            if self._multiplier.shape != total.shape:
                shapes = f"{tuple(total.shape)} per sample, and the rule compares it with numbers of shape"
                self._multiplier = None
                raise GradientError(
                    f'the function of "{self.rule.name}" returned an array of shape {shapes} {tuple(bound.shape)}. '
                    f"Compare it with a number, or with numbers of its shape."
                )
            self._sum = torch.zeros_like(total)
        self._sum = (1.0 - AVERAGED) * self._sum + AVERAGED * total
        self._count = (1.0 - AVERAGED) * self._count + AVERAGED * count
        self._samples, self._batches = self._samples + count, self._batches + 1

    def _residual(self) -> Tensor:
        """The averaged value minus the bound, with the sign under which at most 0 is what an inequality asks."""
        assert self._sum is not None
        bound = torch.as_tensor(self.rule.bound, device=self._sum.device)
        return self._sign * (self._sum / self._count - bound)

    def _within(self, reach: float) -> Tensor:
        """The averaged violation, cut off where it takes weights farther than `reach` to remove it."""
        limit = reach * self._squared_norm**0.5
        return self._residual().clamp(-limit, limit)

    def _measure(self, mean: Tensor, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Average the squared norm of the gradient of the mean; of several numbers, their mean squared norm."""
        signs = torch.ones_like(mean)
        if mean.numel() > 1:  # a random sign each: in expectation the squared norms add up (Hutchinson 1990)
            generator = torch.Generator().manual_seed(self._batches)
            drawn = torch.randint(0, 2, mean.shape, generator=generator)
            signs = (2.0 * drawn - 1.0).to(mean.device, mean.dtype)
        gradients = torch.autograd.grad((signs * mean).sum(), parameters, retain_graph=True, allow_unused=True)
        squares = [gradient.detach().double().square().sum() for gradient in gradients if gradient is not None]
        norm = float(torch.stack(squares).sum()) / mean.numel() if squares else 0.0
        self._squared_norm = MEMORY * self._squared_norm + (1.0 - MEMORY) * norm if self._squared_norm else norm

    def _penalty(self, penalty: float) -> float:
        return penalty / self._squared_norm if self._squared_norm else 0.0


__all__ = ["NONE", "ExpectedTerms", "Strength"]
