"""Classes of tied entries: one free number per class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Classes:
    """Tied entries: `w_i = scale_i · z[class_i] + shift_i`, one free number z a class.

    `class_of`, `scale`, `shift` follow the order of the block's parts; `scale` and `shift` may be of length one
    (the same for all). `representative` is the entry of each class with scale 1 and shift 0 (the largest |scale|).
    """

    class_of: Integers
    scale: Floats
    shift: Floats
    representative: Integers

    @property
    def count(self) -> int:
        return len(self.representative)

    @cached_property
    def weight(self) -> Floats:
        """`D = Σ scale²` of each class: the metric that the free numbers carry."""
        scale = np.broadcast_to(self.scale, self.class_of.shape)
        return np.bincount(self.class_of, scale * scale, self.count).astype(np.float64, copy=False)

    @property
    def plain(self) -> bool:
        """No two entries share a class: there is nothing to average."""
        return self.count == len(self.class_of)
