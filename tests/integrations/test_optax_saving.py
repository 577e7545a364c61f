"""States of rules under Optax in files: a training that is saved and restored makes the steps of one that was not."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet
import affinet.optax
from affinet import families
from tests.integrations.jax_precision import x64

serialization = pytest.importorskip("flax.serialization")
State = Any
SavedAs = Callable[[State, State, Path], State]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with x64():
        yield


def start() -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes = {"a": (6, 5), "b": (4, 4), "c": (8,), "d": (7,)}
    dtypes = {"a": "float64", "b": "float32", "c": "float64", "d": "float32"}
    return {name: jnp.asarray(random.standard_normal(shape), dtypes[name]) for name, shape in shapes.items()}


def rules_of(w: Any) -> list[Any]:
    """Multipliers, faces and tangent planes; those of `d` are found on the host."""
    return [
        w.b == w.b.T,
        w.a >= 0.1,
        families.unit_norm(w.c.reshape(2, 4), dim=1),
        np.random.default_rng(5).standard_normal((3, 7)) @ w.d <= 0.5,
        w.d[0] >= -0.1,
    ]


def with_flax(carried: State, like: State, folder: Path) -> State:
    return serialization.from_bytes(like, serialization.to_bytes(carried))


def with_pickle(carried: State, like: State, folder: Path) -> State:
    return pickle.loads(pickle.dumps(carried))


def with_orbax(carried: State, like: State, folder: Path) -> State:
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", carried)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state", like)


def with_numpy(carried: State, like: State, folder: Path) -> State:
    leaves, structure = jax.tree.flatten(carried)
    np.savez(folder / "state.npz", *leaves)
    with np.load(folder / "state.npz") as file:
        return jax.tree.unflatten(structure, [file[name] for name in file.files])


WAYS: dict[str, SavedAs] = {"flax": with_flax, "pickle": with_pickle, "orbax": with_orbax, "numpy": with_numpy}


class Training:
    """Steps of Adam on noisy gradients; compiled once."""

    def __init__(self) -> None:
        self.optimizer = affinet.optax.project(affinet.plan(rules_of(affinet.weights(start()))), optax.adam(0.05))
        self.step = jax.jit(self._step)

    def begun(self) -> State:
        tree = start()
        return tree, self.optimizer.init(tree)

    def run(self, carried: State, numbers: range) -> State:
        for number in numbers:
            carried = self.step(*carried, number)
        return carried

    def _step(self, tree: State, state: State, number: Any) -> State:
        keys = jax.random.split(jax.random.key(number), len(tree))
        noise = {
            name: jax.random.normal(key, x.shape, x.dtype) for (name, x), key in zip(tree.items(), keys, strict=True)
        }
        gradients = {name: x - 0.3 + 0.5 * noise[name] for name, x in tree.items()}
        updates, state = self.optimizer.update(gradients, state, tree)
        return optax.apply_updates(tree, updates), state


@pytest.fixture(scope="module")
def training() -> Training:
    return Training()


@pytest.mark.parametrize("way", WAYS)
def test_a_restored_training_goes_on_to_the_bit(training: Training, way: str, tmp_path: Path) -> None:
    """Into a state of a new optimizer, as in another process: multipliers, faces and counts included."""
    middle = training.run(training.begun(), range(10))
    wanted = training.run(middle, range(10, 20))
    restored = WAYS[way](middle, training.begun(), tmp_path)
    ended = training.run(restored, range(10, 20))
    assert jax.tree.structure(ended) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(ended), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_multipliers_matter_for_the_next_steps(training: Training) -> None:
    """So that the test above would fail without them: a state that is begun anew makes other steps."""
    tree, state = training.run(training.begun(), range(10))
    wanted, _ = training.run((tree, state), range(10, 20))
    anew = training.optimizer.init(tree)._replace(inner=state.inner)
    ended, _ = training.run((tree, anew), range(10, 20))
    assert any(not np.array_equal(ended[name], wanted[name]) for name in tree)


def test_a_state_of_other_rules_is_refused(training: Training) -> None:
    tree = start()
    other = affinet.optax.project(affinet.plan([affinet.weights(tree).a >= 0.0]), optax.adam(0.05))
    with pytest.raises(affinet.AttachError, match="made for other rules"):
        other.update(tree, training.optimizer.init(tree), tree)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("rules", ["polyhedron", "unit rows", "bounds"])
def test_a_state_from_before_x64_was_switched_goes_on(rules: str, before: bool) -> None:
    """Laws compute in float64 where JAX has it, and so do states: a training goes on in the dtype that there is now."""
    written: dict[str, Callable[[Any], list[Any]]] = {
        "polyhedron": lambda w: [w @ np.arange(5.0) <= 1.0, np.ones(4) @ w <= 0.3],
        "unit rows": lambda w: [families.unit_norm(w, 1)],
        "bounds": lambda w: [w >= 0.0],
    }
    plan = affinet.plan(written[rules](affinet.weights({"w": (4, 5)}).w))
    optimizer = affinet.optax.project(plan, optax.adam(0.1))
    tree = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)}

    def step(tree: Any, state: Any) -> Any:
        updates, state = optimizer.update(tree, state, tree)
        return optax.apply_updates(tree, updates), state

    with x64(before):
        tree, state = jax.jit(step)(tree, optimizer.init(tree))
    with x64(not before):
        trained, known = jax.jit(step)(tree, state)
        wanted, _ = jax.jit(step)(tree, optimizer.init(tree))
        assert jax.tree.map(lambda x: x.dtype, known.sets) == jax.tree.map(lambda x: x.dtype, optimizer.init(tree).sets)
        gaps = plan.projector(tree).violation(trained)
    # One rounding of each of the terms of a rule, of which there are at most five, each of size one.
    assert max(float(gap) for gap in gaps.values()) <= 5 * 2.0**-23
    assert np.isfinite(np.asarray(trained["w"])).all()
    assert trained["w"].dtype == wanted["w"].dtype == jnp.float32
