"""Attaching rules to a training: `affinet.project(model, optimizer, rules)`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.nn.utils import prune

import affinet
from affinet.blocks.law import run_alone
from affinet.blocks.namespace import NumPy
from affinet.errors import (
    AttachError,
    InfeasibleError,
    NothingTrainedWarning,
    TooLargeError,
    UnresolvedGapWarning,
    UnsupportedWeightError,
)
from affinet.kernels.torch import looped
from tests.errors.case import case
from tests.errors.symbols import of_keras


def zero_sums(model: nn.Module) -> Any:
    return affinet.weights(model).weight.sum(dim=1) == 0


def project(model: nn.Module, kind: type[optim.Optimizer] = optim.SGD, **options: Any) -> None:
    affinet.project(model, kind(model.parameters(), lr=0.1), zero_sums(model), **options)  # type: ignore[call-arg]


@case(AttachError, "An empty list of optimizers.", "Give the optimizer that trains the model.")
def no_optimizer() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, [], zero_sums(model))


@case(AttachError, "One optimizer twice in the list.", "Give it once.")
def an_optimizer_twice() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.project(model, [optimizer, optimizer], zero_sums(model))


@case(AttachError, "Model, optimizer and rules in another order.", "Write affinet.project(model, optimizer, rules).")
def arguments_in_another_order() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, zero_sums(model), optim.SGD(model.parameters(), lr=0.1))  # type: ignore[arg-type]


@case(AttachError, "The optimizer or the rules in place of the model.", "Give the model first.")
def no_model() -> None:
    model = nn.Linear(3, 2)
    affinet.project(optim.SGD(model.parameters(), lr=0.1), model, zero_sums(model))  # type: ignore[arg-type]


@case(AttachError, "A model of Keras.", "Call affinet.keras.project.")
def a_model_of_keras() -> None:
    affinet.project(of_keras("Sequential", nn.Module), "adam", [])  # type: ignore[arg-type]


@case(AttachError, "An optimizer of Keras for a torch module.", "Take one of torch.optim.")
def an_optimizer_of_keras() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, of_keras("Adam"), zero_sums(model))


@case(AttachError, "The name of an optimizer.", "Give the optimizer itself.")
def the_name_of_an_optimizer() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, "adam", zero_sums(model))  # type: ignore[arg-type]


@case(AttachError, "Rules were attached to this optimizer before.", "Give all rules at once, or remove the first.")
def attaching_twice() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    kept = affinet.project(model, optimizer, zero_sums(model))
    affinet.project(kept and model, optimizer, zero_sums(model))


@case(AttachError, "torch.optim.SparseAdam does not take dense gradients.", "Use Adam.")
def a_sparse_optimizer() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.SparseAdam(list(model.parameters())), zero_sums(model))


@case(AttachError, "Two optimizers train one parameter.", "Give each parameter to one of them.")
def a_parameter_of_two_optimizers() -> None:
    model = nn.Linear(3, 2)
    both = [optim.SGD(model.parameters(), lr=0.1), optim.Adam(model.parameters())]
    affinet.project(model, both, zero_sums(model))


@case(AttachError, "The optimizer trains another model, or a copy.", "Make it from this model's parameters.")
def an_optimizer_of_another_model() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1), zero_sums(model))


@case(AttachError, "The optimizer trains a part of the coupled weights.", "Give it all of them, or freeze the others.")
def an_optimizer_of_a_part() -> None:
    model = nn.Linear(3, 3)
    w = affinet.weights(model)
    affinet.project(model, optim.SGD([model.bias], lr=0.1), w.weight[0] == w.bias)


@case(AttachError, "The rules were made for another model.", "Make them from `affinet.weights` of this one.")
def rules_of_a_weight_that_is_missing() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), affinet.weights({"hidden": (3,)}).hidden == 0)


@case(AttachError, "The rules were made for a model of another size.", "Make them from `affinet.weights` of this one.")
def rules_of_another_shape() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), affinet.weights({"weight": (5,)}).weight == 0)


@case(InfeasibleError, "A frozen weight, a constant now, contradicts a rule.", "Train it, or change its value.")
def a_frozen_weight_in_the_way() -> None:
    model = nn.Linear(3, 2)
    nn.init.ones_(model.weight).requires_grad_(False)
    project(model)


@case(NothingTrainedWarning, "A rule is about a frozen weight only.", "Thaw the weight, or drop the rule.")
def a_rule_about_a_frozen_weight() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight).requires_grad_(False)
    project(model)


@case(
    UserWarning,
    "NumPy is newer than numba supports.",
    "Install matching versions, or work without numba.",
)
def a_numba_that_cannot_be_imported() -> None:
    def refused(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.5 or less. Got NumPy 2.6.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looped, "import_module", refused)
        patch.setattr(looped, "numba_installed", lambda: True)
        looped.available.cache_clear()
        try:
            project(nn.Linear(3, 2))
        finally:
            looped.available.cache_clear()


@case(AttachError, "The weights are not initialised, or a training diverged.", "Initialise or load them first.")
def weights_that_are_not_finite() -> None:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, float("nan"))
    project(model)


@case(UnsupportedWeightError, "The model has shapes and no numbers yet.", "Make or load its weights first.")
def a_model_without_numbers() -> None:
    project(nn.Linear(3, 2, device="meta"))


@case(UnsupportedWeightError, "A parameter became sparse after the rules were made.", "Keep it dense.")
def a_weight_that_became_sparse() -> None:
    from affinet.training.freezing import _refuse_unfit

    _refuse_unfit({"weight": nn.Parameter(torch.eye(2).to_sparse())})


@case(AttachError, "A right-hand side beyond the dtype of the weights.", "Use float32 or bfloat16, or smaller numbers.")
def a_right_hand_side_beyond_the_dtype() -> None:
    model = nn.Linear(3, 2).half()
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), affinet.weights(model).bias == 1e6)


def bounded(rule: Callable[[affinet.Expression], Any], dtype: torch.dtype = torch.float16) -> None:
    model = nn.Linear(3, 2).to(dtype)
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), rule(affinet.weights(model)["weight"]))


@case(AttachError, "No number of the dtype lies between two bounds.", "Widen them, write `==`, or use float32.")
def bounds_between_two_numbers_of_the_dtype() -> None:
    bounded(lambda w: affinet.between(0.1000001, w, 0.1000002), torch.bfloat16)


@case(AttachError, "A bound that is 0 in the dtype.", "Write 0 or a larger bound, or use a wider dtype.")
def a_bound_that_vanishes() -> None:
    bounded(lambda w: w >= 1e-9)


@case(AttachError, "A bound beyond the dtype.", "Leave it out, take a smaller one, or use a wider dtype.")
def a_bound_beyond_the_dtype() -> None:
    bounded(lambda w: w <= 1e6)


@case(AttachError, "A radius that is 0 in the dtype.", "Take a larger one, or use a wider dtype.")
def a_radius_that_vanishes() -> None:
    bounded(lambda w: affinet.families.l2_ball(w, 1e-9))


@case(AttachError, "A radius that no weights of the dtype reach.", "Leave the rule out, or use a wider dtype.")
def a_radius_beyond_the_dtype() -> None:
    bounded(lambda w: affinet.families.l2_ball(w, 1e6))


@case(UnresolvedGapWarning, "A gap that the dtype rounds away.", "Take a larger gap, or a wider dtype.")
def a_gap_below_rounding() -> None:
    bounded(lambda w: affinet.families.monotone(w, gap=1e-12), torch.float32)


@case(AttachError, "An unknown metric.", "Leave it out, or write 'optimizer'.")
def a_metric_that_is_none() -> None:
    project(nn.Linear(3, 2), metric="adam")


@case(AttachError, "An unknown kind of decay.", "Leave it out for the optimizers of torch.")
def a_decay_that_is_none() -> None:
    project(nn.Linear(3, 2), decay="both")


@case(AttachError, "The optimizer has no second moments.", "Leave the metric out.")
def a_metric_of_an_optimizer_without_one() -> None:
    project(nn.Linear(3, 2), metric="optimizer")


@case(AttachError, "A centered RMSprop.", "Write `centered=False`, or leave the metric out.")
def a_metric_of_a_centered_optimizer() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.RMSprop(model.parameters(), centered=True)
    affinet.project(model, optimizer, zero_sums(model), metric="optimizer")


@case(AttachError, "Rows and columns of one matrix in the metric of the optimizer.", "Leave the metric out.")
def a_metric_along_two_axes() -> None:
    model = nn.Linear(6, 5)
    w = affinet.weights(model).weight
    rules = [w.sum(dim=1) == 0, w.sum(dim=0) == 0]
    affinet.project(model, optim.Adam(model.parameters()), rules, metric="optimizer")


@case(AttachError, "Many equations on top of regular ones in the metric of the optimizer.", "Leave the metric out.")
def a_metric_of_many_equations() -> None:
    model = nn.Linear(400, 200, bias=False)
    w = affinet.weights(model).weight
    dense = np.random.default_rng(0).standard_normal((65, 2, 400)).sum(1)
    rules = [w.sum(1) == 1, dense @ w[0] == 0, w[:, :70].sum(0) == 0]
    affinet.project(model, optim.Adam(model.parameters()), rules, metric="optimizer")


@case(AttachError, "Rows and columns in a metric of your own.", "Leave the metric out.")
def projecting_along_two_axes_in_a_metric() -> None:
    weights = {"weight": torch.zeros(5, 6)}
    w = affinet.weights(weights).weight
    projector = affinet.plan([w.sum(dim=1) == 0, w.sum(dim=0) == 0]).projector(weights)
    projector.project_in_metric_(weights, {"weight": torch.ones(5, 6)})


@case(AttachError, "A projector for something other than tensors by name.", "Give the model, or its `state_dict()`.")
def a_projector_for_a_tensor() -> None:
    affinet.plan(affinet.weights({"weight": (3,)}).weight == 0).projector(torch.zeros(3))


@case(AttachError, "Numbers that are not in a tensor.", "Write `torch.tensor(...)`.")
def a_projector_for_a_list() -> None:
    weights = {"weight": torch.zeros(3)}
    projector = affinet.plan(affinet.weights(weights).weight == 0).projector(weights)
    projector.project({"weight": [0, 0, 0]})


@case(AttachError, "A tensor in place of tensors by name.", "Give `model.state_dict()`, or a dictionary.")
def projecting_a_tensor() -> None:
    weights = {"weight": torch.zeros(3)}
    projector = affinet.plan(affinet.weights(weights).weight == 0).projector(weights)
    projector.project(torch.zeros(3))


@case(UnsupportedWeightError, "A tensor of integers or complex numbers.", "Give floating-point tensors.")
def a_projector_for_integers() -> None:
    affinet.plan(affinet.weights({"weight": (3,)}).weight == 0).projector({"weight": torch.zeros(3, dtype=int)})


@case(AttachError, "An array of NumPy where arrays by name are meant.", "Give a dictionary of arrays.")
def projecting_an_array() -> None:
    weights = {"weight": np.zeros(3)}
    affinet.plan(affinet.weights(weights)["weight"] == 0).projector(weights).project(np.zeros(3))


@case(AttachError, "Arrays without one that the rules are about.", "Give all of them.")
def projecting_without_an_array() -> None:
    weights = {"weight": np.zeros(3)}
    affinet.plan(affinet.weights(weights)["weight"] == 0).projector({"wieght": np.zeros(3)})


@case(AttachError, "A list where an array is meant, or an array with a mask.", "Write `numpy.asarray(...)`.")
def an_array_projector_for_a_list() -> None:
    weights = {"weight": np.zeros(3)}
    affinet.plan(affinet.weights(weights)["weight"] == 0).projector(weights).project({"weight": [0, 0, 0]})


@case(AttachError, "An array of another shape.", "Give the weights that the rules were made from.")
def an_array_of_another_shape() -> None:
    weights = {"weight": np.zeros(3)}
    affinet.plan(affinet.weights(weights)["weight"] == 0).projector(weights).project({"weight": np.zeros(4)})


@case(UnsupportedWeightError, "An array of integers or complex numbers.", "Give floating-point arrays.")
def an_array_projector_for_integers() -> None:
    affinet.plan(affinet.weights({"weight": (3,)})["weight"] == 0).projector({"weight": np.zeros(3, int)})


@case(AttachError, "Rows and columns of arrays in a metric.", "Leave the metric out.")
def a_law_along_two_axes_in_a_metric() -> None:
    w = affinet.weights({"weight": (5, 6)}).weight
    (block,) = affinet.plan([w.sum(dim=1) == 0, w.sum(dim=0) == 0]).blocks
    run_alone(block.law().projection.nearest_in_metric(NumPy(), np.zeros((5, 6)), np.ones((5, 6))))


@case(AttachError, "A model spread over devices.", "Put all constrained weights on one device.")
def weights_on_two_devices() -> None:
    w = affinet.weights({"first": (3,), "second": (3,)})
    given = {"first": torch.zeros(3), "second": torch.zeros(3, device="meta")}
    affinet.plan(w.first == w.second).projector(given).project(given)


@case(TooLargeError, "Many equations on top of regular ones.", 'Write `basis="projection"`.', foreign=r"[\d.]+(?= GiB)")
def a_basis_beyond_memory() -> None:
    import pytest

    model = nn.Linear(300, 300, bias=False)
    w = affinet.weights(model).weight
    with pytest.MonkeyPatch.context() as patch:  # the limit is gigabytes
        patch.setattr("affinet.kernels.bases.bordered_basis.LIMIT", 2**20)
        affinet.reparametrize(model, [w.sum(0) == 0, w.sum(1) == 0, w[0, 0] == 0.5, w[1, 2] == w[3, 4]])


@case(AttachError, "A handle was pickled, or copied with deepcopy.", "Attach the plan to the copy.")
def a_pickled_handle() -> None:
    model = nn.Linear(3, 2)
    pickle.dumps(affinet.project(model, optim.SGD(model.parameters(), lr=0.1), zero_sums(model)))


@case(UnsupportedWeightError, "A projector is given a model whose weight a hook computes.", "Make the hook permanent.")
def measuring_a_pruned_model() -> None:
    model = nn.Linear(3, 2)
    projector = affinet.plan(zero_sums(model)).projector(model)
    prune.l1_unstructured(model, "weight", amount=1)
    projector.violation(model)


def unit_rows(model: nn.Module) -> Any:
    return affinet.weights(model).weight.norm(dim=1) == 1


@case(AttachError, "Nonlinear equations in the optimizer's metric.", "Leave the metric out.")
def a_metric_of_nonlinear_equations() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.Adam(model.parameters()), unit_rows(model), metric="optimizer")


@case(InfeasibleError, "An equation that has no value at the weights.", "Start where it has one.")
def weights_without_a_logarithm() -> None:
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.bias, -1.0)
    rule = affinet.weights(model).bias.log().sum() == 0
    affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rule)


@case(InfeasibleError, "Nonlinear equations to which no way was found.", "Start from other weights.")
def an_equation_without_solutions() -> None:
    model = nn.Linear(3, 2)
    affinet.project(model, optim.SGD(model.parameters(), lr=0.1), affinet.weights(model).bias ** 2 == -1)


@case(InfeasibleError, "Tensors to be projected from which no way to the equations was found.", "Start elsewhere.")
def projecting_tensors_without_a_way() -> None:
    plan = affinet.plan(affinet.weights({"x": (2,)}).x ** 2 == -1)
    given = {"x": torch.ones(2)}
    plan.projector(given).project(given)


@case(InfeasibleError, "Arrays to be projected from which no way to the equations was found.", "Start elsewhere.")
def projecting_arrays_without_a_way() -> None:
    plan = affinet.plan(affinet.weights({"x": (2,)}).x ** 2 == -1)
    given = {"x": np.ones(2)}
    plan.projector(given).project(given)
