"""An optimizer of Optax whose steps obey the rules of a plan: the tangent sandwich as a gradient transformation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from affinet.adapters.optax_masks import has_masks, unmoved
from affinet.errors import AttachError
from affinet.kernels.jax.jax_library import JAX
from affinet.kernels.jax.tree_projector import TreeProjector
from affinet.kernels.traced.block_law import EquationsLaw, WeightsLaw
from affinet.plans.plan import Plan

StateOfSet = TypeVar("StateOfSet", bound="SetState | BoundsState")

SAME = 4.0
"""Roundings of a weight and of its last move within which weights are the ones that the last step made."""


class Counts(NamedTuple):
    """Cells of nonlinear equations, added up over all steps: steps shortened, steps refused, and slow returns."""

    shortened: Array
    refused: Array
    slow: Array


class SetState(NamedTuple):
    """What is known of one block with inequalities or nonlinear equations between two steps.

    `known` are the arrays of averaged multipliers and the face, or of the tangent plane. `landed` are the entries on
    the set after the last step, `moved` the size of its largest move, and `started` whether there was a step.

    States are named tuples of arrays only, which every way to save a pytree knows.
    """

    known: tuple[Array, ...]
    landed: Array
    moved: Array
    started: Array


class BoundsState(NamedTuple):
    """What is known of bounds on single entries between two steps: averaged multipliers, zero away from bounds."""

    known: tuple[Array, ...]
    started: Array


class ProjectState(NamedTuple):
    """The state of the optimizer inside, and what is known of the blocks that are not linear."""

    inner: optax.OptState
    sets: tuple[SetState | BoundsState, ...]
    counts: Counts


class _Underway(NamedTuple):
    """A step of one block that is being taken, from the entries `start`; `passed` are those of the arguments."""

    law: WeightsLaw
    passed: Array
    start: Array
    step: Any
    u: float


def project(plan: Plan, inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimizer `inner`, whose steps end on the rules of a plan and at their optimum.

    Gradients are projected before `inner` sees them, and what it makes of them ends on the rules: equations, with
    inequalities and nonlinear equations as well. Weights that are not on the rules are moved onto them by the first
    step. What stands outside acts before or after this:

    - Last in a chain: updates that are changed after it leave the rules.
    - Decay that is added to the gradient stands outside, before it (`chain(add_decayed_weights(1e-4),
      project(plan, adam(1e-3)))`); decay of the weights, as in `adamw`, stands inside.
    - Clipping by value stands inside, before the optimizer (`project(plan, chain(clip(1.0), adam(1e-3)))`): outside it
      keeps the part that the rules remove. Clipping by the global norm may stand on either side.
    - `optax.MultiSteps`, `optax.apply_if_finite` and `optax.inject_hyperparams` may stand on either side.
      `optax.contrib.schedule_free` stands inside: the weights that it keeps are projected, too.

    Raises AttachError for other arguments, without `params`, and where the tree lacks arrays of the rules.
    """
    if not isinstance(plan, Plan) or not all(callable(getattr(inner, verb, None)) for verb in ("init", "update")):
        raise AttachError(
            f"affinet.optax.project takes a plan and an optimizer, project(affinet.plan(rules), optax.adam(1e-3)), and "
            f"not {type(plan).__name__} and {type(inner).__name__}."
        )
    sandwich = _Sandwich(TreeProjector(plan), optax.with_extra_args_support(inner))
    return optax.GradientTransformationExtraArgs(sandwich.init, sandwich.update)


