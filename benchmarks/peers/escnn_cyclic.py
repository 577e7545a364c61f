"""escnn's linear layer: maps that commute with the shifts of n things, prepared by both.

escnn knows groups of rotations and reflections: the shifts are its cyclic group on the regular representation. It has
no group of all permutations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from escnn import group, gspaces, nn

import affinet
from affinet import families
from benchmarks.results import PeerRow

SIZES = (6, 16, 64)


def measured(title: str) -> Iterator[PeerRow]:
    """Preparing alone: escnn expands its weights into the matrix, and projects nothing."""
    affinet.plan(affinet.weights({"W": (2, 2)})["W"].sum() == 0).projector({"W": torch.zeros(2, 2)})  # imports
    _layer(4)
    for n in SIZES:
        began = time.perf_counter()
        trained = _layer(n)
        theirs = time.perf_counter() - began
        began = time.perf_counter()
        shift = np.roll(np.arange(n), 1)
        plan = affinet.plan(families.equivariant(affinet.weights({"W": (n, n)})["W"], [shift], [shift]))
        plan.projector({"W": torch.zeros(n, n)})
        ours = time.perf_counter() - began
        note = f"{trained} free of {n * n} (affinet: {plan.free})"
        yield PeerRow(title, f"prepare: commute with the shifts of {n}", ours, theirs, note)


def _layer(n: int) -> int:
    """The numbers that escnn trains in a layer from the regular representation of the cyclic group to itself."""
    cyclic = group.cyclic_group(n)
    features = nn.FieldType(gspaces.no_base_space(cyclic), [cyclic.regular_representation])
    return int(nn.Linear(features, features, bias=False).weights.numel())
