"""Certify weights by second derivatives (`handle.certificate`): collect them from a loss and from nonlinear rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from affinet.analysis.prices import active_rows, prices
from affinet.analysis.ranks_here import ranks_here
from affinet.analysis.rule_values import evaluate, most_roundings
from affinet.analysis.second_order import Curvature, curvature_along
from affinet.analysis.tangent_space import TangentSpace, tangent_space
from affinet.errors import AttachError, TooLargeError
from affinet.kernels.torch.evaluating import Value
from affinet.kernels.torch.projector import numbers_of
from affinet.language.calculus.terms import Floats
from affinet.planning.curved.joined_balls import joined_balls
from affinet.plans.plan import Plan
from affinet.report.certificate import Certificate, Verdict
from affinet.system.rows import Rows
from affinet.training.losses import check_callable, differentiable, without_gradients
from affinet.training.objective import Objective
from affinet.training.whole_weights import whole_weights

Weights = Mapping[str, torch.nn.Parameter]

SINGULAR = 1e-4
"""Share of a second derivative along the set that dependent equations may have by rounding: ranks are decided at 3e-7,
and the factors of a dependence are as exact as that."""

MOST_BYTES = 2**34
VECTORS = 24
"""Vectors over all weights at a time: 20 of Lanczos iterations (ARPACK), and those that they are made from."""


def certify(
    plan: Plan, objective: Objective, model: torch.nn.Module | None, loss_fn: Callable[[], Any], tolerance: float
) -> Certificate:
    """The certificate of the present weights; see `Handle.certificate`."""
    check_callable(loss_fn)
    if isinstance(tolerance, bool) or not isinstance(tolerance, float | int) or not 0.0 < tolerance < 1.0:
        raise AttachError(f"tolerance is {tolerance!r:.60}; give a number between 0 and 1, such as 1e-4.")
    needed = 8 * VECTORS * sum(weight.numel() for weight in objective.weights.values())
    if needed > MOST_BYTES:
        vectors, way_out = "the vectors of a certificate", "handle.report(loss_fn) takes first derivatives only."
        raise TooLargeError(f"{vectors}, each over all weights,", needed, MOST_BYTES, way_out)
    with whole_weights(model, objective.weights, "handle.certificate") as evaluated, _unchanged_buffers(model):
        members = [*evaluated.by_name.values(), *(() if model is None else model.parameters())]
        with without_gradients(members), torch.enable_grad():
            objective = replace(objective, weights=evaluated.by_name)
            derivatives = _Derivatives(objective, loss_fn, evaluated.mean)
            return _Examination(plan, objective, derivatives, tolerance).certificate()


@contextmanager
def _unchanged_buffers(model: torch.nn.Module | None) -> Iterator[None]:
    """Give buffers, such as the averages of batch normalisation, and random numbers their state back afterwards."""
    buffers = [] if model is None else [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({buffer.device.index or 0 for buffer, _ in buffers if buffer.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, saved in buffers:
                    buffer.copy_(saved)


class _Derivatives:
    """The gradient of an objective in float64, and products with its Hessian, over all weights end to end.

    The loss is the mean of those of all processes, of which `mean` is that of their numbers.
    """

    def __init__(self, objective: Objective, loss_fn: Callable[[], Any], mean: Callable[[Floats], Floats]) -> None:
        self._objective, self._weights, self._mean = objective, list(objective.weights.values()), mean
        loss = differentiable(loss_fn())
        if any(p.grad is not None for p in self._weights):
            raise AttachError(
                "loss_fn called backward, and second derivatives need the graph that backward frees. Return the loss "
                "and call no backward."
            )
        self.finite = bool(np.isfinite(mean(_numbers(loss))).all())
        self._sign = objective.sign or 1.0
        graph = torch.autograd.grad(loss, self._weights, create_graph=True, allow_unused=True)
        self._slopes = [(g, p) for g, p in zip(graph, self._weights, strict=True) if g is not None]
        self._decay = np.concatenate(
            [np.zeros(0), *(np.full(p.numel(), abs(objective.rates.get(n, 0.0))) for n, p in objective.weights.items())]
        )
        at = np.concatenate([np.zeros(0), *(_numbers(p) for p in self._weights)])
        self.gradient = self._sign * self._joined(graph) + self._decay * at
        self.weights = at
        self.finite &= bool(np.isfinite(self.gradient).all())
        formats = [torch.finfo(tensor.dtype) for tensor in (loss, *self._weights)]
        self.unit_roundoff = max(float(each.eps) for each in formats) / 2.0
        self.refusal = _single_derivative(loss) or self._tried()

    def times(self, vector: Floats) -> Floats:
        """The Hessian of the objective times a vector."""
        directions = self._split(vector)
        pairs = [(g, directions[id(p)]) for g, p in self._slopes if g.requires_grad]
        product = np.zeros(len(vector))
        if pairs:
            total = torch.stack([(g * v).sum() for g, v in pairs]).sum()
            product = self._joined(torch.autograd.grad(total, self._weights, retain_graph=True, allow_unused=True))
        return self._sign * product + self._decay * vector

    def _tried(self) -> str:
        """What torch says where a function of the loss has no second derivatives; empty otherwise."""
        try:
            self.times(np.zeros(len(self.gradient)))
        except RuntimeError as error:
            return str(error).splitlines()[0]
        return ""

    def _split(self, vector: Floats) -> dict[int, Tensor]:
        parts = np.split(vector, np.cumsum([p.numel() for p in self._weights])[:-1])
        return {
            id(p): torch.as_tensor(part).to(p.device, p.dtype).view(p.shape)
            for p, part in zip(self._weights, parts, strict=True)
        }

    def _joined(self, tensors: Sequence[Tensor | None]) -> Floats:
        pairs = zip(tensors, self._weights, strict=True)
        numbers = [np.zeros(p.numel()) if t is None else _numbers(t) for t, p in pairs]
        return self._mean(np.concatenate([np.zeros(0), *numbers]))


class _RuleDerivatives:
    """Products with the Hessian of `νᵀc` of the nonlinear rules of a plan, in float64.

    `multipliers` has ν of all rules, one after the other.
    """

    def __init__(self, plan: Plan, multipliers: Floats, weights: Weights) -> None:
        system = plan.system
        names = [parameter.name for parameter in system.layout.parameters]
        self._copies = [weights[name].detach().double().requires_grad_() for name in names]
        known = dict(zip(names, self._copies, strict=True))
        first = np.cumsum([0, *(rule.equations for rule in system.every)])
        total: Tensor | None = None
        for number in (*joined_balls(system), *system.curved_rules):
            rule = system.rule(number)
            values = Value(rule.expression, self._copies[0].device)(known)
            if rule.norm is not None:
                values = torch.linalg.vector_norm(values, dim=-1)
            nu = torch.as_tensor(multipliers[first[number] : first[number + 1]].reshape(rule.shape)).to(values)
            part = (values * nu).sum()
            total = part if total is None else total + part
        self._slopes: list[tuple[Tensor, int]] = []
        if total is not None:
            slopes = torch.autograd.grad(total, self._copies, create_graph=True, allow_unused=True)
            self._slopes = [(g, k) for k, g in enumerate(slopes) if g is not None and g.requires_grad]

    def times(self, vector: Floats) -> Floats:
        """The Hessian times the first numbers of a vector; zero for the others."""
        product = np.zeros(len(vector))
        if not self._slopes:
            return product
        sizes = np.cumsum([copy.numel() for copy in self._copies])
        parts = np.split(vector[: sizes[-1]], sizes[:-1])
        directions = [torch.as_tensor(v).to(c).view(c.shape) for v, c in zip(parts, self._copies, strict=True)]
        total = torch.stack([(g * directions[k]).sum() for g, k in self._slopes]).sum()
        made = torch.autograd.grad(total, self._copies, retain_graph=True, allow_unused=True)
        product[: sizes[-1]] = np.concatenate(
            [np.zeros(c.numel()) if t is None else _numbers(t) for t, c in zip(made, self._copies, strict=True)]
        )
        return product


class _Examination:
    """The conditions at the weights, one after the other, and the reasons that forbid a verdict."""

    def __init__(self, plan: Plan, objective: Objective, derivatives: _Derivatives, tolerance: float) -> None:
        self._plan, self._objective, self._derivatives, self._tolerance = plan, objective, derivatives, tolerance
        self._reasons: list[str] = []
        system = plan.system
        self._size, self._constrained = len(derivatives.gradient), system.layout.size
        gradient = np.where(np.isfinite(derivatives.gradient), derivatives.gradient, 0.0)
        self._numbers = numbers_of(plan, objective.weights)
        self._solved = prices(system, gradient[: self._constrained], self._numbers)
        residual = np.concatenate([self._solved.residual, gradient[self._constrained :]])
        self._rest, self._force = float(np.linalg.norm(residual)), float(np.linalg.norm(gradient))
        self._rows, self._prices = active_rows(self._solved)

    def certificate(self) -> Certificate:
        equations = self._is_equation()
        weak = ~equations & ~self._pushes()
        every = self._space(np.ones(self._rows.count, bool))
        rank, generic = ranks_here(self._plan.system, self._plan.blocks, self._numbers)
        self._check_loss()
        self._check_rules()
        self._check_balls()
        self._check_ranks(rank, generic)
        curvature = inner = None
        if not self._derivatives.refusal and self._derivatives.finite and not self._is_singular:
            hessian = self._hessian()
            curvature = curvature_along(hessian, every, self._derivatives.unit_roundoff)
            inner = curvature
            if weak.any():
                inner = curvature_along(hessian, self._space(~weak), self._derivatives.unit_roundoff)
        self._check_rest(curvature)
        verdict = self._verdict(every, curvature, inner, int(weak.sum()), int((~equations).sum()))
        return Certificate(
            verdict=verdict,
            reasons=tuple(self._reasons),
            stationarity=self._rest / self._force if self._force else 0.0,
            sigma_ratio=self._sigma_ratio(every),
            rank=rank,
            generic_rank=generic,
            at_bound=int((~equations).sum()),
            without_force=int(weak.sum()),
            free=every.free,
            smallest=None if curvature is None else curvature.smallest,
            largest=None if curvature is None else curvature.largest,
            direction={} if curvature is None else self._by_name(curvature.direction),
        )

    def _verdict(
        self, every: TangentSpace, curvature: Curvature | None, inner: Curvature | None, weak: int, at_bound: int
    ) -> Verdict:
        """`inner` is the curvature where inequalities without a force are dropped, which leaves a larger space."""
        if self._reasons:
            return "cannot tell"
        if inner is None or (inner.converged and inner.smallest > inner.rounding):
            return "local minimum"
        if curvature is not None and curvature.smallest < -curvature.rounding:
            is_maximum = curvature.largest < -curvature.rounding and not at_bound
            return "local maximum" if is_maximum and every.free else "saddle"
        if not inner.converged:
            reason = "Lanczos iterations did not find the smallest curvature"
        elif weak and inner.smallest < -inner.rounding:
            reason = (
                f"{weak:,} of the inequalities at their bounds have a multiplier of zero, and the loss falls off "
                f"these bounds or does not (curvature {inner.smallest:.3g}), depending on their sides"
            )
        else:
            reason = (
                f"the smallest curvature, {inner.smallest:.2g}, is zero up to rounding ({inner.rounding:.1g}), and "
                f"higher derivatives decide"
            )
        self._reasons.append(reason)
        return "cannot tell"

    def _check_loss(self) -> None:
        if not self._derivatives.finite:
            self._reasons.append("the loss or its gradient is not finite here")
        if self._derivatives.refusal:
            self._reasons.append(f"the loss has no second derivatives ({self._derivatives.refusal})")
        if self._objective.sign is None:
            self._reasons.append("some weights are maximized and others minimized")

    def _check_rules(self) -> None:
        for rule in self._plan.system.every:
            beyond, rounding = evaluate(rule, self._numbers)
            far = beyond > most_roundings(self._numbers) * rounding
            if far.any():
                largest = float(beyond[far].max())
                self._reasons.append(f'the weights violate "{rule.name}" by {largest:.2g}')

    def _check_balls(self) -> None:
        first = 0
        for rule in self._solved.system.rules:
            at_bound = self._solved.active[first : first + rule.equations]
            first += rule.equations
            if rule.norm is not None and at_bound.any():
                self._reasons.append(f'"{rule.name}" is at its bound, and the boundary of its ball or cone is curved')

    def _check_ranks(self, rank: int | None, generic: int | None) -> None:
        if self._is_singular:
            ranks = "" if rank is None or generic is None else f" (rank {rank:,} here, {generic:,} elsewhere)"
            self._reasons.append(
                f"the equations' derivatives depend on each other at these weights{ranks}, where the set of the "
                f"equations ends, has a corner or a cusp, or is one point. Multipliers may not exist; write the "
                f"equations so that they keep their rank"
            )
        elif generic is not None and rank is None:
            self._reasons.append("the rank of the nonlinear equations is not computed for groups of this size")

    def _check_rest(self, curvature: Curvature | None) -> None:
        """Weights are at rest where the gradient along the rules is small, or the next stationary point is close."""
        if self._rest <= self._tolerance * self._force:
            return
        if curvature is not None:
            softest = min(abs(curvature.smallest), abs(curvature.largest))
            nearby = self._tolerance * float(np.linalg.norm(self._derivatives.weights))
            if softest > curvature.rounding and self._rest <= softest * nearby:
                return
        decayed = " (decoupled weight decay moves the point of rest)" if self._objective.decoupled else ""
        self._reasons.append(
            f"the weights are not at rest: ‖Pg‖/‖g‖ is {self._rest / self._force:.2g}, above "
            f"{self._tolerance:g}{decayed}"
        )

    @cached_property
    def _is_singular(self) -> bool:
        """Whether nonlinear equations have no smooth set here.

        Where rows add up to zero with factors λ, the second derivatives of `λᵀc` along the set must be zero too, as
        they are where the rank is that of all points of the set around. One random λ and direction decide.
        """
        system, chosen = self._plan.system, np.flatnonzero(self._is_equation())
        if not system.curved:
            return False
        rows, random = self._rows.select(chosen), np.random.default_rng(0)
        space, draw = self._space(self._is_equation()), random.standard_normal(rows.count)
        vector = np.zeros(self._size)
        vector[: self._constrained] = random.standard_normal(self._constrained)
        vector = space.project(vector)
        first = np.cumsum([0, *(rule.equations for rule in self._solved.system.rules)])

        def turned(factors: Floats) -> Floats:
            multipliers = np.zeros(first[-1])
            multipliers[first[rows.rule] + rows.index] = factors
            return _RuleDerivatives(self._plan, multipliers, self._objective.weights).times(vector)

        lengths = _lengths(rows)
        usual = float(np.linalg.norm(turned(draw / np.where(lengths > 0.0, lengths, 1.0))))
        return float(np.linalg.norm(space.project(turned(space.dependence(draw))))) > SINGULAR * usual

    def _is_equation(self) -> np.ndarray:
        rules = self._solved.system.rules
        senses = np.array([rule.sense == "==" for rule in rules], bool)
        return senses[self._rows.rule]

    def _pushes(self) -> np.ndarray:
        """Which rows have a multiplier that is not zero, in units of the gradient."""
        return np.abs(self._prices) * _lengths(self._rows) > max(self._tolerance * self._force, 10.0 * self._rest)

    def _space(self, chosen: np.ndarray) -> TangentSpace:
        system = self._plan.system
        rows: Rows = self._rows.select(np.flatnonzero(chosen))
        return tangent_space(rows, self._size, system.curved_rules, system.tolerance, system.limits)

    def _sigma_ratio(self, space: TangentSpace) -> float:
        """Of as many singular values as there are independent rows at almost all points."""
        plan = self._plan
        if not len(space.ratios):
            return 1.0
        if not plan.system.curved or plan.inequalities:
            counted = space.ratios[: space.rank]
        else:
            rank = plan.rank
            counted = space.ratios[: rank if isinstance(rank, int) else rank.low]
        return float(counted[-1]) if len(counted) else 1.0

    def _hessian(self) -> Callable[[Floats], Floats]:
        rules = _RuleDerivatives(self._plan, self._solved.values, self._objective.weights)
        return lambda vector: self._derivatives.times(vector) - rules.times(vector)

    def _by_name(self, direction: Floats) -> dict[str, Floats]:
        parts = np.split(direction, np.cumsum([p.numel() for p in self._objective.weights.values()])[:-1])
        named = zip(self._objective.weights.items(), parts, strict=True)
        return {name: part.reshape(p.shape) for (name, p), part in named}


def _single_derivative(loss: Tensor) -> str:
    """The name of a function in the graph of a loss whose derivative torch takes for a constant; empty without one."""
    wrapper = once_differentiable(lambda ctx: None).__code__
    counted: set[Any] = set()
    pending = [loss.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in counted:
            continue
        counted.add(node)
        function: Any = getattr(node, "_forward_cls", None)
        if getattr(getattr(function, "backward", None), "__code__", None) is wrapper:
            return f"{function.__name__} is differentiable once"
        pending += [inner for inner, _ in node.next_functions]
    return ""


def _lengths(rows: Rows) -> Floats:
    """The norm of each row."""
    return np.sqrt(np.bincount(rows.row_of_each(), rows.values * rows.values, rows.count))


def _numbers(tensor: Tensor) -> Floats:
    numbers: Floats = tensor.detach().double().cpu().numpy().reshape(-1)
    return numbers
