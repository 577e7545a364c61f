"""What it takes to name the equations of a contradiction: `python -m benchmarks.diagnosis`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import process_time

import numpy as np
from scipy import sparse

import affinet
from affinet import families
from affinet.analysis.diagnosis.explaining import explain
from affinet.errors import InfeasibleError
from affinet.system.system import System

Rules = list[affinet.Constraint]


def _chain(links: int) -> Rules:
    w = affinet.weights({"w": (links + 1,)}).w
    return [(w[1:] == w[:-1]).named("a chain"), (w[0] == 0).named("one end"), (w[-1] == 1).named("the other end")]


def _loop(links: int) -> Rules:
    w = affinet.weights({"w": (links + 1,)}).w
    return [*(w[k] == w[k + 1] for k in range(links)), w[0] == 0, w[links] == 1]


def _ratios(links: int) -> Rules:
    """Around a cycle every other entry is twice the one before, and the last equation says more than the rest."""
    w = affinet.weights({"w": (links,)}).w
    ratio = np.where(np.arange(links) % 2 == 0, 2.0, 0.5)
    return [(w.roll(-1) - ratio * w == (np.arange(links) == 0)).named("a cycle")]


def _random(equations: int, combined: int) -> Rules:
    """Random equations of four entries, and one that contradicts so many of them."""
    draw = np.random.default_rng(0)
    entries = 2 * equations
    columns = draw.integers(0, entries, (equations, 4))
    values = draw.integers(1, 4, columns.shape) * draw.choice([-1.0, 1.0], columns.shape)
    matrix = sparse.coo_array(
        (values.ravel(), (np.repeat(np.arange(equations), 4), columns.ravel())), shape=(equations, entries)
    ).tocsr()
    rhs = matrix @ draw.integers(-3, 4, entries)
    chosen = draw.permutation(equations)[:combined]
    last, gap = matrix[chosen].sum(axis=0), rhs[chosen].sum() + 1
    w = affinet.weights({"w": (entries,)}).w
    return [
        families.linear([w], matrix, rhs).named("random equations"),
        families.linear([w], sparse.csr_array(last[None]), gap).named("against some of them"),
    ]


def _dense(equations: int, entries: int) -> Rules:
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((equations, entries))
    rhs = matrix @ draw.standard_normal(entries)
    rhs[equations // 2] += 1
    return [families.linear([affinet.weights({"w": (entries,)}).w], matrix, rhs).named("dense equations")]


def _tied_sums(n: int) -> Rules:
    """A rule for every tie between two matrices, and sums of both, of which some equations are not needed."""
    w = affinet.weights({"v": (n, n), "w": (n, n)})
    ties = [w.v[i, j] == w.w[i, j] for i in range(n) for j in range(n)]
    return [*ties, affinet.concat([w.w.sum(dim=1), w.w.sum(dim=0)]) == 1, w.v.sum() == n + 1]


CASES: Mapping[str, Callable[[], Rules]] = {
    "30,000 ties of one rule, both ends fixed": lambda: _chain(30_000),
    "30,002 rules of a tie each, both ends fixed": lambda: _loop(30_000),
    "a cycle of 10,000 ratios": lambda: _ratios(10_000),
    "100,000 random equations, 10 of them contradicted": lambda: _random(100_000, 10),
    "100,000 random equations, 10,000 of them contradicted": lambda: _random(100_000, 10_000),
    "3,602 rules, of one of which half is not needed": lambda: _tied_sums(60),
    "3,000 dense equations over 500 entries": lambda: _dense(3_000, 500),
}


def main() -> None:
    """Print one line a case: CPU seconds to plan and refuse, seconds of diagnosis among them, and what is named."""
    print(f"{'case':54} {'in all':>8} {'diagnosis':>10} {'rules':>7} {'equations':>10}  minimal")
    for name, make in CASES.items():
        rules = make()
        start = process_time()
        try:
            affinet.plan(rules)
        except InfeasibleError as error:
            whole = process_time() - start
            system = System.of(rules)
            start = process_time()
            found = explain(system, range(len(system.rules)), "", lambda _: False, lambda _, tolerance: False)
            alone = process_time() - start
            print(
                f"{name:54} {whole:7.2f}s {alone:9.2f}s {len(error.rules):7,} {len(error.equations):10,}  "
                f"{error.minimal and found.minimal}"
            )
        else:
            print(f"{name:54} planned: the contradiction was not found")


if __name__ == "__main__":
    main()
