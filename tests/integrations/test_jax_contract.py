"""The projector for pytrees of JAX on every case of the contract: laws 1, 2, 5 and 6, inside of `jax.jit`.

Every pair of a case, a path and a dtype occurs; AFFINET_JAX_PRODUCT=1 takes all combinations (`make long`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet.optax
from affinet.kernels.jax.tree_projector import TreeProjector
from tests.contract.building import (
    DOUBLE,
    PATHS,
    SINGLE,
    Precision,
    directions_of,
    flat,
    numbers,
    oracle_of,
    plan_of,
)
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row
from tests.contract.test_arrays import assert_ties_are_bit_equal, assert_untouched, tensors
from tests.contract.test_projections import allowed, of_solving
from tests.integrations.jax_precision import x64
from tests.kernels.judging import apart, missed, moved_again
from tests.pairwise import pairwise

Arrays = Mapping[str, np.ndarray]

COMBINED = product if os.environ.get("AFFINET_JAX_PRODUCT") else pairwise
each = each_row("case, path, precision", COMBINED(CASES, PATHS, (DOUBLE, SINGLE)))


def arrays_of(case: Case, purpose: str, precision: Precision) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, str(precision)) for name, values in numbers(case, purpose).items()}


def numpy_of(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in tree.items()}


@each
def test_projections_and_tangents_are_the_oracles(case: Case, path: str, precision: Precision) -> None:
    """One compiled program per case: compiling takes most of the time."""
    with x64(precision is DOUBLE):
        weights, gradients = (arrays_of(case, purpose, precision) for purpose in ("far", "gradients"))
        plan, condition, truth = plan_of(case.name, path), directions_of(case.name)[0], oracle_of(case.name)
        projector = TreeProjector(plan)

        @jax.jit
        def both(weights: Any, gradients: Any) -> Any:
            return projector.project(weights), projector.tangent(gradients)

        projected, tangent = map(numpy_of, both(*(jax.tree.map(jnp.asarray, of) for of in (weights, gradients))))
        again = numpy_of(both(jax.tree.map(jnp.asarray, projected), gradients)[0])
    given, found = tensors(weights), tensors(projected)
    assert missed(plan, found, condition) <= 1.0
    assert apart(plan, found, truth.project(weights), given, condition=condition) <= 1.0
    assert apart(plan, found, plan.projector(given).project(given), given, condition=condition) <= 1.0
    assert moved_again(plan, found, tensors(again), of_solving(case, plan)) <= 1.0
    assert_ties_are_bit_equal(case, projected)
    assert_untouched(case, weights, weights, projected)
    assert_is_the_tangent(case, precision, gradients, tangent)


def assert_is_the_tangent(case: Case, precision: Precision, gradients: Arrays, tangent: Arrays) -> None:
    truth = oracle_of(case.name)
    size = max(float(np.abs(array).max(initial=0.0)) for array in gradients.values())
    for name, wanted in truth.tangent(gradients).items():
        assert np.abs(tangent[name] - wanted).max(initial=0.0) <= allowed(case, precision) * size
    across = np.abs(truth.matrix @ flat(truth, tangent))
    assert across.max(initial=0.0) <= allowed(case, precision) * np.sqrt(truth.matrix.shape[1]) * size
    assert_ties_are_bit_equal(case, tangent)


TIED = (
    ("one tie", "equations"),
    ("one tie", "terms"),
    ("skew", "equations"),
    ("one row for all", "terms"),
    ("embedding tied to the head", "terms"),
    ("symmetric", "terms"),
    ("symmetric with zero diagonal", "terms"),
    ("symmetric with row sums", "equations"),
    ("symmetric with row sums", "terms"),
    ("skew with row sums", "terms"),
    ("layers tied but for fixed entries", "terms"),
    ("circulant with row sums", "terms"),
    ("rows and columns with ties", "terms"),
    ("tied columns of doubly centred matrices", "terms"),
)
"""A case for each kind of block that makes entries equal or opposite."""


@pytest.mark.parametrize(("name", "path"), TIED)
def test_ties_are_equal_to_the_bit_after_30_steps(name: str, path: str) -> None:
    """In float32, where XLA fuses as much as in float64; after the first step, whose move `p + (w - p)` rounds, too."""
    case = next(case for case in CASES if case.name == name)
    tree = jax.tree.map(jnp.asarray, arrays_of(case, "far", SINGLE))
    optimizer = affinet.optax.project(plan_of(name, path), optax.adamw(0.05, weight_decay=0.1))

    def step(carried: Any, key: Any) -> Any:
        tree, state = carried
        gradients = {name: jax.random.normal(key, x.shape) * (1.0 + x**2) for name, x in tree.items()}
        updates, state = optimizer.update(gradients, state, tree)
        return (optax.apply_updates(tree, updates), state), None

    keys = jax.random.split(jax.random.key(0), 30)
    tree, _ = jax.jit(lambda tree, state: jax.lax.scan(step, (tree, state), keys)[0])(tree, optimizer.init(tree))
    assert_ties_are_bit_equal(case, numpy_of(tree))
