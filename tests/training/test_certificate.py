"""Certificates: curvatures against dense Hessians, and the verdicts that the second-order conditions allow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.analysis import second_order
from affinet.errors import AttachError, TooLargeError
from affinet.training import certifying
from tests.training.curved_problems import PROBLEMS

Loss = Callable[[Tensor], Tensor]


class Single(torch.nn.Module):
    """A model that is one weight."""

    def __init__(self, start: Any, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.as_tensor(np.array(start), dtype=dtype))


def attached(
    start: Any, rules: Callable[[Any], Any], dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Any, affinet.Handle]:
    model = Single(start, dtype)
    stepper = optim.Adam(model.parameters(), lr=0.01, **options)
    model.stepper = stepper  # a handle does not keep its optimizer alive
    return model, affinet.project(model, stepper, rules(affinet.weights(model).w))


def quadratic(matrix: Any, shift: Any = 0.0) -> Loss:
    """`½ wᵀ M w − shiftᵀ w`."""

    def loss(w: Tensor) -> Tensor:
        flat, m = w.reshape(-1), torch.as_tensor(np.array(matrix), dtype=w.dtype)
        return 0.5 * flat @ m @ flat - (torch.as_tensor(np.array(shift), dtype=w.dtype) * flat).sum()

    return loss


def reduced_curvatures(loss: Loss, equations: Loss, w: Tensor) -> np.ndarray:
    """The eigenvalues of the Hessian of `f − νᵀc` on the null space of the derivatives, all of it dense."""
    shape, flat = w.shape, w.detach().reshape(-1)

    def c(x: Tensor) -> Tensor:
        return equations(x.reshape(shape)).reshape(-1)

    jacobian = torch.func.jacrev(c)(flat)
    nu = torch.linalg.lstsq(jacobian.T, torch.func.grad(lambda x: loss(x.reshape(shape)))(flat)[:, None]).solution
    hessian = torch.func.jacrev(torch.func.grad(lambda x: loss(x.reshape(shape)) - nu[:, 0] @ c(x)))(flat)
    _, s, vt = torch.linalg.svd(jacobian)
    basis = vt[int((s > 1e-9 * s[0]).sum()) :].T
    curvatures: np.ndarray = torch.linalg.eigvalsh(basis.T @ hessian @ basis).numpy()
    return curvatures


@pytest.mark.parametrize(
    ("entry", "verdict", "smallest"), [(0, "local minimum", 15.2), (1, "saddle", -15.2), (2, "local maximum", -19.2)]
)
def test_eigenvectors_on_the_sphere(entry: int, verdict: str, smallest: float) -> None:
    """Trap 9: Adam rests on any eigenvector. Curvatures of `wᵀ A w` there are `2 (λ_j − λ)`, by hand."""
    eigenvalues = torch.tensor([-4.6, 3.0, 5.0], dtype=torch.float64)
    model, handle = attached(np.eye(3)[entry], lambda w: w.norm() == 1)
    certificate = handle.certificate(lambda: eigenvalues @ model.w**2)
    assert certificate.verdict == verdict
    assert certificate.smallest == pytest.approx(smallest, abs=1e-12)
    assert (certificate.rank, certificate.generic_rank, certificate.free) == (1, 1, 2)
    assert certificate.stationarity <= 1e-15
    assert str(certificate).splitlines()[0] == verdict
    if verdict == "saddle":
        assert abs(certificate.direction["w"][0]) == pytest.approx(1.0)


EQUATIONS: dict[str, Loss] = {
    "HS7": lambda w: ((1 + w[0] ** 2) ** 2 + w[1] ** 2 - 4)[None],
    "HS78": lambda w: torch.stack([w @ w - 10, w[1] * w[2] - 5 * w[3] * w[4], w[0] ** 3 + w[1] ** 3 + 1]),
    "sum of eigenvalues": lambda w: (w.T @ w - torch.eye(3, dtype=w.dtype))[torch.triu_indices(3, 3).unbind()],
    "nearest determinant": lambda w: (torch.linalg.det(w) - 1)[None],
}


@pytest.mark.parametrize("problem", EQUATIONS)
def test_trained_optima_are_minima_with_the_curvatures_of_a_dense_hessian(problem: str) -> None:
    chosen = PROBLEMS[problem]
    model = chosen.model()
    stepper = optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    handle = affinet.project(model, stepper, chosen.rules(affinet.weights(model).w))

    def closure() -> Tensor:
        stepper.zero_grad()
        value = chosen.loss(model.w)
        value.backward()
        return value

    for _ in range(40):
        stepper.step(closure)
    certificate = handle.certificate(lambda: chosen.loss(model.w))
    curvatures = reduced_curvatures(chosen.loss, EQUATIONS[problem], model.w)
    assert certificate.verdict == "local minimum", str(certificate)
    assert certificate.free == len(curvatures)
    # Both take the Hessian at the same weights: they differ by rounding of its terms, far below 1e-9 of the largest.
    assert certificate.smallest == pytest.approx(curvatures[0], abs=1e-9 * abs(curvatures[-1]))
    assert certificate.largest == pytest.approx(curvatures[-1], rel=1e-9)


@pytest.mark.parametrize("place", [0, 5])
def test_lanczos_finds_the_curvature_of_many_weights(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a sphere of 300 entries, by products with the Hessian alone."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    eigenvalues = np.arange(300.0)
    matrix = torch.from_numpy(basis @ np.diag(eigenvalues) @ basis.T)
    model, handle = attached(basis[:, place], lambda w: w @ w == 1)
    certificate = handle.certificate(lambda: model.w @ matrix @ model.w)
    assert certificate.verdict == ("saddle" if place else "local minimum")
    expected = 2.0 * (eigenvalues[0 if place else 1] - eigenvalues[place])
    # An accepted eigenvalue has a residual of LANCZOS_TOLERANCE times the spread of some 600, and its square counts.
    assert certificate.smallest == pytest.approx(expected, abs=1e-3)
    monkeypatch.setattr(second_order, "WRITTEN_OUT", 300)
    assert handle.certificate(lambda: model.w @ matrix @ model.w).smallest == pytest.approx(expected, abs=1e-9)


def test_equations_that_lose_rank_at_the_solution_cannot_be_certified() -> None:
    """Trap 6: the textbook equations of the D4 wavelet have rank 3 of 4 at their solution."""
    root = 3.0**0.5
    start = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    signs, places = np.array([1.0, -1.0, 1.0, -1.0]), np.arange(4.0)

    def textbook(w: Any) -> list[Any]:
        return [w @ w == 1, w[0] * w[2] + w[1] * w[3] == 0, w.sum() == 2**0.5, (signs * places) @ w == 0]

    model, handle = attached(start, textbook)
    certificate = handle.certificate(lambda: (model.w - 1).square().sum())
    assert certificate.verdict == "cannot tell"
    assert (certificate.rank, certificate.generic_rank) == (3, 4)
    assert certificate.sigma_ratio < 1e-6
    assert "depend on each other at these weights (rank 3 here, 4 elsewhere)" in str(certificate)
    # The equation that follows from the others restores the rank, and the solution is a point of its own.
    model, handle = attached(start, lambda w: [*textbook(w), signs @ w == 0])
    certificate = handle.certificate(lambda: (model.w - 1).square().sum())
    assert (certificate.verdict, certificate.rank, certificate.free) == ("local minimum", 4, 0)
    assert certificate.smallest is None


def test_equations_whose_rank_is_low_on_all_of_their_set_are_certified() -> None:
    """`W² = I` has 9 equations of rank 5 around each solution of trace 1; there the set is smooth."""
    start = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    model, handle = attached(start.numpy(), families.involution)
    certificate = handle.certificate(lambda: (model.w - start).square().sum())
    assert certificate.verdict == "local minimum"
    assert (certificate.rank, certificate.free) == (5, 4)


def test_a_cusp_cannot_be_certified() -> None:
    """Trap 10: `min x` on `y² = x³` has its optimum at 0, where no multiplier exists."""
    model, handle = attached([0.0, 0.0], lambda w: w[1] ** 2 == w[0] ** 3)
    certificate = handle.certificate(lambda: model.w[0])
    assert certificate.verdict == "cannot tell"
    assert (certificate.rank, certificate.generic_rank) == (0, 1)
    assert "rank 0 here, 1 elsewhere" in str(certificate)


def test_a_quadratic_that_is_indefinite_alone_and_not_along_linear_rules() -> None:
    model, handle = attached([0.0, 0.0, 0.0], lambda w: w[0] == 0)
    loss = quadratic(np.diag([-5.0, 2.0, 3.0]))
    certificate = handle.certificate(lambda: loss(model.w))
    assert certificate.verdict == "local minimum"
    assert (certificate.smallest, certificate.largest, certificate.generic_rank) == (2.0, 3.0, None)
    handle.update([affinet.weights(model).w[1] == 0])
    assert handle.certificate(lambda: loss(model.w)).verdict == "saddle"


def test_weights_without_rules_count() -> None:
    """The rule leaves the weights at a minimum, and the bias is at a maximum of its own."""
    model = torch.nn.Linear(2, 1).double()
    stepper = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, stepper, affinet.weights(model).weight.sum() == 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    certificate = handle.certificate(lambda: model.weight.square().sum() - model.bias.square().sum())
    assert (certificate.verdict, certificate.free) == ("saddle", 2)
    assert certificate.direction["bias"].tolist() in ([1.0], [-1.0])


def test_bounds_that_push_count_as_equations() -> None:
    """At `w = (0, 0)` the bound `w[1] >= 0` has the multiplier 1, and only the first entry is free."""
    model, handle = attached([0.0, 0.0], lambda w: w[1] >= 0)
    loss = quadratic(np.diag([2.0, -3.0]), [0.0, -1.0])
    certificate = handle.certificate(lambda: loss(model.w))
    assert certificate.verdict == "local minimum"
    assert (certificate.smallest, certificate.at_bound, certificate.without_force) == (2.0, 1, 0)
    assert handle.certificate(lambda: quadratic(np.diag([-2.0, 3.0]), [0.0, -1.0])(model.w)).verdict == "saddle"


def test_bounds_without_a_multiplier_leave_the_verdict_open() -> None:
    """`x² − y²` at 0 under `y >= 0` is no minimum, `x² + y²` is one; the bound itself pushes in neither."""
    model, handle = attached([0.0, 0.0], lambda w: w[1] >= 0)
    certificate = handle.certificate(lambda: quadratic(np.diag([2.0, -2.0]))(model.w))
    assert certificate.verdict == "cannot tell"
    assert "1 of the inequalities at their bounds have a multiplier of zero" in str(certificate)
    assert (certificate.at_bound, certificate.without_force) == (1, 1)
    assert handle.certificate(lambda: quadratic(np.diag([2.0, 2.0]))(model.w)).verdict == "local minimum"


def test_a_corner_where_more_bounds_meet_than_needed() -> None:
    """Three bounds meet at 0 in the plane; multipliers are not unique, and each choice proves the minimum."""
    model, handle = attached([0.0, 0.0], lambda w: [w >= 0, w[0] + w[1] >= 0])
    certificate = handle.certificate(lambda: (model.w - torch.tensor([-1.0, -2.0])).square().sum())
    assert (certificate.verdict, certificate.at_bound, certificate.free) == ("local minimum", 3, 0)


def test_vectors_on_the_boundary_of_a_ball_are_told() -> None:
    model, handle = attached([1.0, 0.0], lambda w: families.l2_ball(w, 1.0))
    certificate = handle.certificate(lambda: (model.w - torch.tensor([2.0, 0.0])).square().sum())
    assert certificate.verdict == "cannot tell"
    assert "the boundary of its ball or cone is curved" in str(certificate)


def test_a_flat_direction_leaves_the_verdict_open() -> None:
    model, handle = attached([0.0, 0.0, 0.0], lambda w: w[0] == 0)
    certificate = handle.certificate(lambda: model.w[1] ** 2 + model.w[2] ** 4)
    assert certificate.verdict == "cannot tell"
    assert "higher derivatives decide" in str(certificate)


def test_weights_that_are_not_at_rest_are_told() -> None:
    model, handle = attached([1.0, 2.0], lambda w: w.norm() == 1)
    certificate = handle.certificate(lambda: model.w[0])
    assert certificate.verdict == "cannot tell"
    assert "not at rest" in str(certificate)
    assert certificate.stationarity == pytest.approx(2 / 5**0.5)


def test_weights_that_were_moved_off_their_rules_are_told() -> None:
    model, handle = attached([1.0, 0.0], lambda w: [w.norm() == 1])
    with torch.no_grad():
        model.w.mul_(2)
    certificate = handle.certificate(lambda: quadratic(np.eye(2))(model.w))
    assert 'the weights violate "w.norm() == 1" by 1' in str(certificate)


def test_a_gradient_that_vanishes_altogether_is_rest() -> None:
    """Near an optimum at which no rule pushes, all of a small gradient is along the rules."""
    model, handle = attached([1.0, 1.0 + 1e-9], lambda w: w[0] == 1)
    certificate = handle.certificate(lambda: (model.w - 1).square().sum())
    assert certificate.verdict == "local minimum"
    assert certificate.stationarity == 1.0


class Once(torch.autograd.Function):
    """A square whose derivative cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def test_a_loss_without_second_derivatives_or_values_is_told() -> None:
    model, handle = attached([1.0, 0.0], lambda w: w.norm() == 1)
    certificate = handle.certificate(lambda: Once.apply(model.w[1]))
    assert certificate.verdict == "cannot tell"
    assert "the loss has no second derivatives" in str(certificate)
    certificate = handle.certificate(lambda: model.w.sum() * float("nan"))
    assert "not finite" in str(certificate)
    assert certificate.verdict == "cannot tell"


