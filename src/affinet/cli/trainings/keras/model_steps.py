"""Take steps of Keras on whichever backend it runs: batches through `train_on_batch` of a compiled model."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from affinet.adapters.keras_projection import Project
from affinet.cli.trainings.array_training import Arrays, Rows
from affinet.cli.trainings.first_network import FirstNetwork
from affinet.cli.trainings.keras.keras_network import Network
from affinet.plans.plan import Plan


class KerasSteps:
    """A compiled model. Without a plan there are no rules."""

    def __init__(self, network: FirstNetwork, rows: Rows, optimizer: Any, plan: Plan | None) -> None:
        self._rows, self._model = rows, Network(network, rows.task, rows.train_features.dtype.name)
        self._optimizer = optimizer if plan is None else self._ruled(optimizer, plan)
        if not self._optimizer.built:
            self._optimizer.build(self._model.trainable_variables)
        self._model.compile(self._optimizer)

    @property
    def decay(self) -> float:
        """Keras adds no decay to gradients."""
        return 0.0

    @property
    def trained(self) -> int:
        """All numbers of the network."""
        return sum(int(np.prod(variable.shape)) for variable in self._model.variables_of_job.values())

    def step(self, rows: np.ndarray) -> float:
        """As `Steps.step`."""
        self._model.reset_metrics()
        return float(self._model.train_on_batch(self._rows.train_features[rows], self._rows.train_targets[rows]))

    def answers(self) -> np.ndarray:
        """As `Steps.answers`."""
        return np.asarray(ops.convert_to_numpy(self._model(self._rows.test_features, training=False)))

    def weights(self) -> dict[str, np.ndarray]:
        """The weights, whose shapes are those of the job."""
        return {name: _numbers(variable) for name, variable in self._model.variables_of_job.items()}

    def optimizer_state(self) -> list[np.ndarray]:
        """The variables of the optimizer."""
        return [_numbers(variable) for variable in self._optimizer.variables]

    def restore(self, weights: Arrays, optimizer_state: list[np.ndarray]) -> None:
        """As `Steps.restore`."""
        for name, variable in self._model.variables_of_job.items():
            variable.assign(weights[name])
        for variable, numbers in zip(self._optimizer.variables, optimizer_state, strict=True):
            variable.assign(numbers)

    def finish(self) -> None:
        """Nothing is left to do after the last step: weights are assigned where they landed."""

    def _ruled(self, optimizer: Any, plan: Plan) -> Project:
        """The optimizer under the rules of a plan, with the weights moved onto them."""
        weights, variables = self.weights(), self._model.variables_of_job
        projector = plan.projector(weights)
        for name, placed in projector.project(weights).items():
            variables[name].assign(placed)
        projecting = Project(optimizer)
        projecting.follow(plan, self._model, {name: variables[name] for name in projector.names})
        return projecting


def _numbers(variable: Any) -> np.ndarray:
    """A copy of the numbers of a variable, which the next step may write to."""
    return np.array(ops.convert_to_numpy(variable))
