"""Free numbers in place of a tree of JAX arrays: `w = w0 + N v` as two pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from affinet.errors import AttachError
from affinet.kernels.bases.choosing import Parametrization, check_parametrization, linear_blocks
from affinet.kernels.jax.tree_expansion import Group, groups_of
from affinet.kernels.jax.tree_projector import TreeProjector, check_dtype
from affinet.language.trees import named_leaves
from affinet.plans.plan import Plan
from affinet.training.long_steps import warn_of_long_steps


class FreeNumbers(NamedTuple):
    """The numbers that are trained in place of a tree; itself a tree.

    `free`: the v of each set of weights that rules couple, under the name of the first of them. `tree`: the tree, in
    which each of these weights has become the row of its entries that are in no rule.
    """

    free: dict[str, Array]
    tree: Any


class Reparametrization(NamedTuple):
    """Two pure functions: `to_free` makes the numbers to train from a tree, `from_free` the tree from the numbers."""

    to_free: Callable[[Any], Any]
    from_free: Callable[[Any], Any]


def reparametrize(plan: Plan, basis: Parametrization = "orthonormal") -> Reparametrization:
    """Train only the numbers that the rules leave free, by two functions of trees.

    `to_free(params)` returns the numbers of the nearest tree that satisfies the rules, and `from_free(numbers)` the
    tree: differentiate `loss(from_free(numbers))`, and train `numbers` with any optimizer, without anything around it.
    Both may stand inside `jax.jit`, `jax.vmap` and `jax.lax.scan`.

    `basis="orthonormal"`: `w = w0 + N v` with NᵀN = I; under SGD the weights follow the trajectory of `project`.
    `"free"`: each free number is one of the weights, and determines others. `"projection"`: all numbers u are kept, in
    the tree as it is, and weights are Π(u), which follows `project` for every optimizer without decay; its derivatives
    are those of reverse mode (`jax.grad`, not `jax.jvp`).

    Raises AttachError for what is not a plan, for inequalities and nonlinear equations, and where no basis is cheap.
    Warns (LongStepsWarning) of entries of a long sum under `basis="free"`, in which the steps of all other entries add
    up.
    """
    check_parametrization(basis)
    if not isinstance(plan, Plan):
        raise AttachError(
            f"affinet.optax.reparametrize takes a plan, reparametrize(affinet.plan(rules)), and not "
            f"{type(plan).__name__}."
        )
    blocks = linear_blocks(plan, "affinet.optax.project")
    projector = TreeProjector(plan)
    if basis == "projection":
        return Reparametrization(projector.project, projector.differentiable_project)
    expansion = _Expansion(projector, tuple(groups_of(plan, blocks, basis)))
    if basis == "free":
        warn_of_long_steps(
            plan, [pair for group in expansion.groups for pair in zip(group.blocks, group.bases, strict=True)]
        )
    return Reparametrization(expansion.to_free, expansion.from_free)


@dataclass(frozen=True, eq=False)
class _Expansion:
    """The two functions for a basis."""

    projector: TreeProjector
    groups: tuple[Group, ...]

    def to_free(self, params: Any) -> FreeNumbers:
        """The numbers of the nearest weights that satisfy the rules."""
        arrays = self.projector.arrays(self.projector.project(params))
        untouched, free = {}, {}
        for group in self.groups:
            untouched.update({name: group.untouched(name, arrays[name]) for name in group.assemblies})
            if group.free:
                free[_first(group)] = group.coordinates(arrays)
        return FreeNumbers(free, self.projector.replaced(params, untouched))

    def from_free(self, numbers: FreeNumbers) -> Any:
        """The tree of these numbers. Raises AttachError for what `to_free` of the same plan did not return."""
        self._check(numbers)
        leaves = {name: leaf for name, leaf in named_leaves(numbers.tree) if name is not None}
        weights: dict[str, Array] = {}
        for group in self.groups:
            untouched = {name: leaves[name] for name in group.assemblies}
            weights.update(group.weights(_numbers(group, numbers.free, untouched), untouched))
        return self.projector.replaced(numbers.tree, weights)

    def _check(self, numbers: Any) -> None:
        """Raise AttachError for what `to_free` did not return."""
        if not isinstance(numbers, FreeNumbers):
            raise AttachError(
                f"from_free takes the numbers that to_free returned, or others of the same structure, and not "
                f"{type(numbers).__name__}."
            )
        counts = {_first(group): group.free for group in self.groups if group.free}
        if {name: tuple(v.shape) for name, v in numbers.free.items()} != {name: (n,) for name, n in counts.items()}:
            raise AttachError(
                f"these are not free numbers of this plan, which are {_described(counts)}. Make them by to_free of the "
                f"same pair."
            )
        for name, v in numbers.free.items():
            check_dtype(f"the free numbers of {name}", v)
        leaves = dict(named_leaves(numbers.tree))
        for group in self.groups:
            for name, assembly in group.assemblies.items():
                if name not in leaves or tuple(leaves[name].shape) != (len(assembly.untouched),):
                    raise AttachError(
                        f"the tree of numbers has not the {len(assembly.untouched):,} entries of {name!r} that are in "
                        f"no rule. Make it by to_free of the same pair."
                    )


def _numbers(group: Group, free: dict[str, Array], untouched: dict[str, Array]) -> Array:
    """The v of a group; an empty one where rules fix all of its weights."""
    return free[_first(group)] if group.free else jnp.zeros(0, jnp.result_type(*untouched.values()))


def _first(group: Group) -> str:
    """The name of the first weight of a group."""
    return next(iter(group.assemblies))


def _described(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} for {name}" for name, count in counts.items()) or "none"
