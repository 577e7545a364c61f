"""What a changed right-hand side costs beside planning anew: python -m benchmarks.refit."""

from __future__ import annotations

from statistics import median
from time import process_time

import numpy as np

import affinet
from affinet.plans.plan import Plan

EQUATIONS, TERMS, TURNS = 100_000, 4, 7
ENTRIES = (4_000_000, 200_000)
"""Entries that the equations are drawn over: of many nearly all components are small, of few one holds nearly all."""


def measured(entries: int) -> tuple[float, float]:
    """Median process times of planning anew and of planning with the record of the plan before, turn by turn."""
    draw = np.random.default_rng(0)
    terms, coefficients = draw.integers(0, entries, (EQUATIONS, TERMS)), draw.standard_normal((EQUATIONS, TERMS))
    w = affinet.weights({"W": (entries,), "frozen": (EQUATIONS,)})
    plan = affinet.plan((coefficients * w.W[terms]).sum(dim=1) == w.frozen)

    def timed(before: Plan | None) -> tuple[Plan, float]:
        start = process_time()
        return plan.with_constants(values, 0.0, before), process_time() - start

    before, anew, again = None, [], []
    for _ in range(TURNS):
        values = {"frozen": (coefficients * draw.standard_normal(entries)[terms]).sum(axis=1)}
        whole, seconds = timed(None)
        anew.append(seconds)
        before, seconds = timed(before or whole)
        again.append(seconds)
    return median(anew), median(again)


if __name__ == "__main__":
    for entries in ENTRIES:
        anew, again = measured(entries)
        times = f"planning {1e3 * anew:6.1f} ms   other right-hand sides {1e3 * again:6.1f} ms"
        print(f"{EQUATIONS:,} random equations over {entries:,} entries: {times}   {again / anew:.3f} ×")
