"""Mirrors and pairs less what irregular equations touch: exact on every entry, small, and as wrong as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet import families
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.ties import Ties
from affinet.planning.contradiction import Contradiction
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within, planned
from tests.planning.random_rules import feasible, oracle_of, uses

W: Any = affinet.weights({"s": (6, 6), "t": (2, 5, 5), "a": (4, 6), "z": (6, 4), "b": (6,)})
PAIRS = {
    "symmetric": families.symmetric(W.s),
    "skew": families.skew(W.s),
    "shifted": W.s == 1 - W.s.T,
    "flipped": W.t == W.t.flip((1, 2)),
    "opposite to the flip": W.t == -W.t.flip(2),
    "batch of symmetric": families.symmetric(W.t),
    "transposed pair": W.a == 2 * W.z.T + 1,
    "flipped pair": W.a[0] == W.b.flip(0),
    "columns": W.a[:, 0] == -W.z[0, ::-1],
}


def compiled(*rules: Any, one_by_one: int = 4) -> Plan:
    """Rules of more than `one_by_one` entries are read from their terms."""
    system = System.of(rules)
    return plan_within(system, one_by_one=one_by_one)


def test_the_description_of_a_symmetric_matrix_with_zero_diagonal_is_small() -> None:
    w = affinet.weights({"s": (2048, 2048)})
    plan = affinet.plan([families.symmetric(w.s), w.s.diagonal() == 0])
    mirror, fixed = plan.blocks
    assert isinstance(mirror, Mirror)
    assert isinstance(fixed, Fixed)
    assert (mirror.size, fixed.size, plan.rank) == (2048 * 2047, 2048, 2048 * 2047 // 2 + 2048)
    assert mirror.without.nbytes + fixed.bytes_held <= 3 * 8 * 2048
    assert "pairs mirrored within s less 2,048 entries" in str(plan)


@pytest.mark.parametrize("pair", PAIRS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_left_out_and_what_stays_are_the_oracle_together(pair: str, data: st.DataObject) -> None:
    rules = [PAIRS[pair]]
    entries = {p.name: p.size for p in affinet.plan(rules).parameters}
    names = st.sampled_from(sorted(entries))
    place = names.flatmap(lambda n: st.tuples(st.just(n), st.integers(0, entries[n] - 1)))
    seen: set[tuple[str, int]] = set()
    for name, position in data.draw(st.lists(place, max_size=3)):
        if (name, position) not in seen:
            seen.add((name, position))
            rules.append(W[name].flatten()[position] == 0.5 * len(seen))
    for (one, i), (two, j) in data.draw(st.lists(st.tuples(place, place), max_size=2)):
        rules.append(W[one].flatten()[i] - 3 * W[two].flatten()[j] + W.b[0] == 0.25)
    truth = oracle_of(rules)
    if not feasible(truth):
        with pytest.raises(Contradiction):
            compiled(*rules)
        return
    plan = compiled(*rules)
    assert plan.rank == truth.rank
    assert all((count <= 1).all() for count in uses(plan).values())
    draw = torch.Generator().manual_seed(0)
    given_ = {p.name: torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in plan.parameters}
    arrays = {name: x.numpy() for name, x in given_.items()}
    projector = plan.projector(given_)
    for found, wanted in (
        (projector.project(given_), truth.project(arrays)),
        (projector.tangent(given_), truth.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), values, atol=1e-10)


@pytest.mark.parametrize("one_by_one", [0, 65_536], ids=["terms", "equations"])
@pytest.mark.parametrize(
    "rules",
    [
        [families.symmetric(W.s), W.s[1, 2] == 1, W.s[2, 1] == 2],
        [families.skew(W.s), W.s[3, 3] == 1],
        [W.a == 2 * W.z.T + 1, W.a[0, 0] == 3, W.z[0, 0] == 2],
        [W.s == 1 - W.s.T, W.s.diagonal() == 1],
    ],
    ids=["images", "diagonal of a skew matrix", "both sides", "shifted diagonal"],
)
def test_pins_that_the_mirror_contradicts_are_named(rules: list[Any], one_by_one: int) -> None:
    with pytest.raises(affinet.InfeasibleError) as wrong:
        planned([W.b[5] == 7, *rules], one_by_one=one_by_one)
    assert len(wrong.value.rules) == len(rules)


def test_pins_that_say_the_same_twice_are_redundant() -> None:
    plan = compiled(families.symmetric(W.s), W.s[1, 2] == 1, W.s[2, 1] == 1)
    assert (plan.rank, plan.size) == (16, 30)


def test_a_tie_between_two_pairs_takes_both_out() -> None:
    plan = compiled(families.symmetric(W.s), W.s[1, 2] == W.s[3, 4])
    mirror, ties = plan.blocks
    assert isinstance(mirror, Mirror)
    assert isinstance(ties, Ties)
    assert mirror.without.tolist() == [8, 13, 22, 27]
    assert ties.classes.count == 1


def test_touching_more_than_half_lowers_all() -> None:
    plan = compiled(families.symmetric(W.s), W.s.triu(2) == 0, W.s[0, 1] == 1)
    assert not any(isinstance(block, Mirror) for block in plan.blocks)
    assert plan.rank == oracle_of([families.symmetric(W.s), W.s.triu(2) == 0, W.s[0, 1] == 1]).rank


def test_single_entries_said_as_a_regular_rule_are_taken_out_too() -> None:
    plan = compiled(families.symmetric(W.t), W.t[:, 0, 1] == 2, one_by_one=0)
    mirror, fixed = plan.blocks
    assert isinstance(mirror, Mirror)
    assert isinstance(fixed, Fixed)
    assert (mirror.size, fixed.size) == (2 * 18, 4)


def test_an_equation_over_a_pair_and_a_bias_takes_both_sides_out() -> None:
    plan = compiled(W.a == 2 * W.z.T, W.a[1, 2] + W.b[0] + W.b[1] == 1)
    pairs, rest = plan.blocks
    assert isinstance(pairs, Pairs)
    assert isinstance(rest, Dense)
    assert (pairs.size, rest.size) == (46, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_untouched_entries_and_images_keep_their_bits(dtype: torch.dtype) -> None:
    plan = compiled(families.symmetric(W.s), W.s[1, 2] == 0.3)
    given_ = {"s": torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)}
    found = plan.projector(given_).project(given_)["s"]
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), given_["s"].diagonal())
    assert found[1, 2] == torch.tensor(0.3, dtype=torch.float64).to(dtype)
