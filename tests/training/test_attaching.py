"""Attaching: frozen weights, how far it moves, and everything it refuses with a reason."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import optim

import affinet
from affinet.training.attaching import check_gradients


def model_of(*, dtype: torch.dtype = torch.float64, **shapes: tuple[int, ...]) -> torch.nn.Module:
    """A module with parameters of these names and shapes."""
    model = torch.nn.Module()
    for name, shape in shapes.items():
        model.register_parameter(name, torch.nn.Parameter(torch.randn(shape, dtype=dtype)))
    return model


def sgd(model: torch.nn.Module) -> optim.Optimizer:
    return optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def unchanged(model: torch.nn.Module, optimizer: optim.Optimizer, act: Callable[[], Any]) -> None:
    """Do what raises; neither weights nor hooks may change."""
    before = [p.detach().clone() for p in model.parameters()]
    try:
        act()
    finally:
        for parameter, value in zip(model.parameters(), before, strict=True):
            assert torch.equal(parameter.detach().nan_to_num(), value.nan_to_num())
        if isinstance(optimizer, optim.Optimizer):
            assert not optimizer._optimizer_step_pre_hooks
            assert not optimizer._optimizer_step_post_hooks


# Frozen parameters


def test_frozen_parameters_are_constants_at_their_value_when_attached() -> None:
    model = model_of(a=(3, 4), c=(3, 2))
    model.c.requires_grad_(False)
    w = affinet.weights(model)
    frozen = model.c.detach().clone()
    handle = affinet.project(model, sgd(model), w.a.sum(dim=1) == w.c.sum(dim=1))
    assert torch.equal(model.c, frozen)
    assert torch.allclose(model.a.detach().sum(1), frozen.sum(1), rtol=0, atol=1e-14)
    assert [p.name for p in handle.plan.parameters] == ["a", "c"]
    assert [p.name for p in handle.projector.plan.parameters] == ["a"]
    assert set(handle.moved) == {"a"}
    assert set(handle.violation()) == {"a.sum(dim=1) == c.sum(dim=1)"}


def test_the_optimizer_need_not_hold_frozen_parameters_and_never_moves_them() -> None:
    model = model_of(a=(3,), c=(3,))
    w = affinet.weights(model)
    model.c.requires_grad_(False)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, w.a[0] == 2 * w.c[1])
    before = model.c.detach().clone()
    model.a.grad = torch.ones(3, dtype=torch.float64)
    optimizer.step()
    assert torch.equal(model.c, before)
    assert max(handle.violation().values()) < 1e-15


def test_infeasible_frozen_values_are_refused() -> None:
    model = model_of(a=(3,), c=(2,))
    model.c.requires_grad_(False)
    with torch.no_grad():
        model.c.copy_(torch.tensor([1.0, 2.0]))
    w = affinet.weights(model)
    rules = [(w.a[0] == w.c[0]).named("first"), (w.a[0] == w.c[1]).named("second"), (w.a.sum() == 0).named("third")]
    optimizer = sgd(model)
    with pytest.raises(affinet.InfeasibleError, match=r"cannot hold together") as found:
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, rules))
    assert found.value.rules == ("first", "second")


def test_a_rule_that_frozen_weights_break_says_that_they_are_frozen() -> None:
    model = torch.nn.Linear(4, 4)
    model.weight.requires_grad_(False)
    rule = affinet.weights(model).weight.sum(dim=1) == 7
    said = r"(?s)it says 0 == .*\nweight is frozen \(requires_grad=False\) and counts as a constant at its value now"
    with pytest.raises(affinet.InfeasibleError, match=said):
        affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rule)
    with pytest.raises(affinet.InfeasibleError, match=said):
        affinet.reparametrize(model, rule)


@pytest.mark.filterwarnings("ignore::affinet.NothingTrainedWarning")
def test_a_rule_on_frozen_weights_alone_is_checked() -> None:
    model = model_of(a=(3,), c=(2,))
    model.c.requires_grad_(False)
    w = affinet.weights(model)
    rules = [w.a[0] == 0, (w.c[0] == w.c[1] + 1).named("frozen only")]
    with pytest.raises(affinet.InfeasibleError, match='"frozen only"'):
        affinet.project(model, sgd(model), rules)
    with torch.no_grad():
        model.c.copy_(torch.tensor([3.0, 2.0]))
    affinet.project(model, sgd(model), rules)


@pytest.mark.filterwarnings("ignore::affinet.NothingTrainedWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_frozen_rounding_raises_no_false_alarm(dtype: torch.dtype) -> None:
    """Rows of a frozen matrix that sum to one up to its rounding, said together with what follows from them."""
    model = model_of(a=(40, 30), c=(40, 30), dtype=dtype)
    model.c.requires_grad_(False)
    with torch.no_grad():
        model.c.copy_(torch.softmax(model.c.float(), dim=1))
    w = affinet.weights(model)
    handle = affinet.project(
        model, sgd(model), [w.c.sum(dim=1) == 1, w.a.sum(dim=1) == w.c.sum(dim=1), w.a.sum() == 40]
    )
    assert handle.projector.plan.rank == 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_frozen_rounding_does_not_make_rules_dependent(dtype: torch.dtype) -> None:
    model = model_of(a=(3,))
    model.register_parameter("c", torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype), requires_grad=False))
    w = affinet.weights(model)
    handle = affinet.project(model, sgd(model), [w.a.sum() == w.c[0], w.a @ [1.0, 1.0, 1.0 + 1e-6] == w.c[1]])
    assert handle.projector.plan.rank == 2


@pytest.mark.filterwarnings("ignore::affinet.NothingTrainedWarning")
def test_rules_on_frozen_weights_only_leave_nothing_to_project() -> None:
    model = model_of(a=(3,), c=(2,))
    model.c.requires_grad_(False)
    with torch.no_grad():
        model.c.fill_(1.0)
    handle = affinet.project(model, sgd(model), affinet.weights(model).c[0] == 1)
    assert handle.moved == {}
    model.a.grad = torch.ones(3, dtype=torch.float64)


# Moving


def test_moved_says_how_far_each_parameter_went() -> None:
    model = model_of(a=(2,), b=(2,), untouched=(2,))
    with torch.no_grad():
        model.a.copy_(torch.tensor([0.0, 5.0]))
        model.b.copy_(torch.tensor([2.0, 7.0]))
    w = affinet.weights(model)
    handle = affinet.project(model, sgd(model), w.a[0] == w.b[0])
    assert model.a.tolist() == [1.0, 5.0]
    assert model.b.tolist() == [1.0, 7.0]
    assert handle.moved == {"a": 1.0, "b": 1.0}
    assert "a by 1, b by 1" in repr(handle)


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_feasible_weights_do_not_move() -> None:
    model = model_of(a=(2, 3))
    with torch.no_grad():
        model.a.fill_(0.25)
    w = affinet.weights(model)
    handle = affinet.project(model, sgd(model), [w.a.diff() == 0, w.a[:, 0] == 0.25])
    assert handle.moved == {"a": 0.0}
    assert "moved nothing" in repr(handle)


def test_a_plan_serves_many_models() -> None:
    models = [model_of(a=(3, 4)) for _ in range(2)]
    plan = affinet.plan(affinet.weights({"a": (3, 4)}).a.sum(dim=1) == 1)
    for model in models:
        assert max(affinet.project(model, sgd(model), plan).violation().values()) < 1e-15


# What is refused


def test_an_optimizer_that_holds_none_of_the_parameters() -> None:
    model, other = model_of(a=(3,)), model_of(a=(3,))
    optimizer = sgd(other)
    with pytest.raises(affinet.AttachError, match=r"holds none of the constrained parameters \(a\)"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, affinet.weights(model).a[0] == 0))


def test_an_optimizer_that_holds_some_of_the_parameters() -> None:
    model = model_of(a=(3,), b=(3,))
    optimizer = optim.SGD([model.a], lr=0.1)
    w = affinet.weights(model)
    with pytest.raises(affinet.AttachError, match=r"does not hold: b\..*requires_grad_\(False\)"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, w.a == w.b))


@pytest.mark.parametrize("verb", [affinet.project, affinet.lagrange])
def test_an_optimizer_that_is_given_other_tensors_after_attaching_is_refused_at_its_next_step(verb: Any) -> None:
    """DeepSpeed's ZeRO does this, and copies its flat tensors to the weights afterwards."""
    model = model_of(a=(3, 4), b=(2,))
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    verb(model, optimizer, affinet.weights(model).a.sum(dim=1) == 1)
    flat = torch.nn.Parameter(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    flat.grad = torch.ones_like(flat)
    optimizer.param_groups[0]["params"] = [flat]
    before = flat.detach().clone()
    with pytest.raises(affinet.AttachError, match=r"AdamW no longer holds a: .* The step was not taken\."):
        optimizer.step()
    assert torch.equal(flat, before)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    optimizer.step()


def test_a_weight_may_be_taken_from_the_optimizer_once_it_is_frozen() -> None:
    model = model_of(a=(3,), b=(3,))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.project(model, optimizer, affinet.weights(model).a + affinet.weights(model).b == 1)
    optimizer.param_groups[0]["params"] = [model.b]
    model.b.grad = torch.ones_like(model.b)
    with pytest.raises(affinet.AttachError, match="SGD no longer holds a: "):
        optimizer.step()
    model.a.requires_grad_(False)
    optimizer.step()
    assert torch.allclose(model.a + model.b, torch.ones_like(model.a), rtol=0, atol=1e-14)


def test_an_optimizer_around_one_of_torch_is_answered_with_its_place() -> None:
    """As fastai's OptimWrapper, which is not an optimizer of torch itself."""
    model = model_of(a=(3,))
    wrapper: Any = SimpleNamespace(opt=sgd(model))
    with pytest.raises(affinet.AttachError, match=r"It keeps one as \.opt: give that SGD\."):
        affinet.project(model, wrapper, affinet.weights(model).a[0] == 0)


def test_what_is_no_optimizer() -> None:
    model = model_of(a=(3,))
    with pytest.raises(affinet.AttachError, match=r"Module is not a torch\.optim\.Optimizer"):
        affinet.project(model, model, affinet.weights(model).a[0] == 0)  # type: ignore[arg-type]


def test_an_optimizer_for_sparse_gradients() -> None:
    model = model_of(a=(3,))
    optimizer = optim.SparseAdam(list(model.parameters()))
    with pytest.raises(affinet.AttachError, match=r"SparseAdam takes sparse gradients only"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, affinet.weights(model).a[0] == 0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad: float) -> None:
    model = model_of(a=(3,))
    with torch.no_grad():
        model.a[1] = bad
    optimizer = sgd(model)
    with pytest.raises(affinet.AttachError, match="a holds 1 number that"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, affinet.weights(model).a[0] == 0))


