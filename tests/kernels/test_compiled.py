"""Compiled loops say what torch's own operations say, on every case of the contract table and at their own edges."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.torch import looped, small_blocks
from affinet.kernels.torch.dense_kernel import SmallGroups
from affinet.kernels.torch.jagged import JaggedTies
from affinet.kernels.torch.looped import Looped, OnArrays
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.slices_kernels import CrossSums, EvenSums, SlicesKernel
from affinet.kernels.torch.tied_kernels import EqualEntries
from affinet.kernels.torch.wide import WideRows
from affinet.plans.plan import Plan
from tests.contract.building import directions_of, plan_of, tensors_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.kernels.judging import apart, missed

pytest.importorskip("numba")

Tensors = dict[str, torch.Tensor]
DTYPES = (torch.float32, torch.float64)


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks too are projected by their own loops here; in one call: test_small.py."""
    monkeypatch.setattr(small_blocks, "MOST_ENTRIES", -1)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan, Tensors], Projector]:
    """The projector of a plan as it is where numba is not installed."""

    def made(plan: Plan, like: Tensors) -> Projector:
        with monkeypatch.context() as patch:
            patch.setattr(looped, "available", lambda: False)
            projector = plan.projector(like)
        assert not any(isinstance(k, Looped) and not isinstance(k.loops, JaggedTies) for k in projector.kernels(like))
        return projector

    return made


def kinds(projector: Projector, like: Tensors) -> set[type]:
    """The loop of every kernel, or its own kind where it has none."""
    loops = [kernel.loops if isinstance(kernel, Looped) else kernel for kernel in projector.kernels(like)]
    return {type(each.loop if isinstance(each, OnArrays) else each) for each in loops}


