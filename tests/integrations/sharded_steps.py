"""A process of four devices that takes steps on sharded arrays and writes what it finds as JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.integrations.sharded_steps
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import affinet
import affinet.optax

N = 256
ROWS, COLUMNS = P("x", None), P(None, "x")
Tree = dict[str, Any]
RULES: dict[str, tuple[Callable[[Any], Any], P]] = {
    "sums along the devices": (lambda w: [w.a.sum(dim=0) == 1.0], ROWS),
    "sums on each device": (lambda w: [w.a.sum(dim=1) == 1.0], ROWS),
    "sums both ways": (lambda w: [w.a.sum(dim=1) == 1.0, w.a.sum(dim=0) == 1.0], COLUMNS),
    "tied matrices": (lambda w: [w.a == w.b], ROWS),
    "tied matrices of split columns": (lambda w: [w.a == w.b], COLUMNS),
    "opposite parts of matrices": (lambda w: [w.a[:128] == -2 * w.b[128:]], COLUMNS),
    "a transposed tie": (lambda w: [w.a == w.b.T], ROWS),
    "three tied matrices": (lambda w: [w.a == w.b, w.b == -2 * w.c + 1.0], COLUMNS),
    "three tied matrices, one transposed": (lambda w: [w.a == w.b, w.b == w.c.T], ROWS),
    "three tied matrices and other ties": (lambda w: [w.a == w.b, w.b == w.c, w.d[0, 0] == w.d[63, 5]], ROWS),
    "four tied entries": (lambda w: [w.a[0, 0] == w.a[63, 5], w.a[17, 3] == -w.b[40, 9]], ROWS),
    "a small dense rule": (lambda w: [w.a[3, 5] + 2 * w.a[60, 7] - w.b[33, 1] == 1.0], ROWS),
    "bounds": (lambda w: [w.a >= -0.5], ROWS),
    "bounds of split columns": (lambda w: [affinet.between(-0.5, w.a, 0.5)], COLUMNS),
    "a bound per entry": (lambda w: [w.a >= np.linspace(-1.0, 0.0, N * N).reshape(N, N)], COLUMNS),
}


def main() -> None:
    """Write, for each rule, the distance from the same steps on one device and the largest array that is gathered."""
    mesh = Mesh(np.array(jax.devices()), ("x",))
    random = np.random.default_rng(0)
    every_tree, every_gradient = (
        {name: jnp.asarray(random.normal(size=(N, N)), jnp.float32) for name in "abcd"} for _ in range(2)
    )
    found = {}
    for name, (rules, spec) in RULES.items():
        names = "abcd" if name.startswith("three") else "ab"
        tree, gradients = ({n: arrays[n] for n in names} for arrays in (every_tree, every_gradient))
        plan = affinet.plan(rules(affinet.weights(tree)))
        optimizer = affinet.optax.project(plan, optax.adam(0.05))

        def step(tree: Tree, state: Any, gradients: Tree, optimizer: Any = optimizer) -> Any:
            updates, state = optimizer.update(gradients, state, tree)
            return optax.apply_updates(tree, updates), state

        sharding = NamedSharding(mesh, spec)
        sharded, sharded_gradients = (jax.device_put(x, sharding) for x in (tree, gradients))
        state = jax.tree.map(
            lambda x, sharding=sharding: jax.device_put(x, sharding if x.shape == (N, N) else NamedSharding(mesh, P())),
            optimizer.init(tree),
        )
        compiled = jax.jit(step).lower(sharded, state, sharded_gradients).compile()
        one, several = (tree, optimizer.init(tree)), (sharded, state)
        alone, together = jax.jit(step), jax.jit(step)
        for _ in range(3):
            one = alone(*one, gradients)
            several = together(*several, sharded_gradients)
        found[name] = {
            "apart": max(float(np.abs(np.asarray(one[0][k]) - np.asarray(several[0][k])).max()) for k in tree),
            "gathered": moved("all-gather", compiled.as_text()),
            "exchanged": moved("all-to-all", compiled.as_text()),
            "split": all(x.sharding.spec == spec for x in several[0].values()),
            "same bits": name.startswith("three") and have_same_bits(plan.projector(tree), tree, sharded),
            "gap": max(float(gap) for gap in plan.projector(tree).violation(several[0]).values()),
        }
    json.dump(found, sys.stdout)


def have_same_bits(projector: Any, tree: Tree, sharded: Tree) -> bool:
    """Whether the projection on all devices has the bits of that on one."""
    project = jax.jit(projector.project)
    one, several = project(tree), project(sharded)
    return all(bool((np.asarray(one[name]) == np.asarray(several[name])).all()) for name in tree)


def moved(operation: str, program: str) -> int:
    """The entries of the largest array that the devices of a compiled program gather, or exchange."""
    shapes = re.findall(rf"= \(?\w+\[([\d,]*)\][^=]*? {operation}(?:-start)?\(", program)
    return max((int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes), default=0)


if __name__ == "__main__":
    main()
