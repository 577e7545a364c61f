"""Arguments of `affinet.optax` and of projectors of trees that are refused, and what the refusals say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import affinet
import affinet.optax
from affinet.errors import AttachError, UnsupportedWeightError

TREE = {"a": {"w": jnp.ones(4), "v": jnp.ones(4)}}
WEIGHTS = affinet.weights(TREE)
RULES = [WEIGHTS["a.w"].sum() == 1.0]
PLAN, BOUNDS = affinet.plan(RULES), affinet.plan([WEIGHTS["a.w"] >= 0.0])
OPTIMIZER = affinet.optax.project(PLAN, optax.sgd(0.1))
PAIR = affinet.optax.reparametrize(PLAN)


def tree_with(w: Any) -> Any:
    return {"a": {"w": w, "v": jnp.ones(4)}}


def updated(gradients: Any = TREE, params: Any = TREE, **replaced: Any) -> Any:
    return OPTIMIZER.update(gradients, replaced.get("state", OPTIMIZER.init(TREE)), params)


def with_free(numbers: Callable[[tuple[int, ...]], Any]) -> Any:
    made = PAIR.to_free(TREE)
    return PAIR.from_free(made._replace(free={name: numbers(v.shape) for name, v in made.free.items()}))


PROJECT = r"takes a plan and an optimizer, project\(affinet.plan\(rules\), optax.adam\(1e-3\)\), and not "
X64 = "is of dtype float64, and JAX would compute in float32. Call jax.config.update"
MISSING = r"the tree does not have: there is no weight named 'a\.w'. Did you mean 'a\.v'\?"
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rules for a plan": (lambda: affinet.optax.project(RULES, optax.sgd(0.1)), AttachError, PROJECT + "list and "),
    "a rate for an optimizer": (lambda: affinet.optax.project(PLAN, 0.1), AttachError, PROJECT + "Plan and float"),
    "an optimizer that was not made": (
        lambda: affinet.optax.project(PLAN, optax.adam),
        AttachError,
        PROJECT + "Plan and function",
    ),
    "the other order": (
        lambda: affinet.optax.project(optax.sgd(0.1), PLAN),
        AttachError,
        PROJECT + "GradientTransformationExtraArgs and Plan",
    ),
    "rules to reparametrize": (
        lambda: affinet.optax.reparametrize(RULES),
        AttachError,
        r"takes a plan, reparametrize\(affinet.plan\(rules\)\), and not list",
    ),
    "the state of the optimizer inside": (
        lambda: updated(state=optax.sgd(0.1).init(TREE)),
        AttachError,
        r"not one of affinet.optax.project, but tuple. Make it by init\(params\)",
    ),
    "no state": (lambda: updated(state=None), AttachError, "not one of affinet.optax.project, but NoneType"),
    "a gradient that is missing": (lambda: updated({"a": {"v": jnp.ones(4)}}), AttachError, MISSING),
    "a gradient that is None": (lambda: updated(tree_with(None)), AttachError, MISSING),
    "a gradient of another shape": (
        lambda: updated(tree_with(jnp.ones(5))),
        AttachError,
        r"'a\.w' of shape \(4,\), and it has shape \(5,\)",
    ),
    "a gradient of whole numbers": (
        lambda: updated(tree_with(jnp.ones(4, int))),
        UnsupportedWeightError,
        "its numbers are int32",
    ),
    "a gradient of float64": (lambda: updated(tree_with(np.ones(4))), AttachError, X64),
    "weights that are missing": (lambda: updated(params={"a": {"v": jnp.ones(4)}}), AttachError, MISSING),
    "weights of float64": (lambda: updated(params=tree_with(np.ones(4))), AttachError, X64),
    "free numbers from float64": (lambda: PAIR.to_free(tree_with(np.ones(4))), AttachError, X64),
    "free numbers from another shape": (
        lambda: PAIR.to_free(tree_with(jnp.ones(5))),
        AttachError,
        r"'a\.w' of shape \(4,\), and it has shape \(5,\)",
    ),
    "free numbers of float64": (lambda: with_free(np.ones), AttachError, f"the free numbers of a.w {X64}"),
    "whole free numbers": (
        lambda: with_free(lambda shape: jnp.ones(shape, int)),
        AttachError,
        "the free numbers of a.w are of dtype int32. Give floating-point numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_how(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("plan", [PLAN, BOUNDS], ids=["equations", "bounds"])
@pytest.mark.parametrize("verb", ["active", "one_sided_multipliers", "shared_multipliers"])
def test_verbs_that_count_on_the_host_are_refused_inside_of_traces(plan: affinet.Plan, verb: str) -> None:
    projector = plan.projector(TREE)
    arguments = {"one_sided_multipliers": lambda tree: (tree, tree)}.get(verb, lambda tree: (tree,))
    with pytest.raises(AttachError, match=f"{verb} needs numbers, and traced arrays have only shapes. Call it outside"):
        jax.jit(lambda tree: getattr(projector, verb)(*arguments(tree)) and None)(TREE)
