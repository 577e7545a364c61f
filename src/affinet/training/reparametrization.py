"""`reparametrize`: fewer trainable numbers, from which the weights follow so that the rules hold whatever they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.torch.bases.choosing import basis_of
from affinet.kernels.torch.bases.expansion import Expansion, origin_of
from affinet.kernels.torch.projector import Projector, check
from affinet.language.constraint import Constraint
from affinet.language.modules import parameters_of
from affinet.plans.plan import Plan, plan
from affinet.training.attached import ATTACHED
from affinet.training.attaching import places_of
from affinet.training.baking import Reparametrization
from affinet.training.free_numbers import Expanded, Projected, Weight
from affinet.training.freezing import Freezing, Trained
from affinet.training.long_steps import warn_of_long_steps
from affinet.training.one_forward import OneForward
from affinet.training.replacing import Place, Replacement
from affinet.training.stale_optimizers import refuse_stale
from affinet.training.starting import Start, start_of
from affinet.training.weight_gradients import WeightGradients

Basis = Literal["orthonormal", "free", "projection"]
Group = Expanded | Projected


def reparametrize(
    model: torch.nn.Module,
    rules: Plan | Iterable[Constraint] | Constraint,
    *,
    basis: Basis = "orthonormal",
    restore_variance: bool = False,
) -> Reparametrization:
    """Train only the numbers that the rules leave free; make the optimizer afterwards.

    Weights become `w0 + N v`, computed through torch.nn.utils.parametrize, once in a forward of `model`. In their stead
    `model.parameters()` has v, `encoder.parametrizations.weight.0.free`, at the first of the weights that rules couple,
    and `….untouched`, entries in no rule, at each. Then any optimizer and any loop keeps the rules, without hooks.
    `handle.bake()` makes the module plain again.

    `basis="orthonormal"`: NᵀN = I; under SGD the weights follow the trajectory of `affinet.project`. `"free"`: each
    free number is one of the weights, from which the others follow; its gradient is the sum over them, as in a
    convolution: for ties, and for sums of a few entries. `"projection"`: all numbers u are kept and weights are Π(u),
    which is `affinet.project` for every optimizer without decay; nothing is saved, and nothing is to be chosen.

    The weights move to the nearest feasible point (`handle.moved`). `restore_variance` scales `N v` of every block of
    rules so that its entries vary as much as they did before: rules take variance away from random weights. Frozen
    parameters (`requires_grad=False`) are constants at their value now.

    Raises AttachError (nothing changed) where model and rules do not belong together, the model is reparametrized or
    projected already, or no basis is cheap; InfeasibleError where rules contradict each other or the frozen weights.
    Warns, naming the weights, where the rules leave nothing to train, of rules whose weights are all frozen
    (NothingTrainedWarning), and of entries of a long sum under `basis="free"`, in which the steps of all others add up
    (LongStepsWarning).
    """
    _check_basis(basis, restore_variance)
    _check_model(model)
    compiled = rules if isinstance(rules, Plan) else plan(rules)
    parameters = parameters_of(model, [parameter.name for parameter in compiled.parameters])
    check(compiled, parameters)
    used = {p.name: parameters[p.name] for p in compiled.parameters}
    freezing = Freezing(compiled, used, places_of(model, used))
    trained = freezing.trained((), _unchecked)
    _refuse_projected(trained.parameters)
    freezing.warn_of_idle(trained)
    gradients = WeightGradients(sum(p.numel() for p in trained.parameters.values()))
    forward = OneForward()
    groups = _groups(trained, basis, [name for name in parameters if name in trained.parameters], forward, gradients)
    _refuse_sparse(model, trained.parameters)
    places = _places(model, trained.parameters, {name for group in groups for name in group.names})
    start = start_of(trained, groups, restore_variance)
    numbers = _trainable(model)
    replacement = Replacement(places, forward, gradients)
    replacement.replace({name: group for group in groups for name in group.names})
    _fill(groups, start)
    gradients.follow(replacement.numbers().values())
    forward.watch(model, replacement.refuse_torn)
    refuse_stale(replacement)
    start.warn()
    if basis == "free":
        warn_of_long_steps(trained.projector.plan, [pair for group in groups for pair in group.blocks()])
    counts = _trainable(model), numbers
    return Reparametrization(compiled, basis, model, trained, replacement, used, start.moved, counts, groups)


def _check_basis(basis: Basis, restore_variance: bool) -> None:
    if not isinstance(basis, str) or basis not in get_args(Basis):
        raise AttachError(f"basis is {basis!r:.60}; it is 'orthonormal', 'free' or 'projection'.")
    if restore_variance and basis == "projection":
        raise AttachError(
            'restore_variance scales free numbers, and basis="projection" has none. Use another basis, or scale the '
            "weights before."
        )


def _check_model(model: torch.nn.Module) -> None:
    if not isinstance(model, torch.nn.Module):
        raise AttachError(f"give affinet.reparametrize a torch.nn.Module, not {type(model).__name__}.")
    if any(isinstance(module, Weight) for module in model.modules()):
        raise AttachError(
            "this model is reparametrized already. Give all rules to one affinet.reparametrize call, or make it a "
            "plain module again with affinet.bake(model)."
        )
    if any(isinstance(module, torch.nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise AttachError(
            "the model is inside a DistributedDataParallel, which has made its buckets of the parameters that would be "
            "replaced. Reparametrize first, and wrap the model then."
        )


def _refuse_projected(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError where an optimizer that keeps rules holds one of the parameters."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    for optimizer in ATTACHED:
        held = [names[id(p)] for group in optimizer.param_groups for p in group["params"] if id(p) in names]
        if held:
            raise AttachError(
                f"affinet.project keeps rules on an optimizer that holds {', '.join(held[:4])}. Call handle.remove() "
                f"on its handle, reparametrize, and make that {type(optimizer).__name__} anew."
            )


def _refuse_sparse(model: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError for an embedding whose gradient would be sparse: that of what it is computed from is dense."""
    for name, reference, _, _ in places_of(model, parameters):
        module = reference()
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag) and module.sparse:
            raise AttachError(
                f"the gradient of {name} would be sparse ({type(module).__name__}(..., sparse=True)), and that of the "
                f"numbers that it would be computed from is dense. Use dense gradients "
                f"(torch.nn.{type(module).__name__}(..., sparse=False)). Nothing was changed."
            )