@dataclass(frozen=True, eq=False)
class _Sandwich:
    """The two functions of the transformation."""

    projector: TreeProjector
    inner: optax.GradientTransformationExtraArgs
    masks_checked: set[Any] = field(default_factory=set)
    """Structures and dtypes of gradients for which no mask is in the way of rules."""

    def init(self, params: optax.Params) -> ProjectState:
        """The state before the first step; the optimizer inside starts at the nearest weights on the rules."""
        _arrays(self.projector, params)
        placed = self.projector.project(params)
        arrays = self.projector.arrays(placed)
        states = tuple(_unknown(law, law.read(arrays)) for law in self._sets)
        return ProjectState(self.inner.init(placed), states, Counts(*(jnp.zeros((), jnp.int32) for _ in range(3))))

    def update(
        self, updates: optax.Updates, state: ProjectState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, ProjectState]:
        """What is added to the weights, and the next state. Raises AttachError without `params`."""
        if params is None:
            raise AttachError(
                "affinet.optax.project moves weights onto the rules and needs them: call "
                "optimizer.update(gradients, state, params)."
            )
        self._check_state(state)
        self._check_masks(updates, state, params, extra)
        projector = self.projector
        weights, gradients = _arrays(projector, params), _arrays(projector, updates)
        starts, underway = dict(weights), []
        for law, known in zip(self._sets, state.sets, strict=True):
            step, gradients = _prepared(law, gradients, weights, known)
            underway.append(step)
            starts = law.write(starts, step.start)
        for equations in self._equations:
            tangent = equations.tangent(equations.read(gradients), floor=equations.floor(gradients))
            gradients = equations.write(gradients, tangent)
        projected = projector.replaced(updates, gradients)
        moves, inner_state = self.inner.update(
            projected, state.inner, projector.replaced(params, starts), **_on_rules(projector, projected, extra)
        )
        steps = _arrays(projector, moves)
        landed = {name: (starts[name] + steps[name]).astype(starts[name].dtype) for name in starts}
        for equations in self._equations:
            landed = equations.write(landed, equations.nearest(equations.read(landed)))
        states, counts = [], state.counts
        for step in underway:
            landed, known, counts = _landed(step, landed, steps, counts)
            states.append(known)
        made = projector.replaced(moves, {name: landed[name] - weights[name] for name in landed})
        inner_state = _with_averages_on_rules(projector, inner_state, projector.replaced(params, landed))
        return made, ProjectState(inner_state, tuple(states), counts)

    def _check_state(self, state: ProjectState) -> None:
        """Raise AttachError for a state of other rules, such as one that was saved before they changed."""
        if not isinstance(state, ProjectState):
            raise AttachError(
                f"the state is not one of affinet.optax.project, but {type(state).__name__}. Make it by init(params) "
                f"of this optimizer; a state of the optimizer inside becomes its field `inner`."
            )
        shapes, wanted = _shapes(state.sets), self._shapes
        if shapes != wanted:
            raise AttachError(
                f"the state was made for other rules: for {len(shapes)} sets of inequalities and nonlinear equations "
                f"it has arrays of shapes {shapes}, and the plan needs {wanted}. Call init(params), and put the former "
                f"state.inner into it to go on with the optimizer."
            )

    def _check_masks(
        self, updates: optax.Updates, state: ProjectState, params: optax.Params, extra: Mapping[str, Any]
    ) -> None:
        """Raise AttachError where a mask inside leaves weights of the rules without a step of the optimizer."""
        arrays = tuple((jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(updates))
        form = jax.tree.structure((updates, state.inner)), arrays
        if form in self.masks_checked or not has_masks(state.inner):
            return

        def update(updates: optax.Updates, inner: optax.OptState) -> Any:
            return self.inner.update(
                updates, inner, params, **({**extra, "grad": updates} if "grad" in extra else extra)
            )

        masked = unmoved(self.inner.init, update, updates, state.inner)
        if names := [name for name in self.projector.names if name in masked]:
            raise AttachError(
                f"a mask inside of the optimizer leaves {', '.join(map(repr, names))} without a step, and the rules "
                f"would move them all the same. Let the optimizer move them, or write rules about the other weights, "
                f"with the numbers of these."
            )
        self.masks_checked.add(form)

    @cached_property
    def _shapes(self) -> list[list[tuple[int, ...]]]:
        """The shapes of the states of all sets."""

        def unknown() -> tuple[SetState | BoundsState, ...]:
            return tuple(_unknown(law, jnp.zeros(law.shape, jnp.float32)) for law in self._sets)

        return _shapes(jax.eval_shape(unknown))

    @cached_property
    def _equations(self) -> tuple[EquationsLaw, ...]:
        return tuple(law for law in self.projector.laws if isinstance(law, EquationsLaw))

    @cached_property
    def _sets(self) -> tuple[WeightsLaw, ...]:
        return tuple(law for law in self.projector.laws if isinstance(law, WeightsLaw))


def _arrays(projector: TreeProjector, tree: Any) -> dict[str, Array]:
    """The weights or gradients of the rules by name. Raises AttachError for those that a mask removed."""
    try:
        return projector.arrays(tree)
    except AttachError as error:
        masked = any(isinstance(leaf, optax.MaskedNode) for leaf in jax.tree.leaves(tree, is_leaf=_is_masked))
        if not masked:
            raise
        raise AttachError(
            f"{error} A mask (optax.masked, optax.multi_transform) removed weights before affinet.optax.project. Leave "
            f"these weights out of the rules, or put a mask that gives them another optimizer inside, project(plan, "
            f"multi_transform(…))."
        ) from None


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _shapes(states: tuple[SetState | BoundsState, ...]) -> list[list[tuple[int, ...]]]:
    """The shapes of the arrays of each state that have axes."""
    return [[tuple(x.shape) for x in jax.tree.leaves(state) if x.shape] for state in states]


def _unknown(law: WeightsLaw, landed: Array) -> SetState | BoundsState:
    """The state before the first step, which knows nothing."""
    known = tuple(jnp.zeros(shape.shape, shape.dtype) for shape in jax.tree.leaves(law.known_like(landed)))
    started = jnp.zeros((), bool)
    return BoundsState(known, started) if law.bounds else SetState(known, landed, jnp.zeros((), landed.dtype), started)


def _prepared(
    law: WeightsLaw, gradients: Mapping[str, Array], weights: Mapping[str, Array], state: SetState | BoundsState
) -> tuple[_Underway, dict[str, Array]]:
    """The step that starts at the weights, and the gradients along the rules."""
    u, w = law.roundoff(weights), law.read(weights)
    state = _in_dtype(state, w.dtype)
    g = law.read(gradients).astype(w.dtype)
    rounding = SAME * max(JAX.eps(weights[name].dtype) for name in law.parameters)
    if isinstance(state, BoundsState):
        start, known = _resumed_bounds(law, g, w, state, u, rounding)
    else:
        start, known = _resumed(law, g, w, state, u, rounding)
    step, tangent = law.learn(g, start, known, law.floor(gradients))
    return _Underway(law, w, start, step, u), law.write(gradients, tangent)


def _resumed(law: WeightsLaw, g: Array, w: Array, state: SetState, u: float, rounding: float) -> tuple[Array, Any]:
    """Where the step starts, and what is known there.

    Weights that are those of the last step, to rounding of the update, are where they landed: `p + (w − p)` rounds.
    """
    same = abs(w - state.landed) <= rounding * (abs(state.landed) + state.moved)
    unchanged = jnp.all(same) & state.started
    former_known = jax.tree.unflatten(jax.tree.structure(law.known_like(w)), state.known)

    def former() -> tuple[Array, Any]:
        return state.landed, former_known

    def anew() -> tuple[Array, Any]:
        placed = law.snapped(w, u)
        return placed, lax.cond(
            state.started, lambda: law.resettle(placed, former_known, u), lambda: law.start(g, placed, u)
        )

    start, known = lax.cond(unchanged, former, anew)
    return start, known


def _resumed_bounds(
    law: WeightsLaw, g: Array, w: Array, state: BoundsState, u: float, rounding: float
) -> tuple[Array, Any]:
    """As `_resumed`, for each entry, by operations that XLA fuses; it fuses nothing across conditions.

    An update `w − p` to a bound of zero is exact. Another bound is missed by the rounding of numbers of the size of p,
    of which the largest weight is a bound while no weight moves by more than that.
    """
    assert law.bounds is not None
    known = jax.tree.unflatten(jax.tree.structure(law.known_like(w)), state.known)
    largest = max(float(abs(bound[np.isfinite(bound)]).max(initial=0.0)) for bound in law.bounds.bounds())
    of_update = rounding * (largest + jnp.max(abs(w), initial=0.0)) if largest else None
    start, known = law.resumed(g, w, known, state.started, u, of_update)
    return start, known


def _in_dtype(state: StateOfSet, dtype: Any) -> StateOfSet:
    """The state with its numbers in the dtype of the law, which another one was where `jax_enable_x64` was changed."""
    floating = jnp.floating
    cast: StateOfSet = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, floating) else x, state)
    return cast


