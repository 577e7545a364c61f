"""`affinet.optax.reparametrize`: the same bases as for tensors, as pure functions of trees, inside of `jax.jit`."""

from __future__ import annotations

import os
import re
import warnings
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import affinet
import affinet.optax
from affinet import families
from affinet.adapters.optax_reparametrization import FreeNumbers
from affinet.errors import AttachError, LongStepsWarning
from tests.contract.building import DOUBLE, PATHS, SINGLE, conditioning_of, flat, oracle_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.tables import each_row
from tests.contract.test_arrays import assert_ties_are_bit_equal
from tests.integrations.jax_precision import x64
from tests.integrations.test_jax_contract import COMBINED, TIED, arrays_of, numpy_of

Kind = Literal["orthonormal", "free"]
Basis = Literal["orthonormal", "free", "projection"]
EPS = float(np.finfo(np.float64).eps)


EVERY_OTHER = CASES if os.environ.get("AFFINET_JAX_PRODUCT") else CASES[::2]
"""The bases are those of tensors, which meet all cases: a compilation each takes seconds, so that CI takes half."""


@each_row("case, path, kind", COMBINED(EVERY_OTHER, PATHS, ["orthonormal", "free"]))
def test_the_basis_spans_what_the_rules_leave_free(case: Case, path: str, kind: Kind) -> None:
    """As for tensors (tests/kernels/test_bases.py): the oracle's nearest point, `A N = 0`, `NᵀN = I` or an identity."""
    plan, truth = plan_of(case.name, path), oracle_of(case.name)
    rounding = 1e-13 + 64 * conditioning_of(case.name)
    given = arrays_of(case, "far", DOUBLE)
    with x64(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LongStepsWarning)
        to_free, from_free = affinet.optax.reparametrize(plan, kind)
        gradients = arrays_of(case, "gradients", DOUBLE)

        @jax.jit
        def measured(tree: Any, gradients: Any) -> Any:
            """One program: compiling takes most of the time."""
            numbers = to_free(tree)
            v, unravelled = ravel_pytree(numbers.free)

            def weights(v: Any) -> Any:
                return from_free(numbers._replace(free=unravelled(v)))

            found, pulled = jax.vjp(weights, v)
            columns = jax.vmap(lambda e: jax.jvp(weights, (v,), (e,))[1])(jnp.eye(len(v), dtype=v.dtype))
            return found, columns, pulled(gradients)[0]

        found, columns, adjoint = measured(*(jax.tree.map(jnp.asarray, of) for of in (given, gradients)))
    assert len(adjoint) == plan.free
    columns = [flat(truth, {name: x[k] for name, x in numpy_of(columns).items()}) for k in range(plan.free)]
    nearest = truth.project(given)
    scale = max([1.0, *(float(np.abs(x).max(initial=0.0)) for x in nearest.values())])
    for name, wanted in nearest.items():
        np.testing.assert_allclose(np.asarray(found[name]), wanted, rtol=0, atol=rounding * scale)
    if columns:
        spanned = np.stack(columns, 1)
        lengths = np.abs(truth.matrix) @ np.abs(spanned)
        assert (np.abs(truth.matrix @ spanned) <= 16 * rounding * (lengths + 1.0)).all()
        assert_columns(spanned, kind)
        np.testing.assert_allclose(adjoint, spanned.T @ flat(truth, gradients), rtol=1e-12, atol=1e-11)


def assert_columns(columns: np.ndarray, kind: Kind) -> None:
    count = columns.shape[1]
    if kind == "orthonormal":
        # n reflections at most, each of which rounds both columns of a product by some u of their norms, which is one.
        np.testing.assert_allclose(columns.T @ columns, np.eye(count), rtol=0, atol=4 * len(columns) * EPS)
        return
    present = {tuple(row) for row in columns.tolist()}
    assert not [k for k in range(count) if tuple(np.eye(count)[k]) not in present], "free numbers that are no weight"


