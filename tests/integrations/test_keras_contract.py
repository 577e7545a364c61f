"""The steps of Keras on every case of the contract, compiled: laws 1, 2, 5 and 6, and ties that stay to the bit.

Every pair of a case, a path and a dtype occurs, on TensorFlow; AFFINET_KERAS_PRODUCT=1 takes all combinations on all
backends (`make long`).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from tests.contract.building import DOUBLE, PATHS, SINGLE, Precision, directions_of, numbers, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row
from tests.contract.test_arrays import assert_ties_are_bit_equal, assert_untouched, tensors
from tests.contract.test_projections import of_solving
from tests.integrations.keras_jobs import Job
from tests.integrations.keras_processes import BACKENDS, printed
from tests.integrations.test_jax_contract import TIED, assert_is_the_tangent
from tests.kernels.judging import apart, missed, moved_again
from tests.pairwise import pairwise

Arrays = Mapping[str, np.ndarray]

EVERYTHING = bool(os.environ.get("AFFINET_KERAS_PRODUCT"))
ROWS = list((product if EVERYTHING else pairwise)(CASES, PATHS, (DOUBLE, SINGLE)))
STEPS = 30

each_backend = pytest.mark.parametrize("backend", BACKENDS if EVERYTHING else BACKENDS[:1])


def arrays_of(case: Case, purpose: str, precision: Precision) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, str(precision)) for name, values in numbers(case, purpose).items()}


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def noise_of(case: Case) -> dict[str, np.ndarray]:
    """Gradients of each step, in float32."""
    random = np.random.default_rng(0)
    return {name: random.standard_normal((STEPS, *shape)).astype(np.float32) for name, shape in case.shapes.items()}


def jobs() -> Iterator[Job]:
    for case, path, precision in ROWS:
        yield Job(plan_of(case.name, path), arrays_of(case, "far", precision), arrays_of(case, "gradients", precision))
    for name, path in TIED:
        case = named(name)
        yield Job(plan_of(name, path), arrays_of(case, "far", SINGLE), {}, noise_of(case))


@cache
def results(backend: str) -> list[dict[str, dict[str, np.ndarray]]]:
    """The results of all jobs, in their order: purpose → name → array."""
    with TemporaryDirectory() as folder:
        listed = list(jobs())
        (Path(folder) / "jobs.pkl").write_bytes(pickle.dumps(listed))
        printed("keras_contract", backend, folder)
        made: list[dict[str, dict[str, np.ndarray]]] = [{} for _ in listed]
        with np.load(Path(folder) / "results.npz") as stored:
            for key in stored.files:
                number, purpose, name = key.split(" ", 2)
                made[int(number)].setdefault(purpose, {})[name] = stored[key]
    return made


@each_backend
@each_row("case, path, precision", ROWS)
def test_projections_and_tangents_are_the_oracles(case: Case, path: str, precision: Precision, backend: str) -> None:
    result = results(backend)[ROWS.index((case, path, precision))]
    weights, gradients = (arrays_of(case, purpose, precision) for purpose in ("far", "gradients"))
    plan, condition, truth = plan_of(case.name, path), directions_of(case.name)[0], oracle_of(case.name)
    given, projected = tensors(weights), tensors(result["projected"])
    assert missed(plan, projected, condition) <= 1.0
    assert apart(plan, projected, truth.project(weights), given, condition=condition) <= 1.0
    assert apart(plan, projected, plan.projector(given).project(given), given, condition=condition) <= 1.0
    assert moved_again(plan, projected, tensors(result["again"]), of_solving(case, plan)) <= 1.0
    assert_ties_are_bit_equal(case, result["projected"])
    assert_untouched(case, weights, weights, result["projected"])
    assert_is_the_tangent(case, precision, gradients, result["tangent"])


@each_backend
@pytest.mark.parametrize(("name", "path"), TIED)
def test_ties_are_equal_to_the_bit_after_30_steps(name: str, path: str, backend: str) -> None:
    trained = results(backend)[len(ROWS) + TIED.index((name, path))]["trained"]
    case = named(name)
    assert any(np.abs(trained[n] - array).max() > 0.1 for n, array in arrays_of(case, "far", SINGLE).items())
    assert_ties_are_bit_equal(case, trained)
