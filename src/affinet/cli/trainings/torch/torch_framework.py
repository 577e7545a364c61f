"""Make networks and trainings of torch for a job: any network, optimizer and method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.cli.trainings.torch.keeping import numbers_of, under_rules, without_rules
from affinet.cli.trainings.torch.network import build_network
from affinet.cli.trainings.torch.stepping import Rows, forward, rows_for
from affinet.cli.trainings.torch.torch_training import RuledTorchTraining, TorchTraining, as_arrays
from affinet.errors import RunError
from affinet.kernels.torch.measuring import Measure
from affinet.language.dtensors import gathered_all
from affinet.system.system import System


@dataclass(frozen=True)
class Torch:
    """torch, as `Framework` describes it, in these processes."""

    processes: Processes = SINGLE

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed torch's random numbers with `seed` inside the block; afterwards their earlier state is restored."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield

    def network(self, job: JobFile, data: Data) -> nn.Module:
        """A new network for `data`, run once. Raises JobError as `build_network`, and for outputs of another shape."""
        network = build_network(job, data.inputs, data.outputs)
        _check_outputs(job, data, network)
        return network

    def weights(self, network: nn.Module) -> nn.Module:
        """The module itself."""
        return network

    def arrays(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Copies of its parameters by name."""
        return as_arrays(dict(network.named_parameters()))

    def numbers(self, network: nn.Module) -> int:
        """How many numbers of its parameters are not frozen."""
        return numbers_of(network)

    def under_rules(self, job: JobFile, data: Data, network: nn.Module, rules: PlannedRules) -> RuledTorchTraining:
        """A training with the rules attached. Raises JobError as `keeping.under_rules`."""
        rows = self._placed(job, network, data)
        ruled = under_rules(job, network, rules)
        measure, shuffling = ruled.handle.violation, _shuffling(job)
        return RuledTorchTraining(ruled.learner, rows, measure, shuffling, self.processes, ruled=ruled)

    def without_rules(self, job: JobFile, data: Data, network: nn.Module, rules: System) -> TorchTraining:
        """A training without rules. Raises JobError as `make_optimizer`."""
        rows, measure = self._placed(job, network, data), Measure(rules)
        learner, weights = without_rules(job, network), dict(network.named_parameters())
        return TorchTraining(learner, rows, lambda: measure(gathered_all(weights)), _shuffling(job), self.processes)

    def versions(self) -> dict[str, str]:
        """The version of torch."""
        return {"torch": torch.__version__}

    def threads(self) -> int:
        """The number of threads of torch."""
        return torch.get_num_threads()

    def _placed(self, job: JobFile, network: nn.Module, data: Data) -> Rows:
        """The rows of `data` for a network that each process then holds, or its part of it."""
        if self.processes.world > 1:
            _refuse_means_over_rows(job, network)
        self.processes.place(network)
        return rows_for(network, data)


def _refuse_means_over_rows(job: JobFile, network: nn.Module) -> None:
    """Raise JobError for layers that a process would compute from its own rows of a batch."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            fact = f"{name} is a {type(module).__name__}, and each process would take its means over other rows"
            way_out = "Take another layer, such as LayerNorm or on graphics cards SyncBatchNorm, or remove 'parallel'."
            raise job.mistake(("model", "factory"), f"{fact}. {way_out}")


def _shuffling(job: JobFile) -> torch.Generator:
    return torch.Generator().manual_seed(job.job.train.seed)


def _check_outputs(job: JobFile, data: Data, network: nn.Module) -> None:
    """Run the network once, which also gives lazy layers their shapes, and check its output and its state."""
    model_key = ("model",) if job.job.model.factory is None else ("model", "factory")
    sample = rows_for(network, data).test_features[:2]
    network.eval()
    with torch.no_grad():
        try:
            output = forward(network, sample)
        except RunError as error:
            raise job.mistake(model_key, f"{error} It receives {data.inputs} features per row.") from error
    network.train()
    expected = (len(sample), data.outputs)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != expected:
        actual = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise job.mistake(
            model_key, f"the network returns {actual} for {len(sample)} rows; it must return shape {expected}."
        )
    not_tensors = [name for name, value in network.state_dict().items() if not isinstance(value, torch.Tensor)]
    if not_tensors:
        raise job.mistake(
            model_key, f"the state of the network holds {not_tensors[0]!r}, which is not a tensor and cannot be saved."
        )
