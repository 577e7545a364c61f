"""Decide after which epochs a run measures its stationarity, which takes a gradient of all rows to train on each time.

The decision depends on the job and the sizes of its data and network alone, so that a resumed run makes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from affinet.cli.jobs.job import Job

MOST_OBSERVED = 100
"""Measurements of a run that are enough for a curve."""
CHEAP_WORK = 10**8
"""Rows times weights up to which a gradient takes a tenth of a second on one core: six operations for each pair."""
DEAR_SPACING = 5
"""Epochs from one measurement to the next, or more, where a gradient of all rows may take as long as an epoch."""


@dataclass(frozen=True)
class ObservedEpochs:
    """The first, the last and each `spacing`-th of the epochs of a job; none where `spacing` is 0."""

    epochs: int
    spacing: int

    def __contains__(self, epoch: int) -> bool:
        """Whether stationarity is measured after the epoch of this number, which counts from 1."""
        return self.spacing > 0 and (epoch in (1, self.epochs) or epoch % self.spacing == 0)


def observed_epochs(job: Job, rows: int, numbers: int) -> ObservedEpochs:
    """What the job asks for; without it about a hundred epochs, and at most each fifth where a gradient may be dear.

    `rows` is the number of rows to train on, `numbers` that of the weights. What a row costs in the network of a
    factory is not known.
    """
    epochs, spacing = job.train.epochs, job.train.stationarity_every
    if spacing is None:
        is_cheap = job.model.factory is None and rows * numbers <= CHEAP_WORK
        spacing = max(ceil(epochs / MOST_OBSERVED), 1 if is_cheap else DEAR_SPACING)
    return ObservedEpochs(epochs, spacing)