@pytest.mark.parametrize("kind", ["orthonormal", "free"])
@pytest.mark.parametrize(("name", "path"), TIED)
def test_ties_are_equal_to_the_bit(name: str, path: str, kind: Kind) -> None:
    """In float32, compiled, for numbers of no particular point."""
    case = next(case for case in CASES if case.name == name)
    tree = jax.tree.map(jnp.asarray, arrays_of(case, "far", SINGLE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongStepsWarning)
        to_free, from_free = affinet.optax.reparametrize(plan_of(name, path), kind)
    numbers = jax.tree.map(lambda x: x * 1.1 + 0.01, to_free(tree))
    assert_ties_are_bit_equal(case, numpy_of(jax.jit(from_free)(numbers)))


RULES = {
    "sums": lambda w: [w.a.sum(dim=1) == 1.0, w.a.sum(dim=0) == 1.2],
    "ties": lambda w: [w.a[0] == 2 * w.b[1, :5], w.b[0] == w.b[0, ::-1]],
    "dense": lambda w: [families.linear([w.b], np.random.default_rng(1).normal(size=(3, 24)), [1.0, 2.0, 3.0])],
    "mirrored": lambda w: [families.symmetric(w.c), w.c.sum(dim=1) == 1.0],
}


def problem(name: str) -> tuple[affinet.Plan, Any, Any]:
    """A plan, a tree of start weights, and the targets of a loss with curvatures of .3 to 3."""
    random = np.random.default_rng(0)
    shapes = {"a": (6, 5), "b": (4, 6), "c": (5, 5), "bias": (3,)}
    tree, targets = ({n: jnp.asarray(random.normal(size=s)) for n, s in shapes.items()} for _ in range(2))
    curved = {n: jnp.asarray(random.uniform(0.3, 3.0, s)) for n, s in shapes.items()}

    def loss(tree: Any) -> Any:
        return sum(jnp.sum(curved[n] * (tree[n] - targets[n]) ** 2) for n in shapes) / 2

    return affinet.plan(RULES[name](affinet.weights(tree))), tree, loss


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("basis", ["orthonormal", "projection"])
def test_sgd_takes_the_path_of_projections(name: str, basis: Basis) -> None:
    """Law 4, with momentum: 40 steps that contract, so that the rounding of each is at most added up."""
    with x64():
        plan, tree, loss = problem(name)
        to_free, from_free = affinet.optax.reparametrize(plan, basis)
        inner = optax.sgd(0.1, momentum=0.5)
        projected = trained(affinet.optax.project(plan, inner), plan.projector(tree).project(tree), loss)
        numbers = trained(inner, to_free(tree), lambda numbers: loss(from_free(numbers)))
        for key, x in from_free(numbers).items():
            np.testing.assert_allclose(x, projected[key], rtol=0, atol=1e-13)


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
@pytest.mark.parametrize("name", RULES)
def test_adam_ends_at_the_constrained_optimum(name: str, basis: Basis) -> None:
    with x64():
        plan, tree, loss = problem(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LongStepsWarning)
            to_free, from_free = affinet.optax.reparametrize(plan, basis)
        optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 1500))
        numbers = trained(optimizer, to_free(tree), lambda numbers: loss(from_free(numbers)), 1500)
        weights = from_free(numbers)
        projector = plan.projector(tree)
        assert max(float(gap) for gap in projector.violation(weights).values()) < 1e-13
        assert float(projector.stationarity(jax.grad(loss)(weights))) < 1e-8


def trained(optimizer: Any, numbers: Any, loss: Any, steps: int = 40) -> Any:
    def step(carried: Any, _: Any) -> Any:
        numbers, state = carried
        updates, state = optimizer.update(jax.grad(loss)(numbers), state, numbers)
        return (optax.apply_updates(numbers, updates), state), None

    run = jax.jit(lambda numbers, state: jax.lax.scan(step, (numbers, state), None, length=steps)[0])
    return run(numbers, optimizer.init(numbers))[0]


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_seeds_may_be_mapped_over(basis: Basis) -> None:
    """To the rounding of sums that are added in another order."""
    with x64(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LongStepsWarning)
        plan, tree, loss = problem("mirrored")
        to_free, from_free = affinet.optax.reparametrize(plan, basis)
        several = jax.tree.map(lambda x: jnp.stack([x, 2.0 * x, x - 1.0]), tree)
        numbers = jax.vmap(to_free)(several)
        gradients = jax.jit(jax.vmap(jax.grad(lambda n: loss(from_free(n)))))(numbers)
        for k in range(3):
            alone = to_free(jax.tree.map(lambda x, k=k: x[k], several))
            gradient = jax.grad(lambda n: loss(from_free(n)))(alone)
            for x, y in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradient), strict=True):
                np.testing.assert_allclose(x[k], y, rtol=0, atol=1e-13 * (1.0 + np.abs(y).max(initial=0.0)))


def test_long_rows_make_no_dense_basis() -> None:
    """The program of row sums of 2048² holds a few matrices of that size, where a basis would have 2048 times more."""
    tree = {"w": jax.ShapeDtypeStruct((2048, 2048), jnp.float32)}
    to_free, from_free = affinet.optax.reparametrize(affinet.plan([affinet.weights(tree).w.sum(dim=1) == 1.0]))
    numbers = FreeNumbers(
        {"w": jax.ShapeDtypeStruct((2048 * 2047,), jnp.float32)}, {"w": jax.ShapeDtypeStruct((0,), jnp.float32)}
    )
    assert jax.eval_shape(to_free, tree) == numbers
    compiled = jax.jit(jax.grad(lambda numbers: jnp.sum(from_free(numbers)["w"] ** 2))).lower(numbers).compile()
    matrices = 4 * 2048**2
    assert compiled.memory_analysis().temp_size_in_bytes <= 8 * matrices
    assert len(compiled.as_text()) < 2**20


