"""Restore the bits of weights that a step did not move."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, optim

from affinet.kernels.torch.shards.held_box import placed_like
from affinet.language.dtensors import local_part
from affinet.training.missing import Couplings


class Snapshot:
    """Copies, made before a step, of the weights that it may leave unchanged.

    These are weights without a gradient, and all weights of a group whose learning rate is 0 (as a warm-up begins).
    Whether they are unchanged is checked after the step, since an optimizer may do anything.
    """

    def __init__(self, optimizer: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        resting_ids = {id(p) for group in optimizer.param_groups if _is_zero(group.get("lr")) for p in group["params"]}
        self._saved = {
            name: (parameter, parameter.detach().clone())
            for name, parameter in parameters.items()
            if parameter.grad is None or id(parameter) in resting_ids
        }

    def unchanged(self) -> dict[str, bool]:
        """Whether no bit of each has changed since, of the part that this process holds."""
        return {
            name: torch.equal(local_part(parameter), local_part(saved))
            for name, (parameter, saved) in self._saved.items()
        }

    def restore(self, unchanged: frozenset[str], couplings: Couplings) -> None:
        """After the projection, restore unchanged weights, except entries that rules couple to other weights.

        Law: with w feasible, `Π(w + d) = w + P d`, and `P d` is zero at the restored entries.
        """
        masks = couplings.of(unchanged)
        with torch.no_grad():
            for name in unchanged:
                parameter, saved = self._saved[name]
                mask = masks.get(name)
                parameter.copy_(saved if mask is None else torch.where(placed_like(mask, saved), parameter, saved))


def _is_zero(rate: object) -> bool:
    """Whether a learning rate is 0. Tensors on another device count as not 0, since reading them would wait for it."""
    if isinstance(rate, Tensor):
        return rate.device.type == "cpu" and not bool(rate)
    return isinstance(rate, (int, float)) and rate == 0
