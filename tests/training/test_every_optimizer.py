"""Law 3 for every optimizer of the installed torch.optim: its limit is the optimum of the constrained problem."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet.training.decay import decay_kind
from tests.training.problems import COUNT, RULES, Copy, Problems, distances, grouped, objective, optimum, train, truth

REACH = 1e-9
DECAY = 0.3
DISCOVERED = sorted(
    name
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
)
PROJECTED = [name for name in DISCOVERED if name != "SparseAdam"]


@dataclass(frozen=True)
class Recipe:
    """How an optimizer is run to its optimum: its options, how many steps, how steeply the learning rate falls."""

    options: dict[str, Any] = field(default_factory=lambda: {"lr": 0.05})
    steps: int = 2000
    power: float = 2.0


NEWCOMER = Recipe()
"""For an optimizer that torch has and this table has not."""
RECIPES = {
    "ASGD": Recipe({"lr": 0.2, "lambd": 0.0}, 800),
    "Adadelta": Recipe({"lr": 1.0, "eps": 1e-3}, 800),
    "Adafactor": Recipe({"lr": 0.05}, 1000),
    "Adagrad": Recipe({"lr": 1.0}, 700),
    "Adam": Recipe({"lr": 0.2}, 700),
    "AdamW": Recipe({"lr": 0.2, "weight_decay": 0.0}, 700),
    "Adamax": Recipe({"lr": 0.5}, 800),
    "LBFGS": Recipe({"lr": 0.5, "max_iter": 30, "tolerance_grad": 0.0, "tolerance_change": 0.0}, 6),
    "Muon": Recipe({"lr": 0.05, "weight_decay": 0.0}, 1000, 8.0),
    "NAdam": Recipe({"lr": 0.15}, 700),
    "RAdam": Recipe({"lr": 0.4}, 800),
    "RMSprop": Recipe({"lr": 0.03}, 900),
    "Rprop": Recipe({"lr": 0.02, "step_sizes": (0.0, 50.0)}, 300),
    "SGD": Recipe({"lr": 0.1, "momentum": 0.9}, 600),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam, amsgrad": ("Adam", {"amsgrad": True}),
    "AdamW, amsgrad": ("AdamW", {"amsgrad": True}),
    "Adam, decoupled": ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.0}),
    "RMSprop, centered": ("RMSprop", {"centered": True}),
    "RMSprop, momentum": ("RMSprop", {"momentum": 0.9}),
    "RMSprop, centered, momentum": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "SGD, plain": ("SGD", {"lr": 0.5, "momentum": 0.0}),
    "SGD, nesterov": ("SGD", {"nesterov": True}),
    "SGD, dampening": ("SGD", {"lr": 0.4, "dampening": 0.5}),
    "Muon, no nesterov": ("Muon", {"nesterov": False, "momentum": 0.7}),
}


def options_of(name: str) -> set[str]:
    return set(inspect.signature(getattr(optim, name).__init__).parameters)


@cache
def couples(name: str) -> bool:
    """Whether weight decay enters the gradient, seen from outside: a step on `g − λw` with λ is a step on g without."""
    if "weight_decay" not in options_of(name):
        return False
    ends = []
    for rate in (0.0, DECAY):
        weight = torch.nn.Parameter(torch.linspace(-1.0, 2.0, 6, dtype=torch.float64).reshape(2, 3))
        weight.grad = torch.sin(torch.arange(6.0).double()).reshape(2, 3) - rate * weight.detach()
        getattr(optim, name)([weight], weight_decay=rate).step()
        ends.append(weight.detach().clone())
    return bool(torch.allclose(*ends, rtol=0, atol=1e-12))


def copies_of(name: str, options: dict[str, Any] | None = None) -> list[Copy]:
    """Every kind of rules, plain, with coupled decay, and maximized (with decay), as far as the optimizer has it."""
    decay = DECAY if couples(name) and not (options or {}).get("decoupled_weight_decay") else 0.0
    ways = {(0.0, False), (decay, False)}
    if "maximize" in options_of(name) and name != "LBFGS":
        ways.add((decay, True))
    return [Copy(rules, *way) for way in sorted(ways) for rules in RULES]


def reached(name: str, options: dict[str, Any], copies: Sequence[Copy]) -> dict[str, float]:
    """Copy → distance from its optimum at the end of one run that holds all copies."""
    recipe, model = RECIPES.get(name, NEWCOMER), Problems(copies)
    optimizer = getattr(optim, name)(model.groups(), **{**recipe.options, **options})
    handle = affinet.project(model, optimizer, model.rules())
    train(model, optimizer, recipe.steps, power=recipe.power)
    assert max(handle.violation().values()) < 1e-13
    return distances(copies, model.found())


def reached_without_rules(name: str, options: dict[str, Any], copies: Sequence[Copy]) -> dict[str, float]:
    """The same of the reduced problems: `w = w₀ + N v`, N orthonormal, v free."""
    recipe = RECIPES.get(name, NEWCOMER)
    bases = {copy: _basis(copy.rules) for copy in copies}
    free = {copy: torch.nn.Parameter(torch.zeros(bases[copy][1].shape[1], 1, dtype=torch.float64)) for copy in copies}
    problem = Problems(copies)

    def weights() -> Tensor:
        return torch.stack([bases[copy][0] + (bases[copy][1] @ free[copy])[:, 0] for copy in copies])

    groups = list(grouped(copies, lambda copy: [free[copy]]))
    optimizer = getattr(optim, name)(groups, **{**recipe.options, **options})
    train(
        lambda: objective(weights(), problem.sign, problem.curvature, problem.centre),
        optimizer,
        recipe.steps,
        power=recipe.power,
    )
    return distances(copies, weights().detach().numpy())


def _basis(rules: str) -> tuple[Tensor, Tensor]:
    oracle = truth(rules)
    _, s, vt = np.linalg.svd(oracle.matrix)
    return torch.tensor(oracle.inverse @ oracle.rhs), torch.tensor(vt[int((s > 1e-10).sum()) :].T.copy())


def assert_optimal(found: dict[str, float], allowed: float = REACH) -> None:
    far = {copy: distance for copy, distance in found.items() if not distance <= allowed}
    assert not far, f"further than {allowed:g} from the optimum: {far}"


@pytest.mark.parametrize("name", PROJECTED)
def test_the_limit_is_the_constrained_optimum(name: str) -> None:
    """With all kinds of rules, coupled decay and maximization at once, in parameter groups of their own."""
    assert_optimal(reached(name, {}, copies_of(name)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_so_it_is_with_every_option_that_changes_the_step(variant: str) -> None:
    name, options = VARIANTS[variant]
    if not hasattr(optim, name) or not set(options) <= options_of(name):
        pytest.skip("this torch has no such optimizer, or none with this option")
    assert_optimal(reached(name, options, copies_of(name, options)))


@pytest.mark.parametrize("way", ["foreach", "fused"])
@pytest.mark.parametrize("name", PROJECTED)
def test_so_it_is_with_every_implementation(name: str, way: str) -> None:
    if way in options_of(name):
        copies = [copy for copy in copies_of(name) if not copy.maximize]
        assert_optimal(reached(name, {way: True}, copies))
    else:
        with pytest.raises(TypeError, match=way):
            getattr(optim, name)([torch.nn.Parameter(torch.zeros(2, 2))], **{way: True})


@pytest.mark.parametrize("search", ["strong_wolfe", None])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("rules", RULES)
def test_lbfgs_reaches_what_it_reaches_without_rules(rules: str, maximize: bool, search: str | None) -> None:
    """The only one whose own accuracy is less: its strong Wolfe search compares values of f, to 1e-8 of the way."""
    if maximize and "maximize" not in options_of("LBFGS"):
        pytest.skip("this version's LBFGS cannot maximize")
    options = {"line_search_fn": search, "lr": 1.0 if search else 0.5, **({"maximize": True} if maximize else {})}
    copies = [Copy(rules)]
    found = _lbfgs(options, copies, maximize)
    own = _lbfgs(options, copies, maximize, reduced=True)
    assert_optimal(found, REACH if search is None else max(10 * max(own.values()), 1e-7))


def _lbfgs(options: dict[str, Any], copies: list[Copy], up: bool, *, reduced: bool = False) -> dict[str, float]:
    # LBFGS takes one parameter group, so that the copies carry the direction and its options do too.
    turned = [Copy(copy.rules, 0.0, up) for copy in copies]
    plain = {key: value for key, value in options.items() if key != "maximize"}
    return (reached_without_rules if reduced else reached)("LBFGS", plain, turned)


@pytest.mark.parametrize("name", [name for name in ("Muon", "Rprop", "ASGD") if hasattr(optim, name)])
def test_those_once_seen_to_be_coarse_are_as_exact_as_without_rules(name: str) -> None:
    """Muon, Rprop and ASGD end as near as on the reduced problem, or within 1e-9, with the schedules of the table."""
    copies = [Copy(rules) for rules in RULES]
    found, own = reached(name, {}, copies), reached_without_rules(name, {}, copies)
    assert_optimal(found, max(REACH, max(own.values())))


@pytest.mark.parametrize("name", DISCOVERED)
def test_the_table_of_coupled_decay_says_what_optimizers_do(name: str) -> None:
    if name == "SparseAdam":
        assert "weight_decay" not in options_of(name)
        return
    optimizer = getattr(optim, name)([torch.nn.Parameter(torch.zeros(2, 2))])
    assert (decay_kind(optimizer, None) == "coupled") == couples(name)


def test_sparse_adam_is_refused_with_the_reason() -> None:
    model = Problems([Copy("tie")])
    with pytest.raises(affinet.AttachError, match=r"SparseAdam takes sparse gradients only.*dense.*Use Adam"):
        affinet.project(model, optim.SparseAdam(list(model.parameters())), model.rules())


def test_the_recipes_cover_the_optimizers_of_this_torch() -> None:
    """A newcomer is tested all the same, by its defaults; this says that it wants a recipe of its own."""
    gone = set(RECIPES) - set(PROJECTED) - {"Adafactor", "Muon"}  # which the oldest promised torch does not have
    assert not gone, "an optimizer of the table is gone"


def test_decoupled_decay_ends_on_the_rules_and_at_no_optimum_of_the_penalised_problem() -> None:
    """As without constraints: AdamW's limit under decay is the minimum of no `f + λ/2 ‖w‖²`; the rules hold."""
    copies = [Copy(rules) for rules in RULES]
    model = Problems(copies)
    optimizer = optim.AdamW(model.parameters(), lr=0.2, weight_decay=DECAY)
    handle = affinet.project(model, optimizer, model.rules())
    train(model, optimizer, 700)
    assert max(handle.violation().values()) < 1e-13
    for copy, weights in zip(copies, model.found(), strict=True):
        plain, penalised = optimum(copy.rules), optimum(copy.rules, DECAY)
        assert weights.shape == (COUNT,)
        assert min(np.abs(weights - plain).max(), np.abs(weights - penalised).max()) > 1e-3


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad"])
def test_stepping_and_then_projecting_stops_elsewhere(name: str) -> None:
    """The usual recipe, so that the tests above could fail."""
    copies = [Copy(rules) for rules in RULES]
    model, recipe = Problems(copies), RECIPES[name]
    projector, weights = affinet.plan(model.rules()).projector(model), dict(model.named_parameters())
    optimizer = getattr(optim, name)(model.parameters(), **recipe.options)
    train(model, optimizer, recipe.steps, after=lambda: projector.project_(weights))
    assert max(projector.violation(weights).values()) < 1e-12
    assert max(distances(copies, model.found()).values()) > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="capturable steps and fused kernels of CUDA need a GPU")
@pytest.mark.parametrize("way", ["foreach", "fused", "capturable"])
@pytest.mark.parametrize("name", PROJECTED)
def test_the_limit_on_a_gpu(name: str, way: str) -> None:
    if way not in options_of(name):
        pytest.skip(f"{name} has no {way}")
    copies, recipe = copies_of(name), RECIPES.get(name, NEWCOMER)
    model = Problems(copies)
    model.sign, model.curvature, model.centre = model.sign.cuda(), model.curvature.cuda(), model.centre.cuda()
    model.cuda()
    optimizer = getattr(optim, name)(model.groups(), **{**recipe.options, way: True})
    affinet.project(model, optimizer, model.rules())
    train(model, optimizer, recipe.steps, power=recipe.power)
    assert_optimal(distances(copies, model.flat().detach().cpu().numpy()))
