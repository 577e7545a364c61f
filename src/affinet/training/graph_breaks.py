"""Call a function outside the graphs of torch.compile.

Importing this module imports torch._dynamo, which takes over a second: whoever needs it imports it when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def outside_graphs(function: Callable[[], T]) -> T:
    """What `function` returns; torch.compile breaks its graph here and compiles nothing inside."""
    return function()
