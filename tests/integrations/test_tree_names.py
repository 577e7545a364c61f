"""Names of arrays in nested dicts and in the models of Flax, Equinox and Haiku, a step on each, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax import contrib

import affinet
import affinet.optax
from affinet.errors import (
    AttachError,
    ConstantError,
    InfeasibleError,
    RuleError,
    UnknownWeightError,
    UnsupportedWeightError,
)
from affinet.kernels.jax import projector
from tests.integrations.jax_precision import x64

Tree = Any
KEY = jax.random.key(0)
ROUNDING = 2.0**-21
"""A sum of three or four numbers below one in float32, with the rounding of `p + (w − p)`."""


class Linen(nn.Module):
    """Two layers, one of which has no name of its own, and a collection of statistics."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(4, name="hidden")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        return nn.Dense(2)(x)


class Nnx(nnx.Module):
    """A layer, a list of layers, and statistics."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)


LINEN = {"hidden.kernel", "hidden.bias", "norm.scale", "norm.bias", "Dense_0.kernel", "Dense_0.bias"}
STATISTICS = {"batch_stats.norm.mean", "batch_stats.norm.var"}
NNX = {"hidden.kernel", "hidden.bias", "layers.0.kernel", "layers.0.bias", "norm.scale", "norm.bias"}
MLP = {f"layers.{k}.{name}" for k in range(2) for name in ("weight", "bias")}
HAIKU = {f"mlp/~/linear_{k}.{name}" for k in range(2) for name in ("w", "b")}


def linen() -> Tree:
    return Linen().init(KEY, jnp.ones((1, 3)))


def mlp() -> Any:
    return eqx.nn.MLP(3, 2, 4, 1, key=KEY)


def haiku() -> Tree:
    """What `haiku.transform` initialises for `haiku.nets.MLP([4, 2])` and three inputs."""
    return {
        "mlp/~/linear_0": {"b": jnp.zeros(4), "w": jnp.ones((3, 4))},
        "mlp/~/linear_1": {"b": jnp.zeros(2), "w": jnp.ones((4, 2))},
    }


NAMED: dict[str, tuple[Callable[[], Tree], set[str]]] = {
    "nested dict": (lambda: {"a": {"b": jnp.ones(2), "c": [jnp.ones(1), jnp.ones(3)]}}, {"a.b", "a.c.0", "a.c.1"}),
    "tuples": (lambda: {"a": {"c": (jnp.ones(1), None, jnp.ones(3))}}, {"a.c.0", "a.c.2"}),
    "NumPy": (lambda: {"a": {"b": np.ones(2)}}, {"a.b"}),
    "shapes": (lambda: jax.eval_shape(lambda: {"a": {"b": jnp.ones(2)}}), {"a.b"}),
    "Linen, all collections": (linen, LINEN | STATISTICS),
    "Linen, parameters": (lambda: linen()["params"], LINEN),
    "NNX module": (lambda: Nnx(nnx.Rngs(0)), NNX | {"norm.mean", "norm.var"}),
    "NNX state": (lambda: nnx.state(Nnx(nnx.Rngs(0)), nnx.Param), NNX),
    "NNX dict": (lambda: nnx.to_pure_dict(nnx.state(Nnx(nnx.Rngs(0)), nnx.Param)), NNX),
    "Equinox": (mlp, MLP),
    "Equinox, arrays": (lambda: eqx.filter(mlp(), eqx.is_inexact_array), MLP),
    "Haiku": (haiku, HAIKU),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_are_the_keys_on_the_way(name: str) -> None:
    make, names = NAMED[name]
    assert set(affinet.weights(make()).keys()) == names


STEPPED: dict[str, tuple[Callable[[], Tree], str, int]] = {
    "Linen": (linen, "hidden.kernel", 0),
    "NNX": (lambda: nnx.state(Nnx(nnx.Rngs(0)), nnx.Param), "hidden.kernel", 0),
    "Equinox": (lambda: eqx.filter(mlp(), eqx.is_inexact_array), "layers.0.weight", 1),
    "Haiku": (haiku, "mlp/~/linear_0.w", 0),
}


@pytest.mark.parametrize("library", STEPPED)
def test_steps_on_the_trees_of_each_library(library: str) -> None:
    make, name, dim = STEPPED[library]
    tree = make()
    plan = affinet.plan([affinet.weights(tree)[name].sum(dim=dim) == 1.0])
    optimizer = affinet.optax.project(plan, optax.adam(0.1))
    state, update = optimizer.init(tree), jax.jit(optimizer.update)
    stepped = tree
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, stepped), state, stepped)
        stepped = optax.apply_updates(stepped, updates)
    assert jax.tree.structure(stepped) == jax.tree.structure(tree)
    arrays = projector(plan, stepped).arrays(stepped)
    np.testing.assert_allclose(arrays[name].sum(axis=dim), 1.0, rtol=0, atol=ROUNDING)
    assert max(float(gap) for gap in plan.projector(stepped).violation(stepped).values()) < ROUNDING


def test_nnx_optimizers_train_a_module() -> None:
    module = Nnx(nnx.Rngs(0))
    plan = affinet.plan([affinet.weights(module).hidden.kernel.sum(dim=0) == 1.0])
    optimizer = nnx.Optimizer(module, affinet.optax.project(plan, optax.adam(0.1)), wrt=nnx.Param)

    @nnx.jit
    def train(module: Any, optimizer: Any) -> None:
        gradients = nnx.grad(lambda module: jnp.sum(module.hidden(jnp.ones((2, 3))) ** 2))(module)
        optimizer.update(module, gradients)

    for _ in range(2):
        train(module, optimizer)
    np.testing.assert_allclose(module.hidden.kernel[...].sum(axis=0), 1.0, rtol=0, atol=ROUNDING)


def test_equinox_models_keep_their_functions() -> None:
    model = mlp()
    plan = affinet.plan([affinet.weights(model)["layers.0.weight"].sum(dim=1) == 1.0])
    projected = plan.projector(model).project(model)
    assert projected.activation is model.activation
    np.testing.assert_allclose(projected.layers[0].weight.sum(axis=1), 1.0, rtol=0, atol=ROUNDING)


def rule(tree: Tree, name: str = "a.w") -> affinet.Plan:
    return affinet.plan([affinet.weights(tree)[name].sum() == 1.0])


TREE = {"a": {"w": jnp.ones(4), "v": jnp.ones(4)}}
OTHER = {"a": {"weight": jnp.ones(4), "v": jnp.ones(4)}}
WIDE = {"a": {"w": jnp.ones(5), "v": jnp.ones(4)}}
INTEGERS = {"a": {"w": jnp.ones(4, jnp.int32)}}
COMPLEX = {"a": {"w": jnp.ones(4, jnp.complex64)}}
KEYS = {"a": {"w": jax.random.split(KEY, 4)}}


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        (OTHER, AttachError, r"the tree does not have: .*a\.w.*a\.weight"),
        (WIDE, AttachError, r"'a\.w' of shape \(4,\), and it has shape \(5,\)"),
        (INTEGERS, UnsupportedWeightError, "its numbers are int32"),
        (COMPLEX, UnsupportedWeightError, "it is complex"),
        (KEYS, UnsupportedWeightError, "key of random numbers"),
    ],
)
def test_trees_that_are_not_those_of_the_rules_are_refused(tree: Tree, error: Any, message: str) -> None:
    plan = rule(TREE)
    with pytest.raises(error, match=message):
        plan.projector(tree)
    with pytest.raises(error, match=message):
        affinet.optax.project(plan, optax.sgd(0.1)).init(tree)


@pytest.mark.parametrize("tree", [INTEGERS, COMPLEX, KEYS])
def test_arrays_that_no_rule_can_be_about_are_refused_when_they_are_asked_for(tree: Tree) -> None:
    with pytest.raises(UnsupportedWeightError, match=r"a\.w"):
        affinet.weights(tree)["a.w"]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownWeightError, match=r"a\.w"):
        affinet.weights(TREE)["a.W"]


@pytest.mark.parametrize(
    "tree",
    [
        {"a.b": jnp.ones(2), "a": {"b": jnp.ones(2)}},
        {"params": {"a": {"b": jnp.ones(2)}}, "a": {"b": jnp.ones(2)}},
    ],
)
def test_two_arrays_of_one_name_are_refused(tree: Tree) -> None:
    with pytest.raises(RuleError, match=r"two arrays of the tree have the name 'a\.b'"):
        affinet.weights(tree)


def test_steps_need_the_weights() -> None:
    optimizer = affinet.optax.project(rule(TREE), optax.sgd(0.1))
    with pytest.raises(AttachError, match=r"optimizer\.update"):
        optimizer.update(TREE, optimizer.init(TREE))


@pytest.mark.parametrize("verb", ["tangent", "multipliers", "stationarity"])
def test_directions_of_inequalities_need_the_weights(verb: str) -> None:
    made = affinet.plan([affinet.weights(TREE).a.w >= 0.0]).projector(TREE)
    with pytest.raises(AttachError, match="at=weights"):
        getattr(made, verb)(TREE)


def test_rules_about_masked_weights_are_refused() -> None:
    """A mask around would leave the weights of a rule without a part of the step."""
    optimizer = optax.masked(affinet.optax.project(rule(TREE), optax.sgd(0.1)), {"a": {"w": False, "v": True}})
    with pytest.raises(AttachError, match=r"masked"):
        optimizer.init(TREE)


def test_masked_gradients_are_refused() -> None:
    inner = affinet.optax.project(rule(TREE), optax.sgd(0.1))
    state = inner.init(TREE)
    gradients = {"a": {"w": optax.MaskedNode(), "v": jnp.ones(4)}}
    with pytest.raises(AttachError, match=r"A mask \(optax.masked, optax.multi_transform\) removed weights"):
        inner.update(gradients, state, TREE)


FROZEN: dict[str, Any] = {
    "set to zero": lambda: optax.multi_transform(
        {"moved": optax.adam(0.1), "frozen": optax.set_to_zero()}, {"a": {"w": "moved", "v": "frozen"}}
    ),
    "left out": lambda: optax.masked(optax.adam(0.1), {"a": {"w": True, "v": False}}),
    "frozen": lambda: optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), {"a": {"w": False, "v": True}})),
}
if hasattr(optax, "selective_transform"):  # of later versions than the first that affinet supports
    FROZEN["selected"] = lambda: optax.selective_transform(optax.adam(0.1), freeze_mask={"a": {"w": False, "v": True}})
LABELS = {"a": {"w": "one", "v": "other"}}
MOVING: dict[str, Any] = {
    "two optimizers": lambda: optax.partition({"one": optax.adam(0.1), "other": optax.sgd(0.1, momentum=0.9)}, LABELS),
    "signs": lambda: optax.partition({"one": optax.rprop(0.1), "other": optax.lion(0.1)}, LABELS),
    "an ascent": lambda: optax.partition({"one": optax.sgd(0.1), "other": optax.sgd(-0.1, momentum=0.9)}, LABELS),
    "a rate that begins at zero": lambda: optax.inject_hyperparams(
        lambda rate: optax.partition({"one": optax.adam(rate), "other": optax.sgd(0.1)}, LABELS)
    )(rate=0.0),
    "a mask of decay": lambda: optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), {"a": {"w": True, "v": False}}), optax.adam(0.1)
    ),
    "the step where a mask lets go": lambda: optax.chain(
        optax.masked(optax.scale_by_adam(), {"a": {"w": True, "v": False}}), optax.scale_by_learning_rate(0.1)
    ),
    "muon": lambda: contrib.muon(0.1),
}
"""Masks that leave every weight a step."""
AROUND: dict[str, Any] = {
    "nothing": lambda inner: inner,
    "MultiSteps": lambda inner: optax.MultiSteps(inner, 2),
    "MultiSteps of sums": lambda inner: optax.MultiSteps(inner, 2, use_grad_mean=False),
    "MultiSteps that skips": lambda inner: optax.MultiSteps(inner, 2, should_skip_update_fn=optax.skip_not_finite),
    "apply_if_finite": lambda inner: optax.apply_if_finite(inner, 3),
    "both": lambda inner: optax.apply_if_finite(optax.MultiSteps(inner, 2), 3),
    "chain": lambda inner: optax.chain(optax.clip_by_global_norm(1.0), inner),
    "named_chain": lambda inner: optax.named_chain(("clip", optax.clip(1.0)), ("rest", inner)),
    "conditionally_mask": lambda inner: optax.conditionally_mask(inner, lambda step: step % 2 == 0),
    "zero_nans": lambda inner: optax.chain(optax.zero_nans(), optax.adaptive_grad_clip(1.0), inner),
    "inject_hyperparams": lambda inner: optax.inject_hyperparams(lambda rate: optax.chain(inner, optax.identity()))(
        rate=0.1
    ),
    "partition": lambda inner: optax.partition({"all": inner}, {"a": {"w": "all", "v": "all"}}),
    "schedule_free": lambda inner: contrib.schedule_free(inner, 0.1, b1=0.9),
    "schedule_free in apply_if_finite": lambda inner: optax.apply_if_finite(contrib.schedule_free(inner, 0.1), 3),
    "jit": lambda inner: optax.GradientTransformation(inner.init, jax.jit(inner.update)),
}
"""What may stand around a mask."""


CASES = [("nothing", kind, False) for kind in FROZEN]


@pytest.mark.parametrize(
    ("around", "kind", "within_jit"), [*CASES, *((around, kind, True) for around in AROUND for kind in FROZEN)]
)
def test_weights_that_a_mask_inside_freezes_are_refused(around: str, kind: str, within_jit: bool) -> None:
    """Rules would move them, or take them for free where they are not."""
    w = affinet.weights(TREE)
    plan = affinet.plan([w["a.w"].sum() + w["a.v"].sum() == 1.0])
    optimizer = affinet.optax.project(plan, AROUND[around](FROZEN[kind]()))
    update = jax.jit(optimizer.update) if within_jit else optimizer.update
    state = optimizer.init(TREE)
    with pytest.raises(AttachError, match=r"leaves 'a\.v' without a step"):
        jax.eval_shape(update, TREE, state, TREE) if within_jit else update(TREE, state, TREE)


@pytest.mark.parametrize(
    ("around", "kind"),
    [
        *(("nothing", kind) for kind in MOVING),
        *((around, "two optimizers") for around in AROUND if around != "nothing"),
    ],
)
def test_weights_that_every_part_of_a_mask_moves_are_accepted(around: str, kind: str) -> None:
    w = affinet.weights(TREE)
    plan = affinet.plan([w["a.w"].sum() + w["a.v"].sum() == 1.0])
    optimizer = affinet.optax.project(plan, AROUND[around](MOVING[kind]()))
    updates, _ = jax.jit(optimizer.update)(TREE, optimizer.init(TREE), TREE)
    total = sum(float((TREE["a"][name] + updates["a"][name]).sum()) for name in ("w", "v"))
    assert total == pytest.approx(1.0, abs=1e-6)


def test_masks_are_seen_where_states_are_made_outside_of_programs() -> None:
    """An `init` that reads the numbers of the weights cannot be looked into."""
    frozen = FROZEN["set to zero"]()
    inner = optax.GradientTransformation(
        lambda params: frozen.init(jax.tree.map(lambda x: jnp.asarray(np.array(x)), params)), frozen.update
    )
    w = affinet.weights(TREE)
    optimizer = affinet.optax.project(affinet.plan([w["a.w"].sum() + w["a.v"].sum() == 1.0]), inner)
    with pytest.raises(AttachError, match=r"leaves 'a\.v' without a step"):
        optimizer.update(TREE, optimizer.init(TREE), TREE)


def test_weights_of_no_rule_may_be_frozen() -> None:
    optimizer = affinet.optax.project(
        affinet.plan([affinet.weights(TREE)["a.w"].sum() == 1.0]), FROZEN["set to zero"]()
    )
    updates, _ = optimizer.update(TREE, optimizer.init(TREE), TREE)
    assert not updates["a"]["v"].any()
    assert float((TREE["a"]["w"] + updates["a"]["w"]).sum()) == pytest.approx(1.0, abs=1e-6)


def test_weights_without_a_way_to_nonlinear_equations_are_refused_outside_of_traces() -> None:
    tree = {"a": {"w": jnp.zeros(2)}}
    w = affinet.weights(tree)
    plan = affinet.plan([w["a.w"][0] ** 2 + w["a.w"][1] ** 2 + 0.5 * w["a.w"][0] * w["a.w"][1] == -1.0])
    with pytest.raises(InfeasibleError):
        plan.projector(tree).project(tree)
    stayed = jax.jit(plan.projector(tree).project)(tree)
    assert float(next(iter(plan.projector(tree).violation(stayed).values()))) >= 0.5


def test_bounds_that_no_number_of_the_dtype_meets_are_refused() -> None:
    tree = {"a": {"w": jnp.ones(2, jnp.bfloat16)}}
    w = affinet.weights(tree)["a.w"]
    plan = affinet.plan([affinet.between(0.1, w, 0.10001)])
    with pytest.raises(AttachError, match="bfloat16"):
        plan.projector(tree)


def test_plans_are_made_of_shapes_inside_of_traces() -> None:
    """Planning needs shapes only, which traced arrays have."""

    @jax.jit
    def placed(tree: Tree) -> Tree:
        return rule(tree).projector(tree).project(tree)

    for one, other in zip(
        jax.tree.leaves(placed(TREE)), jax.tree.leaves(rule(TREE).projector(TREE).project(TREE)), strict=True
    ):
        assert (one == other).all()


def test_rules_with_traced_numbers_are_refused() -> None:
    """A right-hand side has to be known when the plan is made."""
    with pytest.raises(ConstantError, match="traced array"):
        jax.jit(lambda tree: affinet.plan([affinet.weights(tree)["a.w"] == tree["a"]["v"]]).projector(tree))(TREE)


def test_float64_without_x64_is_refused() -> None:
    """JAX would compute in float32 without a word."""
    tree = {"a": {"w": np.ones(4), "v": np.ones(4)}}
    plan = rule(tree)
    with pytest.raises(AttachError, match="jax_enable_x64"):
        plan.projector(tree)
    with x64():
        assert plan.projector(tree).project(tree)["a"]["w"].dtype == np.float64
