"""Report how far the weights of a Keras model are from their rules: once, or in a callback after each epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from affinet.adapters.keras_projection import Project
from affinet.adapters.keras_variables import checked_shapes, numbers
from affinet.errors import AttachError
from affinet.language.constraint import Constraint
from affinet.plans.plan import Plan, plan


def verify(model: Any, rules: Plan | Constraint | Iterable[Constraint]) -> dict[str, float]:
    """Rule name → largest absolute violation at the weights of a model, computed in float64.

    Raises AttachError for weights that are missing, not trainable or of another shape.
    """
    made = rules if isinstance(rules, Plan) else plan([rules] if isinstance(rules, Constraint) else list(rules))
    arrays = {name: x.astype(np.float64) for name, x in numbers(checked_shapes(model, made)).items()}
    violations: dict[str, float] = made.projector(arrays).violation(arrays)
    return violations


class RuleLog(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that adds `violation` to the logs of each epoch: the largest violation of any rule.

    Put it before other callbacks, such as TensorBoard, which then log the number too; the progress bar shows it. With
    `each=True` the violation of each rule is logged under the name of the rule as well.
    """

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self._each = each

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the violations. Raises AttachError where the optimizer of the model has no rules."""
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        if not isinstance(optimizer, Project):
            raise AttachError(
                f"the model was compiled with {type(optimizer).__name__}, which has no rules. Compile it with the "
                f"optimizer that affinet.keras.project returns."
            )
        violations = verify(self.model, optimizer.plan)
        if logs is not None:
            logs["violation"] = max(violations.values(), default=0.0)
            if self._each:
                logs.update({f"violation of {name}": value for name, value in violations.items()})
