"""How a job keeps its rules: by projecting around the optimizer, or by training only the numbers left free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import torch
from torch import Tensor, nn

import affinet
from affinet.blocks.interval import Interval
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.optimizers import make_optimizer
from affinet.cli.trainings.rules import free_numbers
from affinet.errors import AttachError, TooLargeError
from affinet.training.baking import Trainable

if TYPE_CHECKING:
    from affinet import Handle, Plan, Reparametrization


@dataclass(frozen=True)
class Learner:
    """A network with its optimizer; `numbers` of the plain network could move without rules."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    numbers: int


@dataclass(frozen=True)
class Kept:
    """A learner whose weights obey the rules after every step.

    `trained` says how many numbers the optimizer moves, `free` how many the rules leave independent. `names` are the
    keys of the plain network's state.
    """

    learner: Learner
    handle: Handle | Reparametrization
    trained: Trainable
    free: int | Interval
    names: tuple[str, ...]

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """The state that the baked network has: weights under their own names, whatever they are computed from."""
        network = self.learner.network
        held = network.state_dict()
        return {name: held[name] if name in held else _weight(network, name) for name in self.names}


def without_rules(job: JobFile, network: nn.Module) -> Learner:
    """A network and the optimizer of the job. Raises JobError as `make_optimizer`."""
    return Learner(network, make_optimizer(job, network), numbers_of(network))


def under_rules(job: JobFile, network: nn.Module, plan: Plan) -> Kept:
    """A network and the optimizer of the job, the rules kept by the method of the job.

    Raises JobError with the line where the network cannot be reparametrized, or nothing is left to train, and as
    `make_optimizer`.
    """
    names, free = tuple(network.state_dict()), free_numbers(numbers_of(network), plan.rank)
    method = job.job.train.method
    match method:
        case "project":
            learner = without_rules(job, network)
            handle = affinet.project(network, learner.optimizer, plan)
            return Kept(learner, handle, Trainable(learner.numbers, learner.numbers), free, names)
        case "reparametrize":
            return _by_free_numbers(job, network, plan, free, names)
        case _:
            assert_never(method)


def numbers_of(network: nn.Module) -> int:
    """How many numbers of `network` training may move."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _by_free_numbers(
    job: JobFile, network: nn.Module, plan: Plan, free: int | Interval, names: tuple[str, ...]
) -> Kept:
    handle = _reparametrized(job, network, plan)
    trained = handle.trainable
    learner = Learner(network, make_optimizer(job, network), trained.out_of)
    kept = Kept(learner, handle, trained, free if handle.basis == "projection" else trained.numbers, names)
    try:
        kept.state()
    except (AttributeError, KeyError) as error:
        fact = "the network saves its weights under names that are not those of its attributes"
        raise job.mistake(("train", "method"), f'{fact} ({error}). Train it with method = "project".') from error
    return kept


def _reparametrized(job: JobFile, network: nn.Module, plan: Plan) -> Reparametrization:
    train = job.job.train
    try:
        handle = affinet.reparametrize(network, plan, basis=train.basis or "orthonormal")
    except (AttachError, TooLargeError) as error:
        key = "method" if train.basis is None else "basis"
        raise job.mistake(("train", key), f'{error} In a job file: method = "project".') from error
    if handle.trainable.numbers == 0:
        fact = f"the rules fix all {handle.trainable.out_of:,} numbers of the network, so that none is left to train."
        raise job.mistake(("train", "method"), f"{fact} Loosen a rule.")
    return handle


def _weight(network: nn.Module, name: str) -> Tensor:
    module, _, attribute = name.rpartition(".")
    found: Tensor = getattr(network.get_submodule(module), attribute)
    return found