def assert_means(found: torch.Tensor, values: torch.Tensor, pattern: np.ndarray, spread: float = 0.0) -> None:
    """Every entry is the mean of its class: c differences from its first are added in float64, each ≤ 2 max |x|.

    That rounds by c · 2u of float64 and of them at the worst (Higham, Accuracy and Stability, 2nd ed., 4.2), and as
    much again here where the mean is taken; storing by u of the dtype. Entries of a class that are `spread` spacings
    apart at most may be taken for equal, and the first of them for their mean.
    """
    numbers, classes = values.double().numpy().ravel(), pattern.ravel()
    counts = np.maximum(np.bincount(classes), 1)
    means, largest = np.bincount(classes, numbers) / counts, np.zeros(len(counts))
    np.maximum.at(largest, classes, np.abs(numbers))
    allowed = largest * (4.0 * (1 + counts) * 2.0**-52 + torch.finfo(values.dtype).eps * (0.5 + spread))
    assert (np.abs(found.double().numpy().ravel() - means[classes]) <= allowed[classes]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_ways_agree(case: Case, dtype: torch.dtype, eager: Callable[[Plan, Tensors], Projector]) -> None:
    weights = tensors_of(case, "far", dtype)
    plan = plan_of(case.name, "equations")
    fast, slow = plan.projector(weights), eager(plan, weights)
    # A border and sparse equations are solved for, and have a condition number.
    condition = directions_of(case.name)[0]
    assert apart(plan, fast.project(weights), slow.project(weights), weights, condition=condition) <= 1.0
    assert apart(plan, fast.tangent(weights), slow.tangent(weights), weights, condition=condition) <= 1.0
    for decay in ({}, dict.fromkeys(weights, 0.3)):
        gradients = [{name: values.clone() for name, values in weights.items()} for _ in range(2)]
        fast.project_gradients_(gradients[0], weights, decay)
        slow.project_gradients_(gradients[1], weights, decay)
        assert apart(plan, *gradients, weights, condition=condition, quiet=True) <= 1.0


def ties(entries: int, classes: int, dtype: torch.dtype) -> tuple[Plan, torch.Tensor, np.ndarray]:
    draw = np.random.default_rng(0)
    pattern = draw.integers(0, classes, entries)
    w = affinet.weights({"a": (entries,)})
    plan = affinet.plan(affinet.families.share(w.a, pattern))
    return plan, torch.from_numpy(draw.standard_normal(entries)).to(dtype), pattern


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("entries", [50, 2**20 + 3])
def test_means_of_classes_whatever_the_number_of_threads(entries: int, dtype: torch.dtype) -> None:
    plan, values, pattern = ties(entries, entries // 4, dtype)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            projector = plan.projector({"a": values})
            assert kinds(projector, {"a": values}) == {EqualEntries}
            found.append(projector.project({"a": values})["a"])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert_means(found[0], values, pattern)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_equal_numbers_are_their_own_mean(dtype: torch.dtype) -> None:
    w = affinet.weights({"a": (1_200_000,)})
    plan = affinet.plan(affinet.families.share(w.a, np.zeros(1_200_000, np.int64)))
    values = torch.full((1_200_000,), 0.1, dtype=dtype)
    assert torch.equal(plan.projector({"a": values}).project({"a": values})["a"], values)


def test_the_mean_of_many_numbers_is_exact_to_a_spacing_in_double_precision() -> None:
    w = affinet.weights({"a": (1_200_000,)})
    plan = affinet.plan(families.share(w.a, np.zeros(1_200_000, np.int64)))
    values = torch.full((1_200_000,), 0.1, dtype=torch.float64)
    values[7] = 0.4
    found = plan.projector({"a": values}).project({"a": values})["a"][0].item()
    assert found == pytest.approx(math.fsum(values.tolist()) / 1_200_000, rel=2.3e-16)


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "rows and columns"])
def test_sums_are_taken_in_parts_of_the_same_bits(columns: bool) -> None:
    w = affinet.weights({"a": (600, 700)})
    values = torch.randn(600, 700)
    rules = [w.a.sum(dim=1) == np.arange(600.0)]
    rules += [w.a.sum(dim=0) == np.arange(600.0).sum() / 700] if columns else []
    plan = affinet.plan(rules)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            projector = plan.projector({"a": values})
            assert kinds(projector, {"a": values}) == {CrossSums if columns else EvenSums}
            found.append(projector.project({"a": values})["a"])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    assert missed(plan, {"a": found[0]}) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["symmetric", "skew", "zero diagonal", "transposed", "zero row", "scaled", "opposite"])
def test_tiles_of_a_large_matrix(kind: str, dtype: torch.dtype, eager: Callable[[Plan, Tensors], Projector]) -> None:
    size = 601
    like = {"a": torch.randn(size, size, dtype=dtype), "b": torch.randn(size, size, dtype=dtype)}
    w = affinet.weights({name: tuple(values.shape) for name, values in like.items()})
    rules = {
        "symmetric": [w.a == w.a.T],
        "skew": [w.a == -w.a.T],
        "zero diagonal": [w.a == w.a.T, w.a.diagonal() == 0],
        "transposed": [w.a == w.b.T],
        "zero row": [w.a == -w.b.T, w.a[3] == 0],
        "scaled": [w.a == 3 * w.b.T],
        "opposite": [w.a[:500] == -w.b[:, ::-1][:, :500].T],
    }[kind]
    plan = affinet.plan(rules)
    used = {name: like[name] for name in (p.name for p in plan.parameters)}
    fast, slow = plan.projector(used), eager(plan, used)
    assert apart(plan, fast.project(used), slow.project(used), used) <= 1.0
    gradients = [{name: values.clone() for name, values in used.items()} for _ in range(2)]
    for projector, gradient in zip((fast, slow), gradients, strict=True):
        projector.project_gradients_(gradient, used, {})
    assert apart(plan, *gradients, used, quiet=True) <= 1.0
    settled = fast.project(used)
    if kind == "scaled":
        assert missed(plan, settled) <= 1.0
    else:
        assert max(fast.violation(settled).values()) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "kind", ["rows", "rows and columns", "ties", "many ties", "symmetric", "transposed", "multiple"]
)
def test_what_is_not_finite_is_no_noise(kind: str, bad: float, eager: Callable[[Plan, Tensors], Projector]) -> None:
    size = {"many ties": 1_100, "transposed": 300, "multiple": 300}.get(kind, 40)
    like = {"a": torch.randn(size, size), "b": torch.randn(size, size)}
    w = affinet.weights({"a": (size, size), "b": (size, size)})
    rules = {
        "rows": lambda: [w.a.sum(dim=1) == 1],
        "rows and columns": lambda: [w.a.sum(dim=1) == 1, w.a.sum(dim=0) == 1],
        "ties": lambda: [affinet.families.share(w.a, np.arange(size * size).reshape(size, size) % 100)],
        "many ties": lambda: [affinet.families.share(w.a, np.arange(size * size).reshape(size, size) % 100_000)],
        "symmetric": lambda: [w.a == w.a.T],
        "transposed": lambda: [w.a == w.b.T],
        "multiple": lambda: [w.a == 3 * w.b],
    }[kind]()
    plan = affinet.plan(rules)
    used = {p.name: like[p.name] for p in plan.parameters}
    projector = plan.projector(used)
    assert all(isinstance(kernel, Looped) for kernel in projector.kernels(used))
    for either in (projector, eager(plan, used)):
        gradients = {name: values.clone() for name, values in used.items()}
        gradients["a"][3, 5] = bad
        either.project_gradients_(gradients, used, {})
        assert not torch.isfinite(gradients["a"][3, 5])


