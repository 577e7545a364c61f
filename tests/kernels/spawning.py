"""Run as a script: a plan and a projector are sent to a spawned process, which computes the same bits with them."""

from __future__ import annotations

import multiprocessing
import warnings

import torch

import affinet

SHAPES = {"a": (300, 260), "b": (300, 300), "c": (50,)}


def rules() -> list[affinet.Constraint]:
    w = affinet.weights(SHAPES)
    return [w.a.sum(dim=1) == 1, w.b == w.b.T, w.b.sum(dim=1) == 0, w.c[0] == 3 * w.c[1], w.c[2:].sum() == 1]


def projected(plan: affinet.Plan, projector: affinet.Projector, values: dict[str, torch.Tensor]) -> list[bytes]:
    """The bits of both, as one process sees them."""
    each = (plan.projector(values).project(values), projector.project(values))
    return [found[name].numpy().tobytes() for found in each for name in sorted(found)]


def main() -> None:
    plan = affinet.plan(rules())
    values = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    projector = plan.projector(values)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(projected, (plan, projector, values))
    print(there == projected(plan, projector, values))  # noqa: T201


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