def test_gradients_of_large_classes_are_added_up_in_steps() -> None:
    """A million float32 numbers added in a row are 1e-2 off; in sums of 32, a few roundings per step remain."""
    size = 10**6
    tree = {"w": jnp.zeros(size, jnp.float32)}
    w = affinet.weights(tree).w
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongStepsWarning)
        to_free, from_free = affinet.optax.reparametrize(affinet.plan([w[1:] == w[0]]), "free")
    gradient = jax.jit(jax.grad(lambda numbers: jnp.sum(0.1 * from_free(numbers)["w"])))(to_free(tree))
    wanted = size * float(np.float32(0.1))
    # Four steps of sums of at most 32 numbers.
    assert abs(float(gradient.free["w"][0]) - wanted) <= 4 * 32 * 2.0**-24 * wanted


def test_modules_of_a_tree_stay_modules() -> None:
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(4, 2, 3, 1, key=jax.random.key(0))
    name = "layers.0.weight"
    plan = affinet.plan([affinet.weights(model)[name].sum(dim=1) == 1.0])
    to_free, from_free = affinet.optax.reparametrize(plan)
    again = from_free(to_free(model))
    assert type(again) is type(model)
    np.testing.assert_allclose(again.layers[0].weight.sum(axis=1), 1.0, rtol=0, atol=4 * 2.0**-23)
    np.testing.assert_array_equal(again.layers[0].bias, model.layers[0].bias)
    assert np.isfinite(again(jnp.ones(4))).all()


def test_weights_of_sixteen_bits_are_computed_in_float32() -> None:
    tree = {"w": jnp.linspace(-1.0, 1.0, 64, dtype=jnp.bfloat16).reshape(4, 16), "b": jnp.ones(3)}
    to_free, from_free = affinet.optax.reparametrize(affinet.plan([affinet.weights(tree).w.sum(dim=1) == 1.0]))
    numbers = to_free(tree)
    weights = from_free(numbers)
    assert numbers.free["w"].dtype == jnp.bfloat16
    assert weights["w"].dtype == jnp.bfloat16
    # Each of 16 entries is rounded to 8 bits, from free numbers that are.
    gap = np.abs(np.asarray(weights["w"], np.float64).sum(axis=1) - 1.0)
    assert gap.max() <= 16 * 2.0**-9 * np.abs(np.asarray(weights["w"], np.float64)).max()


def test_weights_that_rules_fix_have_no_free_numbers() -> None:
    tree = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    w = affinet.weights(tree)
    to_free, from_free = affinet.optax.reparametrize(affinet.plan([w.w == 3.0, w.b[0] == 2.0]))
    numbers = to_free(tree)
    assert numbers.free == {}
    weights = from_free(numbers)
    np.testing.assert_array_equal(weights["w"], np.full((2, 2), 3.0))
    np.testing.assert_array_equal(weights["b"], [2.0, 1.0])


def test_sums_that_add_up_the_steps_of_all_entries_are_warned_of() -> None:
    plan = affinet.plan([affinet.weights({"w": (3, 64)}).w.sum(dim=1) == 1.0])
    with pytest.warns(LongStepsWarning, match=r"w\[0, 63\]"):
        affinet.optax.reparametrize(plan, "free")


REFUSED = {
    "an inequality": (lambda w: [w.w >= 0.0], "orthonormal", "hold inequalities, and no free numbers reach"),
    "a nonlinear equation": (lambda w: [w.w.norm() == 1.0], "free", "are nonlinear equations, and no matrix makes"),
    "a bound under projection": (lambda w: [w.w <= 1.0], "projection", "Use affinet.optax.project"),
    "an unknown basis": (lambda w: [w.w.sum() == 1.0], "qr", "basis is 'qr'; it is 'orthonormal', 'free' or"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_basis_is_refused_by_name(name: str) -> None:
    rules, basis, words = REFUSED[name]
    plan = affinet.plan(rules(affinet.weights({"w": (3, 4)})))
    with pytest.raises(AttachError, match=re.escape(words)):
        affinet.optax.reparametrize(plan, basis)


def test_numbers_of_another_plan_are_refused() -> None:
    tree = {"w": jnp.ones((3, 4)), "b": jnp.ones(5)}
    w = affinet.weights(tree)
    to_free, from_free = affinet.optax.reparametrize(affinet.plan([w.w.sum(dim=1) == 1.0]))
    numbers = to_free(tree)
    with pytest.raises(AttachError, match=r"from_free takes the numbers that to_free returned.*not dict"):
        from_free(tree)
    with pytest.raises(AttachError, match=r"these are not free numbers of this plan, which are 9 for w"):
        from_free(numbers._replace(free={"w": jnp.ones(8)}))
    with pytest.raises(AttachError, match=r"has not the 0 entries of 'w' that are in no rule"):
        from_free(numbers._replace(tree=tree))
    with pytest.raises(AttachError, match="the rules are about an array that the tree does not have"):
        to_free({"v": tree["w"]})
