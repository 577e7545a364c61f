"""Watch a training (`handle.watch`): pass observations to callbacks, and warn of problems that are easily missed."""

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
from affinet.language.dtensors import gathered
from affinet.report.observation import Observation, Observer
from affinet.training.alarms import UNDONE_STEPS, MultiplierSizes, UndoneSteps
from affinet.training.capture import SMALL, Capture
from affinet.training.directions import negated
from affinet.training.freezing import Trained
from affinet.training.movement import Footprint, Movement
from affinet.training.sandwich import Sandwich
from affinet.training.writing import UsualViolations, marks_of, parameters_off_rules, was_cast, written_parameters

SMALL_VIOLATION = 1e-6
"""Violations smaller than this share of the largest are not listed in warnings."""


class Watch:
    """The result of `handle.watch`: `history`, and `stop()` (also as a context manager).

    Law: weights, gradients and the state of the optimizers have the same bits with and without it. Each kind of
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
        check_watch(sandwich.hooked.attached, observers, every, first_step)
        self._sandwich, self._observers = sandwich, observers
        self._every, self._multipliers = every, multipliers
        self._history: list[Observation] = []
        count = len(sandwich.hooked)
        self._steps, self._postponed = [first_step] * count, [False] * count
        self._last_captures: list[tuple[Capture, int] | None] = [None] * count
        self._undone_steps, self._multiplier_sizes = [UndoneSteps() for _ in range(count)], MultiplierSizes()
        self._usual_violations = UsualViolations()
        self._warned: set[type[WatchWarning]] = set()
        self._open_step: int | None = None
        self._footprint: Footprint | None = None
        self._separate_projector: tuple[Trained, Projector] | None = None
        self._mark()
        sandwich.hooked.add_observer(self)

    @property
    def history(self) -> tuple[Observation, ...]:
        """All observations if the watch has no callback; empty if it has one."""
        return tuple(self._history)

    @property
    def active(self) -> bool:
        """Whether the watch still observes steps."""
        return self._sandwich.hooked.attached and self._sandwich.hooked.has_observer(self)

    def stop(self) -> None:
        """Stop observing; stopping twice does nothing more."""
        self._sandwich.hooked.remove_observer(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "watching" if self.active else "stopped"
        interval = "every step" if self._every == 1 else f"every {self._every:,} steps"
        return f"<Watch ({state}): {interval}, {max(self._steps):,} is next>"

    def wants_gradients(self) -> bool:
        """Whether the next step of some optimizer is observed; the hooks call it."""
        return any(self._due(optimizer) for optimizer in range(len(self._steps)))

    def before_step(self, optimizer: int) -> None:
        """Prepare the observation of a step; the hooks call it before the step."""
        # A step that raised wrote to the weights itself; and of hooks that fire twice the second finds nothing new.
        is_unfinished, self._open_step = self._open_step is not None, optimizer
        if not is_unfinished and WeightsWrittenWarning not in self._warned:
            self._check_for_writes(optimizer)
        self._footprint = Footprint(self._sandwich.parameters) if self._due(optimizer) else None

    def before_projection(self, optimizer: int) -> None:
        """Copy the weights; the hooks call it between the optimizer's step and the projection."""
        if self._footprint is not None and self._open_step == optimizer:
            self._footprint.copy_stepped()

    def after_projection(self, optimizer: int, skipped: Tensor | None) -> None:
        """Finish the observation of a step; the hooks call it after the projection."""
        self._mark()
        if self._open_step != optimizer:
            return
        footprint, self._open_step, self._footprint = self._footprint, None, None
        step, self._steps[optimizer] = self._steps[optimizer], self._steps[optimizer] + 1
        if footprint is None:
            return
        # A step that a GradScaler skipped shows nothing, so the next step is observed instead.
        self._postponed[optimizer] = skipped is not None and bool((skipped != 0).any())
        if not self._postponed[optimizer]:
            self._observe(step, optimizer, footprint.movement())

    def _mark(self) -> None:
        self._marked_training, self._marks = self._sandwich.trained, marks_of(self._sandwich.parameters)

    def _due(self, optimizer: int) -> bool:
        return self._postponed[optimizer] or self._steps[optimizer] % self._every == 0

    def _observe(self, step: int, optimizer: int, movement: Movement) -> None:
        gradients = self._gradients(optimizer)
        observation = Observation(
            step=step,
            optimizer=optimizer,
            violation=self._sandwich.violation(),
            stationarity=None if gradients is None else self._stationarity_of(gradients),
            step_length=movement.step,
            projection_distance=movement.projection,
            undone=movement.undone,
            multipliers=self._observed_multipliers(gradients) if self._multipliers else {},
            active=self._count_active(),
            returns=self._sandwich.learning.returns(),
        )
        if self._observers:
            for observer in self._observers:
                observer(observation)
        else:
            self._history.append(observation)
        self._usual_violations.update(observation.violation, self._sandwich.parameters)
        self._warn_of_problems(observation, movement, gradients)

    def _gradients(self, optimizer: int) -> dict[str, Tensor] | None:
        """The gradients of this step, None where there were no gradients."""
        capture = self._sandwich.capture
        previous, self._last_captures[optimizer] = self._last_captures[optimizer], (capture, capture.captures)
        return None if previous == self._last_captures[optimizer] else capture.total()

    def _stationarity_of(self, gradients: dict[str, Tensor]) -> float:
        return self._projector().stationarity(self._sandwich.minimized(gradients), at=self._sandwich.parameters)

    def _multipliers_of(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        gradients = self._sandwich.minimized(gradients)
        multipliers = self._projector().multipliers(gradients, at=self._sandwich.parameters)
        return negated(multipliers, self._sandwich.maximized_rules())

    def _count_active(self) -> dict[str, int]:
        """Rule name → how many inequalities are at their bound."""
        if not self._projector().has_inequalities:
            return {}
        active = self._projector().active(self._sandwich.parameters)
        return {name: bounds.count for name, bounds in active.items()}

    def _observed_multipliers(self, gradients: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """The multipliers; NaN where gradients are missing or not finite, so that their names are always the same."""
        if gradients is not None and not not_finite(gradients):
            return self._multipliers_of(gradients)
        rules = self._sandwich.plan.system.every
        return {r.name: torch.full(r.expression.shape, torch.nan, dtype=torch.float64) for r in rules}

    def _check_for_writes(self, optimizer: int) -> None:
        """Warn of writes: check where a version has changed, and before observed steps, as `.data` changes no version.

        New values of frozen weights are new constants of the rules, not writes to trained weights. The usual violations
        of solvers that may not converge are known once a step was observed.
        """
        parameters = self._sandwich.parameters
        names = written_parameters(self._marks, parameters)
        usual_known = self._marked_training is self._sandwich.trained and (
            self._usual_violations.usual or not self._has_iterative_blocks
        )
        if not names and not (usual_known and self._due(optimizer)):
            return
        violating = parameters_off_rules(self._projector(), self._marks, parameters)
        if not violating and (not names or was_cast(self._marks, parameters)):
            return
        violation = self._sandwich.violation()
        usual_violations = self._usual_violations
        if usual_violations.is_abnormal(violation, parameters) or (
            violating and not usual_violations.is_usual(violation, parameters)
        ):
            violated = sorted(violation.items(), key=lambda pair: -pair[1])
            listed_violations = [(rule, size) for rule, size in violated if size > SMALL_VIOLATION * violated[0][1]]
            step = self._steps[optimizer]
            self._warn(
                WeightsWrittenWarning,
                lambda: WeightsWrittenWarning(step, names or violating, bool(names), listed_violations),
            )

    def _warn_of_problems(
        self, observation: Observation, movement: Movement, gradients: dict[str, Tensor] | None
    ) -> None:
        """Warn of problems that this observation and the earlier ones show."""
        if not movement.finite or not isfinite(observation.stationarity or 0.0):
            places = not_finite(gradients or {}), not_finite(self._sandwich.parameters)
            if any(places):  # otherwise only squares overflowed
                self._warn(NotFiniteWarning, lambda: NotFiniteWarning(observation.step, *places))
            return
        if self._undone_steps[observation.optimizer].update(movement) and self._should_move():
            self._warn(
                StepUndoneWarning,
                lambda: StepUndoneWarning(
                    observation.step, observation.undone, UNDONE_STEPS, self._costliest_rules(observation, gradients)
                ),
            )
        if gradients is not None and observation.multipliers:
            divergence = self._multiplier_sizes.update(
                {rule: float(nu.norm()) for rule, nu in observation.multipliers.items()}
            )
            if divergence is not None:
                self._warn(
                    MultipliersDivergeWarning,
                    lambda: MultipliersDivergeWarning(
                        observation.step, divergence.rule, divergence.size, divergence.usual
                    ),
                )

    def _should_move(self) -> bool:
        """Whether undone steps deserve a warning.

        In the optimizer's metric gradients are not projected, and at an exact optimum the projection undoes the
        complete step; where the rules leave nothing free only decay can be undone.
        """
        return not self._sandwich.in_metric and self._sandwich.trained.projector.plan.free != 0

    def _costliest_rules(self, observation: Observation, gradients: dict[str, Tensor] | None) -> list[str]:
        """The three rules with the largest multipliers; empty if these were not requested and are slow to compute."""
        multipliers = observation.multipliers
        if not multipliers and gradients is not None and self._sandwich.plan.size <= SMALL:
            multipliers = self._multipliers_of(gradients)
        sizes = {rule: float(nu.abs().amax()) for rule, nu in multipliers.items() if nu.numel()}
        return sorted((rule for rule, size in sizes.items() if size > 0.0), key=lambda rule: -sizes[rule])[:3]

    def _warn(self, category: type[WatchWarning], make_warning: Callable[[], WatchWarning]) -> None:
        if category not in self._warned:
            self._warned.add(category)
            warnings.warn(make_warning(), stacklevel=callers_line())

    @property
    def _has_iterative_blocks(self) -> bool:
        """Whether some block is solved iteratively from its last solution, and may not converge to rounding."""
        return any(block.resolution().iterative for block in self._sandwich.projector.plan.blocks)

    def _projector(self) -> Projector:
        """The projector of the training, or a separate one where its kernels keep a solution to start from."""
        trained = self._sandwich.trained
        if not self._has_iterative_blocks:
            return trained.projector
        if self._separate_projector is None or self._separate_projector[0] is not trained:
            self._separate_projector = trained, Projector(trained.projector.plan, trained.parameters)
        return self._separate_projector[1]


def check_watch(attached: bool, observers: tuple[Observer, ...], every: int, first_step: int) -> None:
    """Raise WatchError for a watch that cannot start."""
    if not attached:
        raise WatchError("the rules were removed (handle.remove()), so there are no steps to watch.")
    for name, number, smallest in (("every", every, 1), ("first_step", first_step, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < smallest:
            raise WatchError(f"{name} is {number!r}; it is a whole number of steps, {smallest} or more.")
    for observer in observers:
        if not callable(observer):
            raise WatchError(
                f"{observer!r} cannot be called. A callback takes one observation: a function, affinet.CsvLog(path), "
                f"affinet.TensorBoardLog(folder), affinet.WandbLog(run), affinet.MlflowLog(run)."
            )


def not_finite(tensors: dict[str, Tensor] | dict[str, torch.nn.Parameter]) -> list[str]:
    """The names of tensors that hold NaN or infinities; waits for the device once."""
    if not tensors:
        return []
    finite = torch.stack([torch.isfinite(gathered(tensor.detach())).all() for tensor in tensors.values()]).tolist()
    return [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
