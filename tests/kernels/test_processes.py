"""Plans and projectors in other processes: forked after torch's threads had started, and spawned."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch

from affinet.kernels.torch import precision
from affinet.kernels.torch.precision import undisturbed
from tests.contract.comparing import equal_plans
from tests.kernels.block_kinds import KINDS, Kind, plan_of, weights
from tests.kernels.dangerous import ran

FOLDER = Path(__file__).parent
needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


@needs_fork
@pytest.mark.parametrize("loops", ["compiled", "torch"])
def test_a_forked_child_projects_where_the_threads_of_torch_are_gone(loops: str) -> None:
    if loops == "compiled":
        pytest.importorskip("numba")
    assert ran(str(FOLDER / "forking.py"), loops) == "0 True\n"


def test_a_spawned_process_computes_the_same_bits_with_a_plan_and_a_projector_that_were_sent_to_it() -> None:
    assert ran(str(FOLDER / "spawning.py")) == "True\n"


def test_torch_is_held_to_one_thread_in_a_forked_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with undisturbed(torch.device("cpu")):
            assert torch.get_num_threads() == 2
        monkeypatch.setattr(precision, "IMPORTED_BY", -1)
        with undisturbed(torch.device("cpu")), undisturbed(torch.device("cpu")):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.iterated], ids=str)
def test_a_pickled_plan_is_the_plan(kind: Kind) -> None:
    plan = plan_of(kind, 260)
    sent = pickle.dumps(plan)
    assert equal_plans(pickle.loads(sent), plan) == ""
    projector, given = plan.projector(weights(plan, torch.float32)), weights(plan, torch.float32)
    wanted = projector.project(given)
    for other in (pickle.loads(pickle.dumps(projector)), copy.deepcopy(projector)):
        found = other.project(given)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_pickle_of_sums_is_as_small_as_what_the_rules_say() -> None:
    plan = plan_of(next(kind for kind in KINDS if kind.name == "sums both ways"), 4_000)
    assert len(pickle.dumps(plan)) < 10_000
    assert copy.deepcopy(plan) is plan
