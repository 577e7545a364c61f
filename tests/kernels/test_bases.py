"""Every basis against the oracle: N spans what the rules leave free, `NᵀN = I` or an identity among its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet import families
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.mirror import Mirror
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.errors import AttachError, TooLargeError
from affinet.kernels.bases.basis import Kind
from affinet.kernels.bases.origin_of_weights import origin_of
from affinet.kernels.torch.bases.expansion import Expansion
from affinet.kernels.torch.bases.tensor_basis import TensorBasis, basis_of
from affinet.kernels.torch.projector import Projector
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.contract.building import PATHS, conditioning_of, flat, plan_of
from tests.contract.case import Case
from tests.contract.tables import each_row, rows
from tests.kernels.bounds import of_cell
from tests.kernels.test_blocks import CASES as BLOCKS
from tests.kernels.test_blocks import planned
from tests.limits import plan_within
from tests.limits import planned as limited
from tests.oracle import oracle

each_kind = pytest.mark.parametrize("kind", ["orthonormal", "free"])
W: Any = affinet.weights(
    {"s": (6, 6), "t": (3, 4, 5), "c": (2, 3, 3), "q": (3, 3, 3), "v": (7,), "z": (8, 8), "p": (3, 2, 2, 4)}
)
DRAW = np.random.default_rng(5)
MORE: dict[str, tuple[list[Any], type]] = {
    "symmetric rows": ([families.symmetric(W.s), W.s.sum(1) == 1], Commuting),
    "skew rows": ([families.skew(W.s), W.s.sum(1) == 0], Commuting),
    "turned rows": ([W.s == W.s.flip((0, 1)), W.s.sum(1) == 2], Commuting),
    "persymmetric rows": ([W.s == W.s.T.flip((0, 1)), W.s.sum(1) == 1], Commuting),
    "flipped sums": ([W.c == W.c.flip(2), W.c.sum((1, 2)) == 1], Commuting),
    "odd flips": ([W.c == -W.c.flip(2), W.c.sum(1) == 0], Commuting),
    "odd middles": ([W.q == W.q.flip(1), np.array([1.0, 2.0, 1.0]) @ W.q == 0], Commuting),
    "doubly centred": ([W.z.sum(0) == 0, W.z.sum(1) == 0, families.symmetric(W.z)], Commuting),
    "moments": ([W.t @ np.vander(np.arange(5.0), 3) == 0], Slices),
    "columns with moments": ([np.vander(np.arange(4.0), 2).T @ W.t[1] == np.eye(2, 5)], Slices),
    "a product of moments": ([W.t @ np.vander(np.arange(5.0), 2) == 0, W.t.sum(1) == 0], Commuting),
    "overlapping sums": ([W.t.sum((0, 1)) == 0, W.t.sum((1, 2)) == 0], Commuting),
    "overlapping sums to totals": ([W.p.sum((0, 1)) == 6, W.p.sum((1, 3)) == 8, W.p.sum((0, 3)) == 12], Commuting),
    "overlapping sums of opposites": ([W.p.sum(1) == 0, W.p.sum((2, 3)) == 0, W.p.sum((0, 2)) == 0], Commuting),
    "overlapping sums inside": ([W.c[:, 1:].sum((0, 1)) == 0, W.c[:, 1:].sum((1, 2)) == 0], Commuting),
    "rows, columns, fixed entries and ties": (
        [
            W.z.sum(0) == 8,
            W.z.sum(1) == 8,
            W.z[2, 3] == 0.5,
            W.z[1, 1] == W.z[4, 6],
            W.z[0, 5] == -W.z[7, 7],
            W.z[3, :4].sum() + W.v.sum() == 1,
        ],
        Bordered,
    ),
    "overlapping sums and a few more": (
        [W.p.sum((0, 1)) == 0, W.p.sum((1, 3)) == 0, W.p[0, 0, 0, 0] == 1, W.p[1, 0, 1].sum() == W.v[0]],
        Bordered,
    ),
    "two squares and what holds them together": (
        [
            families.symmetric(W.z),
            W.z[:3].sum(1) == 1,
            families.skew(W.s),
            W.s[0, 1:].sum() == W.z[0, 1],
            W.v[2] == W.s[2, 3],
        ],
        Bordered,
    ),
    "components of several ranks": (
        [
            rule
            for k in range(6)
            for rule in (
                W.z[k, 0] + (2 + k) * W.z[k, 1] - W.v[k] == k,
                (2 * W.z[k, 0] + (4 + 2 * k) * W.z[k, 1] - 2 * W.v[k] == 2 * k)
                if k % 2
                else (W.z[k, 0] - W.z[k, 1] + 3 * W.v[k] == 1),
            )
        ],
        Dense,
    ),
    "toeplitz kernels": ([families.toeplitz(W.s)], Ties),
    "skew with shifts": ([W.s + W.s.T == np.full((6, 6), 2.0)], Mirror),
}
"""Beside the blocks of every kernel: mirrors of all parities, moments, batches in which ranks differ."""


def expanded(plan: Plan, kind: Kind) -> tuple[Expansion, list[TensorBasis], dict[str, Tensor]]:
    zeros = {p.name: torch.zeros(p.shape, dtype=torch.float64) for p in plan.parameters}
    bases = [basis_of(block, kind, plan) for block in plan.blocks]
    smallest = {name: x.numpy() for name, x in Projector(plan, zeros).project(zeros).items()}
    shapes = {p.name: p.shape for p in plan.parameters}
    return Expansion(bases, shapes, origin_of(kind, [basis.basis for basis in bases], smallest)), bases, zeros


def linear(expansion: Expansion, v: Tensor) -> Tensor:
    """`N v` over all blocks, laid end to end."""
    spans = zip(expansion.bases, expansion.spans, strict=True)
    parts = [part for basis, span in spans if basis.free for part in basis.linear(v[slice(*span)])]
    return torch.cat([v.new_zeros(0), *parts])


def weights(expansion: Expansion, v: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whole weights, untouched entries as given."""
    return {
        name: expansion.weight(name, v, given[name].reshape(-1)[torch.from_numpy(expansion.untouched(name))], v.dtype)
        for name in expansion.names
    }


