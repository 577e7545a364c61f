"""Compiled loops, called by hand: a part does its own share and no other, and what is not found is not pretended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
import torch  # its OpenMP runtime is the one that is looked for

from affinet.kernels.loops import equation_groups, openmp, sums, tiles

TILE = tiles.TILE


def test_a_part_of_a_mirror_changes_its_own_tiles_and_their_images() -> None:
    before = np.random.default_rng(0).standard_normal((2 * TILE + 3, 2 * TILE + 3))
    x = before.copy()
    upper = np.array([[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]])
    tiles.some_mirrored(x.reshape(-1), len(x), len(x), upper, 1.0, 0.0, 1, 2)
    own = np.zeros(x.shape, bool)
    own[:TILE, TILE : 2 * TILE] = own[TILE : 2 * TILE, :TILE] = True
    assert np.array_equal(x[~own], before[~own])
    assert np.array_equal(x[own], ((before + before.T) / 2)[own])


def test_a_part_of_two_matrices_changes_its_own_tiles() -> None:
    generator = np.random.default_rng(0)
    plain, scaled = generator.standard_normal((2 * TILE, TILE + 3)), generator.standard_normal((TILE + 3, 2 * TILE))
    one, other = plain.copy(), scaled.copy()
    places = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    widths = other.shape[1], one.shape[1]
    tiles.some_pairs(other.reshape(-1), one.reshape(-1), one.shape, widths, places, 1.0, 0.0, 1, 3)
    own = np.zeros(plain.shape, bool)
    own[:TILE, TILE:] = own[TILE:, :TILE] = True
    assert np.array_equal(one[~own], plain[~own])
    assert np.array_equal(other.T[~own], scaled.T[~own])
    np.testing.assert_allclose(one[own], ((plain + scaled.T) / 2)[own], rtol=1e-15, atol=1e-15)
    assert np.array_equal(one[own], other.T[own])


def test_a_part_of_the_multiples_changes_its_own_entries() -> None:
    generator = np.random.default_rng(0)
    plain, scaled = generator.standard_normal(9), generator.standard_normal(9)
    one, other = plain.copy(), scaled.copy()
    tiles.some_multiples(other, one, 3.0, 0.0, 2, 5)
    own = (np.arange(9) >= 2) & (np.arange(9) < 5)
    assert np.array_equal(one[~own], plain[~own])
    assert np.array_equal(other[~own], scaled[~own])
    np.testing.assert_allclose(one[own], ((plain + 3 * scaled) / 10)[own], rtol=1e-14)
    assert np.array_equal(other[own], 3 * one[own])


def test_a_part_of_the_rows_changes_its_own_rows() -> None:
    before = np.random.default_rng(0).standard_normal((6, 5))
    x = before.copy()
    sums.some_even_sums(x, np.arange(6.0), 0.0, 2, 4)
    assert np.array_equal(x[[0, 1, 4, 5]], before[[0, 1, 4, 5]])
    np.testing.assert_allclose(x[2:4].sum(axis=1), [2.0, 3.0], rtol=1e-14)


def test_a_part_of_the_groups_changes_its_own_and_leaves_zeros_where_only_noise_is_left() -> None:
    places = np.arange(12, dtype=np.uint32).reshape(4, 3)
    basis = np.full((4, 1, 3), 3**-0.5)
    before = np.repeat([0.1, 0.2, 0.3, 0.7], 3) + np.tile([0.0, 1.0, 0.0], 4) * (np.arange(12) >= 6)
    x = before.copy()
    equation_groups.some_groups(x, places, basis, np.zeros((4, 1)), 1e-14, 1, 3)
    assert np.array_equal(x[[0, 1, 2, 9, 10, 11]], before[[0, 1, 2, 9, 10, 11]])
    assert np.array_equal(x[3:6], np.zeros(3))  # all of it was normal: 1e-17 are left without the bound
    np.testing.assert_allclose(x[6:9], [-1 / 3, 2 / 3, -1 / 3], rtol=1e-14)


def test_a_runtime_that_torch_does_not_ship_is_found_among_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.get_num_threads() >= 1  # the runtime is loaded
    monkeypatch.setattr(openmp, "find_spec", lambda name: None)
    if not Path("/proc/self/maps").exists():
        pytest.skip("the libraries that a process has loaded are listed in /proc on Linux alone")
    found = list(openmp._loaded())
    assert found
    assert all(path.is_file() for path in found)
