"""Laws 1, 5, 6, 7, 8 and 9: what holds after attaching and after every step, in every dtype, along both paths.

Every case is trained in every dtype, by every optimizer and along both paths, in three runs that hold every pair of
these (`tests/contract/tables.py`): an optimizer updates each entry by itself, and a kernel does not know which it was.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from tests.contract.building import (
    PATHS,
    PRECISIONS,
    Precision,
    model_of,
    plain,
    plan_along,
    rules_of,
)
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.running import OPTIMIZERS, Run, give_gradients, run_of, trained
from tests.contract.tables import each_row, rows
from tests.kernels.judging import apart, condition_of, missed

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_path = pytest.mark.parametrize("path", PATHS)
RUNS = rows(PATHS, PRECISIONS, OPTIMIZERS)
each_run = each_row("case, path, precision, optimizer", RUNS)


@each_run
def test_training_keeps_the_laws(case: Case, path: str, precision: Precision, optimizer: str) -> None:
    run = run_of(case.name, str(precision), path, optimizer)
    assert_feasible(run, condition_of(run.oracle))
    assert_ties_are_bit_equal(run)
    assert_untouched_entries_follow_the_stock_optimizer(run)


def assert_feasible(run: Run, condition: float) -> None:
    assert run.plan is not None
    for step, weights in enumerate(run.steps):
        share = missed(run.plan, weights, condition)
        assert share <= 1.0, f"after step {step}: {share:.3g} of what rounding allows"


def assert_ties_are_bit_equal(run: Run) -> None:
    one, other, sign = plain_ties(run)
    for step, weights in enumerate(run.steps):
        flat = laid(run, weights)
        unequal = flat[one] != sign.to(flat.dtype) * flat[other]
        assert not unequal.any(), f"after step {step}: {int(unequal.sum())} of {len(one)} ties differ in their bits"


def assert_untouched_entries_follow_the_stock_optimizer(run: Run) -> None:
    touched = (run.oracle.matrix != 0).any(axis=0)
    free = torch.as_tensor(np.flatnonzero(~touched))
    for step, (ours, stock) in enumerate(zip(run.steps, run.free, strict=True)):
        assert torch.equal(laid(run, ours)[free], laid(run, stock)[free]), f"after step {step}"
        for name in ours.keys() - {p.name for p in run.oracle.layout.parameters}:
            assert torch.equal(ours[name], stock[name]), f"{name} after step {step}"


def plain_ties(run: Run) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of entries that one equation makes equal (sign 1) or opposite (sign -1)."""
    matrix = run.oracle.matrix
    double = np.flatnonzero(((matrix != 0).sum(axis=1) == 2) & (run.oracle.rhs == 0))
    pairs = np.array([np.flatnonzero(matrix[row]) for row in double], np.int64).reshape(-1, 2)
    a, b = matrix[double, pairs[:, 0]], matrix[double, pairs[:, 1]]
    plain = np.abs(a) == np.abs(b)
    return tuple(torch.as_tensor(values[plain]) for values in (pairs[:, 0], pairs[:, 1], np.where(a == b, -1.0, 1.0)))


def laid(run: Run, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Weights end to end in the oracle's order, in their own dtype."""
    parts = [weights[p.name].reshape(-1) for p in run.oracle.layout.parameters]
    return torch.cat(parts) if parts else torch.zeros(0)


def test_the_table_has_ties_to_compare() -> None:
    counts = [len(plain_ties(run_of(case.name, "float64", "equations", "SGD"))[0]) for case in CASES if case.rank < 200]
    assert sum(count > 0 for count in counts) >= 15


@each_run
def test_attaching_moves_to_the_nearest_point_and_says_how_far(
    case: Case, path: str, precision: Precision, optimizer: str
) -> None:
    run = run_of(case.name, str(precision), path, optimizer)
    assert run.plan is not None
    after, wanted = plain(run.steps[0]), run.oracle.project(run.before)
    assert apart(run.plan, run.steps[0], wanted, run.before, condition=condition_of(run.oracle)) <= 1.0
    assert set(run.moved) == {p.name for p in run.oracle.layout.parameters}
    for name, far in run.moved.items():
        assert far == pytest.approx(float(np.linalg.norm(after[name] - run.before[name])), rel=1e-9, abs=1e-300)


@each_row("case, path, optimizer", rows(PATHS, ["Adam", "AdamW"]))
def test_the_same_seed_gives_the_same_bits(case: Case, path: str, optimizer: str) -> None:
    first = run_of(case.name, "float32", path, optimizer)
    again = trained(case, torch.float32, path, OPTIMIZERS[optimizer])
    assert all(torch.equal(first.steps[-1][name], again.steps[-1][name]) for name in first.steps[-1])


@each_case
@each_path
def test_parameters_and_state_keys_stay_what_they_were(case: Case, path: str) -> None:
    model = model_of(case)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    keys, parameters = (
        list(model.state_dict()),
        [(name, id(p), p.data_ptr(), p.stride()) for name, p in model.named_parameters()],
    )
    groups = [{**group, "params": [id(p) for p in group["params"]]} for group in optimizer.param_groups]
    affinet.project(model, optimizer, plan_along(path, rules_of(case)))
    give_gradients(model, case, 0)
    optimizer.step()
    assert list(model.state_dict()) == keys
    assert [(name, id(p), p.data_ptr(), p.stride()) for name, p in model.named_parameters()] == parameters
    assert [{**group, "params": [id(p) for p in group["params"]]} for group in optimizer.param_groups] == groups
    assert set(optimizer.state_dict()) == {"state", "param_groups"}