def assert_is_the_basis(plan: Plan, kind: Kind, rounding: float) -> None:
    expansion, _, zeros = expanded(plan, kind)
    assert expansion.free == plan.free
    if not zeros:
        return
    draw, truth = torch.Generator().manual_seed(3), oracle(plan.system)
    given = {name: torch.randn(x.shape, generator=draw, dtype=torch.float64) for name, x in zeros.items()}
    wanted = truth.project({name: x.numpy() for name, x in given.items()})
    nearest = {name: torch.tensor(x) for name, x in wanted.items()}
    found = weights(expansion, expansion.coordinates(nearest), given)
    size = max([1.0, *(float(x.abs().max()) for x in nearest.values() if x.numel())])
    for name, x in nearest.items():
        torch.testing.assert_close(found[name], x, rtol=0, atol=rounding * size, msg=name)
    columns = torch.zeros(0, 0, dtype=torch.float64)
    if expansion.free:
        columns = torch.stack([linear(expansion, e) for e in torch.eye(expansion.free, dtype=torch.float64)], 1)
    assert_columns(columns, kind)
    assert_adjoint(expansion, columns)
    v = torch.randn(expansion.free, generator=draw, dtype=torch.float64)
    moved = flat(truth, {name: x.numpy() for name, x in weights(expansion, v, given).items()})
    gap = np.abs(truth.matrix @ moved - truth.rhs) / (np.abs(truth.matrix) @ np.abs(moved) + np.abs(truth.rhs) + 1e-300)
    assert gap.max(initial=0.0) <= 16 * rounding


def assert_columns(columns: Tensor, kind: Kind) -> None:
    count = columns.shape[1]
    if kind == "orthonormal":
        # n reflections at most, each of which rounds both columns of a product by some u of their norms, which is one.
        atol = 4 * len(columns) * torch.finfo(torch.float64).eps
        torch.testing.assert_close(columns.mT @ columns, torch.eye(count, dtype=torch.float64), rtol=0, atol=atol)
        return
    rows = {tuple(row) for row in columns.tolist()}
    missing = [k for k in range(count) if tuple(float(k == j) for j in range(count)) not in rows]
    assert not missing, f"free numbers {missing} are no weight"


