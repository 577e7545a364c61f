"""What is computed once within a forward of a model, and forgotten at its end."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class OneForward:
    """Keeps values from a hook before a module's forward to one after it, also where that raises.

    A value is that of the very tensors it was computed from, as they then were, and of the autograd mode of then: a
    checkpointed part that runs without gradients inside a forward with them does not leave its values to the rest.
    Outside of the module's own forward nothing is kept (a part of the model that is called alone, a checkpoint that is
    computed again, tracing), and every access computes.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._values: dict[Hashable, tuple[tuple[Any, ...], Any]] = {}
        self._hooks: list[Any] = []
        self._check: Callable[[], None] | None = None

    def watch(self, module: torch.nn.Module, check: Callable[[], None]) -> None:
        """Follow the forwards of a module; `check` is called before each and may raise."""
        self._check = check
        self._hooks = [
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end, always_call=True),
        ]

    def leave(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def kept(self, key: Hashable, numbers: tuple[Tensor | None, ...], compute: Callable[[], T]) -> T:
        """What `compute` makes of `numbers`, as it was made before if that was in this forward."""
        if self._depth == 0 or torch.compiler.is_compiling():
            return compute()
        now = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *map(_state, numbers))
        known = self._values.get(key)
        if known is not None and known[0] == now:
            found: T = known[1]
            return found
        made = compute()
        self._values[key] = now, made
        return made

    def _begin(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling():
            return
        if self._depth == 0:
            self._values.clear()
            if self._check is not None:
                self._check()
        self._depth += 1

    def _end(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._values.clear()


def _state(x: Tensor | None) -> tuple[int, int]:
    return id(x), 0 if x is None or x.is_inference() else x._version
