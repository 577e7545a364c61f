"""The laws over the contract table, reparametrized: feasible, nearest, ties to the bit, untouched, and plain again.

Every case is reparametrized by every basis, in every dtype and by both paths, in three models that hold every pair of
these (`tests/contract/tables.py`): a dtype comes after planning, and changes nothing but the last step of any basis.
How many numbers a basis has depends on the blocks alone: every case with every basis, and by both paths. Baking reads
neither blocks nor rules: every case is baked, with one basis in turn.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.training.reparametrization import Basis
from tests.contract.building import (
    PATHS,
    PRECISIONS,
    Precision,
    conditioning_of,
    distance,
    flat,
    infeasibility,
    model_of,
    plain,
    plan_along,
    rules_of,
)
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.running import Run, quadratic
from tests.contract.tables import each_row, rows
from tests.contract.test_steps import plain_ties
from tests.oracle import Oracle, oracle

pytestmark = pytest.mark.filterwarnings("ignore::affinet.LongStepsWarning")  # sums of many entries are trained too

BASES: tuple[Basis, ...] = ("orthonormal", "free", "projection")
MODELS = rows(PATHS, PRECISIONS, BASES)


def reparametrized(
    case: Case, precision: Precision, path: str, basis: Basis
) -> tuple[torch.nn.Module, affinet.Reparametrization, Oracle]:
    model = model_of(case, precision.dtype)
    frozen = {name: p.detach().double().numpy() for name, p in model.named_parameters() if not p.requires_grad}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nothing is left to train")
        handle = affinet.reparametrize(model, plan_along(path, rules_of(case)), basis=basis)
        used = {name: x for name, x in frozen.items() if name in {p.name for p in handle.plan.parameters}}
        truth = oracle(handle.plan.with_constants(used, precision.spacing).system)
    return model, handle, truth


def weights_of(model: torch.nn.Module, truth: Oracle) -> dict[str, Tensor]:
    found = {}
    for name in (p.name for p in truth.layout.parameters):
        path, _, attribute = name.rpartition(".")
        found[name] = getattr(model.get_submodule(path), attribute)
    return found


def descend(model: torch.nn.Module, truth: Oracle, case: Case, steps: int) -> None:
    """Adam on a quadratic of the weights of the rules."""
    h, c = (torch.tensor(x) for x in quadratic(case, truth))
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained or not truth.layout.parameters:
        return
    optimizer = optim.Adam(trained, lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        w = torch.cat([x.reshape(-1).double() for x in weights_of(model, truth).values()])
        if not w.requires_grad:
            return
        (h * (w - c).square()).sum().backward()
        optimizer.step()


@each_row("case, path, precision, basis", MODELS)
def test_training_keeps_the_laws(case: Case, path: str, precision: Precision, basis: Basis) -> None:
    before = plain(dict(model_of(case, precision.dtype).named_parameters()))
    model, handle, truth = reparametrized(case, precision, path, basis)
    # Entries that follow from others carry the rounding of all of these.
    conditioning = conditioning_of(case.name) + (precision.spacing / 4 if basis == "free" else 0.0)
    start = plain(weights_of(model, truth))
    wanted = {**before, **truth.project(before)}
    near = precision.near * precision.spacing + 64 * conditioning
    assert distance(start, {name: wanted[name] for name in start}, before) <= near
    for name, far in handle.moved.items():
        assert far == pytest.approx(float(np.linalg.norm(start[name] - before[name])), rel=1e-6, abs=1e-300)
    touched = (truth.matrix != 0).any(axis=0)
    assert np.array_equal(flat(truth, start)[~touched], flat(truth, before)[~touched])
    one, other, sign = plain_ties(Run(truth, {}, {}))
    allowed = precision.feasible + 64 * conditioning / precision.spacing
    for _ in range(3):
        weights = weights_of(model, truth)
        found = infeasibility(truth, plain(weights), precision)
        assert found <= allowed, f"{found:.3g} spacings off the rules"
        entries = torch.cat([torch.zeros(0), *(x.detach().double().reshape(-1) for x in weights.values())])
        assert torch.equal(entries[one], sign * entries[other])
        descend(model, truth, case, 2)


@each_row("case, path, basis", rows(PATHS, BASES))
def test_free_numbers_are_those_of_the_plan(case: Case, path: str, basis: Basis) -> None:
    model, handle, truth = reparametrized(case, PRECISIONS[0], path, basis)
    before = sum(p.numel() for p in model_of(case).parameters() if p.requires_grad)
    rank = 0 if basis == "projection" else truth.rank
    assert handle.trainable.out_of == before
    assert handle.trainable.numbers == before - rank == sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not case.frozen and basis != "projection":
        free = sum(p.numel() for name, p in model.named_parameters() if name.endswith(".0.free"))
        assert free == handle.plan.free


@each_row("case, basis", [(case, BASES[number % len(BASES)]) for number, case in enumerate(CASES)])
def test_baking_gives_the_plain_module_back(case: Case, basis: Basis) -> None:
    fresh = model_of(case)
    state = {name: (x.shape, x.dtype, x.stride()) for name, x in fresh.state_dict().items()}
    model, handle, truth = reparametrized(case, PRECISIONS[0], "equations", basis)
    descend(model, truth, case, 2)
    weights = {name: x.detach().clone() for name, x in weights_of(model, truth).items()}
    violation = handle.violation()
    handle.bake()
    handle.bake()
    assert list(model.state_dict()) == list(state)
    assert {name: (x.shape, x.dtype, x.stride()) for name, x in model.state_dict().items()} == state
    assert [(n, p.requires_grad) for n, p in model.named_parameters()] == [
        (n, p.requires_grad) for n, p in fresh.named_parameters()
    ]
    assert [type(module) for module in model.modules()] == [type(module) for module in fresh.modules()]
    assert all(torch.equal(x, weights[name]) for name, x in weights_of(model, truth).items())
    assert handle.violation() == violation
