"""Average the weights after each step on the rules: `use_ema` of an optimizer that is inside of another one.

The inner optimizer makes the variables of the averages, in which `SwapEMAWeights` of Keras finds them. It would update
them before the weights are moved onto the rules, so it is told not to, and the outer one does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

Tensors = list[Any]


@dataclass(frozen=True)
class Averaging:
    """The options of averages: their momentum, and after how many steps they overwrite the weights, or None."""

    momentum: float
    overwrite_frequency: int | None

    def averaged(self, averages: Sequence[Any], weights: Tensors, step: Any) -> Tensors:
        """The next averages, by the formula of Keras: `m·average + (1 − m)·w`, and the weights themselves at step 1."""
        made = []
        for average, w in zip(averages, weights, strict=True):
            share = ops.cast(step != 1, w.dtype) * self.momentum
            made.append(share * ops.convert_to_tensor(average) + (1 - share) * w)
        return made


def averaging_of(optimizer: Any) -> Averaging | None:
    """The options of an optimizer with `use_ema`."""
    return Averaging(optimizer.ema_momentum, optimizer.ema_overwrite_frequency) if optimizer.use_ema else None


def keeps_averages(optimizer: Any) -> bool:
    """Whether an optimizer inside of a MultiOptimizer averages the weights that it steps with."""
    return any(inside.use_ema for inside in getattr(optimizer, "optimizers", ()))
