"""Steps and projections in JAX on 2048² float32: affinet beside jnp by hand, Optax's projections, and jaxopt's.

All sides of a job take turns in one process, compiled and with donated buffers; times are medians of the process's CPU
time. `python -m benchmarks.peers optax_steps JAX` prints the rows alone, as JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import affinet
import affinet.optax
from affinet import families
from benchmarks.results import PeerRow

SIZE, TURNS, RATE = 2048, 20, 1e-3
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
Projection = Callable[[Any], Any]


def measured(title: str) -> Iterator[PeerRow]:
    """The rows of steps, then those of projections."""
    for job, (rules, rivals) in STEPS.items():
        yield from _steps(title, job, rules, rivals)
    for job, (rules, projections) in PROJECTIONS.items():
        yield from _projections(title, job, rules, projections)


def _by_hand(
    gradient: Callable[[Any], Any], nearest: Callable[[Any], Any]
) -> tuple[Step, optax.GradientTransformation]:
    adam = optax.adam(RATE)

    def step(w: Any, state: Any, g: Any) -> tuple[Any, Any]:
        updates, state = adam.update(gradient(g), state, w)
        return nearest(w + updates), state

    return step, adam


def _without_means(g: Any) -> Any:
    """The gradient along the rules, zero where it is rounding: the guard that all sides have."""
    projected = g - g.mean(1, keepdims=True)
    noise = 32.0 * 2.0**-24 * (abs(g) + jnp.sqrt(jnp.mean(g * g, 1, keepdims=True)))
    return jnp.where(abs(projected) < noise, 0.0, projected)


def _transformed(optimizer: optax.GradientTransformation) -> tuple[Step, optax.GradientTransformation]:
    def step(w: Any, state: Any, g: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(g, state, w)
        return optax.apply_updates(w, updates), state

    return step, optimizer


def _ours(rules: Callable[[Any], Any]) -> tuple[Step, optax.GradientTransformation]:
    plan = affinet.plan(rules(affinet.weights({"w": (SIZE, SIZE)}).w))
    optimizer = affinet.optax.project(plan, optax.adam(RATE))

    def step(w: Any, state: Any, g: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update({"w": g}, state, {"w": w})
        return w + updates["w"], state

    init = optax.GradientTransformation(lambda w: optimizer.init({"w": w}), optimizer.update)
    return step, init


STEPS: Mapping[str, tuple[Callable[[Any], Any], Mapping[str, tuple[Step, optax.GradientTransformation]]]] = {
    "a step of Adam, row sums": (
        lambda w: [w.sum(dim=1) == 1.0],
        {
            "jnp by hand": _by_hand(_without_means, lambda w: w - (w.sum(1, keepdims=True) - 1.0) / SIZE),
            "no rule": _transformed(optax.adam(RATE)),
        },
    ),
    "a step of Adam, w >= 0": (
        lambda w: [w >= 0.0],
        {
            "Adam, then max(w, 0)": _by_hand(lambda g: g, lambda w: jnp.maximum(w, 0.0)),
            "keep_params_nonnegative": _transformed(
                optax.chain(optax.adam(RATE), optax.transforms.keep_params_nonnegative())
            ),
            "no rule": _transformed(optax.adam(RATE)),
        },
    ),
}


def _optax_projections() -> dict[str, dict[str, Projection]]:
    from optax import projections

    return {
        "nearest point, w >= 0": {"optax": projections.projection_non_negative},
        "nearest point, between bounds": {"optax": lambda w: projections.projection_box(w, -0.5, 0.5)},
        "nearest point, rows on the simplex": {"optax": jax.vmap(projections.projection_simplex)},
    }


def _jaxopt_projections() -> dict[str, dict[str, Projection]]:
    try:
        from jaxopt import projection
    except ImportError:
        return {}
    return {
        "nearest point, w >= 0": {"jaxopt": projection.projection_non_negative},
        "nearest point, between bounds": {"jaxopt": lambda w: projection.projection_box(w, (-0.5, 0.5))},
        "nearest point, rows on the simplex": {"jaxopt": jax.vmap(projection.projection_simplex)},
    }


RULES: dict[str, Callable[[Any], Any]] = {
    "nearest point, w >= 0": lambda w: [w >= 0.0],
    "nearest point, between bounds": lambda w: [affinet.between(-0.5, w, 0.5)],
    "nearest point, rows on the simplex": lambda w: [families.simplex(w, 1)],
}
PROJECTIONS = {
    job: (rules, {**_optax_projections()[job], **_jaxopt_projections().get(job, {})}) for job, rules in RULES.items()
}


def _steps(
    title: str,
    job: str,
    rules: Callable[[Any], Any],
    rivals: Mapping[str, tuple[Step, optax.GradientTransformation]],
) -> Iterator[PeerRow]:
    numbers, gradient = _normal(0), _normal(1)
    running = {}
    for name, (step, optimizer) in {"ours": _ours(rules), **rivals}.items():
        w = jnp.array(numbers)
        running[name] = [jax.jit(step, donate_argnums=(0, 1)), w, optimizer.init(w)]

    def run(name: str) -> None:
        compiled, w, state = running[name]
        running[name][1:] = compiled(w, state, gradient)
        jax.block_until_ready(running[name][1])

    yield from _by_turns(title, job, {name: lambda name=name: run(name) for name in running})


def _projections(
    title: str, job: str, rules: Callable[[Any], Any], rivals: Mapping[str, Projection]
) -> Iterator[PeerRow]:
    projector = affinet.plan(rules(affinet.weights({"w": (SIZE, SIZE)}).w)).projector({"w": _normal(0)})
    sides: dict[str, Projection] = {"ours": lambda w: projector.project({"w": w})["w"], **rivals}
    compiled = {name: jax.jit(side) for name, side in sides.items()}
    w = _normal(0)
    wanted = np.asarray(compiled["ours"](w))
    notes = {name: f"{np.abs(np.asarray(side(w)) - wanted).max():.0e} apart" for name, side in compiled.items()}
    calls = {name: lambda side=side: jax.block_until_ready(side(w)) for name, side in compiled.items()}
    yield from _by_turns(title, job, calls, notes)


def _by_turns(
    title: str, job: str, calls: Mapping[str, Callable[[], Any]], notes: Mapping[str, str] | None = None
) -> Iterator[PeerRow]:
    """Each side in turn, TURNS times; the first call of each compiles and is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 2):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if turn >= 2:
                taken[name].append(time.process_time() - began)
    medians = {name: median(times) for name, times in taken.items()}
    for name in calls:
        if name != "ours":
            yield PeerRow(
                f"{title}: {name}", f"{job}, {SIZE}²", medians["ours"], medians[name], (notes or {}).get(name, "")
            )


def _normal(seed: int) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(SIZE, SIZE)), jnp.float32)
