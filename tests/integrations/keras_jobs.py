"""Describe what one process of Keras is to compute; no library of arrays is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import affinet

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """A plan, weights and gradients; `noise` has gradients of as many steps of AdamW as it has rows."""

    plan: affinet.Plan
    weights: Arrays
    gradients: Arrays
    noise: Arrays | None = None
