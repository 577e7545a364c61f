"""`project`: rules and a model and its optimizers, checked, settled on the rules, and held there."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import optim

from affinet.errors import AttachError
from affinet.training.attached import attach, check_apart, check_unattached
from affinet.training.attaching import check_optimizers
from affinet.training.decay import Decay
from affinet.training.handle import Handle
from affinet.training.matching import Rules, followed, matched
from affinet.training.nesting import nest
from affinet.training.own_weights import KeptWeights
from affinet.training.sandwich import Metric, Sandwich
from affinet.training.settling import settle


def project(
    model: torch.nn.Module,
    optimizer: optim.Optimizer | Iterable[optim.Optimizer],
    rules: Rules,
    *,
    metric: Metric = "euclidean",
    decay: Decay | None = None,
    check_finite: bool = False,
) -> Handle:
    """Keep the weights of `model` on the rules through every step of its optimizers; the training loop stays as it is.

    Moves the weights to the nearest feasible point at once (`handle.moved` says how far). From then on every
    `optimizer.step()` sees projected gradients and ends on the rules, and its limit is the optimum of the constrained
    problem. Frozen parameters (`requires_grad=False`) count as constants at their value now; those frozen later, at
    theirs then.

    `optimizer` is one or several: gradients are projected jointly when the first of them steps, weights jointly after
    each. `metric="optimizer"` leaves gradients as they are and projects the weights in the metric of the optimizer's
    own steps, `D_i / lr_i` (Adam family, RMSprop, Adagrad); its limit is the same optimum.
    `decay` says whether the optimizers add λ·w to the gradient ("coupled") or shrink weights apart from it
    ("decoupled"); it is known for torch.optim's own. `check_finite` raises GradientError naming the parameter before a
    step with NaN or infinite gradients (it waits for the device; without it they pass as they do in stock training).

    Raises AttachError (nothing changed) where model, optimizers and rules do not belong together or an optimizer is
    attached already; InfeasibleError where rules contradict each other or the frozen weights. Warns
    (NothingTrainedWarning) of rules whose weights are all frozen.
    """
    if not isinstance(model, torch.nn.Module):
        raise AttachError(
            f"affinet.project takes the model first, then its optimizer, then the rules; {type(model).__name__} is no "
            f"torch.nn.Module."
        )
    optimizers = _listed(optimizer)
    if not optimizers:
        raise AttachError("there is no optimizer in the list. Give affinet.project the one that trains this model.")
    if len({id(one) for one in optimizers}) < len(optimizers):
        raise AttachError("the same optimizer is in the list twice. Give each optimizer once.")
    check_optimizers(optimizers, {})
    found = matched(model, rules)
    compiled, used = found
    nests = tuple(nest(one, map(id, used.values())) for one in optimizers)
    everyone = [one for found in nests for one in found.all]
    check_unattached(everyone)
    check_apart(everyone, used, model)
    freezing = followed(model, found)
    sandwich = Sandwich(freezing, nests, KeptWeights(nests, used), metric, decay, check_finite)
    freezing.warn_of_idle(sandwich.trained)
    moved = settle(sandwich.projector, sandwich.parameters)
    sandwich.settle_kept()
    sandwich.attach()
    attach(everyone, used.values())
    return Handle(model, compiled, sandwich, moved)


def _listed(optimizer: optim.Optimizer | Iterable[optim.Optimizer]) -> tuple[optim.Optimizer, ...]:
    return tuple(optimizer) if isinstance(optimizer, Iterable) else (optimizer,)
