"""JAX gives the truth of every case of `affinet.testing`, in both dtypes, and Optax trains to the optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import affinet
import affinet.testing
from affinet.testing import Case

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
optax = pytest.importorskip("optax")

each_case = pytest.mark.parametrize("case", affinet.testing.cases(), ids=str)
STEPS = 600
TRAINED = ("sums of rows", "tied weights", "irregular equations", "bounds", "simplex", "unit rows")


class Jax:
    """The projector of a plan for trees of JAX arrays; conversions both ways."""

    def __init__(self, plan: affinet.Plan, weights: Mapping[str, np.ndarray]) -> None:
        self.plan, self.projector = plan, plan.projector(trees(weights))

    def project(self, weights: Mapping[str, np.ndarray]) -> Any:
        return self.projector.project(trees(weights))

    def tangent(self, vectors: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray]) -> Any:
        return jax.jit(self.projector.tangent)(trees(vectors), trees(at))

    def multipliers(self, gradients: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray]) -> Any:
        return self.projector.multipliers(trees(gradients), trees(at))


class JaxUnderAdam(Jax):
    """The same, and training by Optax's Adam with a rate that falls to zero."""

    def minimize(self, case: Case, weights: Mapping[str, np.ndarray]) -> Any:
        optimizer = affinet.optax.project(self.plan, optax.adam(optax.cosine_decay_schedule(0.05, STEPS)))
        params, quadratic = trees(weights), case.quadratic

        def step(carried: Any, _: Any) -> Any:
            params, state = carried
            updates, state = optimizer.update(quadratic.gradient(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        run = jax.jit(lambda params, state: jax.lax.scan(step, (params, state), None, length=STEPS)[0])
        return run(params, optimizer.init(params))[0]


def trees(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: jnp.asarray(array) for name, array in arrays.items()}


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jax_gives_the_truth(case: Case, dtype: str) -> None:
    with jax.enable_x64(True):
        affinet.testing.check(Jax, case, dtype)


@pytest.mark.parametrize("case", [case for case in affinet.testing.cases() if case.name in TRAINED], ids=str)
def test_optax_trains_to_the_optimum(case: Case) -> None:
    with jax.enable_x64(True):
        measured = affinet.testing.check(JaxUnderAdam, case)
    assert "training ends at the optimum" in measured.shares


def test_float64_without_x64_is_told() -> None:
    with jax.enable_x64(False), pytest.raises(affinet.ConformanceError, match="float32 instead of"):
        affinet.testing.check(Jax, replace(affinet.testing.cases()[0]), "float64")
