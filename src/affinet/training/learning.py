"""Keep what a training knows about its convex and curved sets, block by block: averaged multipliers, and the face.

It belongs to one training and to no thread or plan. The hook before a step makes a step that is under way; the hook
after it commits what was learned, once and only if the step was taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from affinet.blocks.kinds import AnyBlock
from affinet.blocks.normal_map import Learned
from affinet.blocks.set_law import Known, SetLaw, Step
from affinet.errors import AttachError
from affinet.kernels.naming_rules import naming_rules
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.precision import undisturbed
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.shards.held_box import any_distributed
from affinet.kernels.torch.shards.united_bits import united
from affinet.language.dtensors import is_distributed
from affinet.report.observation import StepCounts
from affinet.training.distributed_states import distributed_state, parts_of_state
from affinet.training.gradient_terms import Added, GradientTerms
from affinet.training.return_counts import ReturnCounts

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Landing:
    """A step that is under way; `landed` once weights have landed, from where other optimizers and wrappers move on.

    `written` where the weights may have been written to before it, so that cells that do not move may be off the set.
    `point` is what is known at the point that a closure evaluates, for as long as it is evaluated: the face of a point
    that a line search rejects has no part in the next one.
    """

    step: Step
    landed: bool = False
    written: bool = False
    point: Known | None = None


class Learning:
    """The states of the blocks with inequalities, over the parameters that are trained at one time.

    Where all steps are entrywise, weights in a box are clamped after them: the nearest point is the same in every
    diagonal metric. Gradients of such blocks stay as they are, and nothing is learned, until gradients are projected
    before a step: what is clipped then must not contain the part that the bounds hold, and from then on they learn.
    """

    def __init__(
        self, projector: Projector, parameters: Weights, entrywise: frozenset[str], former: Learning | None = None
    ) -> None:
        """`entrywise` are the parameters whose steps are entrywise.

        `former` is what was learned before parameters were frozen or thawed, or rules were replaced: blocks that are
        still there, or are there again, carry on from it.
        """
        self._projector, self._parameters, self._entrywise = projector, parameters, entrywise
        self._known: WeakKeyDictionary[AnyBlock, Known] = WeakKeyDictionary()
        self._versions: dict[str, tuple[int, int]] = {}
        self._landings: dict[AnyBlock, _Landing] = {}
        self._spares: dict[AnyBlock, Tensor] = {}
        """Memory of averages that a step replaced."""
        self.face_moved = False
        """Whether a line search started or ended on another face than the one before it."""
        self._returns: ReturnCounts = ReturnCounts(None if former is None else former._returns)
        if former is not None:
            self._known, self._versions = former._known, former._versions

    def __bool__(self) -> bool:
        return self._projector.has_inequalities

    def prepare_(
        self,
        gradients: Tensors,
        added: Added,
        *,
        learn: bool,
        feed_decay: bool = True,
        search: bool = False,
        skipped: Tensor | None = None,
    ) -> None:
        """Learn from the gradients, and move them along the faces, in place; rounding noise becomes zero.

        The optimizer adds its decay to what it gets, so that it is fed `P(g + λ w) − λ w`; without `feed_decay`, `P g`
        for now. Without `learn` these gradients were learned before, or belong to a later point of a line search. With
        `search` one starts here: its gradients are exact, so that nothing from before enters the face. Missing
        gradients count as zero, and blocks without any gradient keep what they know. `skipped` is not zero where the
        step will not be taken.
        """
        self.face_moved = False
        with undisturbed(self._device()):
            for block, kernel, terms in self._with_gradients(gradients, added, clamp=feed_decay):
                if learn or block not in self._landings:
                    with naming_rules(self._projector.plan, block):
                        self._learn(block, kernel, terms, feed_decay, search, skipped)
                else:
                    g = terms.objective() if feed_decay else terms.plain()
                    landing = self._landings[block]
                    terms.feed(kernel.tangent(g, landing.point or landing.step), feed_decay)
        self._agree_on_faces(compared=search)

    def land_inside_(self) -> None:
        """Move weights onto the face and the set, in place, before a closure evaluates them again."""
        with undisturbed(self._device()):
            for block, kernel in self._sets():
                landing = self._landings.get(block)
                if landing is not None and not landing.landed:
                    landed, point = kernel.land_(kernel.read(self._parameters), landing.step, None)
                    kernel.write(self._parameters, landed)
                    self._landings[block] = replace(landing, point=point)

    def land_(self, names: Collection[str], skipped: Tensor | None) -> None:
        """Move weights to where they land after a step of the optimizer that holds the parameters `names`.

        Commits what was learned, except where the number `skipped` is not zero.
        """
        step_taken = None if skipped is None else (skipped == 0).all()
        self.face_moved = False
        searched = any(landing.point is not None for landing in self._landings.values())
        with undisturbed(self._device()):
            for block, kernel in self._sets():
                if not set(kernel.names).isdisjoint(names):
                    with naming_rules(self._projector.plan, block):
                        self._land(block, kernel, step_taken)
        self._agree_on_faces(compared=searched)
        self.mark()
        self._returns.warn(self._projector.plan)

    def mark(self) -> None:
        """Remember the present weights: where they are written to before the next step, y is fitted to them then."""
        self._versions.update((name, (p._version, p.data_ptr())) for name, p in self._own_weights().items())

    def weights(self) -> dict[str, Tensor]:
        """The weights in blocks with inequalities."""
        names = {name for _, kernel in self._sets() for name in kernel.names}
        return {name: self._parameters[name] for name in sorted(names)}

    def move_onto_sets_(self) -> None:
        """Move weights to the nearest point, in place; cells that are on their set to rounding keep their bits."""
        with undisturbed(self._device()):
            for _, kernel in self._sets():
                x = kernel.read(self._parameters, copy=True)
                kernel.write(self._parameters, kernel.on_set(x))

    def averaged(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of what is minimized, with averaged ones, −y, for the entries whose blocks have learned."""
        copies = {name: gradient.clone() for name, gradient in gradients.items()}
        for block, kernel in self._sets():
            if kernel.learns and block in self._known:
                kernel.write(copies, -self._known[block].y)
        return copies

    def returns(self) -> dict[str, StepCounts]:
        """Name of each nonlinear rule → how many of its steps were shortened, refused, or returned from slowly."""
        kernels = dict(self._sets())

        def united_bits(block: AnyBlock, bits: list[int]) -> list[int]:
            kernel = kernels[block]
            return bits if kernel.cells is None else united(bits, [self._parameters[name] for name in kernel.names])

        return self._returns.by_rule(self._projector.plan, united_bits)

    def state(self) -> list[dict[str, Any] | None]:
        """A copy of what is known of each block with inequalities, in their order; None before the first step.

        Blocks that learn nothing have None too: their tangent planes follow from the weights. Of distributed weights
        there are tensors that are held as these are, with zeros, marked as not `started`, in place of None: a
        distributed checkpoint is loaded into tensors, by any number of processes.
        """
        return [self._state_of(block, kernel) if kernel.learns else None for block, kernel in self._sets()]

    def load_state(self, states: object) -> None:
        """Carry on from a saved state. Raises AttachError, with nothing changed, for the state of other blocks."""
        sets = list(self._sets())
        if not isinstance(states, list) or len(states) != len(sets):
            raise AttachError(
                "the saved state of the inequalities does not belong to these rules: it has another number of blocks. "
                "Attach the same rules to the same model, or leave the handle's state out."
            )
        loaded = [self._loaded(*pair, state) for pair, state in zip(sets, states, strict=True)]
        for (block, _), state in zip(sets, loaded, strict=True):
            self._known.pop(block, None)
            if state is not None:
                self._known[block] = state
        self._versions.clear()
        self._landings.clear()

    def _agree_on_faces(self, *, compared: bool) -> None:
        """Where faces were compared, and processes have cells of their own: whether any of them is on another face."""
        names = {name for _, kernel in self._sets() if kernel.cells is not None for name in kernel.names}
        if compared and names:
            self.face_moved = bool(united([self.face_moved], [self._parameters[name] for name in sorted(names)])[0])

    def _learn(
        self,
        block: AnyBlock,
        kernel: ConvexKernel,
        terms: GradientTerms,
        feed_decay: bool,
        search: bool,
        skipped: Tensor | None,
    ) -> None:
        g = terms.objective()
        w, differs = self._weights(block, kernel)
        state = self._state(block, kernel, w)
        written = kernel.learns and (state is None or differs or self._written(kernel))
        if written and state is not None:
            state = kernel.resettle(w, state)
        if search:
            former, state = state, kernel.start(g, w, state)
            self.face_moved |= former is not None and not kernel.same_face(state.face, former.face)
        elif state is None:
            if skipped is not None and bool((skipped != 0).any()):
                return  # nothing is known before the first step that is taken, and these gradients say nothing
            state = kernel.start(g, w)
        step, projected = kernel.learn_(g, w, state, self._spares.pop(block, None))
        self._landings[block] = _Landing(step, written=written)
        if not feed_decay and terms.decays:
            projected = kernel.tangent(terms.plain(), step)
        terms.feed(projected, feed_decay)

    def _land(self, block: AnyBlock, kernel: ConvexKernel, step_taken: Tensor | None) -> None:
        landing = self._landings.get(block)
        if landing is None and kernel.pointwise and step_taken is None:
            kernel.project_(self._parameters)
            return
        if landing is None:
            x = kernel.read(self._parameters)
            # Weights without a gradient keep their bits; what is written through `.data` shows in the weights alone.
            landed = kernel.nearest(x) if self._written(kernel) else kernel.on_set(x)
            kernel.write(self._parameters, landed if step_taken is None else torch.where(step_taken, landed, x))
            return
        stepped, step = kernel.read(self._parameters), landing.step
        if landing.landed and not kernel.in_place:
            step = replace(step, before=kernel.rounded(step.before, self._parameters))
            if torch.equal(step.before, stepped):
                return
        # After a line search, faces before and after are compared; a step that is not taken leaves all as it was.
        reuse = landing.point is None and step_taken is None
        landed, known = kernel.land_(stepped, step, step_taken, reuse=reuse)
        if reuse and kernel.rounds_nothing and kernel.learns and step.former.y is not known.y:
            self._spares[block] = step.former.y
        if landing.written and (step_taken is None or bool(step_taken)):
            landed = kernel.on_set(landed)
            known = kernel.resettle(landed, known)
        if landing.point is not None:  # a closure was evaluated at several points
            self.face_moved |= not kernel.same_face(known.face, step.face)
        kernel.write(self._parameters, landed)
        self._known[block] = known
        if kernel.is_curved and (step_taken is None or bool(step_taken)):
            self._returns.add(block, known.outcome)
        self._landings[block] = _Landing(step.onwards(landed, known), landed=True)

    def _weights(self, block: AnyBlock, kernel: ConvexKernel) -> tuple[Tensor, bool]:
        """The weights of a block in memory of their own, and whether they are not where they landed.

        They are compared by their values, because writing through `.data` raises no version. On a curved set nothing
        follows from it: its law looks at where the weights are, and returns to the set from there.
        """
        if not kernel.learns:
            return kernel.read(self._parameters, copy=not kernel.in_place), False
        landing = self._landings.get(block)
        if landing is None or not landing.landed:
            return kernel.read(self._parameters, copy=True), False
        landed = landing.step.before
        if kernel.rounds_nothing and torch.equal(landed, kernel.read(self._parameters)):
            return landed, False
        w = kernel.read(self._parameters, copy=True)
        return w, not torch.equal(kernel.rounded(landed, self._parameters), w)

    def _state(self, block: AnyBlock, kernel: ConvexKernel, w: Tensor) -> Known | None:
        """What is known of a block, in the dtype and on the device of its weights."""
        state = self._known.get(block)
        return None if state is None else kernel.moved(state, w)

    def _written(self, kernel: ConvexKernel) -> bool:
        """Whether weights of a block were written to since they were marked."""
        present = {name: p for name, p in self._own_weights().items() if name in kernel.names}
        marks = {name: (p._version, p.data_ptr()) for name, p in present.items()}
        return any(self._versions.get(name, mark) != mark for name, mark in marks.items())

    def _own_weights(self) -> dict[str, Tensor]:
        """The weights that this process alone holds.

        Writes to others are seen by their values alone, which all processes compare: versions differ between them.
        """
        return {name: p for name, p in self._parameters.items() if not is_distributed(p)}

    def _state_of(self, block: AnyBlock, kernel: ConvexKernel) -> dict[str, Any] | None:
        known, weights = self._known.get(block), {name: self._parameters[name] for name in kernel.names}
        if not any_distributed(weights.values()):
            return None if known is None else {"y": known.y.clone(), "face": [part.clone() for part in known.face]}
        started = torch.tensor(known is not None)
        if known is None:
            w = kernel.read(weights)
            known = kernel.start(torch.zeros_like(w), w)
        return {"started": started, **distributed_state(kernel, cast("SetLaw", block.law()), known, weights)}

    def _loaded(self, block: AnyBlock, kernel: ConvexKernel, state: object) -> Known | None:
        if state is None or (isinstance(state, Mapping) and not state.get("started", True)):
            return None
        weights = {name: self._parameters[name] for name in kernel.names}
        w = kernel.read(weights)
        like = kernel.start(torch.zeros_like(w), w)
        expected = [like.y, *like.face] if kernel.learns else []
        parts = parts_of_state(kernel, cast("SetLaw", block.law()), state, like, weights)
        if not parts or [part.shape for part in parts] != [part.shape for part in expected]:
            raise AttachError(
                "the saved state of the inequalities does not belong to these rules: its tensors have other shapes. "
                "Attach the same rules to the same model, or leave the handle's state out."
            )
        y, *marks = (part.to(other.device, other.dtype, copy=True) for part, other in zip(parts, expected, strict=True))
        return Learned(y, type(like.face)(*marks))

    def _with_gradients(
        self, gradients: Tensors, added: Added, *, clamp: bool
    ) -> Iterator[tuple[AnyBlock, ConvexKernel, GradientTerms]]:
        """The blocks with any gradient, but with `clamp` not those whose weights are just clamped."""
        for block, kernel in self._sets():
            present = {name: gradients.get(name) for name in kernel.names}
            is_entrywise = kernel.pointwise and self._entrywise.issuperset(kernel.names)
            is_clamped = clamp and is_entrywise and block not in self._known and block not in self._landings
            if not is_clamped and any(gradient is not None for gradient in present.values()):
                yield block, kernel, GradientTerms(kernel, present, self._parameters, added)

    def _sets(self) -> Iterator[tuple[AnyBlock, ConvexKernel]]:
        for block, kernel in self._projector.pairs(self._parameters):
            if isinstance(kernel, ConvexKernel):
                yield block, kernel

    def _device(self) -> torch.device:
        return next((p.device for p in self._parameters.values()), torch.device("cpu"))
