"""Nonlinear equations in plan files: the same nodes after reading, and every field checked in little memory."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet import PlanFileError, families
from affinet.language.evaluation import evaluate
from affinet.language.nodes import nodes_of
from affinet.language.origin import Family
from affinet.system.stored.planfile import read_system, write_system
from affinet.system.system import System
from tests.plans.hostile_plans import contents, tampered, write_plan
from tests.plans.test_loading import format_of

SHAPES = {"a": (3, 4), "m": (3, 3), "n": (5, 5), "s": (2, 4, 4), "v": (4,), "filter": (6,)}
W = affinet.weights(SHAPES)
a, m, n, s, v, h = W
RANDOM = np.random.default_rng(3)
TOEPLITZ = np.lib.stride_tricks.as_strided(np.arange(6.0), (3, 4), (8, 8))
RULES: dict[str, Any] = {
    "squares": a**2 == 1,
    "unit rows": families.unit_norm(a, dim=1, value=[1, 2, 3]),
    "product of layers": a @ v == 1,
    "functions": np.sin(v) + np.cos(2 * v) * np.tanh(v) - np.exp(v) / np.log(v + 3) == np.sqrt(v**2 + 1),
    "constants in nodes": ((a * RANDOM.normal(size=4) - RANDOM.normal(size=(3, 1))) ** 2).sum(dim=1) == 1,
    "float32 in nodes": ((a - np.float32(0.1)) * (a.flip(0) + np.ones(4, np.float32))).sum() == 1,
    "overlapping constants": (a * TOEPLITZ + TOEPLITZ) ** 3 == 0.5,
    "columns": (a * np.asfortranarray(RANDOM.normal(size=(3, 4)))) ** 2 == 1,
    "indices": a[[2, 0], 1:] * a[[0, 1]][:, [3, 0, 1]] == 0.5,
    "masks": a[np.arange(12).reshape(3, 4) % 5 < 2] ** 2 == 1,
    "sparse": ((np.eye(3)[[0, 2]] @ a) ** 2).sum(dim=1) == 1,
    "orthogonal": families.orthogonal(s),
    "determinants": [m.det() == 1, n.det() == 2, s.det() == [1, 2]],
    "inverse": n.inverse()[0] == n[:, 1],
    "deep": ((v * v[::-1] + 1) ** 2 * v - 1) @ v == 1,
    "shared nodes": [(v**2).sum() == 1, (v**2) @ np.arange(4.0) == 0.5, ((v**2) ** 3)[0] == (v**2)[1]],
    "mixed": [a.sum(dim=1) == 1, m @ m.T == np.eye(3), v[2] >= 0, v[0] == v[1], n[0] ** 2 == 1],
    "named": [(v**2 == 1).named("squares"), (v**2 == 1).named("again")],
    "wavelet": families.wavelet(h, 3),
    "rotation": families.rotation(m),
}


def round_trip(system: System, folder: Path) -> System:
    write_system(system, folder / "plan.safetensors")
    return read_system(folder / "plan.safetensors")


@pytest.mark.parametrize("name", RULES)
def test_nonlinear_equations_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    system = System.of(RULES[name])
    again = round_trip(system, tmp_path)
    assert again.layout == system.layout
    assert (again.curved_rules, again.equations) == (system.curved_rules, system.equations)
    values = {weight: RANDOM.uniform(0.5, 1.5, shape) for weight, shape in SHAPES.items()}
    for rule, other in zip(system.every, again.every, strict=True):
        assert (other.name, other.text, other.sense, other.shape) == (rule.name, rule.text, rule.sense, rule.shape)
        nodes, others = (nodes_of(each.expression.affine) for each in (rule, other))
        assert [node.name for node in others] == [node.name for node in nodes]
        assert [(node.kind, node.shape, node.exponent) for node in others] == [
            (node.kind, node.shape, node.exponent) for node in nodes
        ]
        assert other.expression.epsilon == rule.expression.epsilon
        np.testing.assert_array_equal(evaluate(other.expression, values), evaluate(rule.expression, values))
    write_system(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "plan.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["unit rows", "orthogonal", "mixed", "deep", "determinants", "wavelet"])
def test_the_plan_of_a_file_is_that_of_its_rules(name: str, tmp_path: Path) -> None:
    plan = affinet.plan(RULES[name])
    plan.save(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors")
    assert str(again) == str(plan)
    assert (again.rows, again.rank, again.free) == (plan.rows, plan.rank, plan.free)


def test_a_node_that_several_rules_read_is_stored_once() -> None:
    description, _ = contents(System.of(RULES["shared nodes"]))
    assert [node["kind"] for node in description["nodes"]] == ["power", "power"]
    assert [node["exponent"] for node in description["nodes"]] == [2, 3]


def test_a_plan_is_of_the_fifth_format_only_where_it_has_nodes(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    for rule, version in (
        (v == 0, 1),
        (v <= 0, 4),
        (v**2 == 1, 5),
        ([v[0] * v[1] == 1, v[2] >= 0], 5),
        (2 * v == 1, 1),
    ):
        write_system(System.of(rule), path)
        assert format_of(path) == version
        description, _ = contents(System.of(rule))
        assert ("nodes" in description) == (version == 5)


def test_origins_of_families_come_back(tmp_path: Path) -> None:
    rules = [families.orthogonal(a), families.wavelet(h, 1), families.determinant(m, 2), families.involution(n)]
    again = round_trip(System.of(rules), tmp_path)
    assert [rule.origin for rule in again.every] == [
        Family("orthogonal"), Family("wavelet"), Family("determinant"), Family("involution")
    ]  # fmt: skip


def test_frozen_weights_come_back(tmp_path: Path) -> None:
    values = {"v": RANDOM.uniform(0.5, 1.5, 4)}
    system = System.of([a @ v == 1, (a * v) ** 2 == 0.5, (np.sin(v) * a[0]).sum() == v[0]])
    frozen = system.with_constants(values, 2.0**-52)
    assert [rule.curved for rule in frozen.every] == [False, False, True]
    again = round_trip(frozen, tmp_path)
    for rule, other in zip(frozen.every, again.every, strict=True):
        assert other.constants == rule.constants == ("v",)
        assert (other.size is None) == (rule.size is None) == rule.curved
        if rule.size is not None:
            np.testing.assert_array_equal(other.size, rule.size)
    numbers = {"a": RANDOM.uniform(0.5, 1.5, (3, 4))}
    by_hand = [numbers["a"] @ values["v"] - 1, (np.sin(values["v"]) * numbers["a"][0]).sum() - values["v"][0]]
    for rule, expected in zip(again.rules, by_hand, strict=True):
        np.testing.assert_allclose(evaluate(rule.expression, numbers), expected, atol=16 * 2.0**-52)


def test_a_rule_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    large = System.of([v.sum() == 1, (v**2 == 1).named("good")])
    table, rows = contents(large)
    table["nodes"][0]["operands"][0]["terms"][0]["scalar"] = 1e150
    with pytest.raises(PlanFileError, match="scalar of term 0 of operand 0 of node 0 is 1e"):
        affinet.Plan.load(write_plan(tmp_path / "plan.safetensors", table, rows, version=5))
    with pytest.raises(affinet.ConstantError, match='rule "far" has numbers beyond 1e'):
        affinet.plan(((1e100 * (1e100 * v)) ** 2 == 1).named("far"))


Change = Callable[[Any], object]


def node(number: int, **values: Any) -> Change:
    return lambda said: said["nodes"][number].update(values)


def term_of_node(number: int, **values: Any) -> Change:
    return lambda said: said["nodes"][number]["operands"][0]["terms"][0].update(values)


DAMAGES: list[tuple[Change, str]] = [
    (lambda said: said.update(nodes={}), "nodes is a table of 0, not a list"),
    (lambda said: said.update(nodes=[]), "no nodes|not between 0 and"),
    (lambda said: said.pop("nodes"), "parameter of term 0 of rule 0 is 1, not between 0 and 0"),
    (lambda said: said["nodes"].reverse(), "parameter of term 0 of operand 0 of node 0 is 1, not between 0 and 0"),
    (lambda said: said["nodes"].append(said["nodes"][0]), "node 2 is stored twice"),
    (node(0, kind="eval"), "kind of node 0 is 'eval', not one of multiply, matmul"),
    (node(0, kind=["power"]), "kind of node 0 is a list of 1, not one of"),
    (node(0, kind="sin"), "node 0 is a power without an exponent, or has an exponent and is not a power"),
    (node(0, exponent=1), "exponent of node 0 is 1, not between 2 and 64"),
    (node(0, exponent=65), "exponent of node 0 is 65, not between 2 and 64"),
    (node(0, exponent=2.0), "exponent of node 0 is 2.0, not an integer"),
    (node(0, name="x"), "node 0 has an unknown key 'name'"),
    (node(0, operands=[]), r"node 0 is a power of operands of the shapes \[\], which do not fit"),
    (node(0, operands={}), "operands of node 0 is a table of 0, not a list"),
    (lambda said: said["nodes"][0]["operands"].append(said["nodes"][0]["operands"][0]), "which do not fit"),
    (lambda said: said["nodes"][0].update(kind="det") or said["nodes"][0].pop("exponent"), "which do not fit"),
    (lambda said: said["nodes"][0]["operands"][0].update(terms=[]), "node 0 has an operand without weights"),
    (term_of_node(0, parameter=1), "parameter of term 0 of operand 0 of node 0 is 1, not between 0 and 0"),
    (term_of_node(1, parameter=2), "parameter of term 0 of operand 0 of node 1 is 2, not between 0 and 1"),
    (term_of_node(1, offset=4), "reads entries 4 to 7 of 'power#"),
    (lambda said: said["rules"].pop(), "there are nodes that no rule reads"),
    (lambda said: said["rules"][0].update(sense="<=", norm=2, radius=1.0), "rule 0 is a ball that reads nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), DAMAGES, ids=[reason for _, reason in DAMAGES])
def test_files_that_state_what_no_plan_states_are_refused(change: Change, reason: str, tmp_path: Path) -> None:
    description, rows = contents(System.of([v**2 == 1, (v**2 + 1) ** 3 == 1]))
    change(description)
    with pytest.raises(PlanFileError, match=f"holds no plan: .*{reason}"):
        affinet.Plan.load(write_plan(tmp_path / "plan.safetensors", description, rows, version=5))


def test_a_weight_with_the_name_of_a_node_is_refused(tmp_path: Path) -> None:
    system = System.of(v**2 == 1)
    (name,) = [node.name for node in nodes_of(system.every[0].expression.affine)]
    description, rows = contents(System.of([v**2 == 1, affinet.weights({name: (2,)})[name] == 1]))
    with pytest.raises(PlanFileError, match="node 0 is stored twice, or has the name of a weight"):
        affinet.Plan.load(write_plan(tmp_path / "plan.safetensors", description, rows, version=5))


def test_a_huge_node_takes_no_memory_to_refuse(tmp_path: Path) -> None:
    """A file of a few hundred bytes that states an outer product of 2**80 entries, and one of 2**40."""
    column = {"shape": [2**40, 1], "says": "x", "constant": 0.5, "epsilon": 2.0**-52}
    term = {"parameter": 0, "scalar": 1.0, "start": [None, None]}
    row = {**column, "shape": [1, 2**40]}
    for operands in ([column, row], [column, column]):
        for kind in ("matmul", "multiply"):
            description, rows = contents(System.of(v**2 == 1))
            description["nodes"] = [{"kind": kind, "operands": [{**each, "terms": [term]} for each in operands]}]
            path = write_plan(tmp_path / "plan.safetensors", description, rows, version=5)
            tracemalloc.start()
            with pytest.raises(PlanFileError):
                affinet.Plan.load(path)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert most < 2**24


def test_a_chain_of_many_nodes_is_read_without_recursion(tmp_path: Path) -> None:
    product = v[0]
    for _ in range(1500):
        product = product * v[1]
    again = round_trip(System.of(product == 1), tmp_path)
    assert len(nodes_of(again.every[0].expression.affine)) == 1500


SYSTEMS = [System.of(rules) for rules in RULES.values()]


@settings(max_examples=400)
@given(data=st.data())
def test_changes_with_a_right_checksum_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    description, rows = data.draw(tampered(data.draw(st.sampled_from(SYSTEMS))))
    path = write_plan(tmp_path_factory.mktemp("plans") / "plan.safetensors", description, rows, version=5)
    with contextlib.suppress(PlanFileError):
        again = read_system(path)
        for rule in again.every:
            assert rule.expression.shape == rule.expression.affine.shape
            assert all(node.operands for node in nodes_of(rule.expression.affine))
