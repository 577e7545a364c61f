"""Find the weights that an optimizer of Optax leaves without a step, from the program of its update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval

from affinet.language.trees import named_leaves


def unmoved(update: Callable[[Any], Any], gradients: Any) -> set[str]:
    """Names of the arrays whose update reads no gradient, or is the gradient itself.

    `optax.set_to_zero` makes the first, and `optax.masked` the second of what its mask leaves out. Branches of
    conditions are looked into; an update that a condition on gradients decides about counts as one that moves.
    """
    names = [name for name, _ in named_leaves(gradients)]
    leaves, structure = jax.tree.flatten(gradients)
    program = jax.make_jaxpr(lambda leaves: jax.tree.leaves(update(jax.tree.unflatten(structure, leaves))))(leaves)
    unmoved_names: set[str] = set()
    for number, (name, result) in enumerate(zip(names, program.jaxpr.outvars, strict=True)):
        wanted = [other == number for other in range(len(names))]
        _, is_read = partial_eval.dce_jaxpr(program.jaxpr, wanted)
        if name is not None and (not any(is_read) or any(result is gradient for gradient in program.jaxpr.invars)):
            unmoved_names.add(name)
    return unmoved_names