def _landed(
    underway: _Underway, arrays: Mapping[str, Array], steps: Mapping[str, Array], counts: Counts
) -> tuple[dict[str, Array], SetState | BoundsState, Counts]:
    """The arrays with the entries of a block on its set after a step, and what is known there."""
    law, start = underway.law, underway.start
    stepped = start + law.read(steps).astype(start.dtype)
    w, known, outcome = law.land(stepped, underway.step, underway.u)
    written = law.write(arrays, w)
    happened = (outcome.shortenings > 0.0, outcome.refused, outcome.slow)
    added = [(count + jnp.sum(cells).astype(jnp.int32)) for count, cells in zip(counts, happened, strict=True)]
    arrays_known, started = tuple(jax.tree.leaves(known)), jnp.ones((), bool)
    if law.bounds:
        return written, BoundsState(arrays_known, started), Counts(*added)
    landed = law.read(written)
    size = jnp.max(abs(landed - underway.passed), initial=0.0)  # of the update, by which `p + (w − p)` is rounded
    moved = jnp.where(size == size, size, 0.0).astype(start.dtype)
    return written, SetState(arrays_known, landed, moved, started), Counts(*added)


def _on_rules(projector: TreeProjector, projected: optax.Updates, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The extra arguments that are functions and gradients: gradients along the rules, values at the nearest points."""
    adapted = dict(extra)
    if "grad" in extra:
        adapted["grad"] = projected
    if "value_fn" in extra:
        adapted["value_fn"] = _at_nearest(projector, extra["value_fn"])
    if "grad_fn" in extra:
        if projector.has_sets:
            raise AttachError(
                "an optimizer that computes gradients by grad_fn, such as optax.contrib.sam with opaque_mode, goes "
                "with linear equations only: which inequalities are active is learnt from the gradient of each step. "
                "Use opaque_mode=False."
            )
        adapted["grad_fn"] = lambda *args: projector.tangent(extra["grad_fn"](*args))
    return adapted


def _at_nearest(projector: TreeProjector, value_fn: Callable[..., Any]) -> Callable[..., Any]:
    def value_on_rules(params: optax.Params, *args: Any, **kwargs: Any) -> Any:
        return value_fn(projector.differentiable_project(params), *args, **kwargs)

    return value_on_rules


def _with_averages_on_rules(projector: TreeProjector, state: optax.OptState, weights: Any) -> optax.OptState:
    """The state of schedule-free optimizers that makes their average, the weights to evaluate, satisfy the rules.

    They keep the weights `z` from which they step, and train at `w = (1 − b) z + b x`, so that the average is
    `x = (w − (1 − b) z) / b`. z moves onto the rules; then x is on equations, and an extrapolation that may leave other
    sets. There z moves as far again as brings x to its nearest point.
    """
    kind = optax.contrib.ScheduleFreeState

    def moved(part: Any) -> Any:
        if not isinstance(part, kind):
            return part
        b, z = part.b1, projector.project(part.z)
        if projector.has_sets:
            averages = jax.tree.map(lambda w, z: (w - (1.0 - b) * z) / b, weights, z)
            share = jnp.where(b < 1.0, b / jnp.where(b < 1.0, 1.0 - b, 1.0), 0.0)  # with b = 1 the average is w
            z = jax.tree.map(
                lambda z, x, placed: (z + share * (x - placed)).astype(z.dtype),
                z,
                averages,
                projector.project(averages),
            )
        return part._replace(z=z)

    return jax.tree.map(moved, state, is_leaf=lambda part: isinstance(part, kind))
