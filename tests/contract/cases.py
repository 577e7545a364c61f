"""The table of cases that every law is held against: rules, the rank they have, and what they leave free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from affinet import families

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """Rules over weights of the given shapes.

    `rank` and `free` are what the plan must report. `texts` says the same rules as text, one for one, where text can.
    `memory` names parameters whose numbers do not lie row-major, `tied` leads from a second name to the Parameter's
    first, `frozen` parameters take no gradient.
    """

    name: str
    shapes: Shapes
    rules: Callable[[Any], list[Any]]
    rank: int
    free: int
    texts: tuple[str, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def _numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


TWO = {"a.weight": (3, 4), "b.weight": (4, 3)}
SQUARE = {"a.weight": (6, 6)}
MATRIX = {"a.weight": (5, 7)}
KERNELS = {"conv.weight": (4, 3, 3, 3)}
BIASED = {"a.weight": (4, 3), "a.bias": (4,)}
LEFT, RIGHT, INSIDE = _numbers(2, 5, seed=1), _numbers(7, 2, seed=2), _numbers(5, 7, seed=3)
MASK = np.add.outer(np.arange(5), np.arange(7)) % 2 == 0
PATTERN = np.array([[0, 1, 2, 0], [1, 2, 0, 1], [-1, 3, 3, -1]])
ACROSS = sparse.random_array((10, 24), density=0.2, rng=np.random.default_rng(4), data_sampler=np.random.default_rng(5).normal)
TRIPLES = sparse.csr_array(
    (
        np.random.default_rng(6).uniform(0.5, 2.0, 1800),
        (np.repeat(np.arange(600), 3), np.concatenate([np.random.default_rng([7, k]).choice(700, 3, False) for k in range(600)])),
    ),
    shape=(600, 700),
)
PLAIN = frozenset({"no equations"})
LARGE = frozenset({"large"})

TIES = (
    Case("one tie", TWO, lambda w: [w.a.weight[0, 1] == w.a.weight[2, 3]], 1, 1, ("a.weight[0, 1] == a.weight[2, 3]",)),
    Case("tie across layers", TWO, lambda w: [w.a.weight[0, 1] == w.b.weight[3, 0]], 1, 1, ("a.weight[0, 1] == b.weight[3, 0]",)),
    Case("scaled tie", TWO, lambda w: [w.a.weight[0, 0] == 3 * w.b.weight[0, 0]], 1, 1, ("a.weight[0, 0] == 3*b.weight[0, 0]",)),
    Case(
        "shifted and signed ties",
        TWO,
        lambda w: [
            w.a.weight[0, 0] == -w.a.weight[1, 1],
            2 * w.a.weight[0, 1] - w.a.weight[0, 2] == 0.5,
            w.a.weight[2, 0] == 1 - w.b.weight[1, 1],
        ],
        3,
        3,
        ("a.weight[0, 0] == -a.weight[1, 1]", "2*a.weight[0, 1] - a.weight[0, 2] == 0.5", "a.weight[2, 0] == 1 - b.weight[1, 1]"),
    ),
    Case("opposite rows", TWO, lambda w: [w.a.weight[0] == -w.a.weight[1]], 4, 4, ("a.weight[0] == -a.weight[1]",)),
    Case("three layers tied", {"a": (3, 2), "b": (3, 2), "c": (3, 2)}, lambda w: [families.tie(w.a, w.b, w.c)], 12, 6, ("tie(a, b, c)",)),
    Case("one row for all", {"a.weight": (6, 5)}, lambda w: [w.a.weight == w.a.weight[:1]], 25, 5, ("a.weight == a.weight[:1]",)),
    Case("chain of scaled ties", {"a.weight": (1000,)}, lambda w: [w.a.weight[:-1] == 3 * w.a.weight[1:]], 999, 1, ("a.weight[:-1] == 3*a.weight[1:]",)),
    Case("chain of ties", {"a.weight": (300,)}, lambda w: [w.a.weight.diff() == 0], 299, 1, ("a.weight.diff() == 0",)),
    Case("chain of shifted ties", {"a.weight": (40,)}, lambda w: [w.a.weight.diff() == 0.25], 39, 1, ("a.weight.diff() == 0.25",)),
    Case("second ratio on a cycle", {"a.weight": (4,)}, lambda w: [w.a.weight[:3] == 2 * w.a.weight[:3].roll(-1)], 3, 0, ("a.weight[:3] == 2*a.weight[:3].roll(-1)",)),
    Case(
        "second ratio with a shift",
        {"a.weight": (4,)},
        lambda w: [w.a.weight[0] == 2 * w.a.weight[1], w.a.weight[0] == w.a.weight[1] + 1],
        2,
        0,
        ("a.weight[0] == 2*a.weight[1]", "a.weight[0] == a.weight[1] + 1"),
    ),
    Case("cross-layer tie with transpose", {"decoder.weight": (6, 4), "encoder.weight": (4, 6)}, lambda w: [w.decoder.weight == w.encoder.weight.T], 24, 24, ("decoder.weight == encoder.weight.T",)),
    Case("scaled layers with shifts", {"a": (3, 4), "b": (3, 4)}, lambda w: [w.a == 2 * w.b + _numbers(3, 4)], 12, 12),
    Case("shared pattern", {"a.weight": (3, 4)}, lambda w: [families.share(w.a.weight, PATTERN)], 6, 4),
    Case("embedding tied to the head", {"embed.weight": (6, 4)}, lambda w: [w.embed.weight.sum(dim=1) == 1, w.head.weight[0, 0] == w.head.weight[1, 1]], 7, 17, ("embed.weight.sum(dim=1) == 1", "head.weight[0, 0] == head.weight[1, 1]"), tied={"head.weight": "embed.weight"}),
)

MATRICES = (
    Case("symmetric", SQUARE, lambda w: [families.symmetric(w.a.weight)], 15, 15, ("symmetric(a.weight)",)),
    Case("skew", SQUARE, lambda w: [families.skew(w.a.weight)], 21, 15, ("skew(a.weight)",)),
    Case("symmetric with zero diagonal", SQUARE, lambda w: [families.symmetric(w.a.weight), w.a.weight.diagonal() == 0], 21, 15, ("symmetric(a.weight)", "a.weight.diagonal() == 0")),
    Case("symmetric with row sums", SQUARE, lambda w: [families.symmetric(w.a.weight), w.a.weight.sum(dim=1) == 1], 21, 15, ("symmetric(a.weight)", "a.weight.sum(dim=1) == 1")),
    Case("symmetric corner", SQUARE, lambda w: [w.a.weight[1:4, 1:4] == w.a.weight[1:4, 1:4].T], 3, 3, ("a.weight[1:4, 1:4] == a.weight[1:4, 1:4].T",)),
    Case("toeplitz", {"a.weight": (4, 6)}, lambda w: [families.toeplitz(w.a.weight)], 15, 7, ("toeplitz(a.weight)",)),
    Case("circulant", {"a.weight": (5, 5)}, lambda w: [families.circulant(w.a.weight)], 20, 5, ("circulant(a.weight)",)),
    Case("circulant with row sums", {"a.weight": (5, 5)}, lambda w: [families.circulant(w.a.weight), w.a.weight.sum(dim=1) == 1], 21, 4, ("circulant(a.weight)", "a.weight.sum(dim=1) == 1")),
    Case("trace", SQUARE, lambda w: [w.a.weight.trace() == 2], 1, 5, ("a.weight.trace() == 2",)),
    Case("lower triangular", SQUARE, lambda w: [w.a.weight.triu(1) == 0], 15, 0, ("a.weight.triu(1) == 0",)),
    Case("masked entries", MATRIX, lambda w: [families.fix(w.a.weight, MASK, 0)], 18, 0),
    Case("masked entries at values", MATRIX, lambda w: [families.fix(w.a.weight, MASK, _numbers(18))], 18, 0),
    Case("masked entries with row sums", MATRIX, lambda w: [families.fix(w.a.weight, MASK, 0), w.a.weight.sum(dim=1) == 1], 23, 12),
)

SUMS = (
    Case("rows sum to one", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 1], 5, 30, ("a.weight.sum(dim=1) == 1",)),
    Case("rows and columns", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 0, w.a.weight.sum(dim=0) == 0], 11, 24, ("a.weight.sum(dim=1) == 0", "a.weight.sum(dim=0) == 0")),
    Case("rows and columns to totals", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 7, w.a.weight.sum(dim=0) == 5], 11, 24, ("a.weight.sum(dim=1) == 7", "a.weight.sum(dim=0) == 5")),
    Case("rows and the whole", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight.sum() == 5], 5, 30, ("a.weight.sum(dim=1) == 1", "a.weight.sum() == 5")),
    Case("rows and half rows", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight[:, :3].sum(dim=1) == 0.5], 10, 25, ("a.weight.sum(dim=1) == 1", "a.weight[:, :3].sum(dim=1) == 0.5")),
    Case("rows and some columns", {"a.weight": (8, 16)}, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight[:, :10].sum(dim=0) == 0], 18, 110, ("a.weight.sum(dim=1) == 1", "a.weight[:, :10].sum(dim=0) == 0")),
    Case("rows and one fixed entry", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight[2, 3] == 0.5], 6, 29, ("a.weight.sum(dim=1) == 1", "a.weight[2, 3] == 0.5")),
    Case("every third entry", {"a.weight": (6, 9)}, lambda w: [w.a.weight[::2, 1::3].sum(dim=1) == 1, w.a.weight[1::2, ::-2].sum(dim=0) == 0], 8, 16, ("a.weight[::2, 1::3].sum(dim=1) == 1", "a.weight[1::2, ::-2].sum(dim=0) == 0")),
    Case("rows picked by hand", MATRIX, lambda w: [w.a.weight[[0, 3, 1]][:, [6, 2, 4, 0]].sum(dim=1) == [1, 2, 3]], 3, 9, ("a.weight[[0, 3, 1]][:, [6, 2, 4, 0]].sum(dim=1) == [1, 2, 3]",)),
    Case("redundant rows", {"a.weight": (3, 4)}, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight.sum(dim=1) == 1, 2 * w.a.weight.sum(dim=1) == 2], 3, 9, ("a.weight.sum(dim=1) == 1", "a.weight.sum(dim=1) == 1", "2*a.weight.sum(dim=1) == 2")),
    Case("one equation over a network", {**TWO, "a.bias": (3,), "b.bias": (4,)}, lambda w: [sum(p.sum() for p in w) == 1], 1, 30),
    Case("biases with kernels", BIASED, lambda w: [w.a.weight.sum(dim=1) + w.a.bias == 1], 4, 12, ("a.weight.sum(dim=1) + a.bias == 1",)),
    Case("running sums", MATRIX, lambda w: [w.a.weight.cumsum(dim=1)[:, [2, 6]] == 1], 10, 25, ("a.weight.cumsum(dim=1)[:, [2, 6]] == 1",)),
    Case("zero mean rows", MATRIX, lambda w: [families.zero_mean(w.a.weight)], 5, 30, ("zero_mean(a.weight)",)),
    Case("rows of a transposed parameter", MATRIX, lambda w: [w.a.weight.sum(dim=1) == 1, w.a.weight[0, 0] == -w.a.weight[1, 1]], 6, 29, ("a.weight.sum(dim=1) == 1", "a.weight[0, 0] == -a.weight[1, 1]"), memory={"a.weight": "transposed"}),
    Case("nothing at all", MATRIX, lambda w: [], 0, 0, tags=PLAIN),
    Case("rules about no entries", MATRIX, lambda w: [w.a.weight[:0].sum(dim=1) == 1, 0 * w.a.weight == 0], 0, 0, ("a.weight[:0].sum(dim=1) == 1", "0*a.weight == 0"), tags=PLAIN),
)

CONVOLUTIONS = (
    Case("kernels of zero mean", KERNELS, lambda w: [families.zero_mean(w.conv.weight)], 12, 96, ("zero_mean(conv.weight)",)),
    Case("kernels with fixed centre", KERNELS, lambda w: [w.conv.weight[:, :, 1, 1] == 0.5], 12, 0, ("conv.weight[:, :, 1, 1] == 0.5",)),
    Case("kernels of zero mean with fixed centre", KERNELS, lambda w: [families.zero_mean(w.conv.weight), w.conv.weight[:, :, 1, 1] == 0.5], 24, 84, ("zero_mean(conv.weight)", "conv.weight[:, :, 1, 1] == 0.5")),
    Case("kernels sum to one", KERNELS, lambda w: [w.conv.weight.sum(dim=(1, 2, 3)) == 1], 4, 104, ("conv.weight.sum(dim=(1, 2, 3)) == 1",)),
    Case("sums along three axes", {"conv.weight": (4, 3, 2, 2)}, lambda w: [w.conv.weight.sum(dim=0) == 0, w.conv.weight.sum(dim=1) == 0, w.conv.weight.sum(dim=(2, 3)) == 0], 30, 18, ("conv.weight.sum(dim=0) == 0", "conv.weight.sum(dim=1) == 0", "conv.weight.sum(dim=(2, 3)) == 0")),
    Case("kernels equal to their flip", KERNELS, lambda w: [w.conv.weight == w.conv.weight.flip(2, 3)], 48, 48, ("conv.weight == conv.weight.flip(2, 3)",)),
    Case("kernels opposite to their flip", KERNELS, lambda w: [w.conv.weight == -w.conv.weight.flip(-1)], 72, 36, ("conv.weight == -conv.weight.flip(-1)",)),
    Case("flipped kernels of zero mean", KERNELS, lambda w: [w.conv.weight == w.conv.weight.flip(2, 3), families.zero_mean(w.conv.weight)], 60, 48, ("conv.weight == conv.weight.flip(2, 3)", "zero_mean(conv.weight)")),
    Case("kernels in channels last", KERNELS, lambda w: [families.zero_mean(w.conv.weight), w.conv.weight[0, 0, 0, 0] == w.conv.weight[1, 0, 0, 0]], 13, 95, ("zero_mean(conv.weight)", "conv.weight[0, 0, 0, 0] == conv.weight[1, 0, 0, 0]"), memory={"conv.weight": "channels last"}),
    Case("flips in channels last", KERNELS, lambda w: [w.conv.weight == w.conv.weight.flip(2, 3)], 48, 48, ("conv.weight == conv.weight.flip(2, 3)",), memory={"conv.weight": "channels last"}),
    Case("kernels with biases", {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,)}, lambda w: [w.conv.weight.sum(dim=(1, 2, 3)) == w.conv.bias, w.conv.bias[0] == 1], 5, 107, ("conv.weight.sum(dim=(1, 2, 3)) == conv.bias", "conv.bias[0] == 1")),
)

ALGEBRA = (
    Case("matrix on the left", MATRIX, lambda w: [LEFT @ w.a.weight == LEFT @ INSIDE], 14, 21),
    Case("matrix on the right", MATRIX, lambda w: [w.a.weight @ RIGHT == INSIDE @ RIGHT], 10, 25),
    Case("matrices on both sides", MATRIX, lambda w: [LEFT @ w.a.weight == LEFT @ INSIDE, w.a.weight @ RIGHT == INSIDE @ RIGHT], 20, 15),
    Case("matrices around", MATRIX, lambda w: [LEFT @ w.a.weight @ RIGHT == 1], 4, 31),
    Case("matrix on the left with one fixed entry", MATRIX, lambda w: [LEFT @ w.a.weight == 1, w.a.weight[1, 2] == 0.5], 15, 20),
    Case("sparse equations over two layers", TWO, lambda w: [families.linear([w.a.weight, w.b.weight], ACROSS, np.arange(10.0))], 10, 12),
    Case("dense equations", TWO, lambda w: [families.linear([w.a.weight, w.b.weight], _numbers(5, 24), _numbers(5))], 5, 19),
    Case("dense equations that repeat", TWO, lambda w: [families.linear([w.a.weight, w.b.weight], np.vstack([_numbers(5, 24)] * 2))], 5, 19),
    Case("badly scaled equations", TWO, lambda w: [families.linear([w.a.weight, w.b.weight], 10.0 ** np.array([[-9], [0], [9]]) * _numbers(3, 24), 10.0 ** np.array([-9, 0, 9]))], 3, 21),
    Case("subspace", {"a.weight": (3, 4)}, lambda w: [families.subspace([w.a.weight], _numbers(12, 4), _numbers(12))], 8, 4),
    Case("many small components", {"a.weight": (20, 3), "b.weight": (20,)}, lambda w: [(w.a.weight * _numbers(20, 3)).sum(dim=1) == w.b.weight, (w.a.weight[:, :2] * _numbers(20, 2)).sum(dim=1) + w.b.weight == 1], 40, 40),
    Case("frozen layer in the rules", {**TWO, "c.weight": (3, 2)}, lambda w: [w.a.weight.sum(dim=1) == w.c.weight.sum(dim=1), w.b.weight[0, 0] == w.c.weight[1, 1], w.b.weight[1] == 2 * w.b.weight[2]], 7, 18, ("a.weight.sum(dim=1) == c.weight.sum(dim=1)", "b.weight[0, 0] == c.weight[1, 1]", "b.weight[1] == 2*b.weight[2]"), frozen=("c.weight",)),
    Case("large irregular component", {"a.weight": (20, 20), "b.weight": (300,)}, lambda w: [families.linear([w.a.weight, w.b.weight], TRIPLES, np.linspace(-1, 1, 600))], 600, 54, tags=LARGE),
)

CASES = (*TIES, *MATRICES, *SUMS, *CONVOLUTIONS, *ALGEBRA)
