"""Watch a training by an augmented Lagrangian: pass observations of its steps to callbacks."""

from __future__ import annotations

import warnings
from typing import Self

from torch import Tensor

from affinet.errors import NotFiniteWarning, callers_line
from affinet.report.observation import Observation, Observer
from affinet.training.augmented.lagrangian import Lagrangian
from affinet.training.movement import Footprint
from affinet.training.watching import check_watch, not_finite


class LagrangeWatch:
    """The result of `handle.watch`: `history`, and `stop()` (also as a context manager).

    Law: weights, gradients and the state of the optimizers have the same bits with and without it.
    """

    def __init__(
        self,
        lagrangian: Lagrangian,
        observers: tuple[Observer, ...],
        *,
        every: int,
        multipliers: bool,
        first_step: int,
    ) -> None:
        check_watch(lagrangian.hooked.attached, observers, every, first_step)
        self._lagrangian, self._observers = lagrangian, observers
        self._every, self._multipliers = every, multipliers
        self._history: list[Observation] = []
        self._steps = [first_step] * len(lagrangian.hooked)
        self._postponed = [False] * len(lagrangian.hooked)
        self._open: int | None = None
        self._footprint: Footprint | None = None
        self._captures = -1
        self._warned = False
        lagrangian.hooked.add_observer(self)

    @property
    def history(self) -> tuple[Observation, ...]:
        """All observations if the watch has no callback; empty if it has one."""
        return tuple(self._history)

    @property
    def active(self) -> bool:
        """Whether the watch still observes steps."""
        return self._lagrangian.hooked.attached and self._lagrangian.hooked.has_observer(self)

    def stop(self) -> None:
        """Stop observing; stopping twice does nothing more."""
        self._lagrangian.hooked.remove_observer(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def wants_gradients(self) -> bool:
        """Whether the next step of some optimizer is observed; the hooks call it."""
        return any(self._due(optimizer) for optimizer in range(len(self._steps)))

    def before_step(self, optimizer: int) -> None:
        """Copy the weights before a step that is observed; the hooks call it."""
        self._open = optimizer
        self._footprint = Footprint(self._lagrangian.parameters) if self._due(optimizer) else None

    def before_projection(self, optimizer: int) -> None:
        """Copy the weights after the step; the hooks call it."""
        if self._footprint is not None and self._open == optimizer:
            self._footprint.copy_stepped()

    def after_projection(self, optimizer: int, skipped: Tensor | None) -> None:
        """Finish the observation of a step; the hooks call it."""
        if self._open != optimizer:
            return  # hooks that fire twice
        footprint, self._footprint, self._open = self._footprint, None, None
        step, self._steps[optimizer] = self._steps[optimizer], self._steps[optimizer] + 1
        if footprint is None:
            return
        # A step that a GradScaler skipped shows nothing, so the next step is observed instead.
        self._postponed[optimizer] = skipped is not None and bool((skipped != 0).any())
        if not self._postponed[optimizer]:
            self._observe(step, optimizer, footprint.movement().step)

    def _due(self, optimizer: int) -> bool:
        return self._postponed[optimizer] or self._steps[optimizer] % self._every == 0

    def _observe(self, step: int, optimizer: int, length: float) -> None:
        lagrangian = self._lagrangian
        captures, self._captures = self._captures, lagrangian.capture.captures
        gradients = None if captures == self._captures else lagrangian.capture.total()
        stationarity = None
        if gradients is not None:
            residual, size = lagrangian.residual_gradient(gradients)
            stationarity = residual / size if size else 0.0
        observation = Observation(
            step=step,
            optimizer=optimizer,
            violation=lagrangian.violation(),
            stationarity=stationarity,
            step_length=length,
            projection_distance=0.0,
            undone=0.0,
            multipliers=lagrangian.multipliers() if self._multipliers else {},
        )
        if self._observers:
            for observer in self._observers:
                observer(observation)
        else:
            self._history.append(observation)
        self._warn_of_numbers(step, gradients or {})

    def _warn_of_numbers(self, step: int, gradients: dict[str, Tensor]) -> None:
        """Warn once of gradients or weights that are not finite."""
        places = not_finite(gradients), not_finite(self._lagrangian.parameters)
        if any(places) and not self._warned:
            self._warned = True
            warnings.warn(NotFiniteWarning(step, *places), stacklevel=callers_line())


__all__ = ["LagrangeWatch"]
