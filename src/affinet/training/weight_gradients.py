"""Gradients with respect to computed weights, kept as backward runs through them: multipliers are made of these."""

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
"""Gradients that were multiplied by one number differ from that multiple by less, half precision included."""


@dataclass(eq=False)
class _Sum:
    """The gradients of some backward calls, added up, and the numbers whose `.grad` they have reached."""

    gradients: dict[str, Tensor] = field(default_factory=dict)
    landed: dict[int, tuple[torch.nn.Parameter, int]] = field(default_factory=dict)
    probe: _Probe | None = None
    factor: float | None = 1.0

    @property
    def over(self) -> bool:
        """Whether the numbers were stepped since, or their gradients taken away: what comes next is another sum."""
        return any(p.grad is None or p._version != version for p, version in self.landed.values())


@dataclass(frozen=True, eq=False)
class _Probe:
    """The gradient of one number as backward left it."""

    number: torch.nn.Parameter
    gradient: Tensor
    copy: Tensor

    @classmethod
    def of(cls, number: torch.nn.Parameter) -> _Probe | None:
        """None where there is no gradient."""
        g = number.grad
        return None if g is None else cls(number, g, g.detach().clone())

    def factor(self) -> float | None:
        """By what the gradient was multiplied since (unscaled, clipped); None where it was changed in another way."""
        now = (self.gradient if self.number.grad is None else self.number.grad).detach()
        if torch.equal(now, self.copy):  # versions do not tell: unscaling leaves them as they are
            return 1.0
        before, after = self.copy.double(), now.double()
        size = float(before.square().sum())
        found = float((before * after).sum()) / size if size > 0.0 else 0.0
        alike = float((after - found * before).norm()) <= UNIFORM * float(after.norm())
        return found if found != 0.0 and alike else None


class WeightGradients:
    """Sums of gradients with respect to computed weights, over the backward calls for one step of an optimizer.

    Small models keep them at every backward, larger ones after `ask()` until the next step. A sum begins anew when the
    numbers that weights are computed from have been stepped, or their `.grad` was set to None (`zero_grad()`). What
    multiplies all gradients between backward and the step (`GradScaler.unscale_`, clipping by norm) multiplies the sum:
    it is in the units of what the optimizer was given. Copies of a model have no handle to ask, and keep nothing.
    """

    def __init__(self, entries: int) -> None:
        self._always = entries <= SMALL
        self._asked = False
        self._numbers: dict[int, torch.nn.Parameter] = {}
        self._hooks: list[Any] = []
        self._sum = _Sum()
        self._stepped = False

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightGradients:
        return WeightGradients(SMALL + 1)

    def follow(self, numbers: Iterable[torch.nn.Parameter]) -> None:
        """The numbers that weights are computed from."""
        self._numbers = {id(number): number for number in numbers}
        if self._always:
            self._hook()

    def leave(self) -> None:
        """Keep nothing more."""
        self._always = self._asked = False
        self._unhook()

    def ask(self) -> None:
        """Keep the gradients of the backward calls for the next step."""
        self._asked, self._sum, self._stepped = True, _Sum(), False
        self._hook()

    def watched(self, name: str, weight: Tensor, numbers: Iterable[Tensor | None]) -> Tensor:
        """The weight, whose gradient will be kept where that is wanted; a constant weight then takes one too."""
        if not (self._always or self._asked) or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return weight
        own = all(number is None or not number.numel() or id(number) in self._numbers for number in numbers)
        if not own or torch.is_inference_mode_enabled() or not _plain(weight):
            return weight
        if not weight.requires_grad:
            weight = weight.detach().requires_grad_()
        weight.register_hook(partial(self._add, name))
        return weight

    def before_step(self, optimizer: optim.Optimizer) -> None:
        """Called before every step of any optimizer: gradients are now what it is given."""
        probe = self._sum.probe
        if probe is None or self._stepped:
            return
        if any(p is probe.number for group in optimizer.param_groups for p in group["params"]):
            factor, scale = probe.factor(), getattr(optimizer, "grad_scale", None)
            if factor is not None and isinstance(scale, Tensor):
                factor /= float(scale)
            self._sum.factor, self._stepped, self._asked = factor, True, False
            if not self._always:
                self._unhook()

    def total(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`∇f` by name, in float64, zero where nothing reached a weight. Raises AttachError where nothing was kept."""
        if not self._sum.gradients:
            raise AttachError(
                "no gradients of computed weights were kept yet. Run backward first; for models of more than 65,536 "
                "constrained entries call handle.capture() before the forward, or give handle.report(loss_fn) the "
                "loss. A compiled forward, and torch.func, keep none."
            )
        probe = self._sum.probe
        factor = self._sum.factor if self._stepped or probe is None else probe.factor()
        if factor is None:
            raise AttachError(
                "the gradients were changed between backward and the step, and not by one factor for all (clipping by "
                "value, noise), so that multipliers cannot be computed from those of backward. Give "
                "handle.report(loss_fn) the loss."
            )
        kept = self._sum.gradients
        return {
            name: kept[name].double() * factor if name in kept else torch.zeros_like(weight, dtype=torch.float64)
            for name, weight in like.items()
        }

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Keep the gradients of what runs inside, and what was kept before as it was."""
        before = self._sum, self._stepped, self._asked, self._always
        self._sum, self._stepped, self._always = _Sum(), False, True
        try:
            yield
        finally:
            self._sum, self._stepped, self._asked, self._always = before

    def _add(self, name: str, gradient: Tensor) -> None:
        if not _plain(gradient):
            return
        if self._stepped or self._sum.over or (not self._numbers and name in self._sum.gradients):
            self._sum, self._stepped = _Sum(), False
        kept = self._sum.gradients
        copy = gradient.detach().clone() if name not in kept else kept[name] + gradient.detach()
        kept[name] = copy

    def _land(self, number: torch.nn.Parameter) -> None:
        if self._sum.gradients and not self._stepped:
            self._sum.landed[id(number)] = number, number._version
            self._sum.probe = _Probe.of(number) or self._sum.probe

    def _hook(self) -> None:
        if not self._hooks:
            self._hooks = [
                number.register_post_accumulate_grad_hook(self._land)
                for number in self._numbers.values()
                if number.requires_grad
            ]

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _plain(x: Tensor) -> bool:
    """Whether this is one tensor with memory, and none that stands for many inside a transform of torch.func."""
    if type(x) not in (Tensor, torch.nn.Parameter):
        return False
    try:
        x.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return False
    return True
