"""The laws of all blocks of the contract table: one code over NumPy and torch, and over shards of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet.blocks.classes import Classes
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import Rounds, run_alone
from affinet.blocks.namespace import NumPy
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.errors import AttachError
from affinet.kernels.arrays.array_entries import read, write
from affinet.kernels.torch.precision import noise_floor
from affinet.kernels.torch.torch_namespace import Torch
from tests.contract.building import PATHS, directions_of, numbers, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row, rows
from tests.contract.test_arrays import assert_ties_are_bit_equal
from tests.kernels.bounds import of_projection
from tests.kernels.judging import apart, sets_of
from tests.pairwise import pairwise

KINDS = (
    "Slices",
    "Commuting",
    "Mirror",
    "Pairs",
    "Fixed",
    "Ties",
    "Dense",
    "Sparse",
    "Bordered",
    "Joined",
)
ALONG_SEVERAL_AXES = ("Commuting",)
FLOOR = 1e-3
"""A floor of noise that silences some entries of random vectors."""

Verb = Callable[[Any, Any, Any], Rounds[Any]]
VERBS: dict[str, Verb] = {
    "nearest": lambda law, xp, x: law.nearest(xp, x),
    "tangent": lambda law, xp, x: law.tangent(xp, x),
    "quiet tangent": lambda law, xp, x: law.tangent(xp, x, floor=FLOOR),
    "nearest in a metric": lambda law, xp, x: law.nearest_in_metric(xp, x, 0.5 + abs(x)),
}


@cache
def blocks() -> list[tuple[Case, AnyBlock]]:
    """All blocks of the table."""
    return [(case, block) for case in CASES for path in PATHS for block in plan_of(case.name, path).blocks]


def of_kind(kind: str) -> list[tuple[Case, AnyBlock]]:
    found = [(case, block) for case, block in blocks() if type(block).__name__ == kind]
    assert found
    return found


@pytest.mark.parametrize(("kind", "verb", "dtype"), pairwise(KINDS, VERBS, ("float64", "float32")))
def test_a_law_is_the_same_in_every_array_library(kind: str, verb: str, dtype: str) -> None:
    for number, (case, block) in enumerate(of_kind(kind)):
        law = block.law().projection
        x = np.random.default_rng(number).standard_normal(law.shape).astype(dtype)
        in_numpy, in_torch = [], []
        for xp, given, found in ((NumPy(), x.copy(), in_numpy), (Torch(), torch.tensor(x), in_torch)):
            try:
                found.append(np.asarray(run_alone(VERBS[verb](law, xp, given))))
            except AttachError as error:
                assert verb == "nearest in a metric"
                found.append(str(error))
        if isinstance(in_numpy[0], str):
            assert in_numpy == in_torch
            continue
        assert in_numpy[0].dtype == x.dtype
        assert in_numpy[0].shape == law.shape
        # Two computations of one pass; a metric between ½ and 4 makes equations worse conditioned by √8.
        spacing = float(np.finfo(dtype).eps)
        condition = 3.0 * max(1.0, directions_of(case.name)[0])
        within = spacing * of_projection(int(_rank(block)), x.size, spacing, sets=sets_of(block), condition=condition)
        solved = condition if kind in ("Sparse", "Bordered") or verb == "nearest in a metric" else 1.0
        size = np.linalg.norm(x) + np.linalg.norm(in_numpy[0])
        assert np.linalg.norm(in_numpy[0].astype(float) - in_torch[0]) <= within * solved * size


@each_row("case, path", rows(PATHS))
def test_quiet_tangents_are_those_of_tensors(case: Case, path: str) -> None:
    plan = plan_of(case.name, path)
    gradients = {name: array.astype(np.float32) for name, array in numbers(case, "gradients").items()}
    floor = noise_floor(torch.float32)
    found = _through(plan, gradients, lambda law, x, _: law.tangent(NumPy(), x, floor=floor))
    given = {name: torch.tensor(array) for name, array in gradients.items()}
    wanted = {name: tensor.clone() for name, tensor in given.items()}
    plan.projector(given).project_gradients_(wanted, given, {})
    tensors = {name: torch.tensor(array) for name, array in found.items()}
    assert apart(plan, tensors, wanted, given, condition=directions_of(case.name)[0], quiet=True) <= 1.0
    assert_ties_are_bit_equal(case, _through(plan, gradients, lambda law, x, _: law.tangent(NumPy(), x, floor=0.3)))


@each_row("case, path", rows(PATHS))
def test_projections_in_a_metric_are_those_of_tensors(case: Case, path: str) -> None:
    plan = plan_of(case.name, path)
    weights = numbers(case, "far")
    metric = {name: np.exp2(2.0 * np.sin(array)) for name, array in numbers(case, "metric").items()}
    given, resisting, wanted = (
        {name: torch.tensor(array) for name, array in arrays.items()} for arrays in (weights, metric, weights)
    )
    projector = plan.projector(given)
    try:
        projector.project_in_metric_(wanted, resisting)
    except AttachError:
        with pytest.raises(AttachError, match="several axes do not commute"):
            _through(plan, weights, lambda law, x, m: law.nearest_in_metric(NumPy(), x, m), metric)
        return
    found = weights
    for _ in range(2):
        found = _through(plan, found, lambda law, x, m: law.nearest_in_metric(NumPy(), x, m), metric)
    tensors = {name: torch.tensor(array) for name, array in found.items()}
    # Weights of the metric are between ¼ and 4: its square root makes equations worse conditioned by 4.
    assert apart(plan, tensors, wanted, given, condition=4.0 * directions_of(case.name)[0]) <= 1.0


def test_vectors_are_projected_many_at_a_time() -> None:
    for _, block in blocks():
        if type(block).__name__ not in ("Slices", "Commuting", "Mirror", "Pairs", "Dense", "Joined"):
            continue
        law = block.law().projection
        if type(block).__name__ == "Dense" and law.wide:
            continue  # its class means are taken of one vector
        x = np.random.default_rng(0).standard_normal((3, *law.shape))
        together = run_alone(law.tangent(NumPy(), x.copy()))
        for one, own in zip(x, together, strict=True):
            np.testing.assert_allclose(own, run_alone(law.tangent(NumPy(), one.copy())), rtol=0, atol=1e-14 * 64)


def test_flags_that_a_blas_raises_are_no_warnings() -> None:
    """Warnings are errors in tests. A product that leaves the numbers is still NaN."""
    product = NumPy().matmul(np.full((1, 1), np.inf, np.float32), np.zeros((1, 1), np.float32))
    assert np.isnan(product).all()


def test_slices_in_shards_are_the_slices() -> None:
    draw, copied = np.random.default_rng(0), 0
    for _, block in of_kind("Slices"):
        assert isinstance(block, Slices)
        law = block.law().projection
        x = draw.standard_normal((block.outer.size, block.inner.size)).astype(np.float32)
        owners = draw.integers(0, 3, block.inner.size)  # of every cell; the fourth holder has nothing
        cells = np.array_split(np.arange(block.outer.size), 2)
        for verb in ("nearest", "tangent", "quiet tangent"):
            whole = run_alone(VERBS[verb](law, NumPy(), x.reshape(law.shape).copy())).reshape(x.shape)
            found = np.empty_like(x)
            for some in cells:
                places = [np.flatnonzero(owners == k) for k in range(4)]
                shards = [law.for_holder(some, own) for own in places]
                given = [x[np.ix_(some, own)] for own in places]
                outcomes, sums = lockstep([VERBS[verb](s, NumPy(), g) for s, g in zip(shards, given, strict=True)])
                # One number for each equation of a cell; one more of a cell's norm, one for each entry that is copied.
                rows, extra = len(block.basis), verb == "quiet tangent" and not block.even
                copies = [len(some) * len(block.copies)] if len(block.copies) else []
                assert sums == [len(some) * (rows + extra), *copies]
                for own, outcome in zip(places, outcomes, strict=True):
                    found[np.ix_(some, own)] = outcome
            # Sums of n terms in another order.
            n = block.inner.size
            assert np.abs(found - whole).max(initial=0.0) <= 2**-23 * (2 + n) * np.abs(x).max(initial=1.0) * 2
            for member, representative, sign in block.copies:
                np.testing.assert_array_equal(found[:, int(member)], sign * found[:, int(representative)])
                copied += 1
    assert copied


def test_ties_in_shards_are_the_ties() -> None:
    draw = np.random.default_rng(0)
    for _, block in of_kind("Ties"):
        assert isinstance(block, Ties)
        law = block.law().projection
        x = draw.standard_normal(law.shape)
        owners = draw.integers(0, 3, block.size)
        places = [np.flatnonzero(owners == k) for k in range(4)]
        for verb in ("nearest", "tangent", "quiet tangent", "nearest in a metric"):
            whole = run_alone(VERBS[verb](law, NumPy(), x.copy()))
            shards = [VERBS[verb](law.for_holder(own), NumPy(), x[own]) for own in places]
            outcomes, sums = lockstep(shards)
            k = block.classes.count
            assert sums == [k, 2 * k if verb in ("quiet tangent", "nearest in a metric") else k]
            found = np.empty_like(x)
            for own, outcome in zip(places, outcomes, strict=True):
                found[own] = outcome
            size = np.abs(x).max() + np.abs(whole).max()
            assert np.abs(found - whole).max() <= np.finfo(float).eps * block.size * size
            equal = (block.classes.shift == 0.0) if len(block.classes.shift) > 1 else np.zeros(block.size, bool)
            plain = equal & (block.classes.scale == 1.0) if len(block.classes.scale) > 1 else equal
            for number in range(k):
                assert len(np.unique(found[plain & (block.classes.class_of == number)])) <= 1


def test_equal_numbers_in_shards_have_themselves_as_their_mean() -> None:
    n = 100_001
    classes = Classes(np.zeros(n, np.int64), np.ones(1), np.zeros(1), np.zeros(1, np.int64))
    law = Ties((), classes, (0,)).law().projection
    x = np.full(n, 0.1)
    outcomes, _ = lockstep([law.for_holder(own).nearest(NumPy(), x[own]) for own in np.array_split(np.arange(n), 3)])
    assert all((outcome == 0.1).all() for outcome in outcomes)


def test_sums_of_float32_numbers_over_holders_are_exact() -> None:
    """Whatever part of a class a holder has: no representatives are exchanged."""
    draw, n = np.random.default_rng(0), 100_001
    signs = np.concatenate([[1.0], np.where(draw.random(n - 1) < 0.5, 1.0, -1.0)])
    classes = Classes(np.zeros(n, np.int64), signs, np.zeros(1), np.zeros(1, np.int64))
    law = Ties((), classes, (0,)).law().projection
    x = classes.scale * float(np.float32(0.1))
    for verb, yielded in {"nearest": 1, "tangent": 1, "quiet tangent": 2}.items():
        places = np.array_split(np.arange(n), [1, 70_000])
        shards = [VERBS[verb](law.for_holder(own, exact_sums=True), NumPy(), x[own]) for own in places]
        outcomes, sums = lockstep(shards)
        assert sums == [yielded]
        np.testing.assert_array_equal(np.concatenate(outcomes), x)


def lockstep(shards: Sequence[Rounds[Any]]) -> tuple[list[Any], list[int]]:
    """What the holders of all shards return, and how many numbers they added up in each round."""
    outcomes: list[Any] = [None] * len(shards)
    sums: list[int] = []
    totals: list[Any] = [None] * len(shards)
    while True:
        asked = []
        for number, shard in enumerate(shards):
            try:
                asked.append(shard.send(totals[number]).numbers)
            except StopIteration as done:
                outcomes[number] = done.value
        if not asked:
            return outcomes, sums
        assert len(asked) == len(shards), "a holder had another number of rounds"
        assert len({numbers.shape for numbers in asked}) == 1
        total = np.sum(asked, axis=0, dtype=np.float64).astype(asked[0].dtype)
        total.flags.writeable = False
        sums.append(total.size)
        totals = [total] * len(shards)


def _rank(block: AnyBlock) -> int:
    rank = block.rank
    return rank if isinstance(rank, int) else rank.high


def _through(
    plan: affinet.Plan,
    arrays: dict[str, np.ndarray],
    verb: Callable[[Any, np.ndarray, np.ndarray], Rounds[Any]],
    others: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Arrays after a verb of all laws of a plan, in the dtypes that the projector works in; `others` go with them."""
    copies = {name: array.copy() for name, array in arrays.items()}
    for block in plan.blocks:
        law = block.law().projection
        entries = [
            read(block.entries, {name: array.reshape(-1) for name, array in given.items()})
            for given in (copies, others or copies)
        ]
        wide = law.wide or entries[0].dtype == np.float64
        x, y = (part.astype(np.float64 if wide else np.float32).reshape(law.shape) for part in entries)
        write(block.entries, {name: array.reshape(-1) for name, array in copies.items()}, run_alone(verb(law, x, y)))
    return copies
