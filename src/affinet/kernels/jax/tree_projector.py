"""A projector that moves the arrays of a pytree onto the rules of a plan, inside `jax.jit` or outside of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from affinet.analysis.active import ActiveBounds
from affinet.analysis.one_sided import OneSided
from affinet.analysis.rule_values import Rounding, Weight
from affinet.analysis.unreached import unreached
from affinet.errors import AttachError, UnknownWeightError
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.kernels.arrays.array_projector import ArrayProjector
from affinet.kernels.bounds_in_dtypes import NumberFormat, check_bounds
from affinet.kernels.jax.jax_library import JAX
from affinet.kernels.traced.block_law import EquationsLaw, WeightsLaw, laws_of
from affinet.language.trees import named_leaves, refusal_of
from affinet.plans.plan import Plan

PASSES = 2
"""Successive projections of weights: the second refines a long move, as for tensors."""

MEASURED = (
    "violations and multipliers are computed on the host, and cannot be differentiated: call them outside of jax.grad."
)


class TreeProjector:
    """Projects pytrees of JAX arrays onto the rules of a plan; the verbs are those of `affinet.Projector`.

    Names are those of `affinet.weights(tree)`; leaves of other names are returned unchanged. All verbs can be traced by
    `jax.jit`, `jax.vmap` and `jax.lax.scan`. A law that JAX cannot express runs on the host, by a callback.
    """

    def __init__(self, plan: Plan, tree: Any = None) -> None:
        self.plan = plan
        self.names = tuple(parameter.name for parameter in plan.parameters)
        self.laws_of_blocks = tuple(tuple(laws_of(JAX, block)) for block in plan.blocks)
        self.laws = tuple(law for laws in self.laws_of_blocks for law in laws)
        self._checked_dtypes: set[tuple[Any, ...]] = set()
        self._project_arrays = jax.jit(self._projected)
        if tree is not None:
            self._check_bounds(self.arrays(tree))

    @property
    def has_sets(self) -> bool:
        """Whether some rules are inequalities or nonlinear equations, so that tangents depend on the weights."""
        return any(isinstance(law, WeightsLaw) for law in self.laws)

    def project(self, weights: Any) -> Any:
        """The nearest point that satisfies all rules, as a new tree of the same dtypes.

        Raises InfeasibleError where no way to nonlinear equations was found; inside of a traced function the weights
        then stay as they are, and `violation` tells.
        """
        arrays = self.arrays(weights)
        self._check_bounds(arrays)
        projected = self._project_arrays(arrays)
        if not any(isinstance(x, jax.core.Tracer) for x in projected.values()):
            self._check_found(arrays, projected)
        return self.replaced(weights, projected)

    def differentiable_project(self, weights: Any) -> Any:
        """As `project`, with the derivative of reverse mode: `tangent_part` of what comes back."""
        arrays = self.arrays(weights)
        self._check_bounds(arrays)
        return self.replaced(weights, self._onto_rules(arrays))

    def tangent(self, vectors: Any, at: Any = None) -> Any:
        """`P v`: the part of v that changes no rule, as a new tree. Law: `A P v == 0`.

        With inequalities it is the nearest direction along which the weights `at` can move a little without violating a
        rule. Raises AttachError without `at` then.
        """
        vs = self.arrays(vectors)
        weights = self._weights_at(at, "tangent(vectors, at=weights)")
        for law in self.laws:
            v = law.read(vs)
            if isinstance(law, EquationsLaw):
                vs = law.write(vs, law.tangent(v))
            else:
                u = law.roundoff(weights)
                vs = law.write(vs, v - law.normal(law.read(weights).astype(v.dtype), v, u))
        return self.replaced(vectors, vs)

    def tangent_part(self, vectors: Any, at: Any) -> Any:
        """The part of vectors that changes no equation, and no inequality that is active at the weights `at`."""
        vs, weights = self.arrays(vectors), self.arrays(at)
        for law in self.laws:
            v = law.read(vs)
            if isinstance(law, EquationsLaw):
                vs = law.write(vs, law.tangent(v))
            else:
                vs = law.write(vs, law.tangent_part(law.read(weights).astype(v.dtype), v))
        return self.replaced(vectors, vs)

    def violation(self, weights: Any) -> dict[str, Array]:
        """Rule name → largest absolute violation, in the units of the rule as written, in float64 where JAX has it.

        Computed on the host.
        """
        names = [rule.name for rule in self.plan.system.every]
        arrays, dtype = self.arrays(weights), _wide()

        def measured(*arrays: Any) -> np.ndarray:
            with np.errstate(all="ignore"):
                gaps = self._gaps({n: _numpy(x).reshape(-1) for n, x in zip(self.names, arrays, strict=True)})
            return np.array([gaps[name] for name in names], dtype)

        shape = jax.ShapeDtypeStruct((len(names),), dtype)
        values = _on_host(measured, shape, *(arrays[n] for n in self.names))
        return OrderedDict((name, values[number]) for number, name in enumerate(names))

    def multipliers(self, gradients: Any, at: Any = None) -> dict[str, Array]:
        """Rule name → ν of the rule's shape, with `Aᵀν` nearest to the gradients, computed on the host in float64.

        Law: ν is of smallest norm; at an optimum `ν = ∂f*/∂b` per unit of each equation as the user wrote it.
        With inequalities, `at` are the weights that the gradients were taken at. Raises AttachError without them then.
        """
        priced_at = self.plan.system.kinds_at_weights
        gs = self.arrays(gradients)
        weights = self._checked_weights(at, "multipliers(gradients, at=weights)") if priced_at else {}
        rules = [(rule.name, jax.ShapeDtypeStruct(rule.shape, _wide())) for rule in self.plan.system.every]
        shapes = OrderedDict(rules)  # of a plain dict, JAX would return the rules sorted by name

        def priced(gs: Any, weights: Any) -> OrderedDict[str, np.ndarray]:
            values = self._on_arrays.multipliers(_numpy_each(gs), _numpy_each(weights) or None)
            return OrderedDict((name, np.asarray(values[name], to.dtype).reshape(to.shape)) for name, to in rules)

        prices: dict[str, Array] = _on_host(priced, shapes, gs, weights)
        return prices

    def stationarity(self, gradients: Any, at: Any = None) -> Array:
        """`‖P g‖ / ‖g‖` over the arrays of the rules: 0 where the rules remove the entire gradient, 0 for g = 0."""
        descent = jax.tree.map(lambda g: -g, self.arrays(gradients))
        tangent = self.tangent(descent, at)
        tangent_norm, norm = (
            jnp.sqrt(sum((jnp.sum(jnp.square(vs[n].astype(_wide()))) for n in self.names), jnp.zeros((), _wide())))
            for vs in (tangent, descent)
        )
        return jnp.where(norm > 0.0, tangent_norm / jnp.where(norm > 0.0, norm, 1.0), 0.0)

    def active(self, weights: Any) -> dict[str, ActiveBounds]:
        """Rule name → which of its inequalities are at their bound, to rounding; not inside of traced functions."""
        return self._on_arrays.active(self._numbers("active", weights))

    def one_sided_multipliers(
        self, gradients: Any, at: Any, rules: Collection[str] | None = None
    ) -> dict[str, OneSided]:
        """As `affinet.Projector.one_sided_multipliers`, in NumPy; not inside of traced functions."""
        verb = "one_sided_multipliers"
        return self._on_arrays.one_sided_multipliers(self._numbers(verb, gradients), self._numbers(verb, at), rules)

    def shared_multipliers(self, at: Any = None) -> dict[str, tuple[str, ...]]:
        """Rule name → the other rules together with which it is redundant; not inside of traced functions."""
        return self._on_arrays.shared_multipliers(None if at is None else self._numbers("shared_multipliers", at))

    def arrays(self, tree: Any) -> dict[str, Array]:
        """The arrays of the rules by name.

        Raises AttachError unless each is there, in its shape and of a real floating dtype.
        """
        named = {name: leaf for name, leaf in named_leaves(tree) if name is not None}
        for parameter in self.plan.parameters:
            leaf = named.get(parameter.name)
            if leaf is None:
                hint = UnknownWeightError(parameter.name, list(named))
                raise AttachError(f"the rules are about an array that the tree does not have: {hint}")
            if (refusal := refusal_of(parameter.name, leaf)) is not None:
                raise refusal.error()
            check_dtype(repr(parameter.name), leaf)
            if tuple(leaf.shape) != parameter.shape:
                raise AttachError(
                    f"the rules are about {parameter.name!r} of shape {parameter.shape}, and it has shape "
                    f"{tuple(leaf.shape)}. Make the rules from affinet.weights of this very tree."
                )
        return {
            name: named[name] if isinstance(named[name], Array) else jnp.asarray(named[name]) for name in self.names
        }

    def replaced(self, tree: Any, arrays: Mapping[str, Array]) -> Any:
        """The tree with other arrays under the names of the rules."""
        structure = jax.tree.structure(tree)
        return jax.tree.unflatten(
            structure, [arrays.get(name, leaf) if name else leaf for name, leaf in named_leaves(tree)]
        )

    @cached_property
    def _onto_rules(self) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """Projects arrays by name, with a derivative."""
        onto: Any = jax.custom_vjp(self._projected)

        def forward(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
            projected = self._projected(arrays)
            return projected, projected

        def backward(projected: dict[str, Array], vectors: dict[str, Array]) -> tuple[dict[str, Array]]:
            return (self.tangent_part(vectors, projected),)

        onto.defvjp(forward, backward)
        made: Callable[[Mapping[str, Array]], dict[str, Array]] = onto
        return made

    def _projected(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        moved = dict(arrays)
        for law in self.laws:
            if isinstance(law, EquationsLaw):
                for _ in range(PASSES):
                    moved = law.write(moved, law.nearest(law.read(moved)))
            else:
                moved = law.write(moved, law.snapped(law.read(moved), law.roundoff(moved)))
        return moved

    def _check_found(self, weights: Mapping[str, Array], projected: Mapping[str, Array]) -> None:
        """Raise InfeasibleError where no way to nonlinear equations was found."""
        unreached_blocks = [
            block
            for block, laws in zip(self.plan.blocks, self.laws_of_blocks, strict=True)
            for law in laws
            if isinstance(law, WeightsLaw)
            and not law.always_found
            and not bool(law.satisfies(law.read(projected), law.roundoff(projected)))
        ]
        if unreached_blocks:
            gaps = {name: float(gap) for name, gap in self.violation(weights).items()}
            raise unreached(self.plan.system, unreached_blocks, gaps, _numpy_each(weights))

    def _weights_at(self, at: Any, call: str) -> dict[str, Array]:
        """The weights that the active inequalities are read from; empty without inequalities."""
        return self._checked_weights(at, call) if self.has_sets else {}

    def _checked_weights(self, at: Any, call: str) -> dict[str, Array]:
        if at is None:
            raise AttachError(
                f"some of the rules are {self.plan.system.kinds_at_weights}, and what they allow depends on the "
                f"weights. Give the weights too: {call}."
            )
        return self.arrays(at)

    def _numbers(self, verb: str, tree: Any) -> dict[str, np.ndarray]:
        """The arrays of the rules on the host. Raises AttachError for traced ones."""
        arrays = self.arrays(tree)
        if any(isinstance(x, jax.core.Tracer) for x in arrays.values()):
            raise AttachError(
                f"{verb} needs numbers, and traced arrays have only shapes. Call it outside of jax.jit, jax.vmap and "
                f"jax.grad, with the arrays that they return."
            )
        return _numpy_each(arrays)

    def _check_bounds(self, arrays: Mapping[str, Array]) -> None:
        """Raise AttachError, once per combination of dtypes, where weights cannot be within their bounds."""
        dtypes = tuple(arrays[name].dtype for name in self.names)
        if dtypes not in self._checked_dtypes:
            check_bounds(self.plan, {name: _format(dtype) for name, dtype in zip(self.names, dtypes, strict=True)})
            self._checked_dtypes.add(dtypes)

    @cached_property
    def _gaps(self) -> ArrayGaps:
        return ArrayGaps(self.plan.system)

    @cached_property
    def _on_arrays(self) -> ArrayProjector:
        like = {parameter.name: np.zeros(parameter.shape) for parameter in self.plan.parameters}
        return ArrayProjector(self.plan, like)


def check_dtype(title: str, x: Any) -> None:
    """Raise AttachError for an array of another dtype than JAX would compute in, or of whole numbers."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise AttachError(f"{title} are of dtype {x.dtype}. Give floating-point numbers.")
    if (canonical := jax.dtypes.canonicalize_dtype(x.dtype)) != x.dtype:
        raise AttachError(
            f"{title} is of dtype {x.dtype}, and JAX would compute in {canonical}. Call "
            f"jax.config.update('jax_enable_x64', True) first, or make the array {canonical}."
        )


