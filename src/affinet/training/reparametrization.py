"""Replace weights by fewer trainable numbers, from which they are computed so that the rules hold (`reparametrize`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.bases.choosing import Parametrization, check_parametrization, linear_blocks
from affinet.kernels.bases.origin_of_weights import coupled, origin_of
from affinet.kernels.torch.bases.expansion import Expansion
from affinet.kernels.torch.bases.tensor_basis import basis_of
from affinet.kernels.torch.projector import Projector, check
from affinet.language.constraint import Constraint
from affinet.language.modules import parameters_of
from affinet.plans.plan import Plan, plan
from affinet.training.attached import ATTACHED
from affinet.training.attaching import places_of, refuse_keras
from affinet.training.baking import Reparametrization
from affinet.training.forward_cache import ForwardCache
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.freezing import Freezing, Trained
from affinet.training.long_steps import warn_of_long_steps
from affinet.training.process_agreement import check_not_distributed
from affinet.training.replacing import Place, Replacement
from affinet.training.stale_optimizers import refuse_stale
from affinet.training.starting import Start, start_of
from affinet.training.weight_gradients import WeightGradients

Basis = Parametrization
Group = Expanded | Projected
SHARD_LATER = (
    "Reparametrize first and call fully_shard then, which splits the free numbers; or train with affinet.project."
)


def reparametrize(
    model: torch.nn.Module,
    rules: Plan | Iterable[Constraint] | Constraint,
    *,
    basis: Basis = "orthonormal",
    restore_variance: bool = False,
) -> Reparametrization:
    """Train only the numbers that the rules leave free; make the optimizer afterwards.

    Weights become `w0 + N v`, computed through torch.nn.utils.parametrize, once per forward of `model`. In their place
    `model.parameters()` has v, `encoder.parametrizations.weight.0.free`, at the first of the weights that rules couple,
    and `….untouched`, entries in no rule, at each weight. Then any optimizer and any loop keeps the rules, without
    hooks. `handle.bake()` makes the module plain again.

    `basis="orthonormal"`: NᵀN = I; under SGD the weights follow the trajectory of `affinet.project`. `"free"`: each
    free number is one of the weights, and determines others; its gradient is the sum over all of them, as in a
    convolution: for ties, and for sums of a few entries. `"projection"`: all numbers u are kept and weights are Π(u),
    which equals `affinet.project` for every optimizer without decay; it saves nothing, and needs no choice of a basis.

    For several processes: reparametrize the model, then wrap it in DistributedDataParallel or call `fully_shard`.

    The weights move to the nearest feasible point (`handle.moved`). `restore_variance` scales `N v` of every block of
    rules so that its entries vary as much as before: rules reduce the variance of random weights. Frozen
    parameters (`requires_grad=False`) are constants at their present value.

    Raises AttachError (nothing changed) where model and rules do not belong to each other, the model is reparametrized
    or projected already, rules hold inequalities, or no basis is cheap; InfeasibleError for rules that contradict.
    Warns of weights that the rules fix completely, of rules whose weights are all frozen (NothingTrainedWarning), and
    of entries of a long sum under `basis="free"`, in which the steps of all others add up (LongStepsWarning).
    """
    _check_basis(basis, restore_variance)
    _check_model(model)
    compiled_plan = rules if isinstance(rules, Plan) else plan(rules)
    parameters = parameters_of(model, [parameter.name for parameter in compiled_plan.parameters])
    check(compiled_plan, parameters)
    constrained = {p.name: parameters[p.name] for p in compiled_plan.parameters}
    check_not_distributed(constrained, "affinet.reparametrize", SHARD_LATER)
    freezing = Freezing(compiled_plan, constrained, places_of(model, constrained))
    trained = freezing.trained((), _accept)
    linear_blocks(trained.projector.plan)  # before anything changes, rules with inequalities are refused
    _refuse_projected(trained.parameters)
    _refuse_sparse(model, trained.parameters)
    freezing.warn_of_idle_rules(trained)
    gradients = WeightGradients(sum(p.numel() for p in trained.parameters.values()))
    forward = ForwardCache()
    groups = _groups(trained, basis, [name for name in parameters if name in trained.parameters], forward, gradients)
    places = _places(model, trained.parameters, {name for group in groups for name in group.names})
    start = start_of(trained, groups, restore_variance)
    numbers = _trainable(model)
    replacement = Replacement(places, forward, gradients)
    replacement.replace({name: group for group in groups for name in group.names})
    _fill(groups, start)
    gradients.follow(replacement.numbers())
    forward.watch(model, replacement.check_before_forward)
    refuse_stale(replacement)
    start.warn()
    if basis == "free":
        warn_of_long_steps(trained.projector.plan, [pair for group in groups for pair in group.blocks()])
    parts = compiled_plan, basis, model, trained, replacement, constrained, start.moved, (_trainable(model), numbers)
    return Reparametrization(*parts, groups)


def _check_basis(basis: Basis, restore_variance: bool) -> None:
    check_parametrization(basis)
    if restore_variance and basis == "projection":
        raise AttachError(
            'restore_variance scales free numbers, which basis="projection" does not have. Use another basis, or scale '
            "the weights before."
        )


def _check_model(model: torch.nn.Module) -> None:
    refuse_keras(model, "affinet.reparametrize")
    if not isinstance(model, torch.nn.Module):
        raise AttachError(f"give affinet.reparametrize a torch.nn.Module, not {type(model).__name__}.")
    if any(isinstance(module, Weight) for module in model.modules()):
        raise AttachError(
            "this model is reparametrized already. Give all rules to one affinet.reparametrize call, or make it a "
            "plain module again with affinet.bake(model)."
        )
    if any(isinstance(module, torch.nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise AttachError(
            "the model is inside a DistributedDataParallel, which has built its buckets from the parameters that would "
            "be replaced. Reparametrize first, and wrap the model then."
        )


def _refuse_projected(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError where an optimizer that keeps rules holds one of the parameters."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    for optimizer in ATTACHED:
        names_held = [names[id(p)] for group in optimizer.param_groups for p in group["params"] if id(p) in names]
        if names_held:
            raise AttachError(
                f"affinet.project keeps rules on an optimizer that holds {', '.join(names_held[:4])}. Call "
                f"handle.remove() on its handle, reparametrize, and make a new {type(optimizer).__name__}."
            )


def _refuse_sparse(model: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError for an embedding with sparse gradients: the numbers it is computed from have dense ones."""
    for name, reference, _, _ in places_of(model, parameters):
        module = reference()
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag) and module.sparse:
            raise AttachError(
                f"the gradient of {name} would be sparse ({type(module).__name__}(..., sparse=True)), and gradients of "
                f"the numbers that it would be computed from are dense. Use dense gradients "
                f"(torch.nn.{type(module).__name__}(..., sparse=False)). Nothing was changed."
            )