def test_what_is_maximized_is_judged_by_its_maxima() -> None:
    matrix = np.diag([1.0, 3.0])
    model, handle = attached([0.0, 1.0], lambda w: w.norm() == 1, maximize=True)
    assert handle.certificate(lambda: quadratic(matrix)(model.w)).verdict == "local minimum"
    two = torch.nn.Module()
    two.a, two.b = (torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [two.a], "maximize": True}, {"params": [two.b], "maximize": False}]
    w = affinet.weights(two)
    stepper = optim.SGD(groups, lr=0.1)
    handle = affinet.project(two, stepper, w.a + w.b == 0)
    certificate = handle.certificate(lambda: two.b.square().sum() - two.a.square().sum())
    assert "some weights are maximized and others minimized" in str(certificate)


def test_coupled_decay_is_part_of_what_is_minimized() -> None:
    model, handle = attached([0.0, 0.0], lambda w: w[0] == 0, weight_decay=0.5)
    certificate = handle.certificate(lambda: quadratic(np.diag([1.0, 2.0]))(model.w))
    assert (certificate.verdict, certificate.smallest) == ("local minimum", 2.5)


def test_float32_weights_are_judged_to_their_rounding() -> None:
    eigenvalues = torch.tensor([1.0, 3.0, 3.0 + 1e-7])
    model, handle = attached([0.0, 1.0, 0.0], lambda w: w.norm() == 1, torch.float32)
    assert handle.certificate(lambda: eigenvalues @ model.w**2).verdict == "saddle"
    model, handle = attached([0.0, 1.0], lambda w: w.norm() == 1, torch.float32)
    certificate = handle.certificate(lambda: eigenvalues[1:] @ model.w**2)
    assert certificate.verdict == "cannot tell"


