"""Run as a script: projections in a child that was forked after torch's threads had started, all verbs, twice."""

from __future__ import annotations

import os
import signal
import sys

import torch

import affinet
from affinet.kernels.torch import looped

LAST_RESORT = 200
"""Seconds after which a child that waits for threads that are not there is ended."""


def main(loops: str) -> None:
    if loops == "torch":
        looped.available = lambda: False
    torch.set_num_threads(2)
    values = {"a": torch.randn(600, 700), "b": torch.randn(900, 900), "c": torch.randn(900, 900)}
    w = affinet.weights({name: tuple(x.shape) for name, x in values.items()})
    plan = affinet.plan([w.a.sum(dim=1) == 1, w.b == 2 * w.c.T])
    projector = plan.projector(values)
    wanted = projector.project(values)
    (torch.randn(2000, 2000) * 2).sum()  # torch's own threads have worked too
    child = os.fork()
    if child == 0:
        done = [done_in_child(each, values, wanted) for each in (projector, plan.projector(values))]
        os._exit(0 if all(done) else 3)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), max(projector.violation(wanted).values()) < 1e-4)  # noqa: T201


def done_in_child(
    projector: affinet.Projector, values: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> bool:
    """Whether the child computes what the parent did, and torch keeps its number of threads."""
    signal.alarm(LAST_RESORT)
    found = projector.project(values)
    tangent, gradients = projector.tangent(values), {name: x.numpy().copy() for name, x in values.items()}
    own = {name: torch.from_numpy(x) for name, x in gradients.items()}
    projector.project_gradients_(own, values, {"a": 0.1})
    projector.project_(tangent)
    small = max(projector.violation(found).values()) < 1e-4
    same = all((found[name].numpy() == wanted[name].numpy()).all() for name in found)
    return small and same and torch.get_num_threads() == 2


if __name__ == "__main__":
    main(sys.argv[1])
