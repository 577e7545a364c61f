"""Say what a run asks of a framework: a network, and trainings of it with the rules of a job and without."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sized
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from affinet.blocks.interval import Interval
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.snapshot import Snapshot
from affinet.report.cost import CostReport, Trainable
from affinet.system.system import System


class Training(Protocol):
    """A network with its optimizer, and the rows that it learns from."""

    @property
    def numbers(self) -> int:
        """How many numbers of the plain network could move without rules."""

    def settings(self, batch_size: int) -> AbstractContextManager[None]:
        """Settings of the library that suit batches of this size, inside the block."""

    def batches(self, size: int) -> Iterable[Sized]:
        """The batches of the next epoch: the numbers of their train rows, in an order that the seed decides."""

    def step(self, batch: Any) -> float:
        """Take one step on the train rows of these numbers; return the loss before it.

        Raises RunError where the network itself fails.
        """

    def violation(self) -> Mapping[str, float]:
        """Rule name → largest absolute violation of the weights."""

    def finish(self) -> None:
        """What is done once after the last step, before the score."""

    def weights(self) -> Mapping[str, np.ndarray]:
        """The present weights by name, as pictures of them need them; of several processes, all call this."""

    def score(self) -> float:
        """Accuracy or R² on the test rows; NaN where an output is not finite."""

    def is_finite(self) -> bool:
        """Whether all weights are finite."""


class RuledTraining(Training, Protocol):
    """A training whose weights obey rules after every step, or at the end with an augmented Lagrangian."""

    @property
    def trained(self) -> Trainable:
        """How many numbers the optimizer moves."""

    @property
    def free(self) -> int | Interval:
        """How many numbers stay independent under the rules."""

    @property
    def moved(self) -> Mapping[str, float]:
        """Weight → how far it was moved onto the rules before the first step."""

    @property
    def starts_on_rules(self) -> bool:
        """Whether the first weights satisfy the rules."""

    @property
    def approaches(self) -> bool:
        """Whether the rules are only approached until the last step."""

    def violated(self, rules: Collection[str]) -> Mapping[str, float]:
        """Those of the named rules that the weights violate by more than rounding, and by how much."""

    def prices(self, batch_size: int) -> CostReport | None:
        """What the rules cost at the present weights and the mean loss of all train rows; None where it is not known.

        The rows are taken in batches of this size at least. Raises AffinetError where prices cannot be computed.
        """

    def stationarity(self, batch_size: int) -> float | None:
        """`‖P g‖ / ‖g‖` at the present weights, g being the gradient of the mean loss of all train rows.

        With an augmented Lagrangian `‖g − Jᵀν‖ / ‖g‖`. None where no weight is in a rule, and where the gradient is not
        finite. The rows are taken in batches of this size at least; of several processes, all call this. Law: later
        steps have the same bits with and without a call. Raises RunError where the network itself fails.
        """

    def state(self) -> Mapping[str, Any]:
        """The weights under the names that rules have for them, as they are saved: NumPy arrays or tensors of torch."""

    def snapshot(self) -> Snapshot:
        """Everything that the next epoch depends on."""

    def restore(self, snapshot: Snapshot) -> None:
        """Give a new training the state of `snapshot`, to the bit.

        Raises RunError for another network, and Malformed for a snapshot that `snapshot` never makes.
        """


class Framework(Protocol):
    """A library that networks are trained in."""

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Random numbers of the library begin with `seed` inside the block; its state is restored afterwards."""

    def network(self, job: JobFile, data: Data) -> Any:
        """A new network for `data`; within `seeded`, each call at the same point makes the same network.

        Raises JobError with the line.
        """

    def weights(self, network: Any) -> object:
        """What `affinet.weights` takes: a module, or names with shapes."""

    def arrays(self, network: Any) -> Mapping[str, np.ndarray]:
        """The weights of a new network by name, which training does not change any more."""

    def numbers(self, network: Any) -> int:
        """How many numbers of a network training may move."""

    def under_rules(self, job: JobFile, data: Data, network: Any, rules: PlannedRules) -> RuledTraining:
        """A training with the rules attached by the method of the job, which moves the network onto them.

        Raises JobError with the line for an optimizer, option or method that the framework does not have.
        """

    def without_rules(self, job: JobFile, data: Data, network: Any, rules: System) -> Training:
        """A training without rules, which measures how far the weights are from them. Raises JobError."""

    def versions(self) -> dict[str, str]:
        """The library, and those that its results depend on, each with its version."""

    def threads(self) -> int:
        """How many threads it computes on."""
