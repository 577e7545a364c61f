"""The plan: what it counts, how it shows itself, and the door to the projectors."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

import affinet
from affinet.errors import AttachError, InfeasibleError
from affinet.kernels.arrays import ArrayProjector

W = affinet.weights({"a": (3, 4), "b": (4,), "c": (2,)})
RULES = [W.a.sum(1) == 1, W.a[0] == W.b, W.b.sum() == 1]


class Strange:
    """An array of a library that has no kernels."""


def test_the_counts_of_a_plan() -> None:
    plan = affinet.plan(RULES)
    assert (plan.rows, plan.rank, plan.size, plan.free, plan.redundant) == (8, 7, 16, 9, 1)
    assert [p.name for p in plan.parameters] == ["a", "b"]
    assert repr(plan) == "<Plan: 8 equations, rank 7, 16 entries, 9 free>"


def test_no_rules_are_a_plan() -> None:
    plan = affinet.plan([])
    assert (plan.rows, plan.rank, plan.size, plan.free, plan.blocks, plan.parameters) == (0, 0, 0, 0, (), ())
    assert str(plan) == plan.table() == "There are no rules: all weights are free."
    x = {"a": torch.ones(3)}
    assert torch.equal(plan.projector(x).project(x)["a"], x["a"])


def test_a_plan_does_not_change() -> None:
    plan = affinet.plan(RULES)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'blocks'"):
        plan.blocks = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("like", "library"),
    [(Strange(), "tests"), ({"a": Strange()}, "tests"), ("a", "builtins"), (None, "builtins")],
    ids=["an object", "a mapping of objects", "text", "nothing"],
)
def test_a_library_without_kernels_is_refused(like: object, library: str) -> None:
    library = Strange.__module__.partition(".")[0] if library == "tests" else library
    with pytest.raises(AttachError, match=rf"there is no projector for .* of '{library}'\. Give a torch\.nn\.Module"):
        affinet.plan(RULES).projector(like)


def test_a_refused_mapping_is_described_by_what_it_holds() -> None:
    with pytest.raises(AttachError, match=r"for a mapping of names to list of 'builtins'\. Give a torch"):
        affinet.plan(RULES).projector({"a": [1.0]})
    with pytest.raises(AttachError, match=r"for an empty mapping, which does not tell the array library\. Give"):
        affinet.plan(RULES).projector({})


def test_tensors_modules_and_arrays_find_their_kernels() -> None:
    model = torch.nn.Module()
    model.a, model.b = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (4,)))
    plan = affinet.plan(RULES)
    assert isinstance(plan.projector(model), affinet.Projector)
    assert isinstance(plan.projector(dict(model.named_parameters())), affinet.Projector)
    assert isinstance(plan.projector({"a": np.zeros((3, 4)), "b": np.zeros(4)}), ArrayProjector)


def test_one_tensor_is_no_mapping() -> None:
    with pytest.raises(AttachError, match=r"give a torch\.nn\.Module or a mapping of names to tensors, not Tensor"):
        affinet.plan(RULES).projector(torch.zeros(3))


def test_the_projector_of_arrays_is_that_of_tensors() -> None:
    values = {"a": np.arange(12.0).reshape(3, 4), "b": np.ones(4)}
    plan = affinet.plan(RULES)
    truth = plan.projector(values)
    projected = truth.project(values)
    np.testing.assert_allclose(projected["a"].sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(projected["a"][0], projected["b"], atol=1e-12)
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    np.testing.assert_allclose(plan.projector(tensors).project(tensors)["a"].numpy(), projected["a"], atol=1e-12)
    assert max(truth.violation(projected).values()) < 1e-12


def test_frozen_weights_are_planned_again_as_constants() -> None:
    plan = affinet.plan(RULES)
    frozen = plan.with_constants({"b": np.full(4, 0.25)}, 1e-7)
    assert [p.name for p in frozen.parameters] == ["a"]
    assert (frozen.rank, frozen.free) == (4 + 2, 6)
    assert plan.with_constants({}, 1e-7) is plan
    assert [p.name for p in plan.parameters] == ["a", "b"]


def test_frozen_weights_that_break_a_rule_are_a_contradiction() -> None:
    with pytest.raises(InfeasibleError, match=r"b\.sum\(\) == 1\nit says 0 == 3, and no weight is left in it\."):
        affinet.plan(RULES).with_constants({"b": np.ones(4)}, 1e-7)


def test_a_looser_tolerance_takes_near_repeats_for_repeats() -> None:
    near = [W.b.sum() == 1, W.b @ np.array([1, 1, 1, 1 + 1e-9]) == 1]
    assert affinet.plan(near).rank == 2
    assert affinet.plan(near, tolerance=1e-7).rank == 1
    assert affinet.plan(near, tolerance=1e-7).redundant == 1


def test_a_looser_tolerance_lets_near_contradictions_hold() -> None:
    near = [W.b[0] == 1, W.b[0] == 1 + 1e-9]
    with pytest.raises(InfeasibleError, match="cannot hold together"):
        affinet.plan(near)
    assert affinet.plan(near, tolerance=1e-8).rank == 1
