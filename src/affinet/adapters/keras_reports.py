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
    made = rules if isinstance(rules, Plan) else plan(rules)
    arrays = _wide(numbers(checked_shapes(model, made)))
    violations: dict[str, float] = made.projector(arrays).violation(arrays)
    return violations


class RuleLog(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that adds `violation` to the logs of each epoch: the largest violation of any rule.

    With `multipliers` also `multiplier`, the largest |ν| of any rule, at the gradients of the last step: the plan was
    attached by `project(…, keep_gradients=True)`. With `each`, `violation/RULE` and `multiplier/RULE` for each rule.
    Under nonlinear equations `shortened`, `refused` and `slow` are the `counts` of the optimizer.
    The progress bar shows what is in the logs; put this callback before others that write them, such as TensorBoard.
    """

    def __init__(self, *, multipliers: bool = False, each: bool = False) -> None:
        super().__init__()
        self._multipliers, self._each = multipliers, each

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises AttachError where the optimizer of the model has no rules, or keeps no gradients for multipliers."""
        optimizer = self._optimizer()
        if self._multipliers:
            _ = optimizer.last_gradients

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the numbers to the logs."""
        optimizer = self._optimizer()
        sizes = {"violation": verify(self.model, optimizer.plan)}
        if self._multipliers:
            sizes["multiplier"] = _largest_multipliers(self.model, optimizer)
        added: dict[str, float] = {}
        for kind, by_rule in sizes.items():
            added[kind] = max(by_rule.values(), default=0.0)
            if self._each:
                added |= {f"{kind}/{rule}": value for rule, value in by_rule.items()}
        if optimizer.plan.system.curved_rules:
            added |= {kind: float(count) for kind, count in optimizer.counts._asdict().items()}
        if logs is not None:
            logs.update(added)

    def _optimizer(self) -> Project:
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        if not isinstance(optimizer, Project):
            raise AttachError(
                f"the model was compiled with {type(optimizer).__name__}, which has no rules. Compile it with the "
                f"optimizer that affinet.keras.project returns."
            )
        return optimizer


def _largest_multipliers(model: Any, optimizer: Project) -> dict[str, float]:
    """Rule name → largest |ν| of its entries."""
    weights = _wide(numbers(checked_shapes(model, optimizer.plan)))
    gradients = _wide(numbers(optimizer.last_gradients))
    prices = optimizer.plan.projector(weights).multipliers(gradients, weights)
    return {rule: float(np.abs(values).max(initial=0.0)) for rule, values in prices.items()}


def _wide(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x.astype(np.float64) for name, x in arrays.items()}