@pytest.mark.parametrize("rule", ["rows", "ties"])
def test_gradients_in_another_memory_order_are_projected_too(rule: str) -> None:
    w, like = affinet.weights({"a": (6, 4)}), {"a": torch.randn(6, 4)}
    plan = affinet.plan(w.a.sum(dim=1) == 1 if rule == "rows" else w.a[0] == w.a[1])
    projector = plan.projector(like)
    assert SlicesKernel not in kinds(projector, like)
    gradient = torch.randn(4, 6).T
    wanted = projector.tangent({"a": gradient.contiguous()})["a"]
    projector.project_gradients_({"a": gradient}, like, {})
    assert torch.allclose(gradient, wanted, atol=1e-6)


def test_a_projection_is_a_write_that_autograd_sees() -> None:
    w = affinet.weights({"a": (6, 4)})
    values = torch.randn(6, 4)
    for rule in (w.a.sum(dim=1) == 1, w.a[0] == w.a[1]):
        version = values._version
        affinet.plan(rule).projector({"a": values}).project_({"a": values})
        assert values._version > version


def test_in_sixteen_bits_torch_computes() -> None:
    w = affinet.weights({"a": (6, 4)})
    like = {"a": torch.randn(6, 4, dtype=torch.bfloat16)}
    assert kinds(affinet.plan(w.a.sum(dim=1) == 1).projector(like), like) == {SlicesKernel}


def test_the_metric_of_the_optimizer_goes_through_as_well(eager: Callable[[Plan, Tensors], Projector]) -> None:
    w, like = affinet.weights({"a": (6, 4), "b": (3,)}), {"a": torch.randn(6, 4), "b": torch.randn(3)}
    plan = affinet.plan([w.a[0] == w.a[1], w.b.sum() == 1])
    metric = {"a": torch.rand(6, 4) + 0.1, "b": torch.rand(3) + 0.1}
    found = []
    for projector in (plan.projector(like), eager(plan, like)):
        moved = {name: values.clone() for name, values in like.items()}
        projector.project_in_metric_(moved, metric)
        found.append(moved)
    # A projection in a metric D enlarges by at most √(max D / min D), of two numbers between 0.1 and 1.1 here.
    assert apart(plan, *found, like) <= math.sqrt(1.1 / 0.1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [64, 1_500])