def projector(plan: Plan, tree: Any) -> TreeProjector:
    """The projector of a plan for a pytree of JAX arrays."""
    return TreeProjector(plan, tree)


def numbers_of(plan: Plan, weights: Any) -> dict[str, Weight]:
    """The arrays of the rules as the numbers that rules are evaluated at."""
    numbers = {}
    for name, x in TreeProjector(plan, weights).arrays(weights).items():
        info = jnp.finfo(x.dtype)
        numbers[name] = Weight(_numpy(x).reshape(-1), Rounding(JAX.eps(x.dtype), float(info.smallest_subnormal)))
    return numbers


def _on_host(function: Callable[..., Any], shapes: Any, *arrays: Any) -> Any:
    """The result of a function of NumPy arrays: called at once where the numbers are known, else when they are."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arrays)):
        return JAX.without_derivative(
            lambda *arrays: jax.pure_callback(function, shapes, *arrays, vmap_method="sequential"), MEASURED, *arrays
        )
    return jax.tree.map(jnp.asarray, function(*arrays))


def _numpy(x: Any) -> np.ndarray:
    """Numbers on the host, of 16 bits in float32: NumPy computes in no bfloat16."""
    array = np.asarray(x)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _numpy_each(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: _numpy(x) for name, x in arrays.items()}


def _wide() -> Any:
    """float64, or float32 where JAX is told to have no float64."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def _format(dtype: Any) -> NumberFormat:
    info = jnp.finfo(dtype)
    return NumberFormat(str(dtype), JAX.eps(dtype), float(info.smallest_subnormal), float(info.max))
