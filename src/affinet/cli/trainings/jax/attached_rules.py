"""Attach the rules of a job to weights of JAX by the method of the job: which numbers are trained, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax

from affinet.adapters.optax_projection import project
from affinet.adapters.optax_reparametrization import reparametrize
from affinet.cli.jobs.jobfile import JobFile
from affinet.errors import AttachError, TooLargeError
from affinet.kernels.jax.tree_projector import TreeProjector
from affinet.plans.plan import Plan

Tree = Any


@dataclass(frozen=True)
class AttachedRules:
    """Functions between weights and the numbers that are trained, and the optimizer of these.

    `to_numbers` also moves weights onto the rules. `weights_of` makes weights from numbers, and is None where the
    numbers are the weights. `finished` makes the last numbers from those after the last step.
    """

    to_numbers: Callable[[Tree], Tree]
    weights_of: Callable[[Tree], Tree] | None
    optimizer: optax.GradientTransformation
    finished: Callable[[Tree], Tree]


def without_rules(optimizer: optax.GradientTransformation) -> AttachedRules:
    """The weights themselves are trained."""
    return AttachedRules(_same, None, optimizer, _same)


def under_rules(job: JobFile, plan: Plan, optimizer: optax.GradientTransformation) -> AttachedRules:
    """As the method of the job wants it. Raises JobError with the line where no free numbers can be trained."""
    if job.job.train.method == "reparametrize":
        return _by_free_numbers(job, plan, optimizer)
    onto_rules = TreeProjector(plan).project  # also at the end: what an update adds to a weight is rounded
    return AttachedRules(onto_rules, None, project(plan, optimizer), onto_rules)


def _by_free_numbers(job: JobFile, plan: Plan, optimizer: optax.GradientTransformation) -> AttachedRules:
    train = job.job.train
    try:
        to_free, from_free = reparametrize(plan, train.basis or "orthonormal")
    except (AttachError, TooLargeError) as error:
        key = "method" if train.basis is None else "basis"
        raise job.mistake(("train", key), f'{error} In a job file: method = "project".') from error

    def to_numbers(weights: Tree) -> Tree:
        numbers = to_free(weights)
        if not any(leaf.size for leaf in jax.tree.leaves(numbers)):
            total = sum(leaf.size for leaf in jax.tree.leaves(weights))
            fact = f"the rules fix all {total:,} numbers of the network, so there is nothing to train."
            raise job.mistake(("train", "method"), f"{fact} Loosen a rule.")
        return numbers

    return AttachedRules(to_numbers, from_free, optimizer, _same)


def _same(tree: Tree) -> Tree:
    return tree
