"""Bounded singular values and positive semidefinite matrices: known optima, prices, rounding, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.errors import AttachError, ConstantError, RuleError, ShapeError
from affinet.kernels.torch.matrix_norms import lengths as tensor_lengths
from affinet.kernels.torch.matrix_norms import slope
from affinet.language.sense import Spectrum, lengths

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "Adam": lambda p: optim.Adam(p, lr=0.05),
    "SGD": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.03),
}


def attached(
    start: Any,
    rules: Callable[[Any], Any],
    optimizer: str = "Adam",
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.as_tensor(np.asarray(start), dtype=dtype))
    stepper = OPTIMIZERS[optimizer](model.parameters())
    return model, stepper, affinet.project(model, stepper, rules(affinet.weights(model).w))


def train(model: torch.nn.Module, stepper: optim.Optimizer, loss: Callable[[Any], Tensor], steps: int = 600) -> None:
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    for _ in range(steps):
        stepper.zero_grad()
        loss(model.w).backward()
        stepper.step()
        schedule.step()


def nearest_semidefinite(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (x + x.swapaxes(-1, -2)))
    return np.asarray((vectors * np.maximum(values, 0.0)[..., None, :]) @ vectors.swapaxes(-1, -2))


def nearest_bounded(x: np.ndarray, bound: float) -> np.ndarray:
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return np.asarray((u * np.minimum(s, bound)) @ vt)


def descended(nearest: Callable[[Any], Any], slope: Callable[[Any], Any], x: Any, rate: float) -> Any:
    """The optimum of a smooth convex loss by projected gradients at a rate of one over its curvature."""
    for _ in range(20_000):
        x = nearest(x - rate * slope(x))
    return x


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_linear_loss_over_bounded_singular_values(optimizer: str) -> None:
    """The least ⟨C, W⟩ with singular values at most c is minus c times the sum of those of C, which is its price."""
    random = np.random.default_rng(0)
    force = random.normal(size=(5, 7))
    model, stepper, handle = attached(
        random.normal(size=(5, 7)), lambda w: [families.spectral_norm(w, 1.5).named("gain")], optimizer
    )
    assert np.linalg.norm(model.w.detach().numpy(), 2) <= 1.5 + 1e-14
    train(model, stepper, lambda w: (w * torch.from_numpy(force)).sum())
    total = np.linalg.svd(force, compute_uv=False).sum()
    assert float((model.w.detach() * torch.from_numpy(force)).sum()) == pytest.approx(-1.5 * total, abs=1e-8)
    assert float(handle.multipliers()["gain"]) == pytest.approx(-total, abs=1e-6)
    assert handle.violation()["gain"] <= 1e-14
    assert handle.active()["gain"].count == 1


@pytest.mark.parametrize("seed", range(3))
def test_least_squares_within_a_spectral_norm(seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs, outputs = random.normal(size=(30, 6)), 2.0 * random.normal(size=(30, 4))
    model, stepper, handle = attached(random.normal(size=(4, 6)), lambda w: [families.spectral_norm(w, 0.4)])
    x, y = torch.from_numpy(inputs), torch.from_numpy(outputs)
    train(model, stepper, lambda w: (x @ w.T - y).square().sum() / 60, 800)
    curvature = np.linalg.norm(inputs, 2) ** 2 / 30
    best = descended(
        lambda w: nearest_bounded(w, 0.4),
        lambda w: (w @ inputs.T - outputs.T) @ inputs / 30,
        np.zeros((4, 6)),
        1.0 / curvature,
    )
    assert np.abs(model.w.detach().numpy() - best).max() <= 1e-7
    assert handle.stationarity() <= 1e-6


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_nearest_semidefinite_matrices(optimizer: str) -> None:
    """The positive part of the symmetric part; the price is minus the gradient over the negative eigenvalues."""
    random = np.random.default_rng(1)
    target = random.normal(size=(3, 6, 6))
    model, stepper, handle = attached(random.normal(size=(3, 6, 6)), lambda w: [families.psd(w)], optimizer)
    goal = torch.from_numpy(target)
    train(model, stepper, lambda w: (w - goal).square().sum(), 1500)
    found = model.w.detach().numpy()
    assert np.array_equal(found, found.swapaxes(1, 2))
    assert np.abs(found - nearest_semidefinite(target)).max() <= 1e-7
    values = np.linalg.eigvalsh(0.5 * (target + target.swapaxes(1, 2)))
    assert np.allclose(handle.multipliers()["psd(w)"].numpy(), 2.0 * np.minimum(values, 0.0).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_distances_to_the_cone(seed: int) -> None:
    """Weights that are not those of the Euclidean norm turn the eigenvectors on the way."""
    random = np.random.default_rng(seed)
    target, scale = random.normal(size=(5, 5)), random.uniform(0.5, 2.0, (5, 5))
    model, stepper, handle = attached(random.normal(size=(5, 5)), lambda w: [families.psd(w)])
    goal, factors = torch.from_numpy(target), torch.from_numpy(scale)
    train(model, stepper, lambda w: 0.5 * (factors * (w - goal).square()).sum(), 1000)
    best = descended(nearest_semidefinite, lambda w: scale * (w - target), np.zeros((5, 5)), 0.5)
    assert np.abs(model.w.detach().numpy() - best).max() <= 1e-7
    assert handle.stationarity() <= 1e-6


def test_a_face_is_left_when_the_loss_moves() -> None:
    random = np.random.default_rng(2)
    below, inside = -np.eye(4), random.normal(size=(4, 4))
    inside = inside @ inside.T + np.eye(4)
    model, stepper, _ = attached(np.eye(4), lambda w: [families.psd(w)])
    for _ in range(200):
        stepper.zero_grad()
        (model.w - torch.from_numpy(below)).square().sum().backward()
        stepper.step()
    assert float(model.w.detach().abs().max()) <= 1e-12
    train(model, stepper, lambda w: (w - torch.from_numpy(inside)).square().sum(), 1500)
    assert np.abs(model.w.detach().numpy() - inside).max() <= 1e-6


def test_a_touched_bound_without_force() -> None:
    """The target has its largest singular value, and its zero eigenvalue, exactly at the bound: nothing pushes."""
    q = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    for rule, values in ((lambda w: families.spectral_norm(w, 2.0), [2, 2, 1, 0.5]), (families.psd, [3, 2, 1, 0])):
        target = torch.from_numpy((q * np.array(values)) @ q.T)
        model, stepper, handle = attached(np.eye(4), lambda w, rule=rule: [rule(w)])
        train(model, stepper, lambda w, target=target: (w - target).square().sum(), 1500)
        assert float((model.w.detach() - target).abs().max()) <= 1e-6
        assert max(float(price.abs().max()) for price in handle.multipliers().values()) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", [lambda w: families.spectral_norm(w, 0.7), families.psd], ids=["norm", "cone"])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(
    rule: Callable[[Any], Any], dtype: torch.dtype
) -> None:
    target = torch.from_numpy(np.random.default_rng(4).normal(size=(2, 3, 3))).to(dtype)

    def begin() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        return attached(np.stack([0.2 * np.eye(3)] * 2), lambda w: [rule(w)], dtype=dtype)

    def steps(model: torch.nn.Module, stepper: optim.Optimizer, handle: affinet.Handle) -> None:
        for _ in range(10):
            stepper.zero_grad()
            (model.w - target).square().sum().backward()
            stepper.step()
            # Rounding nine entries moves a spectrum by at most half a spacing of the Euclidean norm, which is below 4.
            assert max(handle.violation().values()) <= 4 * torch.finfo(dtype).eps

    model, stepper, handle = begin()
    steps(model, stepper, handle)
    saved = model.w.detach().clone(), copy.deepcopy(stepper.state_dict()), copy.deepcopy(handle.state_dict())
    steps(model, stepper, handle)
    other, again, resumed = begin()
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    steps(other, again, resumed)
    assert torch.equal(other.w, model.w)


@pytest.mark.parametrize("norm", [1, 2, Spectrum("spectral", 3, 4), Spectrum("negative", 3, 3)])
def test_derivatives_of_norms(norm: Any) -> None:
    """As autograd has them, and the values of torch those of NumPy."""
    width = norm.rows * norm.columns if isinstance(norm, Spectrum) else 12
    drawn = np.random.default_rng(6).normal(size=(40, width))
    if isinstance(norm, Spectrum) and norm.kind == "negative":
        matrices = drawn.reshape(-1, 3, 3)
        drawn[:20] = (matrices + matrices.swapaxes(1, 2))[:20].reshape(20, -1)
    x = torch.from_numpy(drawn).requires_grad_()
    measured = tensor_lengths(x, norm)
    assert np.allclose(measured.detach().numpy(), lengths(drawn, norm), atol=1e-13)
    positive = measured.detach() > 0.0
    (expected,) = torch.autograd.grad(measured[positive].sum(), x)
    assert torch.allclose(slope(x.detach(), norm)[positive], expected[positive], atol=1e-12)


def test_plans_text_and_numbers(tmp_path: Path) -> None:
    weights = affinet.weights({"w": (2, 3, 4), "v": (3, 3)})
    rules = [families.spectral_norm(weights.w, [1.0, 2.0]), families.psd(2 * weights.v)]
    plan = affinet.plan(rules)
    assert (plan.rank, plan.free, plan.inequalities) == (3, 24 + 6, 3)
    assert "keeps 1 matrix of 3 by 3 weights positive semidefinite" in str(plan)
    assert "bounds the singular values of 2 matrices of 3 by 4 weights" in str(plan)
    plan.save(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors")
    assert str(again) == str(plan)
    written = affinet.plan([affinet.parse(rule.text, weights) for rule in rules])
    assert str(written) == str(plan)
    x = {"w": np.stack([3.0 * np.eye(3, 4), np.eye(3, 4)]), "v": np.diag([1.0, -2.0, 3.0])}
    assert again.projector(x).violation(x) == {rules[0].text: 2.0, rules[1].text: 4.0}
    projected = again.projector(x).project(x)
    assert np.allclose(projected["w"], np.stack([np.eye(3, 4), np.eye(3, 4)]), atol=1e-15)
    assert np.allclose(projected["v"], np.diag([1.0, 0.0, 3.0]), atol=1e-15)
    tensors = {name: torch.from_numpy(array) for name, array in x.items()}
    assert again.projector(tensors).violation(tensors) == pytest.approx({rules[0].text: 2.0, rules[1].text: 4.0})


def test_multipliers_alone_train_towards_a_spectral_norm() -> None:
    """`affinet.lagrange` has its derivatives, which exist where one value alone is at the bound, and ends on it."""
    random = np.random.default_rng(5)
    q = np.linalg.qr(random.normal(size=(3, 3)))[0]
    force = torch.from_numpy(-(q * np.array([2.0, 0.5, 0.2])) @ q.T)
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.from_numpy(random.normal(size=(3, 3))))
    stepper = optim.Adam(model.parameters(), lr=0.02)
    rule = families.spectral_norm(affinet.weights(model).w, 1.0)
    handle = affinet.lagrange(model, stepper, [rule], feasible_start=False)
    train(model, stepper, lambda w: (w * force + 0.5 * w.square()).sum(), 4000)
    assert handle.violation()[rule.text] <= 1e-6
    handle.finish()
    assert np.abs(model.w.detach().numpy() - (q * np.array([1.0, 0.5, 0.2])) @ q.T).max() <= 1e-3
    assert max(handle.violation().values()) <= 1e-14


def test_what_is_refused() -> None:
    w = affinet.weights({"w": (3, 3), "v": (3, 4), "b": (3,)})
    with pytest.raises(RuleError, match=r"spectrum is bounded can be in no other rule"):
        affinet.plan([families.psd(w.w), w.w.trace() == 1])
    with pytest.raises(RuleError, match=r"bounds a norm of an expression that is not an array of different"):
        affinet.plan([families.psd(-w.w)])
    with pytest.raises(ConstantError, match=r"the bound of spectral_norm of \(v\) must be positive"):
        families.spectral_norm(w.v, 0.0)
    with pytest.raises(ShapeError, match=r"the bound of spectral_norm has shape \(4,\)"):
        families.spectral_norm(w.v, np.ones(4))
    with pytest.raises(ShapeError):
        families.psd(w.v)
    with pytest.raises(ShapeError):
        families.spectral_norm(w.b, 1.0)
    model = torch.nn.Linear(3, 3)
    stepper = optim.Adam(model.parameters())
    with pytest.raises(AttachError):
        affinet.project(
            model, stepper, [families.spectral_norm(affinet.weights(model).weight, 1.0)], metric="optimizer"
        )
