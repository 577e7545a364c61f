"""Equations whose left sides torch functions compute: as exact as written ones, and refused where they cannot be."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, optim
from typer.testing import CliRunner

import affinet
from affinet.cli.commands import commands
from affinet.errors import InfeasibleError, PlanFileError, RuleError, ShapeError


class Net(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.a = torch.nn.Parameter(torch.randn(3, generator=draw, dtype=torch.float64).to(dtype))
        self.b = torch.nn.Parameter(torch.randn(2, 2, generator=draw, dtype=torch.float64).to(dtype))

    def loss(self) -> Tensor:
        return (self.a - 1.0).square().sum() + (self.b - 0.5).square().sum()


def law(a: Tensor, b: Tensor) -> Tensor:
    """What the language can say too: `a @ a == 2`, `b.det() == a[0]`."""
    return torch.stack([a @ a - 2.0, torch.linalg.det(b) - a[0]])


def transcendental(a: Tensor, b: Tensor) -> Tensor:
    """What it cannot say."""
    return torch.special.erf(a).sum() - torch.matrix_exp(0.3 * b).trace() + 1.5


def written(w: affinet.Weights) -> list[affinet.Constraint]:
    return [w.a @ w.a == 2, w.b.det() == w.a[0]]


def train(net: Net, rules: Any, steps: int = 1500) -> affinet.Handle:
    optimizer = net.optimizer = optim.Adam(net.parameters(), lr=0.03)
    handle = affinet.project(net, optimizer, rules)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
        schedule.step()
    return handle


def test_a_function_reaches_the_optimum_of_the_same_equations_written_out() -> None:
    ours, theirs = Net(), Net()
    w = affinet.weights(ours)
    handle = train(ours, affinet.equations(law, [w.a, w.b], count=2))
    other = train(theirs, written(affinet.weights(theirs)))
    # Both are at rest, and a quadratic of curvature 2 moves its minimum by no more than the gradient left over.
    assert handle.stationarity() < 1e-9
    for name in ("a", "b"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-8)
    (prices,), (first, second) = handle.multipliers().values(), other.multipliers().values()
    torch.testing.assert_close(prices, torch.stack([first, second]), rtol=0, atol=1e-7)
    gaps = law(ours.a.detach(), ours.b.detach()).abs()
    assert float(gaps.max()) < 8 * 2.0**-53 * 20  # terms and derivatives times weights add up to less than 20


def test_functions_and_linear_rules_on_the_same_weights() -> None:
    net = Net()
    w = affinet.weights(net)
    rules = [affinet.equations(transcendental, [w.a, w.b], count=1), w.a[1] == w.b[0, 0], w.b.sum() == 1]
    handle = train(net, rules)
    assert handle.plan.rank == 3
    assert max(handle.violation().values()) < 1e-13
    assert handle.stationarity() < 1e-8
    assert abs(float(transcendental(net.a.detach(), net.b.detach()))) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_functions_are_called_in_float64_for_narrow_weights(dtype: torch.dtype) -> None:
    net, seen = Net(dtype), set()

    def watched(a: Tensor, b: Tensor) -> Tensor:
        seen.add(a.dtype)
        return law(a, b)

    w = affinet.weights(net)
    handle = train(net, affinet.equations(watched, [w.a, w.b], count=2), steps=20)
    assert seen == {torch.float64}
    # Weights below 2 are rounded once; derivatives add up to less than 16.
    assert max(handle.violation().values()) < 16 * torch.finfo(dtype).eps


def test_frozen_weights_become_constants_of_the_function() -> None:
    net = Net()
    w = affinet.weights(net)
    rule = affinet.equations(law, [w.a, w.b], count=2)
    affinet.project(net, optim.SGD(net.parameters(), lr=0.1), rule).remove()
    net.b.requires_grad_(False)
    before = net.b.clone()
    handle = train(net, rule, steps=200)
    assert torch.equal(net.b, before)
    assert max(handle.violation().values()) < 1e-13


def test_rounding_inside_a_function_does_not_keep_its_equation_from_holding() -> None:
    """`1e8 + x − 1e8` is off by 1e-8, which neither its result nor its derivatives tell."""
    net = Net()
    w = affinet.weights(net)

    def coarse(a: Tensor) -> Tensor:
        return (1e8 + a @ a) - 1e8 - 2.0

    handle = train(net, affinet.equations(coarse, [w.a], count=1), steps=50)
    assert float(abs(net.a.detach() @ net.a.detach() - 2.0)) < 16 * 2.0**-53 * 1e8
    assert handle.stationarity() < 1.0


def test_the_certificate_differentiates_functions_twice() -> None:
    net = Net()
    w = affinet.weights(net)
    handle = train(net, affinet.equations(law, [w.a, w.b], count=2))
    assert "local minimum" in str(handle.certificate(net.loss))


def test_arrays_are_projected_by_the_function() -> None:
    values = {"a": np.array([1.0, 0.5, 1.0]), "b": np.eye(2)}
    w = affinet.weights(values)
    projector = affinet.plan(affinet.equations(law, [w.a, w.b], count=2)).projector(values)
    projected = projector.project(values)
    assert max(projector.violation(projected).values()) < 1e-14
    assert projected["a"] @ projected["a"] == pytest.approx(2.0, abs=1e-14)


def test_a_saved_plan_has_the_name_of_the_function_and_asks_for_it(tmp_path: Path) -> None:
    net = Net()
    w = affinet.weights(net)
    plan = affinet.plan([affinet.equations(law, [w.a, w.b], count=2), w.b[0, 0] == 1])
    plan.save(tmp_path / "plan.safetensors")
    with pytest.raises(PlanFileError, match=r"equations of 'law'.*functions=\{'law': function\}"):
        affinet.Plan.load(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors", functions={"law": law})
    assert str(again) == str(plan)
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), again)
    assert max(handle.violation().values()) < 1e-13
    assert str(pickle.loads(pickle.dumps(plan))) == str(plan)


def test_a_file_is_verified_except_for_the_rules_of_functions(tmp_path: Path) -> None:
    net = Net()
    w = affinet.weights(net)
    affinet.plan([affinet.equations(law, [w.a, w.b], count=2), w.b[0, 0] == 1]).save(tmp_path / "plan.safetensors")
    with torch.no_grad():
        net.b[0, 0] = 1.0
    save_file({name: value.detach() for name, value in net.named_parameters()}, tmp_path / "model.safetensors")
    words = ["verify", str(tmp_path / "model.safetensors"), str(tmp_path / "plan.safetensors")]
    result = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "cannot be verified without law" in output
    assert "The rules hold" in output


def test_two_functions_of_one_name_are_not_saved(tmp_path: Path) -> None:
    w = affinet.weights(Net())
    rules = [affinet.equations(f, [w.a], count=1) for f in (lambda a: a.sum(), lambda a: a.prod() - 1.0)]
    plan = affinet.plan(rules)
    assert plan.rank == 2
    with pytest.raises(RuleError, match="two functions of equations have the name '<lambda>'"):
        plan.save(tmp_path / "plan.safetensors")


W = affinet.weights({"a": (3,)})
CALLS = [0.0]


def _counting(a: Tensor) -> Tensor:
    CALLS[0] += 1.0
    return a.sum() + CALLS[0]


def _failing(a: Tensor) -> Tensor:
    raise ValueError("no such law")


@pytest.mark.parametrize(
    ("function", "count", "error", "message"),
    [
        (lambda a: torch.rand(()) * a.sum(), 1, RuleError, "is not deterministic"),
        (_counting, 1, RuleError, "is not deterministic: at the same weights it returned"),
        (lambda a: a, 2, ShapeError, r"returned a tensor of shape \(3,\), and count=2 says 2 numbers"),
        (lambda a: a[None], 3, ShapeError, r"returned a tensor of shape \(1, 3\)"),
        (lambda a: 1.0, 1, ShapeError, "returned float"),
        (lambda a: a.detach().sum(), 1, RuleError, "no derivatives pass through the function"),
        (lambda a: torch.zeros(()), 1, RuleError, "no derivatives pass through the function"),
        (_failing, 1, RuleError, "the function '_failing' raised ValueError: no such law"),
        (3, 1, RuleError, "takes a function of tensors first; got 3"),
        (lambda a: a.sum(), 0, ShapeError, "the count of equations is 0"),
    ],
)
def test_functions_that_cannot_be_equations_are_refused(
    function: Any, count: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        affinet.equations(function, [W.a], count=count)


def test_random_numbers_of_the_program_are_not_used_up() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with pytest.raises(RuleError):
        affinet.equations(lambda a: torch.rand(()) * a.sum(), [W.a], count=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equations_without_a_solution_are_refused_when_attached() -> None:
    net = Net()
    rule = affinet.equations(lambda a: a.square().sum() + 1.0, [affinet.weights(net).a], count=1)
    with pytest.raises(InfeasibleError):
        affinet.project(net, optim.SGD(net.parameters(), lr=0.1), rule)
