"""Fewer trainable numbers: `affinet.reparametrize(model, rules)`, and back: `affinet.bake(model)`."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrizations, parametrize, prune

import affinet
from affinet.errors import AttachError, ShapeError, UnsupportedWeightError
from tests.errors.attaching import zero_sums
from tests.errors.case import case
from tests.limits import planned


@case(AttachError, "An unknown basis.", "Take one of the bases listed.")
def a_basis_that_is_none() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model), basis="qr")  # type: ignore[arg-type]


@case(AttachError, "`restore_variance` with the projection.", "Use another basis.")
def restoring_the_variance_of_a_projection() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model), basis="projection", restore_variance=True)


@case(AttachError, "Something other than a model.", "Give the model first, and then the rules.")
def reparametrizing_what_is_no_model() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(zero_sums(model), model)  # type: ignore[arg-type]


@case(AttachError, "Rules with inequalities have no basis.", "Use `affinet.project`.")
def reparametrizing_inequalities() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, affinet.weights(model).weight >= 0, basis="projection")


@case(AttachError, "A second `reparametrize` of one model.", "Give all rules to one call.")
def reparametrizing_twice() -> None:
    model = nn.Linear(3, 2)
    rule = affinet.weights(model).bias.sum() == 0
    affinet.reparametrize(model, zero_sums(model))
    affinet.reparametrize(model, rule)


@case(AttachError, "The model is wrapped in DistributedDataParallel.", "Reparametrize first, and wrap then.")
def reparametrizing_inside_a_wrapper() -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = nn.Linear(3, 2)
    with pytest.MonkeyPatch.context() as patch:  # the real one needs a process group
        patch.setattr("torch.nn.parallel.DistributedDataParallel", Wrapped)
        affinet.reparametrize(Wrapped(model), zero_sums(model))


@case(
    AttachError,
    "`affinet.project` keeps rules on this model.",
    "Remove its handle, and make a new optimizer afterwards.",
)
def reparametrizing_a_projected_model() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, zero_sums(model))
    affinet.reparametrize(model, handle.plan)


@case(UnsupportedWeightError, "A parameter that belongs to a list of layers.", "Put it into a separate module.")
def a_parameter_of_a_list_of_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    model.register_parameter("shift", nn.Parameter(torch.zeros(3)))
    affinet.reparametrize(model, affinet.weights(model).shift.sum() == 0)


@case(AttachError, "Rules without a regular form, over many entries.", "Use the basis named in the error.")
def a_basis_that_is_not_cheap() -> None:
    model = nn.Linear(3, 1024)
    rule = (affinet.weights(model).weight.flatten().diff().diff() == 0).named("straight lines")
    affinet.reparametrize(model, planned(rule, dense_rows=2), basis="free")  # in place of thousands of equations


@case(AttachError, "A right-hand side beyond the dtype of the weights.", "Use float32 or bfloat16, or smaller numbers.")
def a_start_beyond_the_dtype() -> None:
    model = nn.Linear(3, 2).half()
    affinet.reparametrize(model, affinet.weights(model).bias == 1e6)


@case(UserWarning, "Rules fix every entry of a weight.", "Drop the weight, or a rule.")
def a_weight_with_nothing_to_train() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, affinet.weights(model).bias == 0)


@case(affinet.LongStepsWarning, 'Sums of many entries with `basis="free"`.', "Use another basis.")
def free_numbers_of_a_long_sum() -> None:
    model = nn.Linear(768, 2)
    affinet.reparametrize(model, affinet.weights(model).weight.sum(dim=1) == 0, basis="free")


@case(AttachError, "The optimizer was made before `reparametrize`.", "Make it afterwards.")
def an_optimizer_made_before() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.reparametrize(model, zero_sums(model))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()


@case(AttachError, "The optimizer was made before `bake`.", "Make a new one, and attach the rules to it.")
def an_optimizer_made_before_baking() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.bake(model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()


@case(ShapeError, "A computed weight was set to a tensor of another shape.", "Give one of its shape.")
def setting_a_weight_to_another_shape() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    model.weight = torch.zeros(3, 2)  # type: ignore[assignment]


@case(AttachError, "A computed weight was set to something that is not a real tensor.", "Give a tensor.")
def setting_a_weight_to_a_number() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    model.weight = 1.0  # type: ignore[assignment]


@case(AttachError, "A computed weight was set to NaN or infinity.", "Give finite numbers.")
def setting_a_weight_to_no_number() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    model.weight = torch.full((2, 3), torch.nan)  # type: ignore[assignment]


@case(AttachError, "A parametrization of torch's on top of a computed weight.", "Bake the model first.")
def a_parametrization_on_top() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    parametrizations.spectral_norm(model)


@case(AttachError, "Pruning a computed weight.", "Write the zeros as rules, or bake the model first.")
def pruning_a_computed_weight() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model))
    prune.l1_unstructured(model, "weight", amount=1)


@case(AttachError, "torch made one of several coupled weights plain.", "Bake the model.")
def a_part_of_a_group_taken_off() -> None:
    model = nn.Linear(3, 2)
    w = affinet.weights(model)
    affinet.reparametrize(model, w.weight.sum(dim=1) == w.bias)
    parametrize.remove_parametrizations(model, "weight")
    model(torch.ones(1, 3))


@case(AttachError, "An embedding with sparse gradients.", "Make it with sparse=False.")
def reparametrizing_an_embedding_with_sparse_gradients() -> None:
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True))
    affinet.reparametrize(model, affinet.weights(model)[0].weight.sum(dim=1) == 0)


@case(AttachError, "No gradients of a reparametrized model were kept.", "Run backward, or give the loss.")
def multipliers_before_a_backward() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model)).multipliers()


@case(AttachError, "Gradients were clipped by value after backward.", "Give the loss.")
def multipliers_of_gradients_that_were_bent() -> None:
    model = nn.Linear(3, 2)
    handle = affinet.reparametrize(model, zero_sums(model))
    model(torch.tensor([[1.0, 2.0, 4.0]])).sum().backward()
    nn.utils.clip_grad_value_(model.parameters(), 1.0)
    handle.multipliers()


@case(AttachError, "A report on a baked model.", "Call it before baking.")
def a_report_of_a_baked_model() -> None:
    model = nn.Linear(3, 2)
    handle = affinet.reparametrize(model, zero_sums(model))
    handle.bake()
    handle.report(lambda: model(torch.ones(1, 3)).sum())


@case(AttachError, "A report on something that is not a loss.", "Return the loss.")
def a_report_of_outputs() -> None:
    model = nn.Linear(3, 2)
    handle = affinet.reparametrize(model, zero_sums(model))
    handle.report(lambda: model(torch.ones(1, 3)))


@case(AttachError, "A report on a loss without a gradient.", "Return the loss as it was computed.")
def a_report_of_a_loss_without_a_gradient() -> None:
    model = nn.Linear(3, 2)
    handle = affinet.reparametrize(model, zero_sums(model))
    handle.report(lambda: model(torch.ones(1, 3)).sum().detach())


@case(AttachError, "A model in place of vectors.", "Give the gradients by name.")
def tangents_of_a_model() -> None:
    model = nn.Linear(3, 2)
    affinet.plan(zero_sums(model)).projector(model).tangent(model)  # type: ignore[arg-type]


@case(AttachError, "The handle or a path in place of the model.", "Give the model.")
def baking_what_is_no_model() -> None:
    affinet.bake("model.pt")  # type: ignore[arg-type]


@case(AttachError, "`bake` of a model that is plain.", "Leave it out.")
def baking_a_plain_model() -> None:
    affinet.bake(nn.Linear(3, 2))


@case(AttachError, 'Exporting a model with `basis="projection"`.', "Bake it first.")
def exporting_a_projection() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, zero_sums(model), basis="projection")
    torch.export.export(model, (torch.ones(1, 3),), strict=False)


@case(AttachError, "Nonlinear equations.", "Use affinet.project.")
def reparametrizing_nonlinear_equations() -> None:
    model = nn.Linear(3, 2)
    affinet.reparametrize(model, affinet.weights(model).weight.norm(dim=1) == 1)
