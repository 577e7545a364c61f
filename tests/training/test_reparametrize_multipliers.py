"""What rules cost in a reparametrized model: multipliers from the gradients of weights behind the free numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

import affinet
from affinet.training import weight_gradients
from affinet.training.reparametrization import Basis
from tests.training.autoencoder import Autoencoder, X, each_basis, train

INPUT = X.double()


def made(basis: Basis, seed: int = 1) -> tuple[Autoencoder, affinet.Reparametrization]:
    torch.manual_seed(seed)
    model = Autoencoder().double()
    return model, affinet.reparametrize(model, model.rules(), basis=basis)


def loss_of(model: nn.Module, x: Tensor = INPUT) -> Tensor:
    loss: Tensor = (model(x) - x).square().sum()
    return loss


def truth(model: Autoencoder, handle: affinet.Reparametrization, *batches: Tensor) -> dict[str, Tensor]:
    """The multipliers from the gradients of a plain model with the same weights."""
    plain = affinet.bake(copy.deepcopy(model))
    plain.zero_grad()
    for batch in batches:
        loss_of(plain, batch).backward()
    return handle.plan.projector(plain).multipliers({name: p.grad for name, p in plain.named_parameters()})


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for name, nu in expected.items():
        torch.testing.assert_close(found[name], nu, rtol=tolerance, atol=tolerance)


@each_basis
def test_multipliers_are_those_of_the_weights(basis: Basis) -> None:
    model, handle = made(basis)
    with pytest.raises(affinet.AttachError, match=r"no gradients of computed weights were kept yet. Run backward"):
        handle.multipliers()
    loss_of(model).backward()
    assert_same(handle.multipliers(), truth(model, handle, INPUT))
    plain = affinet.bake(copy.deepcopy(model))
    plain.zero_grad()
    loss_of(plain).backward()
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    assert handle.stationarity() == pytest.approx(handle.projector.stationarity(gradients), rel=1e-10)
    assert [rule.name for rule in handle.report().rules] == [
        rule.name for rule in handle.report(lambda: loss_of(model)).rules
    ]


@each_basis
def test_batches_of_one_step_add_up_and_a_step_begins_anew(basis: Basis) -> None:
    model, handle = made(basis)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        expected = truth(model, handle, INPUT[:2], INPUT[2:])
        loss_of(model, INPUT[:2]).backward()
        loss_of(model, INPUT[2:]).backward()
        assert_same(handle.multipliers(), expected)
        optimizer.step()
        assert_same(handle.multipliers(), expected)
    model.zero_grad(set_to_none=False)
    loss_of(model).backward()
    assert_same(handle.multipliers(), truth(model, handle, INPUT))
    model.zero_grad()
    loss_of(model, INPUT[:1]).backward()
    assert_same(handle.multipliers(), truth(model, handle, INPUT[:1]))


def test_a_branch_of_the_last_step_is_not_one_of_this() -> None:
    model = nn.ModuleList([nn.Linear(3, 2).double(), nn.Linear(3, 2).double()])
    w = affinet.weights(model)
    handle = affinet.reparametrize(model, [(w[k].weight.sum(dim=1) == 0).named(f"layer {k}") for k in range(2)])
    model[0](INPUT[:, :3]).sum().backward()
    assert handle.multipliers()["layer 0"].abs().min() > 0.1
    model.zero_grad()
    model[1](INPUT[:, :3]).sum().backward()
    assert not handle.multipliers()["layer 0"].any()
    assert handle.multipliers()["layer 1"].abs().min() > 0.1


@each_basis
@pytest.mark.parametrize("shrink", ["none", "norm", "scaler", "scaler and norm"])
def test_scaled_and_clipped_gradients_are_in_the_units_of_the_step(basis: Basis, shrink: str) -> None:
    model, handle = made(basis)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    expected = truth(model, handle, INPUT)
    scaler = torch.amp.GradScaler("cpu", enabled="scaler" in shrink)
    scaler.scale(loss_of(model)).backward()
    factor = 1.0
    if shrink != "none":
        scaler.unscale_(optimizer)
    if "norm" in shrink:
        factor = 0.5 / float(nn.utils.clip_grad_norm_(model.parameters(), 0.5))
    scaler.step(optimizer)
    optimizer.zero_grad()
    assert_same(handle.multipliers(), {name: nu * factor for name, nu in expected.items()}, 1e-5)


def test_gradients_bent_after_backward_are_refused() -> None:
    model, handle = made("orthonormal")
    loss_of(model).backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.01)
    with pytest.raises(affinet.AttachError, match=r"were changed between backward and the step.* handle.report\("):
        handle.multipliers()
    assert_same(
        {r.name: torch.tensor(r.largest, dtype=torch.float64) for r in handle.report(lambda: loss_of(model)).rules},
        {name: nu.abs().max() for name, nu in truth(model, handle, INPUT).items()},
    )


@each_basis
def test_large_models_keep_gradients_when_asked(basis: Basis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_gradients, "SMALL", 10)
    model, handle = made(basis)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    loss_of(model).backward()
    assert all(
        not p._post_accumulate_grad_hooks for p in model.parameters() if p._post_accumulate_grad_hooks is not None
    )
    with pytest.raises(affinet.AttachError, match=r"call handle.capture\(\) before the forward"):
        handle.stationarity()
    optimizer.zero_grad()
    handle.capture()
    expected = truth(model, handle, INPUT[:3], INPUT[3:])
    loss_of(model, INPUT[:3]).backward()
    loss_of(model, INPUT[3:]).backward()
    optimizer.step()
    optimizer.zero_grad()
    loss_of(model).backward()
    assert_same(handle.multipliers(), expected)


def test_weights_that_rules_fix_have_multipliers() -> None:
    model = nn.Linear(3, 2).double()
    w = affinet.weights(model)
    rules = [(w.weight == 1).named("ones"), (w.bias == 0).named("zero")]
    with pytest.warns(UserWarning, match="nothing is left to train"):
        handle = affinet.reparametrize(model, rules)
    for _ in range(2):
        (model(INPUT[:, :3]) * torch.tensor([1.0, 2.0])).sum().backward()
        found = handle.multipliers()
        torch.testing.assert_close(found["zero"], torch.tensor([6.0, 12.0], dtype=torch.float64))
        torch.testing.assert_close(found["ones"][1], 2 * INPUT[:, :3].sum(0))
    assert handle.stationarity() == 0.0


@each_basis
def test_the_price_is_the_change_of_the_optimum(basis: Basis) -> None:
    """ν = ∂f*/∂b, by two optima beside one another."""
    found, values = None, []
    draw = np.random.default_rng(0)
    centre = torch.from_numpy(draw.normal(size=(2, 4)))
    for total in (1.0, 1.0 + 1e-4, 1.0 - 1e-4):
        model = nn.Linear(4, 2, bias=False).double()
        rule = (affinet.weights(model).weight.sum() == total).named("total")
        handle = affinet.reparametrize(model, rule, basis=basis)
        optimizer = optim.LBFGS(model.parameters(), max_iter=50, tolerance_grad=1e-12, tolerance_change=1e-15)

        def closure(model: nn.Linear = model, optimizer: optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = ((model.weight - centre) ** 4).sum() + (model.weight - centre).square().sum()
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        values.append(float(closure().detach()))
        found = float(handle.multipliers()["total"]) if found is None else found
    # The third derivative is below 100 here, and the difference quotient is off by 1e-8 of it.
    assert found == pytest.approx((values[1] - values[2]) / 2e-4, abs=1e-5)


@each_basis
def test_no_bit_of_the_training_changes(basis: Basis, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    for small in (0, 2**16):
        monkeypatch.setattr(weight_gradients, "SMALL", small)
        model, _ = made(basis)
        train(model, INPUT)
        trained.append(model(INPUT))
    assert torch.equal(*trained)


@each_basis
def test_copies_and_transforms_keep_nothing_and_baking_ends_it(basis: Basis) -> None:
    model, handle = made(basis)
    loss_of(model).backward()
    before = handle.multipliers()
    loss_of(copy.deepcopy(model)).backward()
    numbers = {name: 2 * p.detach() for name, p in model.named_parameters()}
    torch.func.grad(lambda given: torch.func.functional_call(model, given, (INPUT,)).sum())(numbers)
    torch.func.functional_call(
        model, {name: x.requires_grad_() for name, x in numbers.items()}, (INPUT,)
    ).sum().backward()
    torch.func.vmap(torch.func.jacrev(model))(INPUT)
    assert_same(handle.multipliers(), before, 0.0)
    handle.bake()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    with pytest.raises(affinet.AttachError, match=r"the model is baked, so it has no rules any more. Call report"):
        handle.report(lambda: loss_of(model))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_activations_are_counted_once(reentrant: bool) -> None:
    model, handle = made("orthonormal")
    expected = truth(model, handle, INPUT)
    model.reentrant = reentrant
    x = INPUT.clone().requires_grad_()
    (model(x) - INPUT).square().sum().backward()
    assert_same(handle.multipliers(), expected)


Setting = tuple[nn.Module, Any]


def projected() -> Setting:
    torch.manual_seed(1)
    model = Autoencoder().double()
    return model, affinet.project(model, optim.SGD(model.parameters(), lr=0.1), model.rules())


def reparametrized() -> Setting:
    return made("orthonormal")


@pytest.mark.parametrize("setting", [projected, reparametrized])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_report_takes_a_closure_that_calls_backward(setting: Callable[[], Setting], set_to_none: bool) -> None:
    model, handle = setting()
    expected = handle.report(lambda: loss_of(model))
    assert all(p.grad is None for p in model.parameters())
    (3 * loss_of(model)).backward()
    before = [(p.grad, p.grad.clone()) for p in model.parameters() if p.grad is not None]

    def closure() -> float:
        model.zero_grad(set_to_none=set_to_none)
        loss = loss_of(model)
        loss.backward()
        return float(loss.detach())

    found = handle.report(closure)
    assert [rule.name for rule in found.rules] == [rule.name for rule in expected.rules]
    for mine, theirs in zip(found.rules, expected.rules, strict=True):
        assert mine.largest == pytest.approx(theirs.largest, rel=1e-12)
    assert found.stationarity == pytest.approx(expected.stationarity, rel=1e-12)
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(after) == len(before)
    for gradient, (held, copied) in zip(after, before, strict=True):
        assert gradient is held
        assert torch.equal(gradient, copied)
    with torch.no_grad():
        again = handle.report(lambda: loss_of(model))
    assert again.rules[0].largest == pytest.approx(expected.rules[0].largest, rel=1e-12)


@pytest.mark.parametrize("setting", [projected, reparametrized])
def test_what_is_no_loss_is_refused_and_gradients_stay(setting: Callable[[], Setting]) -> None:
    model, handle = setting()
    loss_of(model).backward()
    held = [p.grad for p in model.parameters()]
    for wrong, message in (
        (lambda: model(INPUT), r"loss_fn returned a tensor of shape \(6, 8\); it has to return the loss"),
        (lambda: 1.0, "loss_fn returned float; it has to return the loss"),
        (lambda: loss_of(model).detach(), "loss_fn returned a number without a gradient"),
    ):
        with pytest.raises(affinet.AttachError, match=message):
            handle.report(wrong)
    with pytest.raises(affinet.AttachError, match="loss_fn is Tensor; give a function"):
        handle.report(loss_of(model))
    assert all(p.grad is g for p, g in zip(model.parameters(), held, strict=True))
