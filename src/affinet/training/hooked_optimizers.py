"""The optimizers of one training: their hooks, the wrappers around them, and the observers of their steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor, optim
from torch.utils.hooks import RemovableHandle

from affinet.training.nesting import Nest

Remove = Callable[[], None]


class StepObserver(Protocol):
    """Observes the steps of a training and writes to nothing; `optimizer` is a position in the list of optimizers."""

    def wants_gradients(self) -> bool:
        """Whether the gradients of the next step must be kept."""

    def before_step(self, optimizer: int) -> None:
        """Called before a step, with the gradients and weights of the training."""

    def before_projection(self, optimizer: int) -> None:
        """Called between the optimizer's step and the projection."""

    def after_projection(self, optimizer: int, skipped: Tensor | None) -> None:
        """Called after the projection; `skipped` is not zero where a GradScaler skipped the step."""


class HookedOptimizers:
    """The optimizers that get hooks, in order, with their wrappers; none of them is kept alive.

    `observers` see every step, in the order in which they were added.
    """

    def __init__(self, nests: tuple[Nest, ...]) -> None:
        self._steppers = [ref(nested.stepper) for nested in nests]
        self._wrappers = [ref(wrapper) for nested in nests for wrapper in nested.wrappers]
        self._removers: list[Remove] = []
        self.observers: tuple[StepObserver, ...] = ()

    def __len__(self) -> int:
        return len(self._steppers)

    @property
    def attached(self) -> bool:
        """Whether the hooks are registered."""
        return bool(self._removers)

    def listed(self) -> list[optim.Optimizer | None]:
        """The optimizers by their positions, None for those that do not exist any more."""
        return [reference() for reference in self._steppers]

    def live(self) -> tuple[optim.Optimizer, ...]:
        """The optimizers that still exist."""
        return tuple(optimizer for optimizer in self.listed() if optimizer is not None)

    def nested(self) -> list[optim.Optimizer]:
        """The optimizers and their wrappers."""
        references = (*self._steppers, *self._wrappers)
        return [optimizer for reference in references if (optimizer := reference()) is not None]

    def position(self, optimizer: optim.Optimizer) -> int:
        """The position of an optimizer."""
        return next(position for position, other in enumerate(self.listed()) if other is optimizer)

    def holds(self, optimizer: optim.Optimizer) -> bool:
        """Whether hooks are registered on this optimizer itself, not on a copy, or on one inside it."""
        return self.attached and any(member is optimizer for member in self.nested())

    def attach(self, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        """Register the hooks on every optimizer; `after` runs ahead of the hooks of others."""
        # A compiled step runs the hooks uncompiled: traced, they would become a separate graph for every block.
        for optimizer in self.live():
            self.add(optimizer.register_step_pre_hook(torch.compiler.disable(before)).remove)
            self.add(run_first(optimizer.register_step_post_hook(torch.compiler.disable(after))).remove)

    def add(self, remove: Remove) -> None:
        """Add what `detach` must call."""
        self._removers.append(remove)

    def detach(self) -> list[optim.Optimizer]:
        """Remove all hooks; return the optimizers that had them, and none if they were removed before."""
        if not self._removers:
            return []
        for remove in self._removers:
            remove()
        self._removers.clear()
        return self.nested()

    def add_observer(self, observer: StepObserver) -> None:
        """Add an observer of every later step."""
        self.observers = (*self.observers, observer)

    def remove_observer(self, observer: StepObserver) -> None:
        """Remove an observer; removing one that was never added does nothing."""
        self.observers = tuple(other for other in self.observers if other is not observer)

    def has_observer(self, observer: StepObserver) -> bool:
        """Whether this observer was added."""
        return any(other is observer for other in self.observers)

    def gradients_wanted(self) -> bool:
        """Whether an observer wants the gradients of the next step."""
        return any(observer.wants_gradients() for observer in self.observers)


def run_first(handle: RemovableHandle) -> RemovableHandle:
    """Let a hook run before hooks that were registered earlier: they must get feasible weights."""
    hooks = handle.hooks_dict_ref()
    if isinstance(hooks, OrderedDict):
        hooks.move_to_end(handle.id, last=False)
    return handle
