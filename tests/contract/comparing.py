"""Are two plans the same? Block by block, arrays included."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
from scipy import sparse

from affinet.plans.plan import Plan


def equal_plans(one: Plan, other: Plan) -> str:
    """Where two plans differ, in words; empty where they do not."""
    kinds = [[type(block).__name__ for block in plan.blocks] for plan in (one, other)]
    if kinds[0] != kinds[1]:
        return f"blocks: {kinds[0]} and {kinds[1]}"
    for number, (a, b) in enumerate(zip(one.blocks, other.blocks, strict=True)):
        found = _different(a, b, f"block {number} ({type(a).__name__})")
        if found:
            return found
    counts = [(plan.rows, plan.rank, plan.size, plan.free) for plan in (one, other)]
    return "" if counts[0] == counts[1] else f"rows, rank, size, free: {counts[0]} and {counts[1]}"


def _different(a: object, b: object, where: str) -> str:
    if type(a) is not type(b):
        return f"{where}: {type(a).__name__} and {type(b).__name__}"
    if is_dataclass(a) and not isinstance(a, type):
        return next(
            (s for f in fields(a) if (s := _different(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}"))), ""
        )
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        same = a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, sparse.csr_array) and isinstance(b, sparse.csr_array):
        same = a.shape == b.shape and (a != b).nnz == 0
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return next(
            (s for k, pair in enumerate(zip(a, b, strict=True)) if (s := _different(*pair, f"{where}[{k}]"))), ""
        )
    else:
        same = bool(a == b)
    return "" if same else f"{where}: {a!s:.200} and {b!s:.200}"