def test_classes_that_agree_to_rounding_are_copied_and_others_averaged(size: int, dtype: torch.dtype) -> None:
    draw = np.random.default_rng(1)
    pattern = draw.integers(0, size * size // 4, (size, size))
    plan = affinet.plan(affinet.families.share(affinet.weights({"a": (size, size)}).a, pattern))
    values = torch.from_numpy(draw.standard_normal(size * size // 4)[pattern]).to(dtype)
    projector = plan.projector({"a": values})
    nearly = values * (1.0 + torch.finfo(dtype).eps * torch.from_numpy(draw.integers(-1, 2, (size, size))).to(dtype))
    nearly[1, 2] += 1.0
    nearly[3, 4] = -nearly[3, 4]
    before = nearly.clone()
    projector.project_({"a": nearly})
    # One spacing up or down, and half a spacing where that product is rounded, both ways.
    assert_means(nearly, before, pattern, spread=3.0)
    found = nearly.numpy().ravel()
    first = np.unique(pattern.ravel(), return_index=True, return_inverse=True)
    assert np.array_equal(found, found[first[1]][first[2]])


def test_a_class_that_is_apart_by_a_spacing_of_its_size_is_averaged_around_zero() -> None:
    plan = affinet.plan(affinet.families.share(affinet.weights({"a": (400,)}).a, np.arange(400) // 4))
    values = torch.ones(400)
    values[4:8] = torch.tensor([1e-9, -1e-9, 3e-9, 1e-9])
    plan.projector({"a": values}).project_({"a": values})
    assert torch.allclose(values[4:8], torch.full((4,), 1e-9), rtol=1e-5, atol=0.0)
    assert torch.equal(values[:4], torch.ones(4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_small_groups_and_wide_systems(dtype: torch.dtype, eager: Callable[[Plan, Tensors], Projector]) -> None:
    draw = np.random.default_rng(2)
    w = affinet.weights({"a": (300, 400), "b": (5_000,)})
    terms, coefficients = draw.integers(0, 120_000, (20_000, 4)), draw.standard_normal((20_000, 4))
    A = draw.standard_normal((401, 5_000))
    rules = [
        (coefficients * w.a.flatten()[terms]).sum(dim=1) == draw.standard_normal(20_000),
        affinet.families.linear([w.b], A, 0.5),
    ]
    plan = affinet.plan(rules)
    like = {"a": torch.randn(300, 400, dtype=dtype), "b": torch.randn(5_000, dtype=dtype)}
    fast, slow = plan.projector(like), eager(plan, like)
    assert {SmallGroups, WideRows} <= kinds(fast, like)
    assert apart(plan, fast.project(like), slow.project(like), like) <= 1.0
    assert missed(plan, fast.project(like)) <= 1.0
    gradients = [{name: values.clone() for name, values in like.items()} for _ in range(2)]
    for projector, gradient in zip((fast, slow), gradients, strict=True):
        projector.project_gradients_(gradient, like, {})
    assert apart(plan, *gradients, like, quiet=True) <= 1.0


def test_loops_share_their_parts_out_to_the_threads_of_torch() -> None:
    from affinet.kernels.loops import openmp

    assert openmp.JOINED, "torch's OpenMP runtime was not found: loops run on one thread"
    assert openmp.team(10**9, 2) == 2
    assert openmp.team(100, 2) == 1


class _Projecting(torch.utils.data.Dataset[torch.Tensor]):
    """Projects in the worker that a data loader forked."""

    def __init__(self, projector: Projector, values: Tensors) -> None:
        self._projector, self._values = projector, values

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._projector.project(self._values)["a"].double().sum(dim=1)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_loops_run_in_the_forked_workers_of_a_data_loader() -> None:
    values = {"a": torch.randn(512, 600)}
    projector = affinet.plan(affinet.weights({"a": (512, 600)}).a.sum(dim=1) == 1).projector(values)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        projector.project(values)  # in the parent, on the threads that a fork loses
        loader = torch.utils.data.DataLoader(
            _Projecting(projector, values), num_workers=2, multiprocessing_context="fork", timeout=60
        )
        found = torch.cat(list(loader))
    finally:
        torch.set_num_threads(before)
    # Storing rounds every entry by half a spacing, and sums are added in float64: 0.51 in docs/numerics.md.
    size = projector.project(values)["a"].double().abs().sum(dim=1) + 1.0
    assert ((found - 1.0).abs() <= 0.51 * torch.finfo(torch.float32).eps * size).all()


def test_without_a_runtime_loops_run_on_the_thread_that_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from affinet.kernels.loops import openmp

    monkeypatch.setattr(openmp, "_loaded", lambda: iter(()))
    try:
        assert not openmp._joined()
        monkeypatch.setattr(openmp, "JOINED", False)
        assert openmp.team(10**9, 2) == 1
    finally:
        monkeypatch.undo()
        assert openmp._joined(), "what was made known to compiled code is so again"


def test_numba_is_used_where_it_is_installed() -> None:
    assert looped.available()
    like = {"a": torch.randn(64, 64)}
    assert kinds(affinet.plan(affinet.weights({"a": (64, 64)}).a.sum(1) == 1).projector(like), like) == {EvenSums}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_of_every_row_and_column_have_a_number_each(
    dtype: torch.dtype, eager: Callable[[Plan, Tensors], Projector]
) -> None:
    point = np.random.default_rng(0).standard_normal((70, 90))
    a = affinet.weights({"a": (70, 90)}).a
    plan = affinet.plan([a.sum(dim=1) == point.sum(1), a.sum(dim=0) == point.sum(0)])
    like = {"a": torch.randn(70, 90, dtype=dtype)}
    projector = plan.projector(like)
    assert kinds(projector, like) == {CrossSums}
    assert apart(plan, projector.project(like), eager(plan, like).project(like), like) <= 1.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_classes_of_some_entries_of_a_weight(dtype: torch.dtype, eager: Callable[[Plan, Tensors], Projector]) -> None:
    a = affinet.weights({"a": (40, 60)}).a
    marks = np.random.default_rng(0).integers(0, 100, (20, 30))
    plan = affinet.plan(families.share(a[::2, 1::2], marks))
    like = {"a": torch.randn(40, 60, dtype=dtype)}
    projector = plan.projector(like)
    assert kinds(projector, like) == {EqualEntries}
    found = projector.project(like)
    assert apart(plan, found, eager(plan, like).project(like), like) <= 1.0
    some = found["a"][::2, 1::2]
    assert all(len(some[torch.from_numpy(marks == mark)].unique()) == 1 for mark in range(100))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_classes_of_some_entries_have_the_bits_of_a_weight_of_these_alone(dtype: torch.dtype) -> None:
    """Also where a mean is rounding beside its class, and becomes zero, and where it is copied."""
    marks = np.arange(600).reshape(20, 30) // 3
    some = torch.tensor([0.1, 0.2, -0.3], dtype=dtype).repeat(200).view(20, 30)
    some[0, :3] = 0.7
    whole = torch.full((40, 60), 1e-30, dtype=dtype)
    whole[::2, 1::2] = some
    few = affinet.plan(families.share(affinet.weights({"a": (40, 60)}).a[::2, 1::2], marks))
    all_ = affinet.plan(families.share(affinet.weights({"a": (20, 30)}).a, marks))
    one, other = few.projector({"a": whole}), all_.projector({"a": some})
    assert torch.equal(one.project({"a": whole})["a"][::2, 1::2], other.project({"a": some})["a"])
    gradients, wanted = {"a": whole.clone()}, {"a": some.clone()}
    one.project_gradients_(gradients, {"a": whole}, {})
    other.project_gradients_(wanted, {"a": some}, {})
    assert torch.equal(gradients["a"][::2, 1::2], wanted["a"])
    assert (wanted["a"][1:] == 0).all(), "a mean that is rounding beside its class"
    gradients["a"][::2, 1::2] = 1e-30
    assert torch.equal(gradients["a"], torch.full((40, 60), 1e-30, dtype=dtype)), "the others keep their bits"