def _unchecked(plan: Plan, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Nothing to check: there is no optimizer yet."""


def _groups(
    trained: Trained, basis: Basis, order: list[str], forward: OneForward, gradients: WeightGradients
) -> list[Group]:
    """The weights that share what they are computed from, `order` being that of the model."""
    if basis == "projection":
        return _projected(trained, forward, gradients)
    return _expanded(trained, order, basis, forward, gradients)


def _expanded(
    trained: Trained,
    order: list[str],
    kind: Literal["orthonormal", "free"],
    forward: OneForward,
    gradients: WeightGradients,
) -> list[Group]:
    """A group for each set of parameters that blocks couple, `order` being that of the model."""
    left = trained.projector.plan
    shapes = {p.name: p.shape for p in left.parameters}
    zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    bases = [basis_of(block, kind, left, zeros) for block in left.blocks]
    smallest = Projector(left, zeros).project(zeros)
    origin = origin_of(kind, bases, {name: smallest[name].clone() for name in shapes})
    touched = {place.name for basis in bases for place in basis.places if place.size}
    together = _coupled(
        [[place.name for place in basis.places] for basis in bases], [name for name in order if name in touched]
    )
    groups: list[Group] = []
    for names in together:
        mine = [
            (block, basis)
            for block, basis in zip(left.blocks, bases, strict=True)
            if basis.places and basis.places[0].name in names
        ]
        expansion = Expansion([basis for _, basis in mine], {name: shapes[name] for name in names}, origin)
        groups.append(Expanded(expansion, [block for block, _ in mine], kind, forward, gradients))
    return groups


def _projected(trained: Trained, forward: OneForward, gradients: WeightGradients) -> list[Group]:
    names = [p.name for p in trained.projector.plan.parameters]
    return [Projected(trained.projector, names, forward, gradients)] if names else []


def _coupled(blocks: list[list[str]], names: list[str]) -> list[list[str]]:
    """The names that lists of names link, in their order."""
    group = {name: {name} for name in names}
    for linked in blocks:
        merged = set().union(*(group[name] for name in linked))
        group.update(dict.fromkeys(merged, merged))
    return [list(one) for one in dict.fromkeys(tuple(n for n in names if n in group[name]) for name in names)]


def _places(model: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter], names: set[str]) -> list[Place]:
    """Where the model keeps the parameters that will be computed."""
    found = []
    for name, reference, attribute, parameter in places_of(model, {name: parameters[name] for name in names}):
        module = reference()
        assert module is not None
        if isinstance(module, torch.nn.Sequential | torch.nn.ModuleList | torch.nn.ModuleDict):
            raise UnsupportedWeightError(
                name,
                f"it belongs to a {type(module).__name__} itself, which would take what computes it for a layer",
                "Keep it in a module of its own, or use affinet.project.",
            )
        found.append(Place(name, module, attribute, parameter, parameter.stride()))
    return found


def _fill(groups: Iterable[Group], start: Start) -> None:
    """Make the parameters that are trained."""
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
