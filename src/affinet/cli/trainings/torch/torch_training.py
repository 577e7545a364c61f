"""Train with torch, as runs ask for it: with the rules of a job attached by its method, and without them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affinet.blocks.interval import Interval
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.cli.trainings.snapshot import Snapshot
from affinet.cli.trainings.torch.keeping import Learner, RuledLearner
from affinet.cli.trainings.torch.observing import observed
from affinet.cli.trainings.torch.stepping import Rows, add_mean_gradient, score, take_step
from affinet.cli.trainings.torch.tensor_snapshot import put_back_ruled, take_ruled
from affinet.cli.trainings.torch.threads import suited_threads
from affinet.errors import InfeasibleError, LeftOutWarning
from affinet.language.dtensors import gathered_all, local_part
from affinet.report.cost import CostReport, Trainable
from affinet.training.augmented.lagrange_handle import LagrangeHandle
from affinet.training.baking import Reparametrization

Measure = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class TorchTraining:
    """A learner with the rows that it learns from; `measure` returns the violation of each rule."""

    learner: Learner
    rows: Rows
    measure: Measure
    shuffling: torch.Generator
    processes: Processes = SINGLE

    @cached_property
    def synchronized(self) -> nn.Module:
        """What steps call: the network itself, unless several processes train it."""
        network: nn.Module = self.processes.synchronized(self.learner.network)
        return network

    @property
    def numbers(self) -> int:
        """How many numbers of the plain network could move without rules."""
        return self.learner.numbers

    @contextmanager
    def settings(self, batch_size: int) -> Iterator[None]:
        """The number of threads that suits batches of this size. Raises LostProcess where another process ends."""
        with self.processes.guarded(), suited_threads(self.numbers * batch_size):
            yield

    def batches(self, size: int) -> Iterable[Tensor]:
        """The numbers of train rows, batch by batch, in an order drawn from `shuffling`."""
        self.learner.network.train()
        self.processes.vary_random_numbers(self.shuffling)
        batches: Iterable[Tensor] = torch.split(
            torch.randperm(len(self.rows.train_features), generator=self.shuffling), size
        )
        return batches

    def step(self, batch: Any) -> float:
        """As `Training.step`."""
        optimizer, batch = self.learner.optimizer, torch.as_tensor(batch)
        return take_step(self.synchronized, optimizer, self.rows, batch, self.processes)

    def violation(self) -> Mapping[str, float]:
        """As `Training.violation`."""
        return self.measure()

    def finish(self) -> None:
        """Nothing is left to do after the last step."""

    def weights(self) -> Mapping[str, np.ndarray]:
        """As `Training.weights`: its parameters."""
        return as_arrays(gathered_all(dict(self.learner.network.named_parameters())))

    def score(self) -> float:
        """As `Training.score`; every process computes it, and that of the writer counts."""
        of_process = score(self.learner.network, self.rows)
        return self.processes.from_writer(lambda: of_process)

    def is_finite(self) -> bool:
        """Whether all parameters are finite."""
        weights = map(local_part, self.learner.network.parameters())
        return self.processes.all_true(all(bool(torch.isfinite(weight).all()) for weight in weights))


@dataclass(frozen=True)
class RuledTorchTraining(TorchTraining):
    """A training whose rules are attached to the network and its optimizer."""

    ruled: RuledLearner = field(kw_only=True)

    @property
    def trained(self) -> Trainable:
        """How many numbers the optimizer moves."""
        return self.ruled.trained

    @property
    def free(self) -> int | Interval:
        """How many numbers stay independent under the rules."""
        return self.ruled.free

    @property
    def moved(self) -> Mapping[str, float]:
        """Weight → how far attaching moved it."""
        return self.ruled.handle.moved

    @property
    def starts_on_rules(self) -> bool:
        """False where an augmented Lagrangian found no weights that satisfy the rules."""
        handle = self.ruled.handle
        return not isinstance(handle, LagrangeHandle) or handle.started_feasible

    @property
    def approaches(self) -> bool:
        """Whether an augmented Lagrangian has the rules."""
        return isinstance(self.ruled.handle, LagrangeHandle)

    def finish(self) -> None:
        """Move weights of an augmented Lagrangian onto the rules.

        Where no way is found they stay, so that the last epoch is saved all the same. How much the rules without a plan
        are violated is told at the end.
        """
        handle = self.ruled.handle
        if isinstance(handle, LagrangeHandle):
            with suppress(InfeasibleError), warnings.catch_warnings():
                warnings.simplefilter("ignore", LeftOutWarning)
                handle.finish(partial=True)

    def violated(self, rules: Collection[str]) -> Mapping[str, float]:
        """As `RuledTraining.violated`; only an augmented Lagrangian leaves rules violated."""
        handle = self.ruled.handle
        return handle.violated(list(rules)) if isinstance(handle, LagrangeHandle) else {}

    def weights(self) -> Mapping[str, np.ndarray]:
        """As `Training.weights`, also where weights are computed."""
        return as_arrays(self.ruled.state())

    def prices(self, batch_size: int) -> CostReport | None:
        """As `RuledTraining.prices`. An augmented Lagrangian has learned them."""
        handle = self.ruled.handle
        with self.processes.guarded():
            if isinstance(handle, LagrangeHandle):
                stationarity = self.stationarity(batch_size)  # the handle's own is that of the last batch
                report = handle.report()
                return report if stationarity is None else replace(report, stationarity=stationarity)
            with observed(self.learner.network, self.shuffling):
                return handle.report(self._mean_gradient(batch_size))

    def stationarity(self, batch_size: int) -> float | None:
        """As `RuledTraining.stationarity`. Solvers begin anew before and afterwards, as they do after a checkpoint."""
        handle = self.ruled.handle
        if not self.ruled.in_rules:
            return None
        handle.forget()
        with observed(self.learner.network, self.shuffling):
            value = handle.stationarity(self._mean_gradient(batch_size))
        handle.forget()
        value = self.processes.from_writer(lambda: value)
        return value if isfinite(value) else None

    def _mean_gradient(self, batch_size: int) -> Callable[[], None]:
        """A function that adds the gradient of the mean loss of all train rows, which processes divide."""
        # Free numbers tell their handle the gradients of weights, which the processes do not exchange.
        is_divided = not isinstance(self.ruled.handle, Reparametrization)
        network, processes = (self.synchronized, self.processes) if is_divided else (self.learner.network, SINGLE)
        return lambda: add_mean_gradient(network, self.rows, batch_size, processes)

    def state(self) -> Mapping[str, Tensor]:
        """The state of the baked network."""
        return self.ruled.state()

    def snapshot(self) -> Snapshot:
        """As `RuledTraining.snapshot`."""
        self.processes.check_buffers(self.learner.network)
        self.ruled.handle.forget()
        return take_ruled(self.ruled, self.shuffling)

    def restore(self, snapshot: Snapshot) -> None:
        """As `RuledTraining.restore`."""
        put_back_ruled(snapshot, self.ruled, self.shuffling)
        self.ruled.handle.forget()


@torch.no_grad()
def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of the floating-point ones; NumPy has no bfloat16, so that those are widened."""
    floating = {name: tensor.detach().cpu() for name, tensor in tensors.items() if tensor.is_floating_point()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor.clone()).numpy()
        for name, tensor in floating.items()
    }
