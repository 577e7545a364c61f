"""Attach rules to a model and its optimizers (`project`): check them, move the weights onto the rules, add hooks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import optim

from affinet.training.attached import attach, check_no_shared_weights, check_unattached
from affinet.training.attaching import check_model, listed_optimizers
from affinet.training.decay import Decay
from affinet.training.first_move import settle
from affinet.training.handle import Handle
from affinet.training.matching import Rules, follow_freezing, match_rules
from affinet.training.nesting import nest
from affinet.training.sandwich import Metric, Sandwich
from affinet.training.state_weights import StateWeights


def project(
    model: torch.nn.Module,
    optimizer: optim.Optimizer | Iterable[optim.Optimizer],
    rules: Rules,
    *,
    metric: Metric = "euclidean",
    decay: Decay | None = None,
    check_finite: bool = False,
) -> Handle:
    """Keep the weights of `model` on the rules through every step of its optimizers; the training loop does not change.

    Moves the weights to the nearest feasible point at once (`handle.moved` says how far). From then on every
    `optimizer.step()` sees projected gradients and ends on the rules, and its limit is the optimum of the constrained
    problem. Frozen parameters (`requires_grad=False`) count as constants at their present value; parameters frozen
    later, at their value then.

    `optimizer` is one or several: gradients are projected jointly when the first of them steps, weights jointly after
    each. `metric="optimizer"` does not change gradients and projects the weights in the metric of the optimizer's
    own steps, `D_i / lr_i` (Adam family, RMSprop, Adagrad); its limit is the same optimum.
    `decay` says whether the optimizers add λ·w to the gradient ("coupled") or shrink weights separately
    ("decoupled"); it is known for torch.optim's own. `check_finite` raises GradientError naming the parameter before a
    step with NaN or infinite gradients (it waits for the device; without it, such gradients pass as in plain training).

    Raises AttachError (nothing changed) where model, optimizers and rules do not belong to each other or an optimizer
    is attached already; InfeasibleError where rules contradict each other or the frozen weights. Warns
    (NothingTrainedWarning) of rules whose weights are all frozen.
    """
    check_model(model, "affinet.project")
    optimizers = listed_optimizers(optimizer)
    match = match_rules(model, rules)
    plan, parameters = match
    nests = tuple(nest(member, map(id, parameters.values())) for member in optimizers)
    with_wrappers = [member for nested in nests for member in nested.all]
    check_unattached(with_wrappers)
    check_no_shared_weights(with_wrappers, parameters, model)
    freezing = follow_freezing(model, match)
    sandwich = Sandwich(freezing, nests, StateWeights(nests, parameters), metric, decay, check_finite)
    freezing.warn_of_idle_rules(sandwich.trained)
    moved = settle(sandwich.projector, sandwich.parameters)
    sandwich.settle_state_weights()
    sandwich.attach()
    attach(with_wrappers, parameters.values())
    return Handle(model, plan, sandwich, moved)
