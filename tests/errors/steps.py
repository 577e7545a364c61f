"""Training steps under rules, and what the handle is asked afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, optim

import affinet
from affinet.blocks.namespace import NumPy
from affinet.blocks.polyhedral_set import PolyhedralSet
from affinet.errors import (
    AttachError,
    ConvergenceWarning,
    GradientError,
    ShortenedStepsWarning,
    SlowReturnWarning,
    TooLargeError,
)
from affinet.kernels.torch import conjugate_gradients
from affinet.language import families
from tests.errors.attaching import zero_sums
from tests.errors.case import case
from tests.limits import planned
from tests.training.inequality_problems import PROBLEMS


def attached(model: nn.Module, **options: Any) -> tuple[affinet.Handle, optim.Optimizer]:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return affinet.project(model, optimizer, zero_sums(model), **options), optimizer


@case(GradientError, "An embedding with sparse gradients.", "Write `nn.Embedding(..., sparse=False)`.")
def a_sparse_gradient() -> None:
    model = nn.Embedding(4, 3, sparse=True)
    kept = attached(model)
    model(torch.tensor([1])).sum().backward()
    kept[1].step()


@case(GradientError, "A complex gradient.", "Take its real part.")
def a_complex_gradient() -> None:
    from affinet.training.attaching import check_gradients

    check_gradients({"weight": torch.zeros(2, dtype=torch.complex64)})


@case(GradientError, "The loss diverged, and `check_finite=True`.", "Lower the learning rate, or clip.")
def a_gradient_that_is_not_finite() -> None:
    model = nn.Linear(3, 2)
    kept = attached(model, check_finite=True)
    (model(torch.ones(1, 3)).sum() * float("nan")).backward()
    kept[1].step()


@case(GradientError, "A GradScaler with several optimizers.", "Call `scaler.unscale_` for each before the first step.")
def gradients_that_are_still_scaled() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    w = affinet.weights(model)
    both = [optim.Adam(model[0].parameters(), lr=0.1, fused=True), optim.SGD(model[1].parameters(), lr=0.1)]
    kept = affinet.project(model, both, w[0].weight == w[1].weight)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(model(torch.ones(1, 3)).sum()).backward()
    assert kept.plan.rows
    scaler.step(both[0])


@case(AttachError, "The model has replaced a parameter by another object.", "Attach again, with a new optimizer.")
def a_parameter_that_was_replaced() -> None:
    model = nn.Linear(3, 2)
    kept = attached(model)
    model.load_state_dict(nn.Linear(3, 2).state_dict(), assign=True)
    kept[1].step()


@case(
    AttachError,
    "The optimizer was given other tensors, as DeepSpeed does.",
    "Attach to an optimizer of the model's own parameters.",
)
def an_optimizer_that_holds_other_tensors() -> None:
    kept = attached(nn.Linear(3, 2))
    kept[1].param_groups[0]["params"] = [nn.Parameter(torch.zeros(8))]
    kept[1].step()


@case(AttachError, "Multipliers before the first step.", "Take a step first.")
def multipliers_before_a_step() -> None:
    attached(nn.Linear(3, 2))[0].multipliers()


@case(AttachError, "The saved training had other rules.", "Attach the same rules.")
def the_state_of_other_rules() -> None:
    attached(nn.Linear(3, 2))[0].load_state_dict({"rules": ["rows sum to one"]})


def attached_to_bounds() -> affinet.Handle:
    model = PROBLEMS["rows="].model(torch.float64)
    return affinet.project(model, optim.SGD(model.parameters(), lr=0.1), PROBLEMS["rows="].plan(model))


@case(AttachError, "The saved training had other blocks of inequalities.", "Attach the same rules to the same model.")
def the_state_of_other_inequalities() -> None:
    handle = attached_to_bounds()
    handle.load_state_dict({**handle.state_dict(), "inequalities": []})


@case(AttachError, "The saved training had inequalities of another shape.", "Attach the same rules to the same model.")
def the_state_of_inequalities_of_another_shape() -> None:
    handle = attached_to_bounds()
    handle.load_state_dict({**handle.state_dict(), "inequalities": [{"y": torch.zeros(3), "face": []}]})


@case(AttachError, "A tangent to inequalities without the weights.", "Write `projector.tangent(vectors, at=weights)`.")
def a_tangent_without_weights() -> None:
    attached_to_bounds().projector.tangent({"weight": torch.zeros(6, 8)})


@case(AttachError, "A tangent of arrays to inequalities without the weights.", "Give `at=weights`.")
def a_tangent_of_arrays_without_weights() -> None:
    arrays = {"w": np.zeros(3)}
    affinet.plan(affinet.weights(arrays).w >= 0).projector(arrays).tangent(arrays)


@case(AttachError, "Something that is not the state of a handle.", "Give the result of `handle.state_dict()`.")
def a_state_that_is_none() -> None:
    attached(nn.Linear(3, 2))[0].load_state_dict(None)  # type: ignore[arg-type]


@case(AttachError, "The loss itself in place of a function.", "Write `handle.report(lambda: loss_of(model))`.")
def a_report_of_a_number() -> None:
    attached(nn.Linear(3, 2))[0].report(0.5)  # type: ignore[arg-type]


@case(
    ConvergenceWarning,
    "Equations that nearly follow from others.",
    "Drop them, or round their coefficients.",
    foreign="[0-9.e-]+(?= \\(wanted)|(?<=wanted: )[0-9.e-]+",
)
def conjugate_gradients_that_stop() -> None:
    draw = np.random.default_rng(0)
    matrix = np.zeros((60, 90))
    for row in matrix:
        row[draw.choice(90, 4, replace=False)] = draw.uniform(0.5, 2, 4)
    weights = {"weight": torch.ones(90, dtype=torch.float64)}
    with pytest.MonkeyPatch.context() as patch:  # what takes thousands of equations without
        patch.setattr(conjugate_gradients, "MOST_ITERATIONS", 3)
        rule = families.linear([affinet.weights(weights).weight], matrix, 1)
        planned(rule, dense_rows=10, largest_fill=0).projector(weights).project(weights)


@case(
    ConvergenceWarning,
    "Equations on NumPy arrays that nearly follow from others.",
    "Drop them, or round their coefficients.",
    foreign="[0-9.e-]+(?= \\(wanted)|(?<=wanted: )[0-9.e-]+",
)
def conjugate_gradients_on_arrays_that_stop() -> None:
    draw = np.random.default_rng(0)
    matrix = np.zeros((60, 90))
    for row in matrix:
        row[draw.choice(90, 4, replace=False)] = draw.uniform(0.5, 2, 4)
    weights = {"weight": np.ones(90)}
    with pytest.MonkeyPatch.context() as patch:  # what takes thousands of equations without
        patch.setattr("affinet.blocks.sparse.MOST_ITERATIONS", 3)
        rule = families.linear([affinet.weights(weights)["weight"]], matrix, 1)
        planned(rule, dense_rows=10, largest_fill=0).projector(weights).project(weights)


@case(
    ConvergenceWarning,
    "Rows of a large polyhedron that nearly contradict each other.",
    "Drop one of them.",
    foreign="[0-9.e-]+(?= \\(wanted)|(?<=wanted: )[0-9.e-]+",
)
def a_search_for_active_inequalities_that_stops() -> None:
    n = 600
    rows, far = np.zeros((1, 2, n)), np.full((1, n), np.inf)
    rows[0, :, :500] = [[1.0], [-1.0]]
    convex = PolyhedralSet(rows, np.array([[0.0, -1.0]]), 0, -far, far)
    convex.nearest(NumPy(), np.ones((1, n)))


@case(AttachError, "A certificate of a loss that was differentiated already.", "Return the loss without backward.")
def a_certificate_of_a_loss_without_a_graph() -> None:
    model = nn.Linear(3, 2)
    handle, kept = attached(model)

    def loss_fn() -> torch.Tensor:
        loss = model.weight.square().sum()
        loss.backward()
        return loss

    handle.certificate(loss_fn)
    assert kept


@case(TooLargeError, "A certificate of more weights than memory holds.", "Take a report.", foreign=r"[\d.]+(?= GiB)")
def a_certificate_beyond_memory() -> None:
    model = nn.Linear(3, 2)
    handle, kept = attached(model)
    with pytest.MonkeyPatch.context() as patch:  # the limit is gigabytes
        patch.setattr("affinet.training.certifying.MOST_BYTES", 2**10)
        handle.certificate(lambda: model.weight.sum())
    assert kept


@case(AttachError, "A certificate to no share of the gradient.", "Give a number between 0 and 1.")
def a_certificate_with_a_tolerance_above_one() -> None:
    model = nn.Linear(3, 2)
    handle, kept = attached(model)
    handle.certificate(lambda: model.weight.sum(), tolerance=2.0)
    assert kept


@case(AttachError, "A certificate after the optimizer was deleted.", "Keep the optimizer until then.")
def a_certificate_without_an_optimizer() -> None:
    model = nn.Linear(3, 2)
    handle = attached(model)[0]
    handle.certificate(lambda: model.weight.sum())


@case(ShortenedStepsWarning, "Steps onto a cusp, or too large ones.", "Lower the rate, or look for the cusp.")
def steps_onto_a_cusp() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    w = affinet.weights(model).w
    handle = affinet.project(model, optimizer, w[1] ** 2 == w[0] ** 3)
    for _ in range(100):
        model.w.grad = torch.tensor([1.0, 0.0], dtype=torch.float64)
        optimizer.step()
    assert handle


@case(SlowReturnWarning, "The square of an equation.", "Write the equation without the square.")
def the_square_of_an_equation() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([0.6, 0.8], dtype=torch.float64))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    w = affinet.weights(model).w
    handle = affinet.project(model, optimizer, (w @ w - 1) ** 2 == 0)
    for _ in range(3):
        model.w.grad = torch.tensor([1.0, 0.0], dtype=torch.float64)
        optimizer.step()
    assert handle
