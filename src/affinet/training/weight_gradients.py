"""Sum the gradients with respect to computed weights during backward: multipliers are computed from these sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, optim

from affinet.errors import AttachError
from affinet.training.capture import SMALL

UNIFORM = 1e-2
"""The largest relative error at which a changed gradient counts as a multiple of the former one, also in 16 bits."""


@dataclass(eq=False)
class _Sum:
    """The sum of the gradients of some backward calls, and the numbers whose `.grad` they have updated."""

    gradients: dict[str, Tensor] = field(default_factory=dict)
    updated: dict[int, tuple[torch.nn.Parameter, int]] = field(default_factory=dict)
    probe: _Probe | None = None
    factor: float | None = 1.0

    @property
    def is_complete(self) -> bool:
        """Whether the numbers were stepped since, or their gradients removed: the next gradient begins a new sum."""
        return any(p.grad is None or p._version != version for p, version in self.updated.values())


@dataclass(frozen=True, eq=False)
class _Probe:
    """The gradient of one number after backward."""

    number: torch.nn.Parameter
    gradient: Tensor
    copy: Tensor

    @classmethod
    def of(cls, number: torch.nn.Parameter) -> _Probe | None:
        """A probe on `number`; None where it does not have a gradient."""
        gradient = number.grad
        return None if gradient is None else cls(number, gradient, gradient.detach().clone())

    def factor(self) -> float | None:
        """The factor by which the gradient was multiplied since (unscaled, clipped); None for any other change."""
        present = (self.gradient if self.number.grad is None else self.number.grad).detach()
        if torch.equal(present, self.copy):  # versions cannot show it: unscaling does not change them
            return 1.0
        before, after = self.copy.double(), present.double()
        size = float(before.square().sum())
        ratio = float((before * after).sum()) / size if size > 0.0 else 0.0
        is_multiple = float((after - ratio * before).norm()) <= UNIFORM * float(after.norm())
        return ratio if ratio != 0.0 and is_multiple else None


class WeightGradients:
    """Sums of gradients with respect to computed weights, over the backward calls for one step of an optimizer.

    Small models keep them at every backward, larger ones after `request()` until the next step. A new sum begins when
    the numbers that weights are computed from have been stepped, or their `.grad` was set to None (`zero_grad()`). A
    factor on all gradients between backward and the step (`GradScaler.unscale_`, clipping by norm) also multiplies the
    sum, so it has the units of the gradients that the optimizer gets. Copies of a model have no handle, and keep no
    gradients.
    """

    def __init__(self, entries: int) -> None:
        self._always = entries <= SMALL
        self._requested = False
        self._numbers: dict[int, torch.nn.Parameter] = {}
        self._names: dict[int, str] = {}
        self._hooks: list[Any] = []
        self._sum = _Sum()
        self._stepped = False

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightGradients:
        return WeightGradients(SMALL + 1)

    @property
    def followed(self) -> Mapping[int, str]:
        """The names of the numbers that are followed, by id."""
        return self._names

    def follow(self, numbers: Mapping[str, torch.nn.Parameter]) -> None:
        """Follow the gradients of the numbers that weights are computed from, by name."""
        self._numbers = {id(number): number for number in numbers.values()}
        self._names = {id(number): name for name, number in numbers.items()}
        if self._always:
            self._hook()

    def close(self) -> None:
        """Stop keeping gradients, and remove the hooks."""
        self._always = self._requested = False
        self._unhook()

    def request(self) -> None:
        """Keep the gradients of the backward calls for the next step."""
        self._requested, self._sum, self._stepped = True, _Sum(), False
        self._hook()

    def with_hook(self, name: str, weight: Tensor, numbers: Iterable[Tensor | None]) -> Tensor:
        """The weight, with a hook that keeps its gradient where needed; a constant weight then requires a gradient."""
        if not (self._always or self._requested) or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return weight
        is_trained = all(number is None or not number.numel() or id(number) in self._numbers for number in numbers)
        if not is_trained or torch.is_inference_mode_enabled() or not _has_memory(weight):
            return weight
        if not weight.requires_grad:
            weight = weight.detach().requires_grad_()
        weight.register_hook(partial(self._add, name))
        return weight

    def before_step(self, optimizer: optim.Optimizer) -> None:
        """Fix the factor of the sum before a step; called before every step of any optimizer."""
        probe = self._sum.probe
        if probe is None or self._stepped:
            return
        if any(p is probe.number for group in optimizer.param_groups for p in group["params"]):
            factor, scale = probe.factor(), getattr(optimizer, "grad_scale", None)
            if factor is not None and isinstance(scale, Tensor):
                factor /= float(scale)
            self._sum.factor, self._stepped, self._requested = factor, True, False
            if not self._always:
                self._unhook()

    def total(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`∇f` by name, in float64, zero where a weight got no gradient. Raises AttachError where none were kept."""
        if not self._sum.gradients:
            raise AttachError(
                "no gradients of computed weights were kept yet. Run backward first; for models of more than 65,536 "
                "constrained entries call handle.capture() before the forward, or give handle.report(loss_fn) the "
                "loss. A compiled forward, and torch.func, keep no gradients."
            )
        probe = self._sum.probe
        factor = self._sum.factor if self._stepped or probe is None else probe.factor()
        if factor is None:
            raise AttachError(
                "the gradients were changed between backward and the step, and not by one factor for all (clipping by "
                "value, noise), so that multipliers cannot be computed from those of backward. Give "
                "handle.report(loss_fn) the loss."
            )
        gradients = self._sum.gradients
        return {
            name: gradients[name].double() * factor
            if name in gradients
            else torch.zeros_like(weight, dtype=torch.float64)
            for name, weight in like.items()
        }

    @contextmanager
    def separate_sum(self) -> Iterator[None]:
        """Keep only the gradients of the code inside the block, and restore the former sum afterwards."""
        former = self._sum, self._stepped, self._requested, self._always
        self._sum, self._stepped, self._always = _Sum(), False, True
        try:
            yield
        finally:
            self._sum, self._stepped, self._requested, self._always = former

    def _add(self, name: str, gradient: Tensor) -> None:
        if not _has_memory(gradient):
            return
        if self._stepped or self._sum.is_complete or (not self._numbers and name in self._sum.gradients):
            self._sum, self._stepped = _Sum(), False
        gradients = self._sum.gradients
        total = gradient.detach().clone() if name not in gradients else gradients[name] + gradient.detach()
        gradients[name] = total

    def _record_update(self, number: torch.nn.Parameter) -> None:
        if self._sum.gradients and not self._stepped:
            self._sum.updated[id(number)] = number, number._version
            self._sum.probe = _Probe.of(number) or self._sum.probe

    def _hook(self) -> None:
        if not self._hooks:
            self._hooks = [
                number.register_post_accumulate_grad_hook(self._record_update)
                for number in self._numbers.values()
                if number.requires_grad
            ]

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _has_memory(x: Tensor) -> bool:
    """Whether this is a tensor with memory of its own, not a batch inside a transform of torch.func."""
    if type(x) not in (Tensor, torch.nn.Parameter):
        return False
    try:
        x.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return False
    return True
