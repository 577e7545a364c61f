"""What made a rule is a typed value that no name and no text steers, in a plan, in a file of it and in old files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import affinet
from affinet import Plan, PlanFileError, families
from affinet.analysis.findings.pinned import Pinned
from affinet.language.origin import Family, Linear, Origin, WrittenEquation
from affinet.language.wording import say
from affinet.system.stored import planfile
from affinet.system.stored.description import described, system_of
from affinet.system.system import System
from tests.contract.comparing import equal_plans
from tests.plans.earlier_files import FIRST, rules
from tests.plans.hostile_plans import contents, write_plan
from tests.plans.test_loading import format_of

W = affinet.weights({"a": (4, 6), "b": (4,), "c": (3, 3), "v": (12,)})
STEERING = ["equivariant(", "linear([a], A=", "linear([x], A=sparse(", "[3]", "(a == 1", "], A=", "share(a)", "a == 1"]
ORIGINS: list[tuple[affinet.Constraint, Origin]] = [
    (W.a.sum(dim=1) == 1, WrittenEquation(W.a.sum(dim=1).affine.wording, 1)),
    (W.a == 2 * W.a, WrittenEquation()),
    (W.a[0] == np.arange(6.0), WrittenEquation()),
    (families.symmetric(W.c), Family("symmetric")),
    (families.linear([W.a, W.b], np.eye(28), 0), Linear(("a", "b"), sparse=False)),
    (families.linear([W.a, W.b], sparse.csr_array(np.eye(28)), 0), Linear(("a", "b"), sparse=True)),
    (families.linear([W.a.T, W.b], np.eye(28), 0), Linear((None, "b"), sparse=False)),
    (families.linear([W.a[:], 2 * W.b, W.b[1:]], np.eye(31), 0), Linear(("a", None, None), sparse=False)),
    (families.linear([W.b + 1], np.eye(4), 0), Linear((None,), sparse=False)),
]


def origins(plan: Plan) -> list[Origin]:
    return [rule.origin for rule in plan.system.rules]


def shown(origin: Origin) -> object:
    """An origin as a file can hold it: of an equation, its sides as texts."""
    if isinstance(origin, WrittenEquation):
        return (origin.subject, say(origin.number)) if origin.subject and origin.number is not None else ()
    return origin


@pytest.mark.parametrize(("rule", "origin"), ORIGINS, ids=lambda value: str(value)[:30])
def test_a_rule_knows_what_made_it(rule: affinet.Constraint, origin: Origin) -> None:
    assert rule.origin == origin
    assert rule.named("equivariant(").origin == origin
    assert [rule.origin for rule in System.of(rule).rules] == [origin]


def test_all_weights_of_a_long_list_are_known() -> None:
    w = affinet.weights({f"a layer of some length {k}": (2,) for k in range(200)})
    rule = families.linear(list(w), sparse.eye_array(400), 1)
    assert rule.text.endswith("…")
    assert rule.origin == Linear(tuple(f"a layer of some length {k}" for k in range(200)), sparse=True)


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize("name", STEERING)
def test_no_name_changes_what_is_found(name: str) -> None:
    misaligned = np.hstack([-np.eye(4), np.kron(np.eye(4), np.ones(6))])
    given = [
        families.linear([W.a, W.b], misaligned, 0),
        families.linear([W.c[0], W.c[1]], np.eye(6)[:2], 1),
        W.c[2] == -W.c[2],
        families.share(W.v, [0] * 6 + [1] * 6),
    ]
    plain, steering = (
        affinet.plan([rule.named(f"{called}{k}") for k, rule in enumerate(given)]) for called in ("plain", name)
    )
    assert plain.findings
    told = [str(finding).replace(f'"{name}', '"plain') for finding in steering.findings]
    assert told == [str(finding) for finding in plain.findings]
    for entry in ("a[0, 0]", "c[2, 0]", "v[3]", "v[:]"):
        explained = str(affinet.explain(steering, entry)).replace(f'"{name}', '"plain')
        assert explained == str(affinet.explain(plain, entry))


@pytest.mark.parametrize("name", ["w", "equivariant(w", "share(w", "linear([w], A=sparse(w"])
def test_no_name_of_a_weight_changes_what_is_found(name: str, tmp_path: Path) -> None:
    """What `share` determines is meant; what equations determine is reported."""
    w = affinet.weights({name: (5,)})
    plan = affinet.plan([w[name][0] + w[name][1] == 1, w[name][0] - w[name][1] == 0])
    (pinned,) = plan.findings
    assert isinstance(pinned, Pinned)
    assert (pinned.entries, pinned.value) == (2, 0.5)
    plan.save(tmp_path / "plan.safetensors")
    loaded = Plan.load(tmp_path / "plan.safetensors")
    assert [shown(origin) for origin in origins(loaded)] == [shown(origin) for origin in origins(plan)]
    assert [str(finding) for finding in loaded.findings] == [str(finding) for finding in plan.findings]


def test_only_equivariant_rules_are_warned_of_as_symmetries() -> None:
    w = affinet.weights({"equivariant(v": (2,)})
    with pytest.warns(affinet.NothingToTrainWarning) as told:
        affinet.plan([(w["equivariant(v"] == -w["equivariant(v"]).named("equivariant(")])
    assert "representations" not in str(told[0].message)
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    with pytest.warns(affinet.NothingToTrainWarning, match="representations without a common part"):
        affinet.plan([families.equivariant(affinet.weights({"v": (2,)})["v"], outputs=[turn]).named("plain")])


@pytest.mark.parametrize("name", [None, "plain", *STEERING])
def test_equations_of_a_contradiction_are_shown_alike(name: str | None) -> None:
    w = affinet.weights({"a": (8, 9), "b": (8, 9)})
    rule = (w["a"] + w["b"]).sum(dim=1) == 1
    long = families.linear([w["a"]], np.vstack([np.ones(72), np.ones(72)]), [1, 2])
    with pytest.raises(affinet.InfeasibleError) as shown:
        affinet.plan([rule.named(name) if name else rule, ((w["a"] + w["b"])[3].sum() == 3).named("third")])
    assert "(a + b).sum(dim=1)[3] == 1" in str(shown.value)
    with pytest.raises(affinet.InfeasibleError, match=r"row [01] of A"):
        affinet.plan([long.named(name) if name else long])


def test_a_weight_whose_name_reads_like_a_family_is_no_family_in_a_contradiction() -> None:
    w = affinet.weights({"linear(w": (2, 9)})
    with pytest.raises(affinet.InfeasibleError) as shown:
        affinet.plan([(w["linear(w"].sum(dim=1) == 1).named("sums"), w["linear(w"][1].sum() == 3])
    assert "linear(w.sum(dim=1)[1] == 1" in str(shown.value)
    assert "of A" not in str(shown.value)


def test_a_rearranged_weight_is_not_taken_for_one_that_is_not_read() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 28))
    assert affinet.plan(families.linear([W.a.T, W.b], matrix, 0)).findings == ()


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize(("rule", "origin"), ORIGINS, ids=lambda value: str(value)[:30])
def test_files_and_pickles_keep_origins(rule: affinet.Constraint, origin: Origin, tmp_path: Path) -> None:
    plan = affinet.plan(rule.named("], A="))
    plan.save(tmp_path / "plan.safetensors")
    for copied in (Plan.load(tmp_path / "plan.safetensors"), pickle.loads(pickle.dumps(plan))):
        assert [shown(found) for found in origins(copied)] == [shown(origin)]
        assert described(copied.system)[0] == described(plan.system)[0]


PIECES = [*"ab()[], =.A1-T", "linear([", "share(", " == ", "], A=", "sparse("]
names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join).filter(str.strip)


@given(name=names, other=names)
def test_origins_survive_files_whatever_weights_are_called(name: str, other: str) -> None:
    try:
        w = affinet.weights({name: (3,), other: (3,), "plain": (3, 3)})
    except affinet.AffinetError:
        return
    made: list[Any] = [w[name] == 1, w[name] + w[other] == 1, families.symmetric(w["plain"])]
    made += [families.linear([w[name], w[other].flip(0)], np.eye(6), 1), w[name][0] == w[other][1]]
    for rule in made:
        system = System.of([rule])
        (back,) = system_of(*described(system)).rules
        assert shown(back.origin) == shown(system.rules[0].origin)


def test_plain_rules_are_written_in_the_first_format(tmp_path: Path) -> None:
    plan = affinet.plan([rule.named(f"rule {k}") for k, (rule, _) in enumerate(ORIGINS[:1] + ORIGINS[3:4])])
    plan.save(tmp_path / "plan.safetensors")
    assert format_of(tmp_path / "plan.safetensors") == 1
    steering = affinet.weights({"share(": (3,)})
    affinet.plan(steering["share("] == 1).save(tmp_path / "steering.safetensors")
    assert format_of(tmp_path / "steering.safetensors") == 3


def test_a_file_of_the_first_format_is_the_plan_that_it_was() -> None:
    loaded = Plan.load(FIRST)
    planned = affinet.plan(rules()).with_constants({"frozen": np.ones((3, 8))}, 1e-6)
    assert equal_plans(planned, loaded) == ""
    assert str(loaded) == str(planned)
    assert [type(origin) for origin in origins(loaded)] == [type(origin) for origin in origins(planned)]
    assert origins(loaded)[:4] == origins(planned)[:4]
    assert [rule.constants for rule in loaded.system.rules] == [rule.constants for rule in planned.system.rules]
    assert planned.system.rules[5].constants == ("frozen",)
    assert "is frozen" in str(affinet.explain(loaded, "frozen[0, 0]"))
    with pytest.raises(affinet.UnknownWeightError):
        affinet.explain(loaded, "dim")


def test_a_frozen_weight_is_known_however_it_was_written(tmp_path: Path) -> None:
    plan = affinet.plan([W.a.sum(dim=1) + W.b == 1, families.tie(W.c[0], W.c[1])]).with_constants({"b": np.ones(4)}, 0)
    turned = affinet.plan([W.a.sum(dim=1) == W.c.T.sum(), W.v == 1]).with_constants({"c": np.ones((3, 3))}, 0)
    for made, name in ((plan, "b"), (turned, "c")):
        made.save(tmp_path / "plan.safetensors")
        for one in (made, Plan.load(tmp_path / "plan.safetensors")):
            assert "is frozen" in str(affinet.explain(one, name))
            assert "is frozen" in str(affinet.explain(one, W[name]))
    with pytest.raises(affinet.UnknownWeightError):
        affinet.explain(plan, "sum")


@pytest.mark.parametrize(
    ("origin", "match"),
    [
        ({"family": "equivariance"}, "not that of an equation, of linear or of a family"),
        ({"family": 3}, "not that of an equation"),
        ({"family": "share", "sparse": True}, "not that of an equation"),
        ({"linear": ["a"]}, "not that of an equation"),
        ({"linear": "a", "sparse": True}, "weights of origin of rule 0 is 'a', not a list"),
        ({"linear": [3], "sparse": True}, "weight of origin of rule 0 is 3, not text"),
        ({"left": "a"}, "not that of an equation"),
        ({"left": "", "number": "1"}, "left of origin of rule 0 is '', not text"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        (["family"], "is a list of 1, not a table"),
        ("equivariant", "not a table"),
    ],
)
def test_wrong_origins_are_no_plan(origin: object, match: str, tmp_path: Path) -> None:
    description, rows = contents(affinet.plan(W.a.sum(dim=1) == 1).system)
    description["rules"][0]["origin"] = origin
    with pytest.raises(PlanFileError, match=match):
        Plan.load(write_plan(tmp_path / "plan.safetensors", description, rows, version=planfile.VERSION))


@pytest.mark.parametrize("constants", ["a", [3], [""], {}])
def test_wrong_names_of_frozen_weights_are_no_plan(constants: object, tmp_path: Path) -> None:
    description, rows = contents(affinet.plan(W.a.sum(dim=1) == 1).system)
    description["rules"][0]["constants"] = constants
    with pytest.raises(PlanFileError, match="constant"):
        Plan.load(write_plan(tmp_path / "plan.safetensors", description, rows, version=planfile.VERSION))
