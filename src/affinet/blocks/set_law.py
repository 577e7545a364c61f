"""The protocol of laws that depend on the weights: what a training asks of inequalities and of nonlinear equations.

States are values that the caller keeps: what is *known* between two steps, and a *step* that is being taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Integers

Known = Any
"""What a law knows between two steps: `Learned` of a `NormalMap`, `Tangent` of a `TangentMap`."""
Step = Any
"""A step that is being taken: `Underway` of a `NormalMap`, `Following` of a `TangentMap`.

It has `before`, the weights at its start, `face`, and `onwards(w, known)`: the step that starts where this one ended.
"""


class SetLaw(Protocol):
    """The verbs of a training for one set, and its projections."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The entries as the axes that the set works along."""

    @property
    def order(self) -> Integers | None:
        """Entry k of the set is entry `order[k]` of the block's places; None where they have one order."""

    @property
    def wide(self) -> bool:
        """Whether entries are read in float64 where the library has it, and rounded once when they are written back."""

    @property
    def learns(self) -> bool:
        """Whether multipliers from former steps decide where weights land; nothing is stored between trainings else."""

    @property
    def always_found(self) -> bool:
        """Whether `nearest` finds a point of the set from everywhere."""

    def count(self) -> int:
        """Entries of a cell."""

    def only(self, cells: Integers) -> SetLaw | None:
        """The law of some cells, in the order of the set; None where cells cannot be taken apart."""

    def norm(self, xp: Namespace, x: Array) -> Array:
        """The Euclidean norm of the entries of each cell, of a shape that broadcasts to that of `x`."""

    def nearest(self, xp: Namespace, x: Array, metric: Array | None = None) -> Array:
        """The nearest point of the set, in `Σ metric_i dx_i²` where a metric is given."""

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        """Whether each cell, in the shape of `norm(x)`, is on the set to rounding."""

    def snapped(self, xp: Namespace, w: Array, u: float, nearest: Callable[[Array], Array] | None = None) -> Array:
        """The nearest point, but in cells that hold to rounding w itself. Law: idempotent to the bit.

        `nearest` may compute nearest points in another way.
        """

    def tangent_part(self, xp: Namespace, x: Array, face: Any) -> Array:
        """`P x` along the face of a state."""

    def face_at(self, xp: Namespace, w: Array) -> Any:
        """The face at the nearest point to w."""

    def same_face(self, xp: Namespace, face: Any, former: Any) -> bool:
        """Whether vectors along two faces can be compared: the same inequalities hold with equality."""

    def normal(self, xp: Namespace, w: Array, v: Array, u: float) -> Array:
        """The nearest vector to v in the normal cone at `w`, a point of the set."""

    def start(self, xp: Namespace, g: Array, w: Array, u: float, face: Any = None) -> Known:
        """What is known from the first gradient at weights, which are on the face where one is given."""

    def learn(self, xp: Namespace, g: Array, w: Array, state: Known) -> tuple[Step, Array]:
        """The step that starts with a gradient at weights, and the gradient along the face."""

    def silenced(self, xp: Namespace, projected: Array, g: Array, floor: float) -> Array:
        """`P g` with zeros where `|P g| ≤ floor · (|g| + rms g)`, which is rounding; the rms is that of the cell."""

    def land(
        self, xp: Namespace, stepped: Array, state: Step, u: float, taken: Array | None = None
    ) -> tuple[Array, Known]:
        """The weights after a step, on the set, and what is known there.

        A cell that did not move keeps its bits. Weights that are not finite stay as they are, and what was known before
        the step is kept in their cells. So it is everywhere where the condition `taken` is false.
        """

    def roundoff(self, u: float, spacing: float) -> float:
        """What a rule may be missed by, per size of its terms: weights are rounded once, sums as often as they grow.

        `u` is the unit roundoff of the weights, `spacing` that of the numbers at 1 in which sums are computed.
        """

    def resettle(self, xp: Namespace, w: Array, state: Known, u: float) -> Known:
        """What is known once weights or rules were changed from outside."""
