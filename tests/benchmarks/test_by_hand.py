"""The code by hand that affinet is timed against does the same: no timing here, only that the race is fair."""

from __future__ import annotations

import pytest
import torch

import affinet
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

SHRINK = 16
RACED = [workload for workload in WORKLOADS if workload.job(SHRINK).by_hand is not None]


def named(workload: Workload) -> str:
    return workload.name


def has_inequalities(workload: Workload) -> bool:
    job = workload.job(SHRINK)
    return affinet.plan(job.rules(affinet.weights(job.model()))).inequalities > 0


@pytest.mark.parametrize("workload", RACED, ids=named)
def test_code_by_hand_gives_the_same_projections(workload: Workload) -> None:
    job = workload.job(SHRINK)
    model = job.model()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    projector = affinet.plan(job.rules(affinet.weights(model))).projector(weights)
    hand = job.by_hand(weights)
    moved = {name: weight.clone() for name, weight in weights.items()}
    gradients = {name: torch.randn_like(weight) for name, weight in weights.items()}
    ours = {name: gradient.clone() for name, gradient in gradients.items()}
    hand.project_(moved)
    hand.gradient_(gradients)
    projector.project_gradients_(ours, weights, {})
    for name, expected in projector.project(weights).items():
        torch.testing.assert_close(moved[name], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradients[name], ours[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workload", [workload for workload in RACED if not has_inequalities(workload)], ids=named)
def test_code_by_hand_silences_a_normal_gradient(workload: Workload) -> None:
    job = workload.job(SHRINK)
    model = job.model()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    projector = affinet.plan(job.rules(affinet.weights(model))).projector(weights)
    names = projector.names
    drawn = {name: torch.randn(weights[name].shape, dtype=torch.float64) for name in names}
    tangent = projector.tangent(drawn)
    normal = {name: (drawn[name] - tangent[name]).float() for name in names}
    constrained = {name: normal[name] != 0 for name in names}
    job.by_hand(weights).gradient_(normal)
    left = sum(int((normal[name][constrained[name]] != 0).sum()) for name in names)
    assert left <= 1e-2 * sum(int(mask.sum()) for mask in constrained.values())


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_every_workload_plans_at_a_small_size(workload: Workload) -> None:
    job = workload.job(SHRINK)
    plan = affinet.plan(job.rules(affinet.weights(job.model())))
    assert plan.rows + plan.inequalities > 0
