"""Asking what rules send over a mesh: `plan.sharded(mesh, placements)`."""

from __future__ import annotations

import affinet
from affinet.errors import AttachError
from tests.errors.case import case


def plan() -> affinet.Plan:
    return affinet.plan(affinet.weights({"weight": (4, 6)})["weight"].sum(dim=1) == 0)


@case(AttachError, "The mesh is not a number of processes.", "Give a number, or one for each dimension.")
def a_mesh_without_processes() -> None:
    plan().sharded(0)


@case(AttachError, "A mesh of two dimensions comes without placements.", "Say how weights are split along each.")
def a_mesh_without_placements() -> None:
    plan().sharded((2, 4))


@case(AttachError, "The placements are for another weight.", "Give them for all weights of the rules.")
def placements_of_another_weight() -> None:
    plan().sharded(2, {"weights": (0,)})


@case(AttachError, "There are more placements than dimensions of the mesh.", "Give one for each dimension.")
def placements_of_another_mesh() -> None:
    plan().sharded(2, (0, 1))


@case(AttachError, "An axis is given without a tuple.", "Write `(0,)`.", fragment="Write (0,)")
def placements_that_are_an_axis() -> None:
    plan().sharded(2, 0)  # type: ignore[arg-type]


@case(AttachError, "A weight has no such axis.", "Give placements by name where weights are split in different ways.")
def placements_along_an_axis_that_is_not_there() -> None:
    plan().sharded(2, (2,))


@case(AttachError, "The size of a number is not a number of bytes.", "Give 2, 4 or 8.")
def numbers_without_bytes() -> None:
    plan().sharded(2, itemsize=3)


@case(AttachError, "Rules are given where a plan is expected.", "Plan them with affinet.plan(rules).")
def simulated_rules() -> None:
    affinet.simulate(affinet.weights({"weight": (4, 6)})["weight"].sum(dim=1) == 0, 8)  # type: ignore[arg-type]


@case(AttachError, "The bandwidth is not above zero.", "Give what a process can send.")
def a_simulation_without_bandwidth() -> None:
    affinet.simulate(plan(), 8, gigabytes_per_second=0)
