"""Products of large dense rows: what NumPy computes, with the same bits on any number of threads."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch

from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.polyhedral_set import PolyhedralSet
from affinet.kernels.torch import torch_namespace
from affinet.kernels.torch.torch_namespace import Torch

U = 2.0**-53
SHAPES = [(1, 1), (3, 5), (4, 8_192), (7, 20_001), (130, 9_001)]


@pytest.fixture
def threads() -> object:
    """The number of torch's threads, which tests change."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_numpy(shape: tuple[int, int], loops: bool) -> None:
    draw, (m, n) = np.random.default_rng(0), shape
    rows, x, u = draw.standard_normal(shape), draw.standard_normal(n), draw.standard_normal(m)
    with patch.object(torch_namespace, "available", lambda: loops and torch_namespace_has_loops()):
        xp = Torch()
        times, combined, (moved, after) = xp.product(rows, x), xp.product(rows.T, u), xp.descend(rows, u, x)
        other = xp.product(np.asfortranarray(rows), x)
    # A sum of k products is known to k roundings of the sum of their sizes, on either side.
    within = 2 * (m + n + 4) * 2.0**-53
    sizes = np.abs(rows) @ np.abs(x)
    assert (np.abs(times - rows @ x) <= within * sizes).all()
    assert (np.abs(other - rows @ x) <= within * sizes).all()
    assert (np.abs(combined - u @ rows) <= within * (np.abs(u) @ np.abs(rows))).all()
    size = np.abs(x) + np.abs(u) @ np.abs(rows)
    assert (np.abs(moved - (x - u @ rows)) <= within * size).all()
    assert (np.abs(after - rows @ moved) <= within * (np.abs(rows) @ np.abs(moved))).all()


def torch_namespace_has_loops() -> bool:
    from affinet.kernels.torch.looped import available

    return available()


def test_products_have_the_same_bits_on_any_number_of_threads(threads: int) -> None:
    draw, xp = np.random.default_rng(1), Torch()
    rows, x, u = draw.standard_normal((66, 20_000)), draw.standard_normal(20_000), draw.standard_normal(66)
    outcomes = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        outcomes.append((xp.product(rows, x), xp.product(rows.T, u), *xp.descend(rows, u, x)))
    for other in outcomes[1:]:
        for part, same in zip(outcomes[0], other, strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("kind", ["random", "nearly dependent", "equations", "dependent"])
def test_trainings_without_bounds_are_those_of_the_search_row_by_row(kind: str) -> None:
    """Large cells search among the products of rows; small ones one constraint after the other, in the entries."""
    draw, n, m = np.random.default_rng(5), 90, 14
    rows = draw.standard_normal((m, n))
    if kind == "nearly dependent":
        rows[7:] = rows[:7] + 1e-4 * draw.standard_normal((7, n))
    if kind == "dependent":
        rows[7:] = rows[:7] + rows[1:8]
    point = draw.standard_normal(n)
    rhs = rows @ point + np.where(draw.random(m) < 0.5, 0.0, draw.exponential(size=m))
    equations = 4 if kind == "equations" else 0
    rhs[:equations] = rows[:equations] @ point
    far = np.full((1, n), np.inf)
    sets = [PolyhedralSet(rows[None], rhs[None], equations, -far, far, most) for most in (-1, 512)]
    start = point + draw.standard_normal(n)
    (w, _), (other, _) = (convex.nearest(NumPy(), start[None]) for convex in sets)
    size = float(np.abs(start).max() + np.abs(point).max())
    # Multipliers of nearly dependent rows carry their condition, 1e4; the points that they lead to do not.
    np.testing.assert_allclose(w, other, rtol=0, atol=1e-11 * size)
    for xp in (NumPy(), Torch()):
        ends = []
        for convex in sets:
            law, x = NormalMap(convex), xp_array(xp, w)
            target = xp_array(xp, start[None] + 1.0)
            state = law.start(xp, x - target, x, U)
            for number in range(60):
                pending, projected = law.learn(xp, x - target, x, state)
                assert np.abs(rows[:equations] @ xp.host(projected)[0]).max(initial=0.0) <= 1e-12 * size * n
                x, state = law.land(xp, x - (0.5 if number % 7 else 0.0) * projected, pending, U)
                excess = rows @ xp.host(x)[0] - rhs
                assert excess.max() <= 1e-12 * size * n
                assert np.abs(excess[:equations]).max(initial=0.0) <= 1e-12 * size * n
            ends.append(xp.host(x))
        wanted, _ = sets[1].nearest(NumPy(), start[None] + 1.0)
        for end in ends:
            np.testing.assert_allclose(end, wanted, rtol=0, atol=1e-9 * size)


def xp_array(xp: object, values: np.ndarray) -> object:
    return torch.as_tensor(values) if isinstance(xp, Torch) else values