def test_rules_for_another_shape() -> None:
    model, other = model_of(a=(3,)), model_of(a=(4,))
    optimizer = sgd(model)
    with pytest.raises(affinet.AttachError, match=r"'a' of shape \(4,\), and it has shape \(3,\)"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, affinet.weights(other).a[0] == 0))


def test_rules_for_another_model() -> None:
    model, other = model_of(a=(3,)), model_of(b=(3,))
    optimizer = sgd(model)
    with pytest.raises(affinet.AttachError, match=r"'b' and there is no such tensor; there are: a"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, affinet.weights(other).b[0] == 0))


@pytest.mark.parametrize("wrong", [True, "a[0] == 1", 3, None, [True], ["a[0] == 1"], {"a": 1}], ids=repr)
def test_what_is_no_rule(wrong: Any) -> None:
    model = model_of(a=(3,))
    optimizer = sgd(model)
    with pytest.raises(affinet.RuleError, match=r"is not a rule\. A rule is an equation"):
        unchanged(model, optimizer, lambda: affinet.project(model, optimizer, wrong))


def test_an_expression_is_no_rule() -> None:
    model = model_of(a=(3,))
    with pytest.raises(affinet.RuleError, match=r"is not a rule"):
        affinet.plan([affinet.weights(model).a[0]])  # type: ignore[list-item]


