"""Families of nonlinear equations: the sets that they describe, against plain NumPy and published numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.errors import ConstantError, NotAffineError, RuleError, ShapeError
from affinet.language.evaluation import evaluate
from affinet.language.families.wavelets import wavelet
from affinet.language.origin import Family

SHAPES = {
    "a": (3, 4),
    "tall": (4, 3),
    "square": (3, 3),
    "large": (5, 5),
    "stack": (2, 3, 3),
    "wide": (2, 3, 4),
    "d4": (4,),
    "d6": (6,),
    "filters": (2, 6),
    "v": (5,),
}
W = affinet.weights(SHAPES)
random = np.random.default_rng(5)
VALUES = {name: random.standard_normal(shape) for name, shape in SHAPES.items()}

D4 = np.array([1 + np.sqrt(3), 3 + np.sqrt(3), 3 - np.sqrt(3), 1 - np.sqrt(3)]) / (4 * np.sqrt(2))
# Daubechies, Ten Lectures on Wavelets (1992), table 6.1, N = 3, in closed form.
ROOT = np.sqrt(5 + 2 * np.sqrt(10))
D6 = np.array(
    [
        1 + np.sqrt(10) + ROOT,
        5 + np.sqrt(10) + 3 * ROOT,
        10 - 2 * np.sqrt(10) + 2 * ROOT,
        10 - 2 * np.sqrt(10) - 2 * ROOT,
        5 + np.sqrt(10) - 3 * ROOT,
        1 + np.sqrt(10) - ROOT,
    ]
) / (16 * np.sqrt(2))


def gaps(rule: affinet.Constraint, values: dict[str, np.ndarray] = VALUES) -> np.ndarray:
    return evaluate(rule.expression, values)


def upper(products: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(products.shape[-1])
    return (products - np.eye(products.shape[-1]))[..., first, second]


a, tall, square, large, stack, wide = (VALUES[name] for name in ("a", "tall", "square", "large", "stack", "wide"))
SINGLE: list[tuple[affinet.Constraint, str, Any]] = [
    (families.unit_norm(W.a, 1), "unit_norm(a, dim=1)", (a**2).sum(1) - 1),
    (families.unit_norm(W.a, dim=0, value=[1, 2, 3, 4]), "unit_norm(a, dim=0, value=[1, 2, 3, 4])",
     (a**2).sum(0) - [1, 4, 9, 16]),
    (families.unit_norm(W.a), "unit_norm(a)", (a**2).sum() - 1),
    (families.unit_norm(W.wide, (1, 2), 0.5), "unit_norm(wide, dim=(1, 2), value=0.5)", (wide**2).sum((1, 2)) - 0.25),
    (families.unit_norm(W.a - 1, -1, 2), "unit_norm(a - 1, dim=-1, value=2)", ((a - 1) ** 2).sum(-1) - 4),
    (families.equal_energy(W.a, W.v), "equal_energy(a, v)", (a**2).sum() - (VALUES["v"] ** 2).sum()),
    (families.orthogonal(W.a), "orthogonal(a)", upper(a @ a.T)),
    (families.orthogonal(W.tall, of="columns"), "orthogonal(tall, of='columns')", upper(tall.T @ tall)),
    (families.orthogonal(W.square, "columns"), "orthogonal(square, of='columns')", upper(square.T @ square)),
    (families.orthogonal(W.wide), "orthogonal(wide)", upper(wide @ wide.swapaxes(1, 2))),
    (families.determinant(W.square), "determinant(square)", np.linalg.det(square) - 1),
    (families.determinant(W.large, -2), "determinant(large, value=-2)", np.linalg.det(large) + 2),
    (families.determinant(W.stack, [1, 2]), "determinant(stack, value=[1, 2])", np.linalg.det(stack) - [1, 2]),
    (families.product(W.a, W.tall, W.square), "product(a, tall, value=square)", a @ tall - square),
    (families.product(W.a, W.tall, 0), "product(a, tall, value=0)", a @ tall),
    (families.product(W.stack, W.a, W.wide), "product(stack, a, value=wide)", stack @ a - wide),
    (families.involution(W.square), "involution(square)", square @ square - np.eye(3)),
    (families.involution(W.stack), "involution(stack)", stack @ stack - np.eye(3)),
    (families.wavelet(W.d4, 2), "wavelet(d4, moments=2)", None),
    (families.wavelet(W.filters), "wavelet(filters, moments=1)", None),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "expected"), SINGLE, ids=[text for _, text, _ in SINGLE])
def test_families_state_their_equations(rule: affinet.Constraint, text: str, expected: np.ndarray | None) -> None:
    assert rule.text == text
    assert rule.sense == "=="
    assert rule.origin == Family(text.partition("(")[0])  # type: ignore[arg-type]
    again = affinet.parse(text, W)
    assert isinstance(again, affinet.Constraint)
    assert again.text == text
    np.testing.assert_array_equal(gaps(again), gaps(rule))
    if expected is not None:
        np.testing.assert_allclose(gaps(rule), expected, rtol=1e-12, atol=1e-12)  # sums of at most 20 numbers below 30


def test_products_with_an_array_are_named_by_its_shape() -> None:
    rule = families.product(W.a, W.tall, np.eye(3))
    assert rule.text == "product(a, tall, value=array(3, 3))"
    np.testing.assert_allclose(gaps(rule), a @ tall - np.eye(3), atol=1e-12)
    again = affinet.parse("product(a, tall, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])", W)
    np.testing.assert_array_equal(gaps(again), gaps(rule))  # type: ignore[arg-type]


def test_rotations_are_orthogonal_with_determinant_one() -> None:
    rules = families.rotation(W.stack)
    assert rules.labels == ("orthogonal", "determinant")
    assert rules.text == "orthogonal(stack)\ndeterminant(stack)"
    assert affinet.parse("rotation(stack)", W).text == rules.text
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    for sign, wrong in ((1.0, 0.0), (-1.0, 2.0)):
        values = {"stack": np.stack([np.eye(3), np.diag([1, 1, sign]) @ turn])}
        orthogonal, determinant = rules
        np.testing.assert_allclose(gaps(orthogonal, values), 0.0, atol=4 * 2.0**-52)
        np.testing.assert_allclose(gaps(determinant, values), [0.0, -wrong], atol=8 * 2.0**-52)


def test_projections_are_symmetric_and_idempotent() -> None:
    rules = families.projection_matrix(W.square)
    assert rules.text == "symmetric(square)\nprojection_matrix(square)"
    np.testing.assert_allclose(gaps(list(rules)[1]), square @ square - square, atol=1e-12)
    vectors = np.linalg.qr(square)[0][:, :2]
    for rule in rules:
        np.testing.assert_allclose(gaps(rule, {"square": vectors @ vectors.T}), 0.0, atol=8 * 2.0**-52)


@pytest.mark.parametrize(
    ("weight", "filter_", "moments"), [("d4", D4, 1), ("d4", D4, 2), ("d6", D6, 1), ("d6", D6, 2), ("d6", D6, 3)]
)
def test_wavelet_filters_satisfy_equations_of_full_rank(weight: str, filter_: np.ndarray, moments: int) -> None:
    """The textbook set, which has the sum of squares too, has one equation more and the same rank at the filters."""
    rule = families.wavelet(W[weight], moments)
    size = len(filter_)
    assert rule.rows == size // 2 + moments
    # 6 products of numbers below 1.2 and powers below 1: 16 roundings of sums below 4
    np.testing.assert_allclose(gaps(rule, {weight: filter_}), 0.0, atol=64 * 2.0**-53)
    jacobian = derivative(rule, weight, filter_)
    singular = np.linalg.svd(jacobian, compute_uv=False)
    assert len(singular) == rule.rows
    assert singular[-1] > 0.1 * singular[0]
    shifts = [np.r_[filter_[2 * m :], np.zeros(2 * m)] @ filter_ for m in range(size // 2)]
    np.testing.assert_allclose(shifts, np.eye(size // 2)[0], atol=64 * 2.0**-53)  # the sum of squares follows
    with_squares = np.vstack([jacobian, 2 * filter_])  # the textbook set
    assert np.linalg.matrix_rank(with_squares, tol=1e-12 * singular[0]) == len(jacobian)


def test_the_sum_of_squares_of_a_wavelet_follows_off_the_published_filters_too() -> None:
    """A filter of six entries with one vanishing moment has two parameters (Pollen 1990)."""
    alpha, beta = 0.7, -1.9
    blocks = [
        np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) for t in (alpha, beta, -np.pi / 4 - alpha - beta)
    ]
    filter_ = np.zeros((2, 1))
    filter_[0] = 1.0
    polyphase = blocks[0] @ filter_
    for block in blocks[1:]:
        shifted = np.zeros((2, polyphase.shape[1] + 1))
        shifted[0, : polyphase.shape[1]] = polyphase[0]
        shifted[1, 1:] = polyphase[1]
        polyphase = block @ shifted
    values = polyphase.T.reshape(-1)
    assert abs(values @ values - 1) < 1e-14
    found = gaps(families.wavelet(W.d6, 1), {"d6": values})
    np.testing.assert_allclose(found, 0.0, atol=64 * 2.0**-53)


def derivative(rule: affinet.Constraint, weight: str, at: np.ndarray) -> np.ndarray:
    """The Jacobian by central differences, which are exact for polynomials of degree two but for rounding."""
    steps = 0.5 * np.eye(len(at))
    return np.stack([gaps(rule, {weight: at + step}) - gaps(rule, {weight: at - step}) for step in steps], axis=1)


def test_filters_lie_along_the_last_axis() -> None:
    rule = families.wavelet(W.filters, 3)
    assert rule.shape == (2, 6)
    values = {"filters": np.stack([D6, D6[::-1]]), "d6": D6}
    np.testing.assert_array_equal(gaps(rule, values)[0], gaps(families.wavelet(W.d6, 3), values))
    np.testing.assert_allclose(gaps(rule, values), 0.0, atol=64 * 2.0**-53)


def test_groups_of_weights_give_a_rule_each() -> None:
    w = affinet.weights({f"layers.{k}.weight": (3, 3) for k in range(2)})
    assert families.orthogonal(w["layers.*.weight"]).labels == ("layers.0.weight", "layers.1.weight")
    assert len(families.rotation(w["layers.*.weight"])) == 4
    assert affinet.parse('unit_norm(w["layers.*.weight"], dim=1)', w).rows == 6


def test_polynomials_come_from_a_table_of_monomials() -> None:
    w = affinet.weights({"x": (2,), "y": (1, 2)})
    table = [
        [0, 2.0, 0, 2, 3, 1],  # 2 x0² y1 - x1³ + 5
        [0, -1.0, 1, 3, 0, 0],
        [0, 5.0, 0, 0, 0, 0],
        [1, 0.5, 2, 1, 2, 1],  # y0² / 2 + x0 x1 - 3 / y1
        [1, 1.0, 0, 1, 1, 1],
        [1, -3.0, 3, -1, 99, 0],
    ]
    rule = families.polynomial([w.x, w.y], np.array(table))
    assert rule.text == "polynomial([x, y], table=array(6, 6))"
    assert rule.origin == Family("polynomial")
    x, y = random.uniform(0.5, 2.0, 2), random.uniform(0.5, 2.0, (1, 2))
    expected = [
        2 * x[0] ** 2 * y[0, 1] - x[1] ** 3 + 5,
        y[0, 0] ** 2 / 2 + x[0] * x[1] - 3 / y[0, 1],
    ]
    np.testing.assert_allclose(gaps(rule, {"x": x, "y": y}), expected, rtol=1e-12, atol=1e-12)
    assert affinet.plan(families.polynomial([w.x], [[0, 1, 0, 2], [0, 1, 1, 2], [0, -1, 0, 0]])).rank == 1
    linear = families.polynomial([w.x, w.y], [[0, 3, 0, 1], [0, -2, 2, 1]])
    assert not affinet.plan(linear).system.curved
    np.testing.assert_allclose(gaps(linear, {"x": x, "y": y}), [3 * x[0] - 2 * y[0, 0]], rtol=1e-12)


MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: families.unit_norm(3), RuleError, "unit_norm takes weights"),
    (
        lambda: families.unit_norm(W.a, 1, 0),
        ConstantError,
        r"the length of unit_norm of \(a\) must be positive; it is 0",
    ),
    (lambda: families.unit_norm(W.a, 1, [1, 2]), ShapeError, r"the length of unit_norm has shape \(2,\), .* \(3,\)"),
    (lambda: families.unit_norm(W.a, 2), ShapeError, "there is no axis 2"),
    (
        lambda: families.orthogonal(W.tall),
        ShapeError,
        r'the 4 rows of \(tall\) .* each has 3 entries\. Write of="columns"',
    ),
    (lambda: families.orthogonal(W.a, "columns"), ShapeError, r'the 4 columns of \(a\) .* Write of="rows"'),
    (lambda: families.orthogonal(W.a, "row"), ShapeError, '"rows" or the "columns" of .* got of=\'row\''),
    (lambda: families.orthogonal(W.v), ShapeError, "orthogonal is about matrices"),
    (lambda: families.rotation(W.a), ShapeError, "rotation is about square matrices"),
    (lambda: families.determinant(W.a), ShapeError, "determinant is about square matrices"),
    (lambda: families.determinant(W.stack, [1, 2, 3]), ShapeError, "do not fit"),
    (lambda: families.product(W.a, W.a, 1), ShapeError, "The inner sizes 4 and 3 must be equal"),
    (lambda: families.product(W.a, 3, 1), RuleError, "product takes weights"),
    (lambda: families.involution(W.a), ShapeError, "involution is about square matrices"),
    (lambda: families.projection_matrix(W.a), ShapeError, "projection_matrix is about square matrices"),
    (lambda: families.wavelet(W.v), ShapeError, r"filters of even length along the last axis: \(v\) has shape \(5,\)"),
    (lambda: families.wavelet(W.d4[0]), ShapeError, "filters of even length"),
    (lambda: families.wavelet(W.d4, 3), ShapeError, "1 to 2 vanishing moments; got moments=3"),
    (lambda: families.wavelet(W.d4, 0), ShapeError, "1 to 2 vanishing moments; got moments=0"),
    (lambda: families.wavelet(W.d4, 1.5), ShapeError, "1.5 must be an integer"),
    (lambda: families.polynomial([W.v], [[0, 1.0, 0]]), ShapeError, r"has shape \(1, 3\), and needs a row or more"),
    (lambda: families.polynomial([W.v], [0, 1.0]), ShapeError, r"has shape \(2,\), and needs"),
    (lambda: families.polynomial([W.v], [[0.5, 1, 0, 1]]), ShapeError, "the equations in the table .* one is 0.5"),
    (lambda: families.polynomial([W.v], [[0, 1, 5, 1]]), ShapeError, "the entries in the table .* 0 to 4; one is 5"),
    (
        lambda: families.polynomial([W.v], [[0, 1, 0, 1.5]]),
        ShapeError,
        "the powers in the table .* integers; one is 1.5",
    ),
    (lambda: families.polynomial([W.v], [[0, 1, 0, 1], [2, 1, 0, 1], [2, 1, 1, 1]]), ShapeError, "equation 1 of"),
    (lambda: families.polynomial([W.v], [[0, 1, 0, 65]]), NotAffineError, "the exponent must be an integer"),
    (lambda: families.polynomial([3], [[0, 1, 0, 1]]), RuleError, "polynomial takes weights"),
    (lambda: families.equal_energy(W.a, None), RuleError, "equal_energy takes weights"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISTAKES)
def test_arguments_that_do_not_fit_are_refused(mistake: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        mistake()


def test_the_sides_of_wavelets_are_polynomials_of_one_size() -> None:
    """The powers of places are centred and scaled, so that filters of 40 entries have coefficients up to 1."""
    w = affinet.weights({"long": (40,)})
    rule = wavelet(w.long, 20)
    at_zero = gaps(rule, {"long": np.zeros(40)})
    for step in np.eye(40):
        assert np.abs(gaps(rule, {"long": step}) - at_zero).max() <= 1.0 + 2.0**-50


def test_spd_holds_a_matrix_and_its_factor() -> None:
    weights = affinet.weights({"covariance": (4, 4), "factor": (4, 2)})
    rules = families.spd(weights.covariance, weights.factor, floor=0.25)
    assert [rule.text for rule in rules] == ["symmetric(covariance)", "spd(covariance, factor, floor=0.25)"]
    plan = affinet.plan(rules)
    assert plan.rank == 16
    values = {"covariance": np.random.default_rng(1).normal(size=(4, 4)), "factor": np.eye(4, 2)}
    projected = plan.projector(values).project(values)
    covariance, factor = projected["covariance"], projected["factor"]
    # Entries are of size 1, and returns stop at 8 roundoffs of the terms and of the derivatives times weights.
    np.testing.assert_allclose(covariance, factor @ factor.T + 0.25 * np.eye(4), rtol=0, atol=1e-13)
    eigenvalues = np.linalg.eigvalsh(covariance)
    np.testing.assert_allclose(eigenvalues[:2], 0.25, rtol=0, atol=1e-13)


def test_spd_refuses_what_does_not_fit() -> None:
    weights = affinet.weights({"covariance": (4, 4), "factor": (3, 2)})
    with pytest.raises(ShapeError, match=r"factor of shape \(…, 4, k\)"):
        families.spd(weights.covariance, weights.factor)
    with pytest.raises(ConstantError, match="the floor of spd is a number, 0 or more; got -1"):
        families.spd(weights.covariance, weights.covariance, floor=-1)


def test_polynomials_in_text() -> None:
    rule = affinet.parse("polynomial([v], [[0, 1, 0, 2], [0, 1, 1, 2], [0, -1, 0, 0]])", W)
    v = VALUES["v"]
    np.testing.assert_allclose(gaps(rule), [v[0] ** 2 + v[1] ** 2 - 1], rtol=1e-14)
