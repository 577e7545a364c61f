"""Find the weights that an optimizer of Optax leaves without a step, from the program of its update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from affinet.adapters.optax_flows import GRADIENT, OTHER, ZERO, Flow, flows
from affinet.language.trees import named_leaves

Update = Callable[[Any, Any], Any]
"""Gradients and state → updates and the next state."""


def has_masks(state: Any) -> bool:
    """Whether the state of an optimizer is one with a mask somewhere inside."""
    return any(isinstance(part, optax.MaskedState) for part in jax.tree.leaves(state, is_leaf=_is_masked))


def unmoved(init: Callable[[Any], Any], update: Update, gradients: Any, state: Any) -> set[str]:
    """Names of the arrays whose update depends on no gradient, or is a gradient that no rate has scaled.

    `optax.set_to_zero` makes the first, and `optax.masked` the second of what its mask leaves out. Programs are looked
    into, so that it does not matter what stands around a mask: a decision about the whole update, such as whether
    gradients are finite or whether it is time for a step, changes nothing, nor do arrays of the state that begin at
    zero and stay there. `init` makes such a state from weights, for which the gradients stand.

    Under `optax.contrib.schedule_free` it is the step of its `z` that shows a gradient without a rate.
    """
    names = [name for name, _ in named_leaves(gradients)]
    leaves, structure = jax.tree.flatten(gradients)
    state_leaves, state_structure = jax.tree.flatten(state)
    places = [number for number, leaf in enumerate(state_leaves) if isinstance(leaf, jax.Array | np.ndarray)]

    def updated(leaves: list[Any], arrays: list[Any]) -> tuple[list[Any], list[list[Any]], list[Any]]:
        parts = list(state_leaves)
        for number, array in zip(places, arrays, strict=True):
            parts[number] = array
        updates, state = update(jax.tree.unflatten(structure, leaves), jax.tree.unflatten(state_structure, parts))
        following = jax.tree.leaves(state)
        return jax.tree.leaves(updates), _stepped_from(state), [following[number] for number in places]

    arrays = [state_leaves[number] for number in places]
    program, shapes = jax.make_jaxpr(updated, return_shape=True)(leaves, arrays)
    stepped_from = len(shapes[1])

    def results(zeros: list[bool]) -> list[Flow]:
        return flows(program, [GRADIENT] * len(leaves) + [ZERO if zero else OTHER for zero in zeros])

    zeros = _first_zeros(init, jax.tree.unflatten(structure, leaves), len(state_leaves), places)
    while True:
        result_flows = results(zeros)
        lasting_zeros = [
            zero and flow.zero
            for zero, flow in zip(zeros, result_flows[len(result_flows) - len(places) :], strict=True)
        ]
        if lasting_zeros == zeros:
            break
        zeros = lasting_zeros
    count = len(leaves)
    moves = [result_flows[number * count : (number + 1) * count] for number in range(1 + stepped_from)]
    return {
        name
        for number, name in enumerate(names)
        if name is not None and (not moves[0][number].reads or any(part[number].passed for part in moves))
    }


def _stepped_from(state: Any) -> list[list[Any]]:
    """The arrays that schedule-free optimizers step from, in the order of the weights."""
    kind = optax.contrib.ScheduleFreeState
    parts = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, kind))
    return [jax.tree.leaves(part.z) for part in parts if isinstance(part, kind)]


def _first_zeros(init: Callable[[Any], Any], weights: Any, count: int, places: list[int]) -> list[bool]:
    """Which arrays of a new state are zero whatever the weights are; of numbers that may be set later, none.

    No array is where the state cannot be made within a program.
    """
    try:
        program = jax.make_jaxpr(init)(weights)
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerBoolConversionError,
        jax.errors.TracerIntegerConversionError,
    ):
        return [False] * len(places)
    known, shapes = flows(program, [OTHER] * len(program.in_avals)), program.out_avals
    if len(known) != count:
        return [False] * len(places)
    return [known[number].zero and shapes[number].shape != () for number in places]


def _is_masked(part: Any) -> bool:
    return isinstance(part, optax.MaskedState)