def test_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)).double()
    stepper = optim.Adam(model.parameters(), lr=0.01)
    handle = affinet.project(model, stepper, (affinet.weights(model)[0].weight ** 2).sum(dim=1) == 1)
    x = torch.randn(16, 4, dtype=torch.float64)
    stepper.zero_grad()
    model(x).square().mean().backward()
    stepper.step()
    saved = copy.deepcopy((model.state_dict(), stepper.state_dict()))
    gradients = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    handle.certificate(lambda: model(x).square().mean())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    after = model.state_dict(), stepper.state_dict()
    for first, second in zip(saved, after, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_losses_and_tolerances_that_cannot_be_used_are_refused() -> None:
    model, handle = attached([1.0, 0.0], lambda w: w.norm() == 1)

    def with_backward() -> Tensor:
        loss = model.w.sum()
        loss.backward()
        return loss

    with pytest.raises(AttachError, match=r"loss_fn called backward"):
        handle.certificate(with_backward)
    with pytest.raises(AttachError, match=r"tolerance is 2\.0"):
        handle.certificate(lambda: model.w.sum(), tolerance=2.0)


def test_a_certificate_that_memory_cannot_hold_is_refused_before_the_loss_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, handle = attached([1.0, 2.0], lambda w: w.sum() == 3.0)
    calls: list[Tensor] = []

    def loss() -> Tensor:
        calls.append(model.w)
        return (model.w**2).sum()

    monkeypatch.setattr(certifying, "MOST_BYTES", certifying.VECTORS * 2 * 8 - 1)
    with pytest.raises(TooLargeError, match=r"(?s)vectors of a certificate, .* handle\.report\(loss_fn\)"):
        handle.certificate(loss)
    assert not calls
    monkeypatch.setattr(certifying, "MOST_BYTES", certifying.VECTORS * 2 * 8)
    handle.certificate(loss)
    assert calls
