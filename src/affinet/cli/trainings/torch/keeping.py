"""Attach the rules of a job to its network, by the method that the job names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import torch
from torch import Tensor, nn

import affinet
from affinet.blocks.interval import Interval
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.rules import free_numbers
from affinet.cli.trainings.torch.optimizers import make_optimizer
from affinet.errors import AttachError, TooLargeError
from affinet.language.dtensors import gathered
from affinet.report.cost import Trainable

if TYPE_CHECKING:
    from affinet import Handle, LagrangeHandle, Plan, Reparametrization


@dataclass(frozen=True)
class Learner:
    """A network with its optimizer; `numbers` is how many numbers of the plain network could move without rules."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    numbers: int


@dataclass(frozen=True)
class RuledLearner:
    """A learner whose weights obey the rules after every step, or at the end with an augmented Lagrangian.

    `trained` is how many numbers the optimizer moves, `free` how many stay independent under the rules. `names` are the
    keys of the plain network's state. `in_rules` tells whether rules are about any weight that is trained.
    """

    learner: Learner
    handle: Handle | Reparametrization | LagrangeHandle
    trained: Trainable
    free: int | Interval
    names: tuple[str, ...]
    in_rules: bool

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """The state of the baked network: weights under their original names, even where they are computed.

        Where a process holds only parts of them, all processes call this.
        """
        network = self.learner.network
        stored = network.state_dict()
        return {name: gathered(stored[name]) if name in stored else _weight(network, name) for name in self.names}


def without_rules(job: JobFile, network: nn.Module) -> Learner:
    """A network and the optimizer of the job. Raises JobError as `make_optimizer`."""
    return Learner(network, make_optimizer(job, network), numbers_of(network))


def under_rules(job: JobFile, network: nn.Module, rules: PlannedRules) -> RuledLearner:
    """A network and the optimizer of the job, with the rules attached by the method of the job.

    Raises JobError with the line where the network cannot be reparametrized, or the rules fix all numbers, and as
    `make_optimizer`.
    """
    plan = rules.plan
    names, free = tuple(network.state_dict()), free_numbers(numbers_of(network), plan.rank)
    in_rules = _trains_in_rules(network, rules)
    method = job.job.train.method
    match method:
        case "project":
            learner = without_rules(job, network)
            handle = affinet.project(network, learner.optimizer, plan)
            return RuledLearner(learner, handle, Trainable(learner.numbers, learner.numbers), free, names, in_rules)
        case "lagrange":
            learner = without_rules(job, network)
            approaching = affinet.lagrange(network, learner.optimizer, rules.rules if rules.left_out else plan)
            trained = Trainable(learner.numbers, learner.numbers)
            return RuledLearner(learner, approaching, trained, free, names, in_rules)
        case "reparametrize":
            return _by_free_numbers(job, network, plan, free, names, in_rules)
        case _:
            assert_never(method)


def numbers_of(network: nn.Module) -> int:
    """How many numbers of `network` training may move."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _trains_in_rules(network: nn.Module, rules: PlannedRules) -> bool:
    """Whether rules are about any weight that is not frozen."""
    names = {parameter.name for parameter in rules.system.layout.parameters}
    trained = [name for name, p in network.named_parameters(remove_duplicate=False) if p.requires_grad]
    return not names.isdisjoint(trained)


def _by_free_numbers(
    job: JobFile, network: nn.Module, plan: Plan, free: int | Interval, names: tuple[str, ...], in_rules: bool
) -> RuledLearner:
    handle = _reparametrized(job, network, plan)
    trained = handle.trainable
    learner = Learner(network, make_optimizer(job, network), trained.out_of)
    free = free if handle.basis == "projection" else trained.numbers
    ruled = RuledLearner(learner, handle, trained, free, names, in_rules)
    try:
        ruled.state()
    except (AttributeError, KeyError) as error:
        fact = "the network saves its weights under names that are not those of its attributes"
        raise job.mistake(("train", "method"), f'{fact} ({error}). Train it with method = "project".') from error
    return ruled


def _reparametrized(job: JobFile, network: nn.Module, plan: Plan) -> Reparametrization:
    train = job.job.train
    try:
        handle = affinet.reparametrize(network, plan, basis=train.basis or "orthonormal")
    except (AttachError, TooLargeError) as error:
        key = "method" if train.basis is None else "basis"
        raise job.mistake(("train", key), f'{error} In a job file: method = "project".') from error
    if handle.trainable.numbers == 0:
        fact = f"the rules fix all {handle.trainable.out_of:,} numbers of the network, so there is nothing to train."
        raise job.mistake(("train", "method"), f"{fact} Loosen a rule.")
    return handle


def _weight(network: nn.Module, name: str) -> Tensor:
    module, _, attribute = name.rpartition(".")
    weight: Tensor = getattr(network.get_submodule(module), attribute)
    return weight