def assert_adjoint(expansion: Expansion, columns: Tensor) -> None:
    g = torch.randn(len(columns), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pieces = list(g.split([place.size for basis in expansion.bases if basis.free for place in basis.places]))
    found = []
    for basis in expansion.bases:
        if basis.free:
            mine, pieces = pieces[: len(basis.places)], pieces[len(basis.places) :]
            found.append(basis.adjoint(tuple(mine)))
    torch.testing.assert_close(torch.cat([g.new_zeros(0), *found]), columns.mT @ g, rtol=1e-12, atol=1e-12)


@each_row("case, path, kind", rows(PATHS, ["orthonormal", "free"]))
def test_bases_of_the_table_span_what_is_free(case: Case, path: str, kind: Kind) -> None:
    """Every case by both paths and with both kinds of basis; every kind of block with both is below."""
    assert_is_the_basis(plan_of(case.name, path), kind, 1e-13 + 64 * conditioning_of(case.name))


@pytest.mark.parametrize("case", BLOCKS)
@each_kind
def test_bases_of_every_kind_of_block_span_what_is_free(case: str, kind: Kind) -> None:
    assert_is_the_basis(planned(case), kind, 1e-12)


@pytest.mark.parametrize("case", MORE)
@each_kind
def test_bases_of_mirrors_moments_and_batches_span_what_is_free(case: str, kind: Kind) -> None:
    rules, expected = MORE[case]
    terms = expected in (Mirror, Commuting, Bordered)
    system = System.of(rules)
    plan = plan_within(system, one_by_one=0 if terms else 65_536)
    assert any(isinstance(block, expected) for block in plan.blocks), [type(block) for block in plan.blocks]
    assert_is_the_basis(plan, kind, 1e-12)


@pytest.mark.parametrize("case", [*BLOCKS, *MORE])
@each_kind
def test_gradients_and_their_gradients_are_those_of_differences(case: str, kind: Kind) -> None:
    system = System.of((BLOCKS.get(case) or MORE[case])[0])
    plan = planned(case) if case in BLOCKS else plan_within(system, one_by_one=0)
    expansion, _, zeros = expanded(plan, kind)
    v = torch.randn(min(expansion.free, 400), dtype=torch.float64, requires_grad=True)
    given = {name: torch.randn_like(x, requires_grad=True) for name, x in zeros.items()}

    def compute(numbers: Tensor, *others: Tensor) -> Tensor:
        found = weights(expansion, numbers, dict(zip(zeros, others, strict=True)))
        return sum(
            (x.sin() * torch.arange(1.0, 1 + x.numel(), dtype=x.dtype).view(x.shape)).sum() for x in found.values()
        )

    assert torch.autograd.gradcheck(compute, (v, *given.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(compute, (v, *given.values()), fast_mode=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of torch's own forward mode
def test_forward_mode_and_batches_of_functions_go_through() -> None:
    expansion, _, zeros = expanded(planned("ties"), "orthonormal")
    v = torch.randn(expansion.free, dtype=torch.float64)

    def entries(numbers: Tensor) -> Tensor:
        return torch.cat([x.reshape(-1) for x in weights(expansion, numbers, zeros).values()])

    backward, forward = torch.func.jacrev(entries)(v), torch.func.jacfwd(entries)(v)
    torch.testing.assert_close(backward, forward, rtol=0, atol=1e-14)
    batch = torch.randn(3, expansion.free, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(entries)(batch), torch.stack([entries(one) for one in batch]))
    square = torch.func.grad(lambda numbers: entries(numbers).square().sum() / 2)
    torch.testing.assert_close(torch.func.vmap(square)(batch), torch.stack([square(one) for one in batch]))


def test_ties_without_the_compiled_loop_sum_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expansion, _, zeros = expanded(planned("ties"), "free")
    gradients = []
    for there in (True, False):
        monkeypatch.setattr("affinet.kernels.torch.bases.summing.available", lambda there=there: there)
        v = torch.linspace(0, 1, expansion.free, dtype=torch.float64, requires_grad=True)
        found = weights(expansion, v, zeros)
        sum((x * torch.arange(x.numel()).view(x.shape)).sum() for x in found.values()).backward()
        gradients.append(v.grad)
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_sum_over_a_million_equal_numbers_is_exact(dtype: torch.dtype) -> None:
    n = 1_000_000
    w = affinet.weights({"v": (n,)})
    system = System.of([w.v[np.arange(1, n)] == w.v[np.zeros(n - 1, int)]])
    expansion, _, _ = expanded(plan_within(system, one_by_one=10**9), "free")
    v = torch.ones(1, dtype=dtype, requires_grad=True)
    expansion.weight("v", v, v.new_zeros(0), dtype).backward(torch.full((n,), 0.1, dtype=dtype))
    assert v.grad is not None
    assert float(v.grad) == pytest.approx(
        float(torch.tensor(0.1, dtype=dtype)) * n, rel=max(2 * torch.finfo(dtype).eps, 1e-10)
    )


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
def test_a_wide_component_takes_reflectors_and_no_matrix_of_entries_squared(kind: Kind) -> None:
    matrix = DRAW.standard_normal((40, 30_000))
    w = affinet.weights({"v": (30_000,)})
    plan = affinet.plan([families.linear([w.v], matrix, np.ones(40))])
    expansion, (basis,), _ = expanded(plan, kind)
    assert expansion.free == 29_960
    v = torch.randn(expansion.free, dtype=torch.float64)
    (x,) = basis.linear(v)
    assert float((torch.from_numpy(matrix) @ x).abs().max()) < 1e-9
    if kind == "orthonormal":
        assert float(x.norm()) == pytest.approx(float(v.norm()), rel=1e-13)
    g = torch.randn(30_000, dtype=torch.float64)
    assert float(basis.adjoint((g,)) @ v) == pytest.approx(float(g @ x), rel=1e-9)


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
def test_large_sums_that_overlap_take_no_matrix(kind: Kind) -> None:
    w = affinet.weights({"k": (64, 32, 5, 5)})
    plan = affinet.plan([w.k.sum((2, 3)) == 0, w.k.sum((0, 2)) == 0])
    expansion, (basis,), _ = expanded(plan, kind)
    assert expansion.free == plan.free == 64 * 32 * 25 - 64 * 32 - 32 * 5 + 32
    v = torch.randn(expansion.free, dtype=torch.float64)
    (x,) = basis.linear(v)
    box = x.view(64, 32, 5, 5)
    assert max(float(box.sum(axes).abs().max()) for axes in ((2, 3), (0, 2))) < 1e-11
    if kind == "orthonormal":
        assert float(x.norm()) == pytest.approx(float(v.norm()), rel=1e-13)
    else:
        assert np.isin(v.numpy(), x.numpy()).all()
    g = torch.randn(len(x), dtype=torch.float64)
    assert float(basis.adjoint((g,)) @ v) == pytest.approx(float(g @ x), rel=1e-9)
    torch.testing.assert_close(basis.picked((x,)), v, rtol=0, atol=1e-12)


def large_bordered() -> Plan:
    w = affinet.weights({"k": (120, 100), "b": (120,)})
    system = System.of(
        [
            w.k.sum(0) == 0,
            w.k.sum(1) == 0,
            w.k[2, 3] == 0.5,
            w.k[5, 6] == w.k[7, 8],
            np.random.default_rng(0).standard_normal((20, 12_000)) @ w.k.flatten() == w.b[:20],
        ]
    )
    return plan_within(system, one_by_one=0)


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
def test_a_few_equations_on_top_of_large_blocks_take_as_many_reflectors(kind: Kind) -> None:
    plan = large_bordered()
    assert [type(block) for block in plan.blocks] == [Bordered]
    expansion, (basis,), _ = expanded(plan, kind)
    assert expansion.free == plan.free == 12_020 - 219 - 22
    v = torch.randn(expansion.free, dtype=torch.float64)
    zeros = {"k": torch.zeros(120, 100, dtype=torch.float64), "b": torch.zeros(120, dtype=torch.float64)}
    found = weights(expansion, v, zeros)
    truth = oracle(plan.system)
    moved = flat(truth, {name: x.numpy() for name, x in found.items()})
    gap = np.abs(truth.matrix @ moved - truth.rhs) / (np.abs(truth.matrix) @ np.abs(moved) + np.abs(truth.rhs))
    assert gap.max() < 1e-12
    assert found["k"][5, 6] == found["k"][7, 8]
    assert found["k"][2, 3] == 0.5
    x = torch.cat(basis.linear(v))
    if kind == "orthonormal":
        assert float(x.norm()) == pytest.approx(float(v.norm()), rel=1e-13)
    else:
        assert np.isin(v.numpy(), x.numpy()).all()
    g = torch.randn(len(x), dtype=torch.float64)
    pieces = g.split([place.size for place in basis.places])
    assert float(basis.adjoint(tuple(pieces)) @ v) == pytest.approx(float(g @ x), rel=1e-9)


def test_an_equation_of_few_entries_holds_to_their_rounding_beside_many_others() -> None:
    w = affinet.weights({"k": (300, 400), "b": (5,)})
    system = System.of([w.k.sum(0) == 0, w.k.sum(1) == 0, w.k[10, :5].sum() + w.b.sum() == 1])
    expansion, _, _ = expanded(plan_within(system, one_by_one=0), "orthonormal")
    v = torch.randn(expansion.free)
    found = weights(expansion, v, {"k": torch.zeros(300, 400), "b": torch.zeros(5)})
    terms = torch.cat([found["k"][10, :5], found["b"]]).double()
    # As if it were alone: one equation over ten entries, whatever the 400 others are.
    assert float((terms.sum() - 1).abs()) <= of_cell(1, 10) * torch.finfo(torch.float32).eps * float(
        terms.abs().sum() + 1
    )


def test_a_basis_beyond_memory_says_so_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = large_bordered()
    monkeypatch.setattr("affinet.kernels.bases.bordered_basis.LIMIT", 2**20)
    with pytest.raises(TooLargeError, match=r"basis of 22 equations over 11,801 free numbers .*basis=.projection."):
        expanded(plan, "orthonormal")


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
def test_large_blocks_without_a_cheap_basis_say_what_to_use(kind: Kind) -> None:
    w = affinet.weights({"v": (1_200,)})
    rules = [(w.v[k] + w.v[k + 1] - 2 * w.v[k + 2] == 1).named(f"step {k}") for k in range(1_198)]
    plan = limited(rules, dense_rows=2)
    assert any(isinstance(block, Sparse) for block in plan.blocks)
    with pytest.raises(AttachError, match=rf'v \(step 0, step 1, step 2\) have no basis="{kind}".*basis="projection"'):
        expanded(plan, kind)
