"""One plan in many threads, planning in many threads, and what the number of torch's threads changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet.kernels.torch import sparse_kernel as sparse
from tests.kernels.block_kinds import KINDS, Kind, draw, plan_of, weights
from tests.kernels.test_determinism import assert_equal, every_verb

THREADS = 8
SMALL, SHARED_OUT = 260, 384
"""Rows of the weights: 384² entries are shared out to two threads, by compiled loops and by torch."""


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """`work(k)` in eight threads that start together; what they raise is raised."""
    barrier = Barrier(THREADS)

    def waiting(number: int) -> Any:
        barrier.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [found.result(timeout=120) for found in [pool.submit(waiting, k) for k in range(THREADS)]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_eight_threads_share_one_projector(kind: Kind) -> None:
    plan = plan_of(kind, SMALL)
    given = [weights(plan, torch.float32, seed) for seed in range(THREADS)]
    alone = [verbs(plan.projector(each), each) for each in given]
    shared = plan.projector(given[0])
    for one, other in zip(alone, at_once(lambda k: verbs(shared, given[k])), strict=True):
        assert_equal(one, other)


def verbs(projector: affinet.Projector, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three steps of projections, then all of them."""
    for scale in (1.0, 0.5, 2.0):
        projector.tangent({name: scale * x for name, x in given.items()})
    return {
        **{f"project {name}": x for name, x in projector.project(given).items()},
        **{f"tangent {name}": x for name, x in projector.tangent(given).items()},
    }


def test_kernels_are_set_up_and_rules_measured_by_eight_threads_at_once() -> None:
    """Also where a dtype is first seen by all of them together."""
    w = affinet.weights({"a": (40, 40), "b": (30,)})
    plan = affinet.plan([w.a == w.a.T, w.a.sum(dim=1) == 1, w.b.sum() == 2, w.b[0] == w.b[1]])
    like = {"a": torch.randn(40, 40), "b": torch.randn(30)}
    projector = plan.projector({name: x.double() for name, x in like.items()})
    found = at_once(lambda k: projector.violation(projector.project(like)))
    assert all(each == found[0] for each in found)


def test_eight_threads_plan_at_once() -> None:
    def planned(number: int) -> str:
        w: Any = affinet.weights({"a": (30, 30), "b": (200,)})
        numbers = draw(number % 2)
        terms = numbers.integers(0, 900, (700, 3))
        rules = [
            w.a.sum(dim=1) == number % 2,
            w.b[:100] == 2 * w.b[100:],
            (numbers.standard_normal((700, 3)) * w.a.flatten()[terms]).sum(dim=1) == 0,
        ]
        return str(affinet.plan(rules))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.NothingToTrainWarning)
        found = at_once(planned)
    assert len(set(found)) == 2
    assert found[::2] == [found[0]] * 4


def test_threads_that_set_up_sparse_matrices_leave_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    sparse._silence_csr_warning.cache_clear()
    plan = plan_of(next(kind for kind in KINDS if kind.name == "iterated"), SMALL)
    given = weights(plan, torch.float32)
    at_once(lambda k: plan.projector(given))
    assert warnings.filters == before


@pytest.fixture
def counts() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name not in ("iterated", "factored")], ids=str)
def test_one_thread_and_two_compute_the_same_bits(kind: Kind, counts: Callable[[int], None]) -> None:
    plan = plan_of(kind, SHARED_OUT)
    given, found = weights(plan, torch.float32), []
    for threads in (1, 2):
        counts(threads)
        found.append(every_verb(plan, given))
    assert_equal(*found)


@pytest.mark.parametrize("name", ["factored", "iterated"])
def test_of_one_large_component_the_number_of_threads_changes_rounding_only(
    name: str, counts: Callable[[int], None]
) -> None:
    plan = plan_of(next(kind for kind in KINDS if kind.name == name), SMALL)
    given, found = weights(plan, torch.float64), []
    for threads in (1, 2):
        counts(threads)
        found.append(plan.projector(given).project(given))
    for key, values in found[0].items():
        np.testing.assert_allclose(found[1][key].numpy(), values.numpy(), rtol=0, atol=1e-11)
