"""Choose the rows and columns of a weight that are drawn, and take their numbers and sums."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from affinet.report.pages.contents import Panel

FULL_SIDES = ((4, 64), (9, 48), (16, 32), (30, 20))
"""Up to how many weights are drawn with up to how many rows and columns: together they fill about 1 MB."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers of rows and columns of a weight as a matrix of `size`: the first axis, and all others."""

    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """The places of the sampled entries in the weight laid end to end: (rows, columns)."""
        return np.asarray(self.rows[:, None] * self.size[1] + self.columns)


def weights_drawn(names: list[str]) -> tuple[list[str], int]:
    """The weights that are drawn of those in rules, and how many rows and columns of each."""
    most = FULL_SIDES[-1][0]
    side = next((side for count, side in FULL_SIDES if len(names) <= count), FULL_SIDES[-1][1])
    return names[:most], side


def sample_of(shape: tuple[int, ...], side: int) -> Sample:
    """Evenly spaced rows and columns, all where there are at most `side`. A vector is one row.

    Rows and columns of a square are the same, so that a symmetric matrix stays one.
    """
    size = (1, prod(shape)) if len(shape) < 2 else (shape[0], prod(shape[1:]))
    return Sample(size, _spaced(size[0], side), _spaced(size[1], side))


def panel_of(title: str, weight: np.ndarray, sample: Sample) -> Panel:
    """The numbers of the sample, and the sums of its whole rows and columns, in float64."""
    matrix = weight.reshape(sample.size)
    rows, columns = matrix[sample.rows].astype(np.float64), matrix[:, sample.columns].astype(np.float64)
    with np.errstate(all="ignore"):
        return Panel(title, rows[:, sample.columns], rows.sum(axis=1), columns.sum(axis=0))


def _spaced(count: int, most: int) -> np.ndarray:
    return np.arange(count) if count <= most else np.arange(most, dtype=np.int64) * count // most
