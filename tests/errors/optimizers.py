"""Optimizers of other kinds than torch's: inside one another, with weights of their own, stepping at other times."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, optim

import affinet
from affinet.errors import AttachError, GradientError
from tests.errors.attaching import zero_sums
from tests.errors.case import case
from tests.training.guests import AverageFromZero, Lookahead, Moving, TwoPasses


class HooklessOptimizer(optim.Optimizer):
    """Calls no `Optimizer.__init__`."""

    def __init__(self, params: Any) -> None:
        self.param_groups, self.state = [{"params": list(params)}], {}  # type: ignore[assignment]


class PickyOptimizer(optim.SGD):
    """Steps the weights that it was made for and no others."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("these are not my weights")


def attached(model: nn.Module, optimizer: optim.Optimizer) -> affinet.Handle:
    return affinet.project(model, optimizer, zero_sums(model))


@case(AttachError, "Another optimizer keeps rules over the same weight.", "One call for all, or remove the first.")
def a_weight_of_two_calls() -> None:
    model = nn.Linear(3, 2)
    kept = [optim.SGD(model.parameters(), lr=0.1) for _ in range(2)]
    for optimizer in kept:
        attached(model, optimizer)


@case(AttachError, "The rules were removed before, or the model does not exist any more.", "Attach the new rules.")
def new_rules_for_no_training() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    kept = attached(model, optimizer)
    kept.remove()
    kept.update(zero_sums(model))


@case(AttachError, "An optimizer class that does not call `Optimizer.__init__`.", "Call it, or reparametrize.")
def an_optimizer_without_hooks() -> None:
    model = nn.Linear(3, 2)
    attached(model, HooklessOptimizer(model.parameters()))


@case(AttachError, "An optimizer that moves weights in two passes.", "Reparametrize.")
def two_passes_without_an_inner_optimizer() -> None:
    model = nn.Linear(3, 2)
    attached(model, TwoPasses(model.parameters(), lr=0.1))


@case(AttachError, "A wrapper that moves weights without calling a hook.", "Reparametrize.")
def a_wrapper_without_hooks() -> None:
    model = nn.Linear(3, 2)
    attached(model, Moving(optim.SGD(model.parameters(), lr=0.1)))


@case(AttachError, "A wrapper whose copies of the weights are older.", "Attach before its state is loaded.")
def a_wrapper_that_has_moved_away() -> None:
    model = nn.Linear(3, 2)
    wrapper = Lookahead(optim.SGD(model.parameters(), lr=0.1))
    nn.init.ones_(model.weight)
    attached(model, wrapper)


@case(
    UserWarning,
    "An optimizer with an average of weights that begins at zero.",
    "Project the average, or reparametrize.",
)
def an_average_that_begins_at_zero() -> None:
    model = nn.Linear(3, 2)
    attached(model, AverageFromZero(model.parameters(), lr=0.1))


@case(
    UserWarning,
    "A copy of the optimizer does not step.",
    "Reparametrize if its state holds weights.",
    foreign="(?<=whether )[\\w.<>]+(?=Picky)",
)
def an_optimizer_that_cannot_be_copied() -> None:
    model = nn.Linear(3, 2)
    attached(model, PickyOptimizer(model.parameters(), lr=0.1))


@case(
    UserWarning,
    "A custom optimizer with weight decay that does not move a copy of a few numbers.",
    "Write `decay='coupled'` or `decay='decoupled'`.",
    foreign="(?<=^)[\\w.<>]+(?=Still)",
)
def an_optimizer_whose_decay_is_unknown() -> None:
    class StillOptimizer(optim.SGD):
        def step(self, closure: Any = None) -> Any: ...

    model = nn.Linear(3, 2)
    attached(model, StillOptimizer(model.parameters(), lr=0.1, weight_decay=0.1))


@case(GradientError, "An optimizer for each weight, stepping in the backward pass.", "Step after it, or reparametrize.")
def a_step_in_the_backward_pass() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    w = affinet.weights(model)
    both = [optim.SGD(layer.parameters(), lr=0.1) for layer in model]
    kept = affinet.project(model, both, w[0].weight == w[1].weight)
    for layer, optimizer in zip(model, both, strict=True):
        layer.weight.register_post_accumulate_grad_hook(lambda _, one=optimizer: one.step())
    assert kept.plan.rows
    model(torch.ones(1, 3)).sum().backward()


@case(GradientError, "One of several optimizers steps before the others have gradients.", "Step after all backward.")
def a_step_before_the_other_gradients() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    w = affinet.weights(model)
    both = [optim.SGD(layer.parameters(), lr=0.1) for layer in model]
    kept = affinet.project(model, both, w[0].weight == w[1].weight)
    assert kept.plan.rows
    model[0](torch.ones(1, 3)).sum().backward()
    both[0].step()
