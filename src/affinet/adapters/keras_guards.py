"""Refuse steps of other optimizers on weights that have rules, by the constraint that Keras applies after each step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from affinet.errors import AttachError, callers_line


@dataclass(eq=False)
class Guard:
    """A constraint of variables that refuses every step but those within `lifted`.

    Each optimizer of Keras calls `variable.constraint` after its step. There is one guard for an optimizer with rules,
    on all weights of these; files and configurations of Keras do not hold it, so that clones of a model are free.
    """

    optimizer: str
    weights: tuple[str, ...] = ()
    _steps: int = 0
    _lifted: list[Any] = field(default_factory=list)

    def __call__(self, variable: Any) -> Any:
        """The variable itself on JAX, with a warning. Raises AttachError elsewhere."""
        listed = ", ".join(map(repr, self.weights[:3])) + (", …" if len(self.weights) > 3 else "")
        refuse_step(
            f"rules about {listed} are kept by the optimizer {self.optimizer!r}, which affinet.keras.project returned, "
            f"and a step was taken without it. Compile the model with that optimizer. To train these weights without "
            f"its rules, or under others, call affinet.keras.remove_rules(model) before."
        )
        return variable

    def put_on(self, variables: Sequence[Any]) -> None:
        """Guard these variables, also those that the guard of an earlier optimizer is on."""
        for variable in variables:
            variable.constraint = self

    @contextmanager
    def lifted(self, variables: Sequence[Any]) -> Iterator[None]:
        """Let a step pass. Replicas of a strategy take turns in one step, so that the last one guards again."""
        if not self._steps:
            self._lifted = [variable for variable in variables if variable.constraint is self]
            for variable in self._lifted:
                variable.constraint = None
        self._steps += 1
        try:
            yield
        finally:
            self._steps -= 1
            if not self._steps:
                self.put_on(self._lifted)


def refuse_step(reason: str) -> None:
    """Raise AttachError; on JAX warn and go on, since `fit` loses the weights of a model there when a step raises."""
    if keras.backend.backend() != "jax":
        raise AttachError(reason)
    warnings.warn(reason, stacklevel=callers_line())
