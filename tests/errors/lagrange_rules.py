"""Training towards rules: `affinet.lagrange(model, optimizer, rules)` and `affinet.expectation(function)`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim

import affinet
from affinet import families
from affinet.errors import (
    AttachError,
    ConstantError,
    GradientError,
    LeftOutWarning,
    NotFiniteWarning,
    RuleError,
    TruthValueError,
)
from tests.errors.case import case


def attached(*rules: Callable[[Any], Any], **options: Any) -> tuple[nn.Module, optim.Optimizer, affinet.LagrangeHandle]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    w = affinet.weights(model).weight
    return model, optimizer, affinet.lagrange(model, optimizer, [rule(w) for rule in rules], **options)


def zero_sums(w: Any) -> Any:
    return w.sum(dim=1) == 0


def mean_of(output: Tensor) -> Tensor:
    return output


def expecting(function: Callable[..., Any] = mean_of, bound: Any = 0.1) -> Callable[[Any], Any]:
    return lambda w: (affinet.expectation(function) <= bound).named("mean")


def terms(function: Callable[..., Any], *batch: Any, bound: Any = 0.1) -> Tensor:
    _, _, handle = attached(expecting(function, bound))
    return handle.terms(*batch)


def output() -> Tensor:
    return torch.ones(4, requires_grad=True)


@case(AttachError, "The optimizer or the rules in place of the model.", "Give the model first.")
def no_model_for_lagrange() -> None:
    model = nn.Linear(3, 2)
    affinet.lagrange(optim.SGD(model.parameters(), lr=0.1), model, zero_sums(affinet.weights(model).weight))  # type: ignore[arg-type]


@case(AttachError, "A penalty that is not a number above 0.", "Give a number above 0, or leave it out.")
def a_penalty_below_zero() -> None:
    attached(zero_sums, penalty=-1.0)


@case(AttachError, "A rule has no finite value at the first weights.", "Start from other weights.")
def a_logarithm_of_a_negative_weight_under_lagrange() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([-1.0, 2.0]))
    affinet.lagrange(model, optim.SGD(model.parameters(), lr=0.1), affinet.weights(model).w.log() <= 0)


@case(RuleError, "An expectation that is not compared with anything.", "Compare it with a number.")
def an_expectation_alone() -> None:
    model = nn.Linear(3, 2)
    expected: Any = affinet.expectation(mean_of)
    affinet.lagrange(model, optim.SGD(model.parameters(), lr=0.1), expected)


@case(RuleError, "Two rules about expected values have one name.", "Name them apart.")
def expectations_of_one_name() -> None:
    attached(expecting(), expecting())


@case(RuleError, "A rule about an expected value was given to project, or planned.", "Give it to affinet.lagrange.")
def an_expectation_that_is_planned() -> None:
    affinet.plan([affinet.expectation(mean_of) <= 1])  # type: ignore[list-item]


@case(RuleError, "What is given to affinet.expectation is not a function.", "Give a function of a batch.")
def an_expectation_of_no_function() -> None:
    affinet.expectation(0.5)  # type: ignore[arg-type]


@case(RuleError, "The name of a rule about an expected value is empty.", "Give a text.")
def an_expectation_without_a_name() -> None:
    (affinet.expectation(mean_of) <= 1).named("")


@case(ConstantError, "An expected value is compared with something else than finite numbers.", "Give numbers.")
def an_expectation_compared_with_text() -> None:
    affinet.expectation(mean_of) <= "small"  # noqa: B015


@case(TruthValueError, "A rule about an expected value was used as a truth value.", "Write two rules.")
def a_chained_expectation() -> None:
    bool(affinet.expectation(mean_of) <= 1)


@case(AttachError, "No step was taken yet.", "Take one first.")
def stationarity_before_a_step() -> None:
    attached(zero_sums)[2].stationarity()


@case(AttachError, "Some rules cannot be held by any plan.", "Train on, or finish(partial=True).")
def finishing_what_no_plan_holds() -> None:
    attached(zero_sums, lambda w: families.l1_ball(w, 0.1).named("short"))[2].finish()


@case(LeftOutWarning, "Rules that no plan holds are violated at the end.", "Train on, or live with it.")
def finishing_a_part() -> None:
    attached(zero_sums, lambda w: families.l1_ball(w, 0.1).named("short"))[2].finish(partial=True)


@case(GradientError, "A violated rule has no finite derivatives at the weights.", "Start from other weights.")
def a_root_at_zero_under_lagrange() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([0.0, 4.0]))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.lagrange(model, optimizer, affinet.weights(model).w.sqrt().sum() <= 1)
    model.w.sum().backward()
    optimizer.step()


@case(AttachError, "A handle was copied or pickled.", "Attach the rules to the copy, and load the state.")
def a_pickled_lagrange_handle() -> None:
    pickle.dumps(attached(zero_sums)[2])


@case(AttachError, "The state of another kind of handle was loaded.", "Load what state_dict() returned.")
def loading_the_state_of_project() -> None:
    attached(zero_sums)[2].load_state_dict({"rules": ["weight.sum(dim=1) == 0"]})


@case(AttachError, "The state of a training with other rules was loaded.", "Attach the same rules.")
def loading_other_rules_into_lagrange() -> None:
    state = attached(lambda w: w == 1)[2].state_dict()
    attached(zero_sums)[2].load_state_dict(state)


@case(AttachError, "The saved multipliers belong to another model.", "Attach to the same model.")
def loading_multipliers_of_another_size() -> None:
    handle = attached(zero_sums)[2]
    state = handle.state_dict()
    handle.load_state_dict({**state, "weights": {**state["weights"], "multipliers": torch.zeros(7)}})


@case(AttachError, "The saved state belongs to another number of optimizers.", "Attach to the same optimizers.")
def loading_the_rates_of_other_optimizers() -> None:
    handle = attached(zero_sums)[2]
    handle.load_state_dict({**handle.state_dict(), "largest_rates": []})


@case(AttachError, "The saved averages belong to another number of expectations.", "Attach the same rules.")
def loading_averages_of_other_expectations() -> None:
    handle = attached(zero_sums, expecting())[2]
    handle.load_state_dict({**handle.state_dict(), "expectations": {"rules": [], "calls": 0}})


@case(GradientError, "The loss of a step lacks the terms of the expectations.", "Add handle.terms(...) to the loss.")
def a_step_without_terms() -> None:
    model, optimizer, _handle = attached(expecting())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


@case(GradientError, "The function of an expectation returns no tensor of real numbers.", "Return a tensor.")
def an_expectation_that_returns_a_number() -> None:
    terms(lambda x: 0.5, output())


@case(GradientError, "The function of an expectation returns detached numbers.", "Compute them with gradients.")
def an_expectation_without_a_gradient() -> None:
    terms(lambda x: x.detach(), output())


@case(GradientError, "A mean over no samples is nan.", "Return a number per sample, and no mean.")
def a_mean_over_no_sample() -> None:
    terms(lambda x: x[:0].mean(), output())


@case(GradientError, "The shape of what a function returns per sample changes.", "Return one shape.")
def an_expectation_of_another_shape() -> None:
    _, _, handle = attached(expecting())
    handle.terms(output())
    handle.terms(output().unsqueeze(1).expand(4, 2))


@case(GradientError, "An expectation has fewer numbers than it is compared with.", "Compare it with its own shape.")
def an_expectation_compared_with_more_numbers() -> None:
    terms(mean_of, output(), bound=[0.1, 0.2])


@case(NotFiniteWarning, "A loss that diverged, in a watched training by lagrange.", "Look at the loss and the rate.")
def gradients_that_are_not_finite_under_lagrange() -> None:
    model, optimizer, handle = attached(zero_sums)
    handle.watch()
    (model(torch.ones(2, 3)) * float("nan")).sum().backward()
    optimizer.step()
