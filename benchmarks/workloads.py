"""The workloads: a row of the table each, with what was promised of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

import affinet
from affinet import families
from affinet.cli.demonstration import MATRICES
from affinet.cli.files.market import read_mtx
from benchmarks import by_hand, networks
from benchmarks.workload import BY_HAND, Figure, HandWritten, Job, Rules, Target, Workload

MB, KB = 1e6, 1e3
ROTATIONS = [np.cross(np.eye(3), axis) for axis in np.eye(3)]
"""The algebra of the rotations of space: each `X @ x` is a cross product with an axis."""
FIXED_ROWS = (Target(Figure.PROJECT, 1.2), Target(Figure.GRADIENT, 1.2))
MASKED = (Target(Figure.PROJECT, 1.3), Target(Figure.GRADIENT, 1.3))
SETTLING = 60
"""Steps after which few faces change from one step to the next."""
LAYER = "2.weight"
"""The square layer of the perceptron."""


def _perceptron(shrink: int, rules: Rules, hand: HandWritten | None) -> Job:
    """The MLP 784-2048-2048-10 at batch 128."""
    inputs, hidden = 784 // shrink, 2048 // shrink
    return Job(
        model=partial(networks.perceptron, inputs, hidden, hidden, 10),
        batch=partial(networks.labelled, 128, inputs, 10),
        rules=rules,
        by_hand=hand,
    )


def _rows(shrink: int) -> Job:
    hand = by_hand.rows("0.weight", LAYER, "4.weight", total=1.0)
    return _perceptron(shrink, lambda w: [w[k].weight.sum(dim=1) == 1 for k in (0, 2, 4)], hand)


def _rows_and_columns(shrink: int) -> Job:
    hand = by_hand.rows_and_columns(LAYER, 1.0)
    return _perceptron(shrink, lambda w: [w[LAYER].sum(dim=axis) == 1 for axis in (0, 1)], hand)


def _symmetric(shrink: int) -> Job:
    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        return [families.symmetric(w[LAYER]), w[LAYER].diagonal() == 0]

    return _perceptron(shrink, rules, by_hand.symmetric_without_diagonal(LAYER))


def _classes(shrink: int) -> Job:
    width = 2048 // shrink
    pattern = np.random.default_rng(0).integers(0, width * width // 4, (width, width))
    hand = by_hand.classes(LAYER, pattern)
    return _perceptron(shrink, lambda w: [families.share(w[LAYER], pattern)], hand)


def _equations(count: int, shrink: int) -> Job:
    """`count` equations of four terms over all entries of the square layer, drawn with replacement."""
    draw = np.random.default_rng(0)
    count, entries = count // shrink**2, (2048 // shrink) ** 2
    terms = draw.integers(0, entries, (count, 4))
    coefficients, b = draw.standard_normal((count, 4)), draw.standard_normal(count)

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        return [(coefficients * w[LAYER].flatten()[terms]).sum(dim=1) == b]

    return _perceptron(shrink, rules, by_hand.sparse_equations(LAYER, terms, coefficients, b))


def _dense(shrink: int) -> Job:
    count, entries = 500 // shrink, 100_000 // shrink**2
    A = np.random.default_rng(0).standard_normal((count, entries))

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        return [families.linear([w[LAYER].flatten()[:entries]], A, 0.5)]

    return _perceptron(shrink, rules, by_hand.dense(LAYER, A, 0.5))


def _transposed(shrink: int) -> Job:
    inputs, hidden = 784 // shrink, 2048 // shrink

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        x, _ = networks.labelled(128, inputs, 2)
        return x, x

    return Job(
        model=partial(networks.Autoencoder, inputs, hidden),
        batch=batch,
        loss=nn.functional.mse_loss,
        rules=lambda w: [w.dec.weight == w.enc.weight.T],
        by_hand=by_hand.transposed("enc.weight", "dec.weight"),
    )


def _tied_columns(shrink: int) -> Job:
    """Two 600 × 200 layers whose rows and columns sum to zero; eight columns of the one equal those of the other."""
    inputs, hidden, tied = 200 // shrink, 600 // shrink, max(1, 8 // shrink)

    def centred(w: affinet.Weights) -> list[affinet.Constraint]:
        return [layer.weight.sum(dim=axis) == 0 for layer in (w.first, w.second) for axis in (0, 1)]

    return Job(
        model=partial(networks.Twins, inputs, hidden, 10),
        batch=partial(networks.labelled, 128, inputs, 10),
        rules=lambda w: [*centred(w), w.first.weight[:, :tied] == w.second.weight[:, tied : 2 * tied]],
        beside=centred,
    )


def _digits(shrink: int, fused: bool) -> Job:
    """64-32-10 at batch 32, with a tie of two single weights and rows that sum to one; too small to shrink."""
    return Job(
        model=partial(networks.perceptron, 64, 32, 10),
        batch=partial(networks.labelled, 32, 64, 10),
        fused=fused,
        rules=lambda w: [w[2].weight[0, 1] == w[2].weight[2, 3], w[0].weight.sum(dim=1) == 1],
        by_hand=by_hand.tie_and_rows(LAYER, (0, 1), (2, 3), "0.weight", 1.0),
    )


def _demo(shrink: int) -> Job:
    """What `affinet demo` trains; too small to shrink."""
    A, b = (read_mtx(path) for path in MATRICES)

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        block = w[2].weight[:, :32]
        return [
            w[0].weight[0, 1] == w[0].weight[2, 3],
            w[0].weight.sum(dim=1) == 1,
            block == block.T,
            families.linear([w[2].weight, w[4].weight], A, np.asarray(b).ravel()),
        ]

    return Job(
        model=partial(networks.perceptron, 64, 64, 32, 10),
        batch=partial(networks.labelled, 64, 64, 10),
        fused=False,
        rules=rules,
    )


def _measured(shrink: int) -> Job:
    """Four rules for each five of 40 square layers."""
    width = 590 // shrink

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        found = []
        for first in range(0, 40, 5):
            one, two, three, four, five = (w[2 * (first + k)] for k in range(5))
            found += [one.weight.sum(dim=1) == 1, families.symmetric(two.weight), three.weight == 2 * four.weight.T]
            found += [five.weight.sum(dim=1) + five.bias == 0]
        return found

    return Job(
        model=partial(networks.perceptron, *[width] * 41),
        batch=partial(networks.labelled, 128, width, width),
        rules=rules,
    )


def _gpt2(shrink: int) -> Job:
    tokens, context, width = 50_257 // shrink, 1024 // shrink, 12 * max(1, 64 // shrink)
    model = partial(networks.LanguageModel, tokens, context, width, 12, 12 if shrink == 1 else 2)
    with torch.device("meta"):
        matrices = [name for name, weight in model().named_parameters() if weight.ndim == 2]
    return Job(
        model=model,
        batch=partial(networks.sentences, 1, min(64, context), tokens),
        rules=lambda w: [w[name].sum(dim=1) == 1 for name in matrices],
        by_hand=by_hand.rows(*matrices, total=1.0),
    )


def _on_meta(layers: int, width: int, shared: int, inner: int, shrink: int) -> Job:
    """Shrunk in depth only: nothing here takes time or memory with the widths."""
    return Job(
        model=partial(networks.decoder, max(1, layers // shrink), width, shared, inner),
        rules=lambda w: [matrix.sum(dim=axis) == 0 for matrix in w for axis in (0, 1)],
    )


def _one_by_one(shrink: int) -> Job:
    """Disjoint pairs of entries of the square layer, each a rule of its own."""
    entries = (2048 // shrink) ** 2
    pairs = np.random.default_rng(0).permutation(entries)[: 2 * (100_000 // shrink**2)]

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        flat = w[LAYER].flatten()
        return [flat[i] == flat[j] for i, j in pairs.reshape(-1, 2).tolist()]

    return Job(model=partial(networks.perceptron, 784 // shrink, 2048 // shrink, 2048 // shrink, 10), rules=rules)


def _frozen_rows(shrink: int, by_mask: bool) -> Job:
    """All rows but the last of a 49,408 × 768 embedding stay as they are: a word is learnt (textual inversion)."""
    tokens, width = 49_408 // shrink, 768 // shrink
    before = torch.randn(tokens - 1, width, generator=torch.Generator().manual_seed(0))
    old = np.arange(tokens) < tokens - 1

    def rules(w: affinet.Weights) -> list[affinet.Constraint]:
        weight = w.embedding.weight
        return [families.fix(weight, where=old, value=before) if by_mask else weight[: tokens - 1] == before]

    return Job(
        model=partial(networks.BagOfWords, tokens, width, 10),
        batch=partial(networks.bags, 64, 16, tokens, 10),
        rules=rules,
        by_hand=by_hand.frozen_rows("embedding.weight", before),
    )


def _masked(shrink: int, pattern: Callable[[np.random.Generator, int], np.ndarray]) -> Job:
    """A square layer that is zero outside a mask."""
    inputs, hidden = 784 // shrink, 3000 // shrink
    kept = pattern(np.random.default_rng(0), hidden)
    return Job(
        model=partial(networks.perceptron, inputs, hidden, hidden, 10),
        batch=partial(networks.labelled, 128, inputs, 10),
        rules=lambda w: [w[LAYER][~kept] == 0],
        by_hand=by_hand.masked(LAYER, kept),
    )


def _one_percent(draw: np.random.Generator, width: int) -> np.ndarray:
    return draw.random((width, width)) < 0.01


def _two_of_four(draw: np.random.Generator, width: int) -> np.ndarray:
    """Two entries of every four neighbours of a row, as sparse tensor cores take them."""
    order = draw.random((width * width // 4 + 1, 4)).argsort(axis=1)
    kept: np.ndarray = (order < 2).ravel()[: width * width].reshape(width, width)
    return kept


def _rotated_tensors(shrink: int) -> Job:
    """Tensors of seven axes of three that no rotation of space changes: 2,187 entries, 36 dimensions."""
    power = 7 if shrink == 1 else 4
    elements = [families.kronecker_sum(element, power) for element in ROTATIONS]
    return Job(
        model=partial(nn.Linear, 3**power, 1, bias=False),
        rules=lambda w: [families.equivariant(w.weight, inputs=elements, lie_algebra=True)],
    )


def _settled(shrink: int, rules: Rules, hand: HandWritten | None = None) -> Job:
    """Inequalities on the square layer, under AdamW as torch makes it by default."""
    return replace(_perceptron(shrink, rules, hand), fused=False, settling=SETTLING // shrink)


def _nonnegative(shrink: int) -> Job:
    return _settled(shrink, lambda w: [w[LAYER] >= 0])


def _simplex(shrink: int) -> Job:
    return _settled(shrink, lambda w: [*families.simplex(w[LAYER], dim=1)], by_hand.simplex_rows(LAYER, 1.0))


def _monotone(shrink: int) -> Job:
    return _settled(shrink, lambda w: [families.monotone(w[LAYER], dim=1)])


def _dense_inequalities(shrink: int) -> Job:
    """About half of the inequalities are violated by the weights that the layer starts with."""
    count, entries = 200 // shrink, 100_000 // shrink**2
    draw = np.random.default_rng(0)
    G, h = draw.standard_normal((count, entries)), draw.standard_normal(count)
    return _settled(shrink, lambda w: [families.linear([w[LAYER].flatten()[:entries]], G, h, sense="<=")])


WORKLOADS = (
    Workload(
        "rows",
        "every row of every layer sums to one",
        _rows,
        (Target(Figure.STEP, 1.06), Target(Figure.PLANNING, 0.05), Target(Figure.KEPT, 100 * KB), *BY_HAND),
    ),
    Workload(
        "rows-columns",
        "rows and columns of the 2048² layer sum to one",
        _rows_and_columns,
        (Target(Figure.STEP, 1.10), *BY_HAND),
    ),
    Workload(
        "symmetric",
        "2048² symmetric, zero diagonal",
        _symmetric,
        (Target(Figure.EAGER, 1.25), Target(Figure.STEP, 1.10), Target(Figure.PLANNING, 0.5), *BY_HAND),
    ),
    Workload(
        "classes",
        "every entry of the 2048² layer in one of n/4 random classes",
        _classes,
        (
            Target(Figure.EAGER, 2.20),
            Target(Figure.STEP, 1.45),
            Target(Figure.PLANNING, 1.0),
            Target(Figure.KEPT_AN_ENTRY, 12),
            *BY_HAND,
        ),
    ),
    Workload(
        "frozen-rows",
        "all rows but one of a 49,408 × 768 embedding frozen, by a slice",
        partial(_frozen_rows, by_mask=False),
        (Target(Figure.PLANNING, 0.3), Target(Figure.PEAK, 160 * MB), *FIXED_ROWS),
        longest=120.0,
    ),
    Workload(
        "frozen-mask",
        "the same by a mask of rows",
        partial(_frozen_rows, by_mask=True),
        (Target(Figure.PLANNING, 0.3), Target(Figure.PEAK, 160 * MB), *FIXED_ROWS),
        longest=120.0,
    ),
    Workload(
        "mask-1%",
        "a 3000² layer zero outside a random mask of 1 %",
        partial(_masked, pattern=_one_percent),
        (Target(Figure.PLANNING, 0.5), Target(Figure.KEPT, 18 * MB), *MASKED),
        longest=90.0,
    ),
    Workload(
        "mask-2:4",
        "a 3000² layer of which two of every four neighbours are zero",
        partial(_masked, pattern=_two_of_four),
        (Target(Figure.PLANNING, 0.5), Target(Figure.KEPT, 18 * MB), *MASKED),
        longest=90.0,
    ),
    Workload(
        "equations-100k",
        "100,000 random 4-term equations over 4,000,000 entries",
        partial(_equations, 100_000),
        (Target(Figure.STEP, 1.15), Target(Figure.PLANNING, 3.0), *BY_HAND),
    ),
    Workload(
        "equations-1M",
        "1,000,000 random 4-term equations over 4,000,000 entries",
        partial(_equations, 1_000_000),
        (Target(Figure.PLANNING, 15.0), Target(Figure.VIOLATION, 1e-6), *BY_HAND),
        longest=150.0,
    ),
    Workload(
        "dense",
        "500 dense equations over 100,000 weights",
        _dense,
        (Target(Figure.STEP, 1.5), Target(Figure.PLANNING, 5.0), *BY_HAND),
    ),
    Workload(
        "nonnegative",
        "2048² layer, `w >= 0`",
        _nonnegative,
        (Target(Figure.STEP, 1.05),),
        longest=120.0,
    ),
    Workload(
        "simplex",
        "every row of the 2048² layer on the simplex: `w >= 0`, sums of one",
        _simplex,
        (Target(Figure.STEP, 1.30), Target(Figure.COLD, 0.6), Target(Figure.LANDING, 0.15)),
        longest=120.0,
    ),
    Workload(
        "monotone",
        "every row of the 2048² layer ascending",
        _monotone,
        (Target(Figure.ADAM, 1.5),),
        longest=120.0,
    ),
    Workload(
        "dense-inequalities",
        "200 dense inequalities over 100,000 weights of the 2048² layer",
        _dense_inequalities,
        (Target(Figure.STEP, 1.6),),
        longest=150.0,
    ),
    Workload(
        "tied-columns",
        "8 tied columns between two doubly centred 600 × 200 matrices; the step beside that without the tie",
        _tied_columns,
        (Target(Figure.STEP, 1.50), Target(Figure.PLANNING, 0.5), Target(Figure.BLOCKS, 1)),
    ),
    Workload(
        "transposed",
        "cross-layer tie `dec == enc.T` (784 × 2048)",
        _transposed,
        (Target(Figure.STEP, 1.20), *BY_HAND),
    ),
    Workload(
        "digits",
        "digits MLP 64-32-10, batch 32, two rules",
        partial(_digits, fused=True),
        (Target(Figure.STEP, 1.35), *BY_HAND),
    ),
    Workload(
        "demo",
        "the demo: 64-64-32-10, batch 64, four rules",
        _demo,
        (Target(Figure.STEP, 1.50),),
    ),
    Workload(
        "measuring",
        "32 rules on 13.9 M weights: rows, rows with their bias, symmetric and transposed layers",
        _measured,
        (Target(Figure.MEASURING, 4.0),),
    ),
    Workload("digits-default", "the same with AdamW as torch makes it by default", partial(_digits, fused=False)),
    Workload(
        "gpt2",
        "GPT-2-small's layout (124 M), rows of every matrix sum to one",
        _gpt2,
        (Target(Figure.PLANNING, 0.5), Target(Figure.EXTRA, 5 * MB), *BY_HAND),
    ),
    Workload(
        "meta-7B",
        "a 7 B model on `meta`, rows and columns of every matrix sum to zero",
        partial(_on_meta, 32, 4096, 4096, 11_008),
        (Target(Figure.PLANNING, 1.0), Target(Figure.KEPT, 5 * MB)),
    ),
    Workload(
        "meta-70B",
        "a 70 B model on `meta`, rows and columns of every matrix sum to zero",
        partial(_on_meta, 80, 8192, 1024, 28_672),
        (Target(Figure.PLANNING, 1.0), Target(Figure.KEPT, 5 * MB)),
    ),
    Workload(
        "one-by-one",
        "100,000 single-entry ties written one by one in a Python loop",
        _one_by_one,
        (Target(Figure.PLANNING, 10.0), Target(Figure.BLOCKS, 1)),
    ),
    Workload(
        "so3-T7",
        "tensors of 7 axes (2,187 entries) that rotations of space leave as they are",
        _rotated_tensors,
        (Target(Figure.PLANNING, 5.0), Target(Figure.PEAK, 200 * MB)),
    ),
)
