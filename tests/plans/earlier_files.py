"""Plan files that earlier versions wrote, with the rules that they were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

import affinet
from affinet import families

FIRST = Path(__file__).with_name("first_format.safetensors")
"""`affinet.plan(rules()).with_constants({"frozen": ones}, 1e-6).save(FIRST)` in version 0.1.0.dev0, format 1."""

SHAPES = {
    "a": (4, 6),
    "b": (4,),
    "c": (5,),
    "d": (2,),
    "square": (4, 4),
    "shared": (6,),
    "rows": (3, 8),
    "minus": (3, 8),
    "frozen": (3, 8),
    "layers.0.weight": (2, 3),
}


def rules() -> list[affinet.Constraint]:
    """Rules of every origin: the first matrix is made for [b, a] and listed as [a, b]."""
    w = affinet.weights(SHAPES)
    other_order = np.hstack([-np.eye(4), np.kron(np.eye(4), np.ones(6))])
    return [
        families.linear([w["a"], w["b"]], other_order, 0).named("misaligned"),
        families.linear([w["c"], w["d"]], sparse.csr_array(np.eye(7)[:2]), 1),
        families.equivariant(w["square"], [[1, 0, 3, 2]], [[1, 0, 3, 2]]),
        families.share(w["shared"], [0, 0, 1, 1, 2, 2]),
        w["rows"].sum(dim=1) == 1,
        (2 * w["minus"] - w["frozen"]).sum(dim=0) == -0.5,
        w["layers.0.weight"][0, 0] == w["layers.0.weight"][1, 2],
    ]
