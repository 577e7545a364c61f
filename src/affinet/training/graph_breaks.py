"""Call a function outside the graphs of torch.compile.

Importing this module imports torch._dynamo, which takes over a second: callers import it only where they use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def outside_graphs(function: Callable[[], T]) -> T:
    """Call `function` and return its result; torch.compile breaks its graph here and compiles nothing inside."""
    return function()
