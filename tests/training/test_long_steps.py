"""`basis="free"` and long sums: the warning names the entry in which the steps of the others add up."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn, optim

import affinet
from affinet import families
from affinet.kernels.bases.choosing import basis_of
from affinet.kernels.bases.operations import NumPyOperations
from affinet.kernels.bases.reach import farthest
from affinet.training.long_steps import LONGEST
from tests.contract.building import plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES


def rows_of(entries: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(entries, 64), nn.ReLU(), nn.Linear(64, 10))


def test_the_entry_is_named_with_how_far_it_moves() -> None:
    model = rows_of(512)
    w = affinet.weights(model)
    rules = [(w[0].weight.sum(dim=1) == 0).named("rows"), w[2].weight.sum(dim=1) == 0]
    with pytest.warns(affinet.LongStepsWarning) as told:
        affinet.reparametrize(model, rules, basis="free")
    (warning,) = [each.message for each in told]
    assert isinstance(warning, affinet.LongStepsWarning)
    assert warning.entry.startswith("0.weight[")
    assert warning.entry.endswith(", 511]")
    assert (warning.numbers, warning.length, warning.rules) == (511, 511.0, ("rows",))
    assert "(so do entries of 1 more blocks of rules)" in str(warning)
    assert told[0].filename == __file__
    # Every free number moves by the learning rate, the entry named by 511 times as much.
    before = model[0].weight.detach().clone()
    optimizer = optim.Adam(model.parameters(), lr=1e-3, eps=0.0)
    (model[0].weight[:, -1] * torch.arange(1.0, 65.0)).sum().backward()
    optimizer.step()
    step = (model[0].weight.detach() - before).abs()
    torch.testing.assert_close(step[:, :-1], torch.full((64, 511), 1e-3), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(step[:, -1], torch.full((64,), 0.511), rtol=1e-3, atol=0.0)


def test_what_the_warning_is_for() -> None:
    """The loss of a classifier after four steps of AdamW, all weights of a row summing to zero."""
    losses = {}
    x = torch.randn(256, 512, generator=torch.Generator().manual_seed(1))
    y = torch.randint(0, 10, (256,), generator=torch.Generator().manual_seed(2))
    for way in ("project", "orthonormal", "projection", "free"):
        model = rows_of(512)
        w = affinet.weights(model)
        rules = [w[0].weight.sum(dim=1) == 0, w[2].weight.sum(dim=1) == 0]
        if way != "project":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", affinet.LongStepsWarning)
                affinet.reparametrize(model, rules, basis=way)  # type: ignore[arg-type]
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        if way == "project":
            affinet.project(model, optimizer, rules)
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            losses[way] = float(loss.detach())
            optimizer.step()
    # A step of 0.01 in 511 numbers moves the last entry by √511 to 511 times as much, 0.2 to 5; weights are below 0.05.
    assert losses["free"] > 2 * losses["project"]
    for way in ("orthonormal", "projection"):
        assert losses[way] == pytest.approx(losses["project"], rel=0.05)


@pytest.mark.parametrize("entries", [2, 9, 10])
def test_sums_of_a_few_entries_are_quiet(entries: int) -> None:
    model = nn.Linear(entries, 3)
    rule = affinet.weights(model).weight.sum(dim=1) == 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        affinet.reparametrize(model, rule, basis="free")
    assert len(told) == (entries - 1 > LONGEST)


@pytest.mark.parametrize("basis", ["orthonormal", "projection"])
def test_other_bases_are_quiet(basis: Literal["orthonormal", "projection"]) -> None:
    model = nn.Linear(500, 3)
    affinet.reparametrize(model, affinet.weights(model).weight.sum(dim=1) == 1, basis=basis)


def test_classes_of_any_size_are_quiet() -> None:
    model = nn.Linear(40, 50)
    pattern = np.random.default_rng(0).integers(0, 7, (50, 40))
    affinet.reparametrize(model, families.share(affinet.weights(model).weight, pattern), basis="free")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_found_is_the_longest_row(case: Case) -> None:
    plan = plan_of(case.name, "terms")
    for block in plan.blocks:
        try:
            basis = basis_of(block, "free", plan)
        except affinet.AttachError:
            continue
        found = farthest(basis)
        if found is None:
            assert basis.free == 0
            continue
        columns = [np.concatenate(basis.linear(NumPyOperations(), row)) for row in np.eye(basis.free)]
        lengths = np.abs(np.stack(columns, 1)).sum(axis=1)
        # The row is a real one; that it is within a factor of 3 of the longest is what the estimator is known for.
        assert float(lengths.max()) / 3.0 <= found.length <= float(lengths.max()) * (1.0 + 1e-12)
