"""Steps that may move nothing: weights that they do not move keep their bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, optim

from affinet.training.missing import Couplings


class Snapshot:
    """Before a step, the weights that it may leave where they are.

    Those are weights without a gradient, and all of a group whose learning rate is 0 (a warm-up begins so). Whether
    they were left is seen after the step: an optimizer may do anything.
    """

    def __init__(self, optimizer: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        held = {id(p) for group in optimizer.param_groups if _is_zero(group.get("lr")) for p in group["params"]}
        self._before = {
            name: (parameter, parameter.detach().clone())
            for name, parameter in parameters.items()
            if parameter.grad is None or id(parameter) in held
        }

    def left(self) -> frozenset[str]:
        """The weights of which no bit has changed since."""
        return frozenset(name for name, (parameter, before) in self._before.items() if torch.equal(parameter, before))

    def put_back(self, left: frozenset[str], couplings: Couplings) -> None:
        """After the projection: weights that were left keep their bits, but for entries that rules couple to others.

        Law: with w feasible, `Π(w + d) = w + P d`, and `P d` is zero there.
        """
        coupled = couplings.of(left)
        with torch.no_grad():
            for name in left:
                parameter, before = self._before[name]
                mask = coupled.get(name)
                parameter.copy_(before if mask is None else torch.where(mask, parameter, before))


def _is_zero(rate: object) -> bool:
    """Tensors on another device are not looked at: it would wait for it."""
    if isinstance(rate, Tensor):
        return rate.device.type == "cpu" and not bool(rate)
    return isinstance(rate, (int, float)) and rate == 0