def test_sparse_gradients_are_refused_and_the_step_is_not_taken() -> None:
    model = torch.nn.Module()
    model.embed = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    w = affinet.weights(model)
    affinet.project(model, optimizer, w.embed.weight[0] == w.embed.weight[1])
    before = model.embed.weight.detach().clone()
    model.embed(torch.tensor([0, 1])).sum().backward()
    with pytest.raises(affinet.GradientError, match=r"gradient of embed\.weight is sparse .*the step was not taken"):
        optimizer.step()
    assert torch.equal(model.embed.weight, before)


def test_complex_gradients_are_refused() -> None:
    """torch keeps them off real parameters, unless a parameter's grad_dtype is lifted."""
    with pytest.raises(affinet.GradientError, match=r"gradient of a is complex.*The step was not taken"):
        check_gradients({"missing": None, "a": torch.zeros(3, dtype=torch.complex64)})


def test_complex_weights_are_refused() -> None:
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
    with pytest.raises(affinet.UnsupportedWeightError, match=r"a cannot be constrained: it is complex"):
        _ = affinet.weights(model).a


def test_the_meta_device_plans_and_does_not_attach() -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(4096, 11008)
    w = affinet.weights(model)
    plan = affinet.plan([w.weight.sum(dim=1) == 1, w.weight.sum(dim=0) == 11008 / 4096])
    assert plan.rank == 4096 + 11008 - 1
    optimizer = sgd(model)
    with pytest.raises(affinet.UnsupportedWeightError, match=r"weight cannot be constrained: it is on the meta device"):
        affinet.project(model, optimizer, plan)
    assert not optimizer._optimizer_step_pre_hooks


