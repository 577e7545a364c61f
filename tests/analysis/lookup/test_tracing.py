"""The way from an entry to another through equations of two."""

from __future__ import annotations

import affinet
from affinet.analysis.lookup.incidence import Incidence
from affinet.analysis.lookup.tracing import path
from affinet.system.system import System

W = affinet.weights({"c": (6,)})


def test_equations_of_more_entries_are_passed_over() -> None:
    system = System.of([W.c[0] + W.c[2] + W.c[3] == 1, W.c[0] == W.c[1], W.c[1] == W.c[4]])
    found = path(Incidence(system), 0, 4)
    assert found is not None
    assert [(one.rule, one.columns.tolist()) for one in found] == [(1, [0, 1]), (2, [1, 4])]
    assert path(Incidence(system), 0, 2) is None
