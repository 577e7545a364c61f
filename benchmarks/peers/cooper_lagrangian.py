"""Cooper's augmented Lagrangian: seconds until the training loss and the violation are those that affinet reached.

A 64-32-10 classifier of handwritten digits whose first layer's rows sum to one, or are on the simplex (`w >= 0` too),
full batches. affinet trains for a fixed number of steps; Cooper has up to eight times as long to come to the same loss
(within 1 %) and a violation of at most `FEASIBLE`, far looser than affinet's, for each pair of penalty and learning
rate of a grid; the best is reported. affinet's loops are compiled before, as they are once per installation.
"""

from __future__ import annotations

import time
from functools import partial

import cooper
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import affinet
from affinet import families
from benchmarks.networks import perceptron
from benchmarks.results import PeerRow

STEPS, FEASIBLE = 400, 1e-4
GRID = tuple((penalty, rate) for penalty in (1.0, 10.0) for rate in (1e-2, 3e-3))
PATIENCE, LONGEST = 8, 7.0
"""Times as long as affinet took, and seconds: what Cooper gets for one pair."""


def _data() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    return torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)


def measured(title: str) -> list[PeerRow]:
    """A row for the sums alone, and one for sums with bounds."""
    return [_raced(title, simplex) for simplex in (False, True)]


def _raced(title: str, simplex: bool) -> PeerRow:
    x, y = _data()
    _affinet(x, y, simplex, steps=2)
    ours, loss, off = _affinet(x, y, simplex, STEPS)
    limit = min(PATIENCE * ours, LONGEST)
    found = [_cooper(x, y, simplex, loss, limit, *pair) for pair in GRID]
    rows = "rows on the simplex" if simplex else "rows that sum to one"
    says = f"digits, {rows}, to a loss of {loss:.3g} and a violation of {FEASIBLE:g}"
    arrived = [seconds for seconds, _, _ in found if seconds is not None]
    if arrived:
        return PeerRow(title, says, ours, min(arrived), f"affinet's violation: {off:.0e}")
    nearest = min(found, key=lambda one: max(one[1] / loss - 1, 0) + max(one[2] / FEASIBLE - 1, 0))
    reached = f"loss {nearest[1]:.3g}, violation {nearest[2]:.0e}; affinet's {off:.0e}"
    note = f"not within {limit / ours:.1f} times as long: {reached}"
    return PeerRow(title, says, ours, note=note)


def _affinet(x: Tensor, y: Tensor, simplex: bool, steps: int) -> tuple[float, float, float]:
    model = perceptron(64, 32, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    began = time.perf_counter()
    weight = affinet.weights(model)[0].weight
    rules = [*families.simplex(weight, dim=1)] if simplex else [weight.sum(dim=1) == 1]
    handle = affinet.project(model, optimizer, rules)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    seconds = time.perf_counter() - began
    return seconds, float(nn.functional.cross_entropy(model(x), y).detach()), max(handle.violation().values())


class Rows(cooper.ConstrainedMinimizationProblem):
    """The loss, subject to row sums of one, and with `simplex` to bounds of zero."""

    def __init__(self, penalty: float, simplex: bool) -> None:
        super().__init__()
        self.bounds = cooper.Constraint(
            constraint_type=cooper.ConstraintType.INEQUALITY,
            formulation_type=cooper.formulations.AugmentedLagrangian,
            multiplier=cooper.multipliers.DenseMultiplier(num_constraints=32 * 64),
            penalty_coefficient=cooper.penalty_coefficients.DensePenaltyCoefficient(init=torch.tensor(penalty)),
        )
        self.simplex = simplex
        self.rows = cooper.Constraint(
            constraint_type=cooper.ConstraintType.EQUALITY,
            formulation_type=cooper.formulations.AugmentedLagrangian,
            multiplier=cooper.multipliers.DenseMultiplier(num_constraints=32),
            penalty_coefficient=cooper.penalty_coefficients.DensePenaltyCoefficient(init=torch.tensor(penalty)),
        )

    def compute_cmp_state(self, model: nn.Sequential, x: Tensor, y: Tensor) -> cooper.CMPState:
        """Loss and violations of the weights as they are."""
        weight = model[0].weight
        observed = {self.rows: cooper.ConstraintState(violation=weight.sum(dim=1) - 1)}
        if self.simplex:
            observed[self.bounds] = cooper.ConstraintState(violation=-weight.flatten())
        return cooper.CMPState(loss=nn.functional.cross_entropy(model(x), y), observed_constraints=observed)


def _cooper(
    x: Tensor, y: Tensor, simplex: bool, goal: float, limit: float, penalty: float, rate: float
) -> tuple[float | None, float, float]:
    """Seconds to the goal (None: not within the limit), and the loss and violation at last."""
    model, problem = perceptron(64, 32, 10), Rows(penalty, simplex)
    primal = torch.optim.Adam(model.parameters(), lr=rate)
    dual = torch.optim.SGD(problem.dual_parameters(), lr=1.0, maximize=True)
    optimizer = cooper.optim.AlternatingDualPrimalOptimizer(cmp=problem, primal_optimizers=primal, dual_optimizers=dual)
    compute = partial(problem.compute_cmp_state, model, x, y)
    began = time.perf_counter()
    while True:
        optimizer.roll(compute_cmp_state_kwargs={"model": model, "x": x, "y": y})
        with torch.no_grad():
            off = float((model[0].weight.sum(dim=1) - 1).abs().max())
            if simplex:
                off = max(off, -float(model[0].weight.min()))
            if off <= FEASIBLE and float(compute().loss) <= 1.01 * goal:
                return time.perf_counter() - began, goal, off
            if time.perf_counter() - began > limit:
                return None, float(compute().loss), off
