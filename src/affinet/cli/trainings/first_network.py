"""Draw the first weights of the built-in network and the order of its batches as torch draws them, without torch.

A seed then gives the same start and the same batches in every framework. The generator of torch on the CPU is MT19937,
which NumPy has too: https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/core/MT19937RNGEngine.h
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.perceptron import Perceptron, perceptron_of
from affinet.cli.trainings.snapshot import Packed
from affinet.cli.words import one_paragraph
from affinet.errors import JobError
from affinet.system.malformed import Malformed, fields, integer

DRAWN_AT_ONCE = 2**20
"""Numbers that are computed at a time, which needs several times their memory."""
WORDS = 624
"""Numbers of 32 bits in the state of MT19937."""


@dataclass(frozen=True)
class FirstNetwork:
    """The built-in network of a job and its first weights, in the dtype of the job."""

    perceptron: Perceptron
    weights: Mapping[str, np.ndarray]


def first_network(job: JobFile, inputs: int, outputs: int) -> FirstNetwork:
    """The network of `job` as `torch.nn.Linear` would draw it.

    Raises JobError as `perceptron_of`, and for weights that do not fit in memory.
    """
    perceptron = perceptron_of(job, inputs, outputs)
    random, dtype, weights = random_numbers(job.job.train.seed), np.dtype(job.job.model.dtype), {}
    try:
        for name, (columns, rows) in perceptron.layers.items():
            bound = sqrt(3.0) * (sqrt(2.0 / (1 + 5)) / sqrt(columns))
            weights[f"{name}.weight"] = _uniform(random, (rows, columns), bound, dtype)
            weights[f"{name}.bias"] = _uniform(random, (rows,), 1 / sqrt(columns), dtype)
    except MemoryError as error:
        raise beyond_memory(job, perceptron, "its first weights", error) from None
    return FirstNetwork(perceptron, weights)


def beyond_memory(job: JobFile, perceptron: Perceptron, subject: str, error: Exception) -> JobError:
    """The error for a network that does not fit in memory."""
    size = perceptron.numbers * np.dtype(job.job.model.dtype).itemsize / 2**30
    fact = f"a network of sizes {perceptron.sizes!r:.100} has {perceptron.numbers:,} numbers, {size:.3g} GiB"
    return job.mistake(
        ("model", "hidden"),
        f"{fact}, and {subject} cannot be made: {one_paragraph(error).rstrip('.')}. Make it smaller.",
    )


def random_numbers(seed: int) -> np.random.RandomState:
    """MT19937, seeded as torch seeds it."""
    return np.random.RandomState(seed)


def permutation(random: np.random.RandomState, count: int) -> np.ndarray:
    """The numbers below `count` in the order of `torch.randperm`."""
    swaps = _words(random, max(count - 1, 0)).astype(np.int64) % (count - np.arange(max(count - 1, 0)))
    order = list(range(count))
    for place, distance in enumerate(swaps.tolist()):
        other = place + distance
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.int64)


def packed_random(random: np.random.RandomState) -> Packed:
    """The state of random numbers."""
    state: Any = random.get_state(legacy=False)
    return Packed({"position": int(state["state"]["pos"])}, [state["state"]["key"].copy()])


def restore_random(packed: Packed, random: np.random.RandomState) -> None:
    """Restore a state. Raises Malformed for anything that `packed_random` never makes."""
    content = fields(packed.content, "the random state", ("position",))
    if len(packed.tensors) != 1 or packed.tensors[0].shape != (WORDS,) or packed.tensors[0].dtype != np.uint32:
        raise Malformed("a random state is not one of MT19937")
    position = integer(content["position"], "the position of the random state", 0, WORDS)
    random.set_state(("MT19937", packed.tensors[0], position, 0, 0.0))


def _uniform(
    random: np.random.RandomState, shape: tuple[int, ...], bound: float, dtype: np.dtype[np.floating[Any]]
) -> np.ndarray:
    """Numbers of float32 between `-bound` and `bound`, of 24 random bits each, in another dtype.

    Product and sum are rounded once together, as processors do that torch is compiled for.
    """
    low, width = np.float32(-bound), np.float32(bound) - np.float32(-bound)
    numbers = np.empty(prod(shape), dtype)
    for first in range(0, len(numbers), DRAWN_AT_ONCE):
        part = numbers[first : first + DRAWN_AT_ONCE]
        shares = (_words(random, len(part)) & np.uint32(2**24 - 1)).astype(np.float64) * 2.0**-24
        part[:] = (shares * float(width) + float(low)).astype(np.float32)
    return numbers.reshape(shape)


def _words(random: np.random.RandomState, count: int) -> np.ndarray:
    return random.randint(0, 2**32, count, dtype=np.uint32)
