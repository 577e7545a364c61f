"""The projector: what it refuses, what it leaves alone, and whose surroundings do not disturb it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch

import affinet
from affinet.errors import AttachError, UnsupportedWeightError
from tests.oracle import oracle

W = affinet.weights({"a": (4, 6), "b": (6,), "c": (3,)})
LEFT = np.random.default_rng(0).standard_normal((2, 4))
RULES = [LEFT @ W.a == 1, W.b[0] == -W.b[1], W.b[2:5].sum() == W.c[0], W.c[1] == 2]
PLAN = affinet.plan(RULES)


def weights(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = {"a": (4, 6), "b": (6,), "c": (3,), "other": (2,)}
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}


def arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


@pytest.fixture
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_projecting_gives_new_tensors_and_leaves_its_input() -> None:
    given = weights()
    before = {name: tensor.clone() for name, tensor in given.items()}
    projector = PLAN.projector(given)
    for found in (projector.project(given), projector.tangent(given)):
        assert set(found) == set(given)
        for name in ("a", "b", "c"):
            assert found[name].data_ptr() != given[name].data_ptr()
        assert found["other"] is given["other"]
    projector.violation(given)
    assert all(torch.equal(given[name], before[name]) for name in given)


def test_parameters_that_need_gradients_are_no_obstacle() -> None:
    given = {name: tensor.requires_grad_() for name, tensor in weights().items()}
    found = PLAN.projector(given).project(given)
    assert not found["a"].requires_grad
    assert max(PLAN.projector(given).violation(found).values()) < 1e-12


def test_a_missing_weight_is_named() -> None:
    given = weights()
    del given["b"]
    with pytest.raises(
        AttachError, match="the rules are about 'b' and there is no such tensor; there are: a, c, other"
    ):
        PLAN.projector(given)
    with pytest.raises(AttachError, match="there are: x"):
        PLAN.projector({"x": torch.zeros(2)})


def test_a_weight_of_another_shape_is_named() -> None:
    given = {**weights(), "b": torch.zeros(5)}
    with pytest.raises(
        AttachError, match=r"'b' of shape \(6,\), and it has shape \(5,\)\. Make the rules from affinet"
    ):
        PLAN.projector(given)
    with pytest.raises(AttachError, match=r"'b' of shape \(6,\), and it has shape \(5,\)"):
        PLAN.projector(weights()).project(given)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_a_weight_that_is_no_real_number_is_refused(dtype: torch.dtype) -> None:
    given = {**weights(), "c": torch.zeros(3, dtype=dtype)}
    with pytest.raises(
        UnsupportedWeightError, match=rf"c cannot be constrained: its dtype is {dtype}\. Rules need a re"
    ):
        PLAN.projector(given)


def test_weights_on_several_devices_are_refused() -> None:
    given = {**weights(), "b": torch.zeros(6, device="meta")}
    projector = PLAN.projector(given)
    with pytest.raises(AttachError, match=r"lie on several devices \(cpu, meta\)\. Rules over one model need all"):
        projector.kernels(given)


def test_kernels_are_set_up_once_for_each_dtype() -> None:
    projector = PLAN.projector(weights())
    assert projector.kernels(weights()) is projector.kernels(weights())
    single = projector.project(weights(torch.float32))
    assert single["a"].dtype == torch.float32
    assert projector.kernels(weights(torch.float32)) is not projector.kernels(weights())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    given = weights(dtype)
    projector = PLAN.projector(given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = projector.project(given), projector.tangent(given), projector.violation(given)
    outside = projector.project(given), projector.tangent(given), projector.violation(given)
    for one, other in zip(inside[:2], outside[:2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in given)
    assert inside[2] == outside[2]


@pytest.mark.usefixtures("precision")
def test_shortened_matrix_products_change_nothing_to_single_precision() -> None:
    given = weights(torch.float32)
    projector, truth = PLAN.projector(given), oracle(PLAN.system)
    for setting in ("medium", "high"):
        torch.set_float32_matmul_precision(setting)
        found = projector.project(given)
        for name, values in truth.project(arrays(given)).items():
            np.testing.assert_allclose(found[name].numpy(), values, atol=2e-6)


def test_gradients_that_are_missing_stay_missing_and_count_as_zero() -> None:
    given = weights()
    gradients: dict[str, torch.Tensor | None] = {"a": given["a"].clone(), "b": given["b"].clone(), "c": None}
    PLAN.projector(given).project_gradients_(gradients, given, {})
    wanted = oracle(PLAN.system).tangent({**arrays(given), "c": np.zeros(3)})
    assert gradients["c"] is None
    for name in ("a", "b"):
        np.testing.assert_allclose(gradients[name].numpy(), wanted[name], atol=1e-12)  # type: ignore[union-attr]


def test_without_any_gradient_nothing_happens() -> None:
    gradients: dict[str, torch.Tensor | None] = {"a": None, "b": None, "c": None}
    PLAN.projector(weights()).project_gradients_(gradients, weights(), {"a": 0.1})
    assert gradients == {"a": None, "b": None, "c": None}


def test_decay_enters_before_the_projection_and_leaves_after_it() -> None:
    given, rates = weights(), {"a": 0.1, "b": 0.3, "c": 0.0}
    gradients = {name: torch.randn(given[name].shape, dtype=torch.float64) for name in ("a", "b", "c")}
    total = {name: (g + rates[name] * given[name]).numpy() for name, g in gradients.items()}
    PLAN.projector(given).project_gradients_(gradients, given, rates)
    touched = np.array([[1] * 6] * 4), np.array([1, 1, 1, 1, 1, 0]), np.array([1, 1, 0])
    for (name, wanted), used in zip(oracle(PLAN.system).tangent(total).items(), touched, strict=True):
        found = gradients[name].numpy() + rates[name] * given[name].numpy()
        np.testing.assert_allclose(found[used == 1], wanted[used == 1], atol=1e-12)


def test_rounding_of_a_normal_gradient_is_silenced() -> None:
    w = affinet.weights({"b": (1000,)})
    plan = affinet.plan([w.b.sum() == 1])
    gradient = {"b": torch.full((1000,), 0.1) * (1 + 1e-7 * torch.randn(1000))}
    plan.projector(gradient).project_gradients_(gradient, {"b": torch.zeros(1000)}, {})
    assert not gradient["b"].any()


def test_stationarity_is_the_share_of_the_gradients_that_rules_leave() -> None:
    w = affinet.weights({"a": (3, 4), "b": (5,)})
    plan = affinet.plan([w.a.sum(dim=1) == 1, w.b[0] == w.a[0, 0]])
    gradients = {"a": 3.0 * torch.randn(3, 4, dtype=torch.float64), "b": torch.randn(5, dtype=torch.float64)}
    projector = plan.projector(gradients)
    along, whole = (
        torch.cat([some[name].flatten() for name in "ab"]).norm() for some in (projector.tangent(gradients), gradients)
    )
    assert projector.stationarity(gradients) == pytest.approx(float(along / whole), rel=1e-12)


@pytest.mark.parametrize("basis", [None, "orthonormal", "projection"])
def test_a_model_is_measured_and_projected_as_its_weights_are(
    basis: Literal["orthonormal", "projection"] | None,
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 4, bias=False)).double()
    w = affinet.weights(model)
    plan = affinet.plan([(w[0].weight == w[1].weight.T).named("mirrored"), (w[0].bias.sum() == 1).named("total")])
    projector = plan.projector(model)
    off = projector.violation(model)
    assert off == projector.violation(model.state_dict())
    assert min(off.values()) > 1e-3
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = projector.project(model)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items()), "the model is left as it is"
    assert max(projector.violation(found).values()) <= 1e-15
    if basis is not None:
        affinet.reparametrize(model, plan, basis=basis)
        assert max(projector.violation(model).values()) <= 1e-15
        torch.testing.assert_close(projector.project(model), found, rtol=0, atol=1e-15)


@pytest.mark.parametrize("verb", ["tangent", "multipliers", "stationarity"])
def test_a_model_is_no_vector(verb: str) -> None:
    model = torch.nn.Linear(4, 3)
    projector = affinet.plan(affinet.weights(model).bias.sum() == 1).projector(model)
    with pytest.raises(AttachError, match=r"one for each weight, not a Linear.* for gradients \{name: p.grad for"):
        getattr(projector, verb)(model)