def test_irreducible_sets_are_irreducible() -> None:
    w = affinet.weights({"a": (4, 4), "b": (4,)})
    rules = [
        (w.a.sum(dim=1) == 1).named("rows"),
        (w.b[0] == 2).named("innocent"),
        (w.a[:2].sum() == w.b[3]).named("top"),
        (w.a[2:].sum() == w.b[2]).named("bottom"),
        (w.b[2] + w.b[3] == 5).named("both"),
        (w.a.sum(dim=0) == 1).named("columns"),
    ]
    with pytest.raises(affinet.InfeasibleError, match=r"together they say 0 == ") as found:
        affinet.plan(rules)
    named = found.value.rules
    assert "innocent" not in named
    chosen = [rule for rule in rules if rule.name in named]
    assert len(chosen) == len(named) >= 3
    for left_out in chosen:
        affinet.plan([rule for rule in chosen if rule is not left_out])


def test_a_projector_for_arrays_of_numpy_is_the_oracle() -> None:
    plan = affinet.plan(affinet.weights({"a": (3,)}).a.sum() == 3)
    found = plan.projector({"a": np.zeros(3)}).project({"a": np.zeros(3)})
    assert np.allclose(found["a"], 1)
    with pytest.raises(affinet.AttachError, match=r"there is no projector for list"):
        plan.projector([1, 2, 3])


def test_a_right_side_beyond_the_dtype_changes_nothing() -> None:
    layer = torch.nn.Linear(3, 4).half()
    before = layer.bias.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(affinet.AttachError, match=r"bias cannot hold in torch.float16.*Nothing was changed"):
        affinet.project(layer, optimizer, affinet.weights(layer).bias == 70000)
    assert torch.equal(layer.bias, before)
    affinet.project(layer, optimizer, affinet.weights(layer).bias == 7)


def test_a_live_parameter_is_no_constant() -> None:
    layer = torch.nn.Linear(4, 4)
    with pytest.raises(affinet.ConstantError, match=r"requires gradients was given as a constant.*detach"):
        _ = affinet.weights(layer).weight == layer.weight.T
    assert (affinet.weights(layer).weight == layer.weight.detach().T).rows == 16
