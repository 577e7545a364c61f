"""The multipliers and penalties of rules about weights, and the gradient of their terms.

The terms are `λᵀc + ½ Σ ρ_i c_i²`, and for inequalities `Σ (max(0, λ_i + ρ_i c_i)² − λ_i²) / (2 ρ_i)`, with c of
`Residuals`, so that `c_i <= 0` is what an inequality asks. Source: Hestenes 1969, Powell 1969; Rockafellar 1973.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError, GradientError
from affinet.kernels.torch.precision import regular_dtype, undisturbed
from affinet.kernels.torch.rule_derivatives import Linearized, Residuals
from affinet.system.system import System
from affinet.training.first_move import all_finite

REFRESH = 10
"""Steps between measurements of the rows' norms."""
MEMORY = 0.9
"""The share of the earlier average in a new average of squared norms."""


class WeightTerms:
    """The rules about weights of one training: λ (rows,) and averaged squared norms of the rows, in float64.

    `ρ_i = ρ / ‖J_i‖²`, so that a rule times a number is the same rule. A dual step belongs to the weights that a step
    of the optimizer led to, and is taken when these are evaluated next: then a training step evaluates rules once.

    A row whose coefficient `λ + ρ c` is 0 adds nothing, whatever its derivatives. Its averaged squared norm is -1 while
    it has had no finite derivative, as that of `w.norm() <= 1` at 0; such rows are measured at every step.
    """

    def __init__(self, system: System, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters
        device = next((parameter.device for parameter in parameters.values()), torch.device("cpu"))
        with undisturbed(device):
            self._residuals = Residuals(system, device)
        signs = self._residuals.signs
        self._one_sided = signs != 0.0
        self._multipliers = torch.zeros_like(signs)
        self._squared_norms = torch.zeros_like(signs)
        self._steps = 0
        self._due: Tensor | None = None
        self._awaits_derivatives = False

    def __bool__(self) -> bool:
        return bool(len(self._multipliers))

    def begin_step(self) -> Linearized:
        """The rules at the present weights, after the dual step that is due there, for a new step."""
        with undisturbed(self._multipliers.device):
            point = self._residuals.at(self._weights())
            self._check(self._residual(point))
            self._take_due_step(point)
            if self._steps % REFRESH == 0 or self._awaits_derivatives:
                self._measure(point, only_new=self._steps % REFRESH != 0)
            self._steps += 1
            return point

    def point(self) -> Linearized:
        """The rules at the present weights."""
        with undisturbed(self._multipliers.device):
            return self._residuals.at(self._weights())

    def gradients(self, point: Linearized, penalty: float, names: frozenset[str]) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients of the terms by the named weights, and the value of the terms."""
        with undisturbed(self._multipliers.device):
            c, rates = self._residual(point), self._penalties(penalty)
            slopes = self._multipliers + rates * c
            slopes = torch.where(self._one_sided, slopes.clamp(min=0.0), slopes)
            # Without a finite derivative there is no rate; what is violated would get a coefficient all the same.
            slopes = torch.where(
                (self._squared_norms < 0.0) & ((c > 0.0) | (~self._one_sided & (c < 0.0))), torch.nan, slopes
            )
            value = torch.where(
                self._one_sided & (rates > 0.0),
                (slopes.square() - self._multipliers.square()) / (2.0 * torch.where(rates > 0.0, rates, 1.0)),
                self._multipliers * c + 0.5 * rates * c.square(),
            )
            self._check(slopes)
            additions = self._transposed(point, slopes, names)
            self._check_derivatives(point, slopes, names, additions)
            return additions, value.sum()

    def normal(self, names: frozenset[str]) -> dict[str, Tensor]:
        """`Jᵀλ` by the named weights, at the present ones."""
        with undisturbed(self._multipliers.device):
            return self._transposed(self.point(), self._multipliers, names)

    def stepped(self, rate: float | Tensor) -> None:
        """Note that the optimizer has stepped: the dual step at the new weights has this rate, ρ included."""
        device = self._multipliers.device
        rate = torch.as_tensor(rate, dtype=self._multipliers.dtype, device=device)
        self._due = rate if self._due is None else self._due + rate

    def settle(self) -> None:
        """Take the dual step that is due, at the present weights."""
        if self._due is not None and self:
            with undisturbed(self._multipliers.device):
                self._take_due_step(self._residuals.at(self._weights()))

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν = ∂f*/∂rhs as written, in the rule's shape, in float64 on the CPU."""
        signs, residuals = self._residuals.signs, self._residuals
        prices = torch.where(signs < 0.0, self._multipliers, -self._multipliers) + 0.0
        counts = [end - first for first, end in pairwise(residuals.bounds)]
        parts = prices.cpu().double().split(counts)
        return {
            name: part.reshape(shape).clone()
            for name, part, shape in zip(residuals.names, parts, residuals.shapes, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """A copy of all that later steps depend on."""
        return {
            "multipliers": self._multipliers.clone(),
            "squared_norms": self._squared_norms.clone(),
            "steps": self._steps,
            "due": None if self._due is None else self._due.clone(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Carry on from a saved state. Raises AttachError, with nothing changed, for the state of other rules."""
        tensors = [state.get(key) for key in ("multipliers", "squared_norms")]
        due, steps = state.get("due"), state.get("steps")
        fits = all(isinstance(t, Tensor) and t.shape == self._multipliers.shape for t in tensors)
        if not fits or not isinstance(steps, int) or not (due is None or isinstance(due, Tensor)):
            raise AttachError(
                "the saved multipliers do not belong to these rules: their number is another. Attach the same rules to "
                "the same model, or leave the handle's state out."
            )
        like = self._multipliers
        self._multipliers, self._squared_norms = (t.to(like.device, like.dtype, copy=True) for t in tensors)  # type: ignore[union-attr]
        self._due = None if due is None else due.to(like.device, like.dtype, copy=True)
        self._steps = steps
        self._awaits_derivatives = bool((self._squared_norms < 0.0).any())

    def _take_due_step(self, point: Linearized) -> None:
        if self._due is None:
            return
        c = self._residual(point)
        moved = self._multipliers + self._penalties(1.0) * self._due * c
        moved = torch.where(self._one_sided, moved.clamp(min=0.0), moved)
        self._multipliers = torch.where(torch.isfinite(c), moved, self._multipliers)
        self._due = None

    def _residual(self, point: Linearized) -> Tensor:
        """`c`, with the least number in place of −∞ in inequalities, which hold there."""
        c = point.value
        return torch.where(self._one_sided, c.clamp(min=torch.finfo(c.dtype).min), c)

    def _measure(self, point: Linearized, *, only_new: bool) -> None:
        """Average the squared norms of the rows; `only_new`: those of rows that had no finite derivative so far."""
        trained = frozenset(name for name, parameter in self._parameters.items() if parameter.requires_grad)
        norms, earlier = point.squared_norms(trained), self._squared_norms
        finite = torch.isfinite(norms)
        mixed = torch.where(finite, MEMORY * earlier + (1.0 - MEMORY) * norms, earlier)
        fresh = torch.where(finite, norms, -1.0)
        if only_new:
            self._squared_norms = torch.where(earlier < 0.0, fresh, earlier)
        else:
            self._squared_norms = torch.where(earlier > 0.0, mixed, fresh)
        self._awaits_derivatives = bool((self._squared_norms < 0.0).any())

    def _check(self, numbers: Tensor) -> None:
        """Raise GradientError for a rule whose row in `numbers` is not finite, at weights that are."""
        finite = torch.isfinite(numbers)
        if not bool(finite.all()):
            self._refuse(int((~finite).nonzero()[0]))

    def _check_derivatives(
        self, point: Linearized, slopes: Tensor, names: frozenset[str], additions: Mapping[str, Tensor]
    ) -> None:
        """Raise GradientError for a rule whose derivatives times its coefficients are not finite."""
        if _all_are_finite(additions.values()):
            return
        rows = torch.arange(len(slopes), device=slopes.device)
        for first, end in pairwise(self._residuals.bounds):
            alone = torch.where((rows >= first) & (rows < end), slopes, 0.0)
            if not _all_are_finite(self._transposed(point, alone, names).values()):
                self._refuse(first)

    def _refuse(self, row: int) -> None:
        """Raise GradientError for the rule of a row; weights that diverged are not the rule's fault."""
        if not _all_are_finite(self._weights().values()):
            return
        rule = bisect_right(self._residuals.bounds, row) - 1
        raise GradientError(
            f'no step can be taken: at the present weights "{self._residuals.names[rule]}" has no finite value, or no '
            f"finite derivatives by which it could be approached, as a root at 0 or the logarithm of a negative "
            f"number. Start from other weights, take smaller steps, or bound the weights away from there, with room "
            f"for a step, by a rule such as w >= 0.01."
        )

    def _penalties(self, penalty: float) -> Tensor:
        """`ρ_i`, 0 for rows that have had no derivative so far."""
        present = self._squared_norms > 0.0
        return torch.where(present, penalty / torch.where(present, self._squared_norms, 1.0), 0.0)

    def _transposed(self, point: Linearized, y: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        into = {
            name: torch.zeros(parameter.shape, dtype=regular_dtype(parameter.dtype), device=parameter.device)
            for name, parameter in self._parameters.items()
            if name in names
        }
        point.add_transposed(y, into)
        return into

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}


def _all_are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no number of the tensors is nan or infinite."""
    return all(all_finite(tensor) for tensor in tensors)