def _accept(plan: Plan, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Accept everything: there is no optimizer yet."""


def _groups(
    trained: Trained, basis: Basis, order: list[str], forward: ForwardCache, gradients: WeightGradients
) -> list[Group]:
    """The groups of weights that share trained numbers; `order` is the order of names in the model."""
    if basis == "projection":
        return _projected(trained, forward, gradients)
    return _expanded(trained, order, basis, forward, gradients)


def _expanded(
    trained: Trained,
    order: list[str],
    kind: Literal["orthonormal", "free"],
    forward: ForwardCache,
    gradients: WeightGradients,
) -> list[Group]:
    """One group per set of parameters that blocks couple; `order` is the order of names in the model."""
    plan = trained.projector.plan
    shapes = {p.name: p.shape for p in plan.parameters}
    zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    bases = [basis_of(block, kind, plan) for block in linear_blocks(plan)]
    smallest = Projector(plan, zeros).project(zeros)
    origin = origin_of(kind, [basis.basis for basis in bases], {name: smallest[name].numpy() for name in shapes})
    constrained_names = {place.name for basis in bases for place in basis.places if place.size}
    coupled_names = coupled(
        [[place.name for place in basis.places] for basis in bases],
        [name for name in order if name in constrained_names],
    )
    groups: list[Group] = []
    for names in coupled_names:
        pairs = [
            (block, basis)
            for block, basis in zip(linear_blocks(plan), bases, strict=True)
            if basis.places and basis.places[0].name in names
        ]
        expansion = Expansion([basis for _, basis in pairs], {name: shapes[name] for name in names}, origin)
        groups.append(Expanded(expansion, [block for block, _ in pairs], kind, forward, gradients))
    return groups


def _projected(trained: Trained, forward: ForwardCache, gradients: WeightGradients) -> list[Group]:
    names = [p.name for p in trained.projector.plan.parameters]
    return [Projected(trained.projector, names, forward, gradients)] if names else []


def _places(model: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter], names: set[str]) -> list[Place]:
    """The places in the model of the parameters that will be computed."""
    places = []
    for name, reference, attribute, parameter in places_of(model, {name: parameters[name] for name in names}):
        module = reference()
        assert module is not None
        if isinstance(module, torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict):
            raise UnsupportedWeightError(
                name,
                f"it belongs to a {type(module).__name__} itself, which would treat its parametrization as a layer",
                "Move it into a separate module, or use affinet.project.",
            )
        places.append(Place(name, module, attribute, parameter, parameter.stride()))
    return places


def _fill(groups: Iterable[Group], start: Start) -> None:
    """Create the trained parameters."""
    for group in groups:
        for name in group.names:
            weight = group.first[name]
            if isinstance(group, Projected):
                weight.unprojected = torch.nn.Parameter(start.weights[name])
                continue
            if name == group.names[0]:
                weight.free = _parameter(start.free[name])
            weight.untouched = _parameter(start.untouched[name])


def _parameter(numbers: Tensor) -> torch.nn.Parameter | None:
    return torch.nn.Parameter(numbers) if numbers.numel() else None


def _trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
