"""Random systems of polynomials, with repeated, dependent and badly scaled equations, against a dense SVD oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import affinet

U = 2.0**-53
CONDITIONED = 1e-2
"""Systems whose independent equations have smaller singular values, relative to the largest, are not drawn: the way
back then leads far, and two ways of finding it end at different points."""


@dataclass(frozen=True)
class Polynomials:
    """`Σ_k coefficients[i, k] · ∏_j w_j ** powers[k, j] == values[i]`, and all its rows times `scales`."""

    coefficients: np.ndarray
    powers: np.ndarray
    values: np.ndarray

    def sides(self, w: np.ndarray) -> np.ndarray:
        return self.coefficients @ np.prod(w**self.powers, axis=1) - self.values

    def sizes(self, w: np.ndarray) -> np.ndarray:
        """`Σ|terms| + Σ|∂c/∂w_j||w_j|`."""
        terms = np.abs(self.coefficients) @ np.abs(np.prod(w**self.powers, axis=1)) + np.abs(self.values)
        reach: np.ndarray = np.abs(self.derivatives(w)) @ np.abs(w)
        return terms + reach

    def derivatives(self, w: np.ndarray) -> np.ndarray:
        columns = []
        for j in range(len(w)):
            lowered = self.powers.copy()
            lowered[:, j] = np.maximum(lowered[:, j] - 1, 0)
            columns.append(self.coefficients @ (self.powers[:, j] * np.prod(w**lowered, axis=1)))
        return np.stack(columns, axis=1)

    def equilibrated(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        derivatives = self.derivatives(w)
        norms = np.linalg.norm(derivatives, axis=1)
        return derivatives / norms[:, None], norms


@st.composite
def systems(draw: st.DrawFn) -> tuple[Polynomials, int, np.ndarray]:
    """A system that holds at a point, how many of its equations are independent, and the point.

    Behind the independent equations stand repetitions of some, and sums of all with random factors; each equation is
    multiplied by a power of ten from 1e-6 to 1e6.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, independent = draw(st.integers(3, 7)), draw(st.integers(1, 2))
    repeated, combined = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    powers = random.integers(0, 3, (3 * size, size)) * (random.random((3 * size, size)) < 0.4)
    coefficients = random.standard_normal((independent, len(powers)))
    mixture = np.vstack(
        [
            np.eye(independent),
            np.eye(independent)[random.integers(0, independent, repeated)],
            random.standard_normal((combined, independent)),
        ]
    )
    scales = 10.0 ** random.uniform(-6, 6, len(mixture))
    coefficients = scales[:, None] * (mixture @ coefficients)
    point = random.uniform(0.4, 1.4, size) * random.choice([-1.0, 1.0], size)
    values = coefficients @ np.prod(point**powers, axis=1)
    system = Polynomials(coefficients, powers, values)
    rows, norms = system.equilibrated(point)
    assume(bool((norms > 0.0).all()))
    shares = np.linalg.svd(rows)[1]
    assume(shares[independent - 1] > CONDITIONED * shares[0])
    return system, independent, point


def rules_of(system: Polynomials) -> list[affinet.Constraint]:
    w = affinet.weights({"w": (system.powers.shape[1],)}).w
    rules = []
    for coefficients, value in zip(system.coefficients, system.values, strict=True):
        total = 0.0
        for coefficient, powers in zip(coefficients, system.powers, strict=True):
            term = float(coefficient)
            for j, power in enumerate(powers):
                if power:
                    term = term * w[j] ** int(power)
            total = total + term
        rules.append(total == value)
    return rules


@settings(max_examples=40, deadline=None)
@given(systems(), st.integers(0, 2**32 - 1))
def test_tangents_and_returns_are_those_of_a_dense_decomposition(
    drawn: tuple[Polynomials, int, np.ndarray], seed: int
) -> None:
    system, independent, point = drawn
    random = np.random.default_rng(seed)
    start = point + 1e-3 * random.standard_normal(len(point))
    plan = affinet.plan(rules_of(system))
    used = np.flatnonzero(system.powers.any(axis=0))
    assume(len(used) == len(point))
    projector = plan.projector({"w": start})
    landed = projector.project({"w": start})["w"]

    # The equations hold to the rounding that docs/numerics.md promises; what evaluates them here rounds as often as
    # there are terms and factors of each.
    roundings = 8.0 + len(system.powers) + 2.0 * len(point)
    assert (np.abs(system.sides(landed)) <= roundings * U * system.sizes(landed)).all()

    # The way back is that of Gauss and Newton with a pseudo-inverse: its limit, from the same start.
    expected = start
    for _ in range(20):
        rows, norms = system.equilibrated(expected)
        expected = expected - np.linalg.pinv(rows, rcond=1e-6) @ (system.sides(expected) / norms)
    # Rounding of the sides is amplified by the smallest singular value that counts.
    assert np.abs(landed - expected).max() <= 1e-9

    rows, _ = system.equilibrated(landed)
    _, shares, directions = np.linalg.svd(rows)
    assert int((shares > 1e-6 * shares[0]).sum()) == independent == plan.rank
    normal = directions[:independent]
    vector = random.standard_normal(len(point))
    tangent = projector.tangent({"w": vector}, at={"w": landed})["w"]
    # Eigenvalues of the Gram matrix have the square of the condition: 1 / CONDITIONED² roundings, twice removed.
    assert np.abs(tangent - (vector - normal.T @ (normal @ vector))).max() <= 1e-10
