"""The law of one block on arrays of a library: traced where its verbs can be, and called on the host where they cannot.

Laws that search on the host (polyhedra, sparse factors, equations by functions) run there in NumPy, in float64. Their
arrays are of the dtype that the library computes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from affinet.blocks.bounds_steps import BoundsSteps
from affinet.blocks.curved_cells import Outcome
from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import Law, Linear, run_alone
from affinet.blocks.namespace import Array, Namespace, NumPy
from affinet.blocks.normal_map import NormalMap, Underway
from affinet.blocks.pairs import Shared
from affinet.blocks.places import Listed, Places, Stepped
from affinet.blocks.set_law import SetLaw
from affinet.blocks.slices import Cells
from affinet.blocks.tangent_map import Following, Tangent
from affinet.blocks.tied_layers import separated
from affinet.blocks.ties import Averages
from affinet.kernels.traced.library import DType, Library, Like
from affinet.kernels.traced.traced_entries import Arrays, axes_of, in_stored_order, read, write

NOISE = 32.0
"""As for tensors: a projected gradient of at most this many roundoffs of its own size is rounding."""
COARSE_NOISE, COARSE = 4.0, 1e-4
"""The same for sets of weights of 16 bits, whose unit roundoff is above `COARSE`."""

Made = TypeVar("Made")


class _Entries:
    """The entries of a block, read in the shape of its law, and how a verb of the law is run."""

    order: Any = None
    """Entry k of the law is entry `order[k]` of the places; None where they have one order."""
    shape: tuple[int, ...]

    def __init__(self, library: Library, places: Places, *, wide: bool) -> None:
        self._library, self._places, self._wide = library, places, wide
        self.parameters = tuple(dict.fromkeys(parameter.name for parameter, _ in places.sizes))

    def read(self, arrays: Arrays) -> Array:
        """The entries in the shape of the law, in the dtype in which it is computed."""
        xp = self._library.xp
        entries = self._library.cast(read(self._library, self._places, arrays), self.dtype(arrays))
        if self.order is not None:
            entries = xp.take(xp.reshape(entries, (-1,)), self.order)
        return xp.reshape(entries, self.shape)

    def write(self, arrays: Arrays, values: Array) -> dict[str, Array]:
        """The arrays with these entries, rounded to the dtype of each array."""
        xp = self._library.xp
        in_places = values if self.order is None else xp.take(xp.reshape(values, (-1,)), np.argsort(self.order))
        return write(self._library, self._places, arrays, in_places)

    def dtype(self, arrays: Arrays) -> DType:
        """The dtype in which the law is computed: float64 where the law or the arrays ask for it and there is one."""
        if self._wide:
            return self._library.dtype("float64")
        return self._library.widest([arrays[name].dtype for name in self.parameters])

    def unit(self, arrays: Arrays) -> float:
        """The unit roundoff of the coarsest of the arrays."""
        return max(self._library.eps(arrays[name].dtype) for name in self.parameters) / 2.0

    @cached_property
    def on_host(self) -> bool:
        """Whether the verbs ask for numbers on the host."""
        return self._library.asks_host(self._nearest, self.shape)

    def _nearest(self, xp: Namespace, x: Array) -> Array:
        raise NotImplementedError

    def _ran(self, verb: Callable[..., Made], *arrays: Any, made_like: Made) -> Made:
        """The result of a verb, which has the shapes and dtypes of `made_like`."""
        return self._called(verb, *arrays, made_like=made_like) if self.on_host else verb(self._library.xp, *arrays)

    def _called(self, verb: Callable[..., Made], *arrays: Any, made_like: Made) -> Made:
        """The result of a verb in NumPy on the host."""
        shapes = self._library.map(lambda x: Like(tuple(x.shape), x.dtype), made_like)
        result: Made = self._library.without_derivative(
            lambda *arrays: self._library.called(verb, shapes, *arrays), self._undifferentiable(), *arrays
        )
        return result

    def _undifferentiable(self) -> str:
        """Why the verbs have no derivative, for whoever asks for one."""
        names = ", ".join(map(repr, self.parameters))
        return (
            f"the rules about {names} are solved on the host, and cannot be differentiated. Differentiate the loss at "
            f"weights that satisfy them, and take projector.tangent of its gradient."
        )


class EquationsLaw(_Entries):
    """The verbs of a block of linear equations."""

    def __init__(self, library: Library, law: Linear[Any], places: Places) -> None:
        super().__init__(library, places, wide=law.wide)
        self._projection, self.shape = law.projection, law.shape

    def nearest(self, x: Array) -> Array:
        """The nearest point that satisfies the equations."""
        return self._ran(self._nearest, x, made_like=x)

    def tangent(self, x: Array, *, floor: float = 0.0) -> Array:
        """`P x`, with zeros where it is rounding relative to `floor`. Its derivative is `P` there, too."""

        def tangent(x: Array, floor: float) -> Array:
            return self._ran(lambda xp, x: run_alone(self._projection.tangent(xp, x, floor=floor)), x, made_like=x)

        if not floor:
            return tangent(x, 0.0)
        return self._library.derived_from(lambda x: tangent(x, floor), lambda x: tangent(x, 0.0), x)

    def floor(self, arrays: Arrays) -> float:
        """The share of a gradient below which its projection is rounding; for weights of 16 bits that of float32."""
        return NOISE * min(self.unit(arrays), float(np.finfo(np.float32).eps) / 2.0)

    def _nearest(self, xp: Namespace, x: Array) -> Array:
        nearest: Array = run_alone(self._projection.nearest(xp, x))
        return nearest


class WeightsLaw(_Entries):
    """The verbs of a block whose projections depend on the weights: inequalities, and nonlinear equations."""

    def __init__(self, library: Library, law: SetLaw, places: Places) -> None:
        self._bounds = BoundsSteps(law.set) if isinstance(law, NormalMap) and isinstance(law.set, Boxes) else None
        super().__init__(library, places, wide=law.wide and self._bounds is None)
        self._law, self.shape, self.order = law, law.shape, law.order
        self._training: Any = law if self._bounds is None else self._bounds

    @property
    def always_found(self) -> bool:
        """Whether a point of the set is found from everywhere."""
        return self._law.always_found

    @property
    def bounds(self) -> Boxes | None:
        """The bounds on single entries that the law is about; what is known of them is one array of multipliers."""
        return None if self._bounds is None else self._bounds.set

    def _ran(self, verb: Callable[..., Made], *arrays: Any, made_like: Made) -> Made:
        """As of equations; not to be differentiated: points that satisfy the rules are returned as they are."""
        if self.on_host:
            return self._called(verb, *arrays, made_like=made_like)
        result: Made = self._library.without_derivative(
            lambda *arrays: verb(self._library.xp, *arrays), self._undifferentiable(), *arrays
        )
        return result

    def _undifferentiable(self) -> str:
        names = ", ".join(map(repr, self.parameters))
        return (
            f"projections onto the inequalities or nonlinear equations about {names} are not differentiated. "
            f"Differentiate the loss at weights that satisfy them, and take projector.tangent(gradients, at=weights)."
        )

    def snapped(self, w: Array, u: float) -> Array:
        """The nearest point, but w itself in cells that satisfy their rules to rounding."""
        return self._ran(lambda xp, w: self._law.snapped(xp, w, u), w, made_like=w)

    def satisfies(self, w: Array, u: float) -> Array:
        """Whether all cells satisfy their rules to rounding."""
        marks = Like(self._norms_shape, self._library.dtype("bool"))
        satisfied = self._ran(lambda xp, w: self._law.satisfies(xp, w, u), w, made_like=marks)
        return self._library.all(satisfied) & self._library.all(w - w == 0.0)

    def normal(self, w: Array, v: Array, u: float) -> Array:
        """The nearest vector to v in the normal cone at the nearest point to w."""

        def normal(xp: Namespace, w: Array, v: Array) -> Array:
            return self._law.normal(xp, self._law.snapped(xp, w, u), v, u)

        return self._ran(normal, w, v, made_like=v)

    def tangent_part(self, w: Array, v: Array) -> Array:
        """The part of v that changes no equation, and no inequality that is active at w."""

        def tangent_part(xp: Namespace, w: Array, v: Array) -> Array:
            return self._law.tangent_part(xp, v, self._law.face_at(xp, w))

        return self._ran(tangent_part, w, v, made_like=v)

    def start(self, g: Array, w: Array, u: float) -> Any:
        """What is known from the first gradient at weights of the set."""
        return self._ran(lambda xp, g, w: self._training.start(xp, g, w, u), g, w, made_like=self.known_like(w))

    def resettle(self, w: Array, known: Any, u: float) -> Any:
        """What is known after the weights were changed from outside."""
        return self._ran(lambda xp, w, known: self._training.resettle(xp, w, known, u), w, known, made_like=known)

    def resumed(
        self, g: Array, w: Array, known: Any, started: Array, u: float, rounding: Array | None = None
    ) -> tuple[Array, Any]:
        """Under bounds, the weights at which a step starts and what is known there: `BoundsSteps.resumed`.

        Before the first step −g is known, which is made normal to the bounds.
        """
        bounds = self._bounds
        assert bounds is not None

        def resumed(xp: Namespace, g: Array, w: Array, known: Any, started: Array) -> tuple[Array, Any]:
            y = self._library.fused_either(started, lambda: known.y, lambda: bounds.opposite(xp, g))
            return bounds.resumed(xp, w, y, started, u, rounding)

        return self._ran(resumed, g, w, known, started, made_like=(w, known))

    def learn(self, g: Array, w: Array, known: Any, floor: float) -> tuple[Any, Array]:
        """The step that starts with a gradient, and the gradient along the face without rounding noise."""

        def learned(xp: Namespace, g: Array, w: Array, known: Any) -> tuple[Any, Array]:
            step, projected = self._training.learn(xp, g, w, known)
            return step, self._training.silenced(xp, projected, g, floor)

        return self._ran(learned, g, w, known, made_like=(self._step_like(known, w), g))

    def land(self, stepped: Array, step: Any, u: float) -> tuple[Array, Any, Outcome]:
        """The weights after a step, what is known there, and what happened on the way."""

        def landed(xp: Namespace, stepped: Array, step: Any) -> tuple[Array, Any, Outcome]:
            w, known = self._training.land(xp, stepped, step, u)
            outcome = known.outcome
            if outcome is None:
                none = xp.array(0.0, stepped)
                outcome = Outcome(none, none > 0.0, none > 0.0)
            return w, replace(known, outcome=None), outcome

        norms = Like(self._norms_shape, stepped.dtype)
        marks = Like(self._norms_shape, self._library.dtype("bool"))
        return self._ran(landed, stepped, step, made_like=(stepped, step.former, Outcome(norms, marks, marks)))

    def roundoff(self, arrays: Arrays) -> float:
        """What a rule may be missed by, per size of its terms."""
        sums = float(np.finfo(np.float64).eps) if self.on_host else self._library.eps(self.dtype(arrays))
        return self._law.roundoff(self.unit(arrays), sums)

    def floor(self, arrays: Arrays) -> float:
        """The share of a gradient below which its projection is rounding."""
        unit = self.unit(arrays)
        return (COARSE_NOISE if unit > COARSE else NOISE) * unit

    def known_like(self, w: Any) -> Any:
        """The shapes and dtypes of what is known between two steps."""

        def typed(x: Any) -> Like:
            return Like(x.shape, w.dtype if np.issubdtype(x.dtype, np.floating) else self._library.dtype(str(x.dtype)))

        return self._library.map(typed, self._known_shapes)

    def _nearest(self, xp: Namespace, x: Array) -> Array:
        return self._law.nearest(xp, x)

    def _step_like(self, known: Any, w: Array) -> Any:
        if isinstance(known, Tangent):
            return Following(known.face, w, known)
        return Underway(known.y, known.face, w, Like(self._norms_shape, w.dtype), known)

    @cached_property
    def _norms_shape(self) -> tuple[int, ...]:
        return tuple(np.shape(self._law.norm(NumPy(), np.zeros(self.shape))))

    @cached_property
    def _known_shapes(self) -> Any:
        zeros = np.zeros(self.shape)
        with np.errstate(all="ignore"):
            known = self._training.start(NumPy(), zeros, zeros, 2.0**-53)
        return self._library.map(lambda x: Like(np.shape(x), np.asarray(x).dtype), known)


def laws_of(library: Library, block: AnyBlock) -> list[EquationsLaw | WeightsLaw]:
    """The verbs of a block on arrays of a library, in one law or in several that share no entry; all without state."""
    law, places = _along_axes(block.law(), block.entries)
    if not isinstance(law, Linear):
        return [WeightsLaw(library, law, places)]
    if isinstance(law.projection, Averages) and isinstance(places, Listed):
        pieces = separated(places.parts, law.projection.means.classes)
        return [EquationsLaw(library, Linear(projection), Listed(parts)) for parts, projection in pieces]
    return [EquationsLaw(library, law, places)]


def _along_axes(law: Law, places: Places) -> tuple[Law, Places]:
    """The law with its entries as an array of the axes of their weights, where none of its operations needs others.

    Weights that are split over devices along an axis stay so, and no array is transposed to be read.
    """
    axes = axes_of(places)
    if axes is None:
        return law, places
    match law:
        case Linear(projection=Shared() as shared):
            return Linear(shared.reshaped(axes[1:])), places
        case Linear(projection=Cells() as cells) if cells.adds_alone and isinstance(places, Stepped):
            order, stored = in_stored_order(places)
            moved = cells.permuted(order)
            return (law, places) if moved is None else (Linear(moved), stored)
        case NormalMap(set=Boxes() as boxes):
            return NormalMap(boxes.reshaped(axes)), places
        case _:
            return law, places
