"""What `project` returns: how well the rules hold, what attaching moved, and the way off again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import ref

import torch
from torch import optim

from affinet.kernels.torch.projector import Projector
from affinet.structure.plan import Plan


class Handle:
    """Rules attached to one training. Made by `affinet.project`.

    `plan` is what the user asked for; frozen parameters are constants in what is projected. `moved` says how far
    attaching moved each parameter (Euclidean distance, in the weights' units). Copies of the model or of the
    optimizer carry no rules: ask `handle.attached_to(optimizer)`.
    """

    def __init__(
        self,
        plan: Plan,
        projector: Projector,
        parameters: Mapping[str, torch.nn.Parameter],
        moved: Mapping[str, float],
        optimizer: optim.Optimizer,
        detach: Callable[[], None],
    ) -> None:
        self.plan = plan
        self.moved = dict(moved)
        self._projector = projector
        self._parameters = dict(parameters)
        self._optimizer = ref(optimizer)
        self._detach: Callable[[], None] | None = detach

    @property
    def projector(self) -> Projector:
        """The projector of the rules over the trained parameters."""
        return self._projector

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the weights as they are now."""
        return self._projector.violation(self._parameters)

    def attached_to(self, optimizer: optim.Optimizer) -> bool:
        """Whether this very optimizer keeps these rules; a copy (deepcopy, pickle) does not."""
        return self._detach is not None and self._optimizer() is optimizer

    def remove(self) -> None:
        """Take every hook away; the weights stay where they are. Removing twice is no error."""
        if self._detach is not None:
            self._detach()
            self._detach = None

    def __repr__(self) -> str:
        far = {name: distance for name, distance in self.moved.items() if distance > 0.0}
        moved = ", ".join(f"{name} by {distance:.3g}" for name, distance in far.items()) or "nothing"
        state = "attached" if self._detach is not None else "removed"
        return f"<Handle ({state}): {self.plan.rows} equations, {self.plan.free} free; attaching moved {moved}>"
