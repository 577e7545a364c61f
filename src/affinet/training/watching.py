"""`handle.watch`: looks at a training as it goes, hands on what it sees, and warns of what goes wrong unseen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import isfinite
from typing import Self

import torch
from torch import Tensor

from affinet.errors import (
    MultipliersDivergeWarning,
    NotFiniteWarning,
    StepUndoneWarning,
    WatchError,
    WatchWarning,
    WeightsWrittenWarning,
    callers_line,
)
from affinet.kernels.torch.projector import Projector
from affinet.report.observation import Observation, Observer
from affinet.training.alarms import CONSECUTIVE, Growth, Undoing
from affinet.training.capture import SMALL, Capture
from affinet.training.freezing import Trained
from affinet.training.movement import Footprint, Movement
from affinet.training.sandwich import Sandwich
from affinet.training.writing import Rounding, cast, marks_of, off_the_rules, written

FAR = 1e-6
"""Violations of less than this share of the largest are not worth a word beside it."""


class Watch:
    """What `handle.watch` returns: `history`, and `stop()` (also as a context manager).

    Law: weights, gradients and the state of the optimizers are the same bits with and without it. Each kind of
    warning is given once.
    """

    def __init__(
        self,
        sandwich: Sandwich,
        observers: tuple[Observer, ...],
        *,
        every: int,
        multipliers: bool,
        first_step: int,
    ) -> None:
        _check(sandwich, observers, every, first_step)
        self._sandwich, self._observers = sandwich, observers
        self._every, self._multipliers = every, multipliers
        self._history: list[Observation] = []
        count = sandwich.optimizers
        self._steps, self._late = [first_step] * count, [False] * count
        self._seen: list[tuple[Capture, int] | None] = [None] * count
        self._undoing, self._growth = [Undoing() for _ in range(count)], Growth()
        self._rounding = Rounding()
        self._told: set[type[WatchWarning]] = set()
        self._opened: int | None = None
        self._footprint: Footprint | None = None
        self._apart: tuple[Trained, Projector] | None = None
        self._mark()
        sandwich.show(self)

    @property
    def history(self) -> tuple[Observation, ...]:
        """All observations, where no callback was given; nothing is kept where one was."""
        return tuple(self._history)

    @property
    def active(self) -> bool:
        """Whether there is still something to see."""
        return self._sandwich.attached and self._sandwich.shows(self)

    def stop(self) -> None:
        """See nothing more; stopping twice is no error."""
        self._sandwich.hide(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "watching" if self.active else "stopped"
        often = "every step" if self._every == 1 else f"every {self._every:,} steps"
        return f"<Watch ({state}): {often}, {max(self._steps):,} is next>"

    def wants_gradients(self) -> bool:
        """Asked by the hooks: whether some optimizer's next step is looked at."""
        return any(self._due(optimizer) for optimizer in range(len(self._steps)))

    def opens(self, optimizer: int) -> None:
        """Called by the hooks before a step."""
        # What a step that raised has written is its own, and of hooks that fire twice the second finds nothing new.
        unfinished, self._opened = self._opened is not None, optimizer
        if not unfinished and WeightsWrittenWarning not in self._told:
            self._look_for_writing(optimizer)
        self._footprint = Footprint(self._sandwich.parameters) if self._due(optimizer) else None

    def stepped(self, optimizer: int) -> None:
        """Called by the hooks between the optimizer's step and the projection."""
        if self._footprint is not None and self._opened == optimizer:
            self._footprint.stepped()

    def closes(self, optimizer: int, skipped: Tensor | None) -> None:
        """Called by the hooks after the projection."""
        self._mark()
        if self._opened != optimizer:
            return
        footprint, self._opened, self._footprint = self._footprint, None, None
        step, self._steps[optimizer] = self._steps[optimizer], self._steps[optimizer] + 1
        if footprint is None:
            return
        # A step that a GradScaler skipped says nothing: the next one is looked at.
        self._late[optimizer] = skipped is not None and bool((skipped != 0).any())
        if not self._late[optimizer]:
            self._observe(step, optimizer, footprint.movement())

    def _mark(self) -> None:
        self._marked, self._marks = self._sandwich.trained, marks_of(self._sandwich.parameters)

    def _due(self, optimizer: int) -> bool:
        return self._late[optimizer] or self._steps[optimizer] % self._every == 0

    def _observe(self, step: int, optimizer: int, movement: Movement) -> None:
        gradients = self._gradients(optimizer)
        seen = Observation(
            step=step,
            optimizer=optimizer,
            violation=self._sandwich.violation(),
            stationarity=None if gradients is None else self._projector().stationarity(gradients),
            step_length=movement.step,
            projection_distance=movement.projection,
            undone=movement.undone,
            multipliers=self._found_multipliers(gradients) if self._multipliers else {},
        )
        if self._observers:
            for observer in self._observers:
                observer(seen)
        else:
            self._history.append(seen)
        self._rounding.sees(seen.violation, self._sandwich.parameters)
        self._judge(seen, movement, gradients)

    def _gradients(self, optimizer: int) -> dict[str, Tensor] | None:
        """Those that this step was given, None where it was given none."""
        capture = self._sandwich.capture
        last, self._seen[optimizer] = self._seen[optimizer], (capture, capture.times)
        return None if last == self._seen[optimizer] else capture.total()

    def _found_multipliers(self, gradients: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """NaN where there are no gradients or they are not finite: a logger gets the same names at each step."""
        if gradients is not None and not _not_finite(gradients):
            return self._projector().multipliers(gradients)
        rules = self._sandwich.plan.system.rules
        return {r.name: torch.full(r.expression.shape, torch.nan, dtype=torch.float64) for r in rules}

    def _look_for_writing(self, optimizer: int) -> None:
        """Where a version has changed; and before a step that is looked at, since `.data` changes none.

        New values of frozen weights are new constants of the rules, and no writing to those that are trained. Where a
        solver may fall short, what it leaves is known once a step was seen.
        """
        parameters = self._sandwich.parameters
        names = written(self._marks, parameters)
        known = self._marked is self._sandwich.trained and (self._rounding.usual or not self._iterates)
        if not names and not (known and self._due(optimizer)):
            return
        off = off_the_rules(self._projector(), self._marks, parameters)
        if not off and (not names or cast(self._marks, parameters)):
            return
        violation = self._sandwich.violation()
        usual = self._rounding
        if usual.exceeded(violation, parameters) or (off and not usual.as_usual(violation, parameters)):
            violated = sorted(violation.items(), key=lambda found: -found[1])
            told = [(rule, size) for rule, size in violated if size > FAR * violated[0][1]]
            step = self._steps[optimizer]
            self._warn(WeightsWrittenWarning, lambda: WeightsWrittenWarning(step, names or off, bool(names), told))

    def _judge(self, seen: Observation, movement: Movement, gradients: dict[str, Tensor] | None) -> None:
        """Warn of what this observation and those before it show."""
        if not movement.finite or not isfinite(seen.stationarity or 0.0):
            bad = _not_finite(gradients or {}), _not_finite(self._sandwich.parameters)
            if any(bad):  # and not only squares that overflow
                self._warn(NotFiniteWarning, lambda: NotFiniteWarning(seen.step, *bad))
            return
        if self._undoing[seen.optimizer].sees(movement) and self._should_move():
            self._warn(
                StepUndoneWarning,
                lambda: StepUndoneWarning(seen.step, seen.undone, CONSECUTIVE, self._dearest(seen, gradients)),
            )
        if gradients is not None and seen.multipliers:
            grown = self._growth.sees({rule: float(nu.norm()) for rule, nu in seen.multipliers.items()})
            if grown is not None:
                self._warn(
                    MultipliersDivergeWarning,
                    lambda: MultipliersDivergeWarning(seen.step, grown.rule, grown.size, grown.usual),
                )

    def _should_move(self) -> bool:
        """Whether steps that are undone are a sign at all.

        In the optimizer's metric gradients are not projected, and at the very optimum all of a step is taken back;
        where the rules leave nothing free there is nothing to undo but decay.
        """
        return not self._sandwich.in_metric and self._sandwich.trained.projector.plan.free != 0

    def _dearest(self, seen: Observation, gradients: dict[str, Tensor] | None) -> list[str]:
        """The three rules of the largest multipliers; none where these were not asked for and take long."""
        found = seen.multipliers
        if not found and gradients is not None and self._sandwich.plan.size <= SMALL:
            found = self._projector().multipliers(gradients)
        sizes = {rule: float(nu.abs().amax()) for rule, nu in found.items() if nu.numel()}
        return sorted((rule for rule, size in sizes.items() if size > 0.0), key=lambda rule: -sizes[rule])[:3]

    def _warn(self, kind: type[WatchWarning], made: Callable[[], WatchWarning]) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(made(), stacklevel=callers_line())

    @property
    def _iterates(self) -> bool:
        """Whether some block is solved from the solution before, and may fall short of its rounding."""
        return any(block.resolution().iterative for block in self._sandwich.projector.plan.blocks)

    def _projector(self) -> Projector:
        """The training's own, or one apart where a kernel starts from the solution before: that one stays its own."""
        trained = self._sandwich.trained
        if not self._iterates:
            return trained.projector
        if self._apart is None or self._apart[0] is not trained:
            self._apart = trained, Projector(trained.projector.plan, trained.parameters)
        return self._apart[1]


def _check(sandwich: Sandwich, observers: tuple[Observer, ...], every: int, first_step: int) -> None:
    """Raise WatchError for a watch that cannot begin."""
    if not sandwich.attached:
        raise WatchError("the rules were taken off (handle.remove()), so that there are no steps to watch.")
    for name, number, least in (("every", every, 1), ("first_step", first_step, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise WatchError(f"{name} is {number!r}; it is a whole number of steps, {least} or more.")
    for observer in observers:
        if not callable(observer):
            raise WatchError(
                f"{observer!r} cannot be called. A callback takes one observation: a function, affinet.CsvLog(path), "
                f"affinet.TensorBoardLog(folder)."
            )


def _not_finite(tensors: dict[str, Tensor] | dict[str, torch.nn.Parameter]) -> list[str]:
    """The names of those that hold NaN or an infinity; one look at the device."""
    if not tensors:
        return []
    finite = torch.stack([torch.isfinite(tensor.detach()).all() for tensor in tensors.values()]).tolist()
    return [name for name, fine in zip(tensors, finite, strict=True) if not fine]
