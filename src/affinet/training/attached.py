"""Which optimizers keep rules now."""

from __future__ import annotations

from weakref import WeakSet

from torch import optim

ATTACHED: WeakSet[optim.Optimizer] = WeakSet()
