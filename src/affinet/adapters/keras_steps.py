"""A training step of Keras around the step of any optimizer, as pure functions on arrays of the backend of Keras."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import keras
from keras import ops

from affinet.blocks.namespace import Array
from affinet.errors import AttachError
from affinet.kernels.traced.block_law import EquationsLaw, WeightsLaw, laws_of
from affinet.kernels.traced.library import Library, Like
from affinet.kernels.traced.states import arrays_of, map_states, state_of
from affinet.plans.plan import Plan

LIBRARIES = {
    "jax": ("affinet.kernels.jax.jax_library", "JaxLibrary"),
    "tensorflow": ("affinet.kernels.tensorflow.tensorflow_library", "TensorFlowLibrary"),
    "torch": ("affinet.kernels.torch.torch_library", "TorchLibrary"),
}
"""Backend of Keras → where its library is; imported by name, since no process has all of them."""
PASSES = 2
"""Successive projections of weights: the second refines a long move, as for tensors."""


class SetState(NamedTuple):
    """What is known of a block of inequalities or nonlinear equations between two steps.

    `known` are averaged multipliers and the face, or the tangent plane. `landed` are the entries after the last step,
    and `started` is 1 once there was a step. Of bounds on single entries multipliers are known, and `landed` is empty.
    """

    known: Any
    landed: Any
    started: Array


class Counts(NamedTuple):
    """Cells of nonlinear equations, added up over all steps: steps shortened, steps refused, and slow returns."""

    shortened: int = 0
    refused: int = 0
    slow: int = 0


class Underway(NamedTuple):
    """A step of one block that is being taken, from the entries `start`."""

    law: WeightsLaw
    start: Array
    step: Any
    u: float


class Sandwich:
    """What happens before and after the step of an optimizer, so that it ends on the rules and at their optimum."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.library = plan, library_of_backend()
        laws = [law for block in plan.blocks for law in laws_of(self.library, block)]
        self.names = tuple(parameter.name for parameter in plan.parameters)
        self.equations = tuple(law for law in laws if isinstance(law, EquationsLaw))
        self.sets = tuple(law for law in laws if isinstance(law, WeightsLaw))

    @property
    def asks_host(self) -> bool:
        """Whether some laws run on the host, which XLA of TensorFlow cannot call."""
        return any(law.on_host for law in (*self.equations, *self.sets))

    def likes(self, weights: Mapping[str, Array]) -> tuple[SetState, ...]:
        """The shapes and dtypes of the states of all blocks that are not linear."""
        likes = []
        for law in self.sets:
            entries = Like(law.shape, law.dtype(weights))
            landed = () if law.bounds else entries
            likes.append(SetState(law.known_like(entries), landed, Like((), entries.dtype)))
        return tuple(likes)

    def states_of(self, arrays: list[Array], weights: Mapping[str, Array]) -> tuple[SetState, ...]:
        """The states of the sets from their arrays, one after the other.

        Raises AttachError for other arrays, as of a file that another version of affinet wrote.
        """
        likes = self.likes(weights)
        shapes, wanted = [tuple(x.shape) for x in arrays], [tuple(like.shape) for like in arrays_of(likes)]
        if shapes != wanted:
            raise AttachError(
                f"the optimizer has states of the shapes {shapes}, and its rules need {wanted}: states of other "
                f"rules, or of another version of affinet. Call affinet.keras.project with a new optimizer."
            )
        states: tuple[SetState, ...] = state_of(likes, iter(arrays))
        return states

    def prepared(
        self, gradients: Mapping[str, Array], weights: Mapping[str, Array], states: tuple[SetState, ...]
    ) -> tuple[dict[str, Array], dict[str, Array], list[Underway]]:
        """The gradients along the rules, the weights at which the step starts, and the steps of the sets."""
        starts, projected, underway = dict(weights), dict(gradients), []
        for law, state in zip(self.sets, states, strict=True):
            step, tangent = self._started(law, projected, weights, state)
            projected = law.write(projected, tangent)
            starts = law.write(starts, step.start)
            underway.append(step)
        for equations in self.equations:
            tangent = equations.tangent(equations.read(projected), floor=equations.floor(projected))
            projected = equations.write(projected, tangent)
        return projected, starts, underway

    def landed(
        self, stepped: Mapping[str, Array], underway: list[Underway]
    ) -> tuple[dict[str, Array], tuple[SetState, ...], list[Array]]:
        """The weights after the step of the optimizer, on the rules, the next states, and the `Counts` of the step."""
        arrays = dict(stepped)
        for equations in self.equations:
            arrays = equations.write(arrays, equations.nearest(equations.read(arrays)))
        states, counts = [], []
        for law, _, step, u in underway:
            w, known, outcome = law.land(law.read(arrays), step, u)
            counts.append((outcome.shortenings > 0.0, outcome.refused, outcome.slow))
            arrays = law.write(arrays, w)
            began = self.library.xp.array(1.0, w)
            states.append(SetState(known, () if law.bounds else law.read(arrays), began))
        added = [sum(ops.sum(ops.cast(cells, "int32")) for cells in marks) for marks in zip(*counts, strict=True)]
        # One value for each weight, not one for each use: weights that rules tie get the same bits.
        return {name: self.library.xp.hold(x) for name, x in arrays.items()}, tuple(states), added

    def placed(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """The nearest weights on the rules."""
        arrays = dict(weights)
        for equations in self.equations:
            for _ in range(PASSES):
                arrays = equations.write(arrays, equations.nearest(equations.read(arrays)))
        for law in self.sets:
            arrays = law.write(arrays, law.snapped(law.read(arrays), law.roundoff(arrays)))
        return arrays

    def _started(
        self, law: WeightsLaw, gradients: Mapping[str, Array], weights: Mapping[str, Array], state: SetState
    ) -> tuple[Underway, Array]:
        """The step that starts at the weights, and the gradient along the rules."""
        u, w = law.roundoff(weights), law.read(weights)
        g = self.library.cast(law.read(gradients), w.dtype)
        began = state.started > 0.0
        if law.bounds:
            start, known = law.resumed(g, w, state.known, began, u)
        else:
            start, known = self._resumed(law, g, w, state, u)
        step, tangent = law.learn(g, start, known, law.floor(gradients))
        return Underway(law, start, step, u), tangent

    def _resumed(self, law: WeightsLaw, g: Array, w: Array, state: SetState, u: float) -> tuple[Array, Any]:
        """The weights at which a step starts, and what is known there.

        Weights that are not those of the last step were changed from outside, and are moved onto the rules first.
        """
        xp = self.library.xp
        began = state.started > 0.0
        unchanged = self.library.all(w == state.landed) & began

        def former() -> tuple[Array, Any]:
            return state.landed, state.known

        def anew() -> tuple[Array, Any]:
            placed = law.snapped(w, u)
            known = xp.either(began, lambda: law.resettle(placed, state.known, u), lambda: law.start(g, placed, u))
            return placed, known

        start, known = xp.either(unchanged, former, anew)
        return start, known


def flat(states: tuple[SetState, ...]) -> list[Array]:
    """The arrays of states, one after the other."""
    return arrays_of(states)


def described(library: Library, likes: tuple[SetState, ...]) -> list[list[Any]]:
    """Shape and dtype of the arrays of states, in words that configurations of Keras can hold."""
    named = map_states(lambda like: Like(like.shape, keras.backend.standardize_dtype(like.dtype)), likes)
    return [[list(like.shape), like.dtype] for like in arrays_of(named)]


def library_of_backend() -> Library:
    """The library of the backend that Keras runs on. Raises AttachError for others."""
    backend = keras.backend.backend()
    if backend not in LIBRARIES:
        raise AttachError(
            f"affinet.keras trains with the backends {', '.join(LIBRARIES)}, and Keras runs on {backend!r}. Set "
            f"KERAS_BACKEND before Keras is imported."
        )
    module, name = LIBRARIES[backend]
    library: Library = getattr(import_module(module), name)()
    return library
