"""Keep inequalities where an optimizer changes weights without a step: in `eval()` and `train()`.

A schedule-free optimizer trains at `y = β x + (1 − β) z` and gives `x` in `eval()`. With `y` and `z` on a set given by
equations `x` is on it; with inequalities it may be outside. It is then moved to the nearest point of the set, which is
no farther from any point of it, the optimum included. `train()` returns to the weights that it was called for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, optim

from affinet.language.dtensors import gathered
from affinet.training.learning import Learning

RETURNED = 4.0
"""Roundoffs of its largest entry by which a weight may differ after it was extrapolated and interpolated again: both
round once, and an interpolation does not enlarge the rounding before it. Twice that is allowed."""


@dataclass(frozen=True, eq=False)
class _Change:
    """Weights before `method` changed them, as the optimizers left them, and as they were moved onto the set."""

    method: str
    before: dict[str, Tensor]
    changed: dict[str, Tensor]
    moved: dict[str, Tensor]


class ModeChanges:
    """The modes of the optimizers of one training; `learning` returns what it has learned at present.

    Law: `eval()` ends on the set, and `train()` after it returns to the former weights, bit for bit, where neither
    weights nor the optimizer's state were written to in between: evaluating does not change the training.
    """

    def __init__(self, learning: Callable[[], Learning]) -> None:
        self._learning = learning
        self._last: _Change | None = None

    def attach(self, optimizer: optim.Optimizer) -> list[Callable[[], None]]:
        """Wrap `eval` and `train` of an optimizer that has both; return what removes the wrappers."""
        methods = {name: getattr(optimizer, name, None) for name in ("eval", "train")}
        if not all(map(callable, methods.values())):
            return []
        return [self._wrap(optimizer, name, method) for name, method in methods.items() if method is not None]

    def forget(self) -> None:
        """Drop the weights of the last change: a step was taken."""
        self._last = None

    def _wrap(self, optimizer: optim.Optimizer, name: str, method: Callable[..., Any]) -> Callable[[], None]:
        former = vars(optimizer).get(name)

        def change(*args: Any, **kwargs: Any) -> Any:
            return self._run(name, lambda: method(*args, **kwargs))

        def remove() -> None:
            if vars(optimizer).get(name) is change:
                vars(optimizer).pop(name)
                if former is not None:
                    vars(optimizer)[name] = former

        vars(optimizer)[name] = change
        return remove

    @torch.no_grad()
    def _run(self, name: str, method: Callable[[], Any]) -> Any:
        learning = self._learning()
        if not learning:
            return method()
        weights, last = learning.weights(), self._last
        if last is None or not _have_values(weights, last.moved):
            values = _copies(weights)
            last = _Change(name, values, values, values)
        _write(weights, last.changed)
        result = method()
        if name != last.method and _are_close(weights, last):
            _write(weights, last.before)
            learning.mark()
            self._last = None
        elif _have_values(weights, last.changed):
            _write(weights, last.moved)
            self._last = last
        else:
            changed = _copies(weights)
            learning.move_onto_sets_()
            self._last = _Change(last.method, last.before, changed, _copies(weights))
        return result


def _copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _write(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, weight in weights.items():
        if not torch.equal(weight, values[name]):
            weight.copy_(values[name])


def _have_values(weights: dict[str, Tensor], values: dict[str, Tensor]) -> bool:
    return weights.keys() == values.keys() and all(torch.equal(w, values[name]) for name, w in weights.items())


def _are_close(weights: dict[str, Tensor], last: _Change) -> bool:
    """Whether weights returned to where they were before the change, up to rounding."""
    for name, weight in weights.items():
        before, changed = last.before[name], last.changed[name]
        if weight.numel():
            u = float(torch.finfo(weight.dtype).eps) / 2.0
            before, changed, weight = gathered(before), gathered(changed), gathered(weight)
            largest = torch.maximum(before.abs().max(), changed.abs().max())
            if not bool((weight - before).abs().max() <= RETURNED * u * largest):
                return False
    return True
