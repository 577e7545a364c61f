"""A projector that moves NumPy arrays onto the rules of a plan, by the laws of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from affinet.analysis.active import ActiveBounds, active_bounds
from affinet.analysis.one_sided import OneSided, one_sided_prices
from affinet.analysis.prices import PricedRules, Prices, parts_by_rule, prices, rules_that_share
from affinet.analysis.rule_values import Rounding, Weight
from affinet.analysis.unreached import unreached
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import Law, Linear, run_alone
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import Places
from affinet.blocks.set_law import SetLaw
from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.arrays.array_entries import read, write
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.kernels.bounds_in_dtypes import NumberFormat, check_bounds
from affinet.kernels.naming_rules import naming_rules
from affinet.plans.plan import Plan

DTYPES = (np.float16, np.float32, np.float64)
PASSES = 2
"""Successive projections of weights: the second refines a long move, as for tensors."""


class ArrayProjector:
    """Projects mappings of names to NumPy arrays onto the rules of a plan; the verbs are those of `affinet.Projector`.

    Arrays may be float16, float32 or float64. Names and shapes are those of `plan.parameters`; arrays of other names
    are returned unchanged. Factors are computed on first use and stored.
    """

    def __init__(self, plan: Plan, like: Mapping[str, np.ndarray]) -> None:
        check(plan, like)
        self.plan = plan
        self.names = tuple(parameter.name for parameter in plan.parameters)
        self._checked_dtypes: set[tuple[np.dtype[Any], ...]] = set()
        self._check_bounds(like)

    def project(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The nearest point that satisfies all rules, as new arrays of the same dtypes.

        Law: idempotent to one spacing of the dtype. Entries in no rule keep their bits.
        Raises AttachError where a dtype has no number within the bounds of a weight, InfeasibleError where no way to
        nonlinear equations was found.
        """
        check(self.plan, weights)
        self._check_bounds(weights)
        copies = self._copies(weights)
        for block, (law, places) in zip(self.plan.blocks, self._laws, strict=True):
            for _ in range(PASSES):
                if isinstance(law, Linear):
                    run(law.projection.nearest, law, places, copies)
                else:
                    with naming_rules(self.plan, block):
                        _move_onto_set(law, places, copies)
        pairs = zip(self.plan.blocks, self._laws, strict=True)
        blocks = [block for block, (law, places) in pairs if _misses(law, places, copies)]
        if blocks:
            raise unreached(self.plan.system, blocks, self.violation(weights), weights)
        return {**weights, **copies}

    def tangent(
        self, vectors: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """`P v`: the part of v that changes no rule, as new arrays. Law: `A P v == 0`.

        With inequalities it is the nearest vector to v along which the weights `at`, or the nearest point to them that
        satisfies the rules, can move a little without violating a rule. Raises AttachError without `at` then.
        """
        check(self.plan, vectors)
        copies, weights = self._copies(vectors), self._weights_at(at, "tangent(vectors, at=weights)")
        for law, places in self._laws:
            if isinstance(law, Linear):
                run(law.projection.tangent, law, places, copies)
            else:
                _leave_cone(law, places, copies, weights)
        return {**vectors, **copies}

    def violation(self, weights: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Rule name → largest absolute violation, in the units of the rule as written."""
        check(self.plan, weights)
        flat = {name: np.ascontiguousarray(weights[name]).reshape(-1) for name in self.names}
        with np.errstate(all="ignore"):
            return self._gaps(flat)

    def multipliers(
        self, gradients: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Rule name → ν of the rule's shape in float64, with `Aᵀν` nearest to the gradients.

        Law: ν is of smallest norm; at an optimum `ν = ∂f*/∂b` per unit of each equation as the user wrote it.
        With inequalities, `at` are the weights that the gradients were taken at. Raises AttachError without them then.
        """
        check(self.plan, gradients)
        weights = self._weights_priced(at, "multipliers(gradients, at=weights)")
        return parts_by_rule(self._prices(self._flat(gradients), weights))

    def priced(self, gradients: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray] | None = None) -> PricedRules:
        """`multipliers` and `shared_multipliers`, solved for once."""
        check(self.plan, gradients)
        solved = self._prices(self._flat(gradients), self._weights_priced(at, "priced(gradients, at=weights)"))
        return PricedRules(parts_by_rule(solved), rules_that_share(solved))

    def one_sided_multipliers(
        self,
        gradients: Mapping[str, np.ndarray],
        at: Mapping[str, np.ndarray],
        rules: Collection[str] | None = None,
    ) -> dict[str, OneSided]:
        """Rule name → ν where right-hand sides are lowered, and where they are raised; of all rules or the named ones.

        Law: they differ only for rows that depend on other active rows, where `multipliers` gives numbers in between.
        Raises RuleError for a name of no rule, and for more than 1,000 such rows, each of which takes two linear
        programs.
        """
        check(self.plan, gradients)
        return one_sided_prices(self.plan.system, self._flat(gradients), numbers_of(self.plan, at), rules)

    def active(self, weights: Mapping[str, np.ndarray]) -> dict[str, ActiveBounds]:
        """Rule name → which of its inequalities are at their bound, to rounding; equations are left out."""
        return active_bounds(self.plan.system, numbers_of(self.plan, weights))

    def stationarity(self, gradients: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray] | None = None) -> float:
        """`‖P g‖ / ‖g‖` over the parameters of the rules: 0 where the rules remove the entire gradient, 0 for g = 0.

        With inequalities, `at` are the weights that the gradients were taken at. Raises AttachError without them then.
        """
        check(self.plan, gradients)
        descent = {name: -np.asarray(gradients[name], np.float64) for name in self.names}
        tangent_norm, norm = (
            float(np.linalg.norm([np.linalg.norm(vectors[name]) for name in self.names]))
            for vectors in (self.tangent({**gradients, **descent}, at), descent)
        )
        return tangent_norm / norm if norm != 0.0 else 0.0

    def shared_multipliers(self, at: Mapping[str, np.ndarray] | None = None) -> dict[str, tuple[str, ...]]:
        """Rule name → the other rules together with which it is redundant; independent rules are omitted.

        With inequalities: the rules on which its rows at their bound depend, at the weights `at`.
        """
        weights = self._weights_priced(at, "shared_multipliers(at=weights)")
        return rules_that_share(self._prices(np.zeros(self.plan.system.layout.size), weights))

    def _check_bounds(self, weights: Mapping[str, np.ndarray]) -> None:
        """Raise AttachError, once per combination of dtypes, where weights cannot be within their bounds."""
        dtypes = tuple(_native(np.asarray(weights[name]).dtype) for name in self.names)
        if dtypes not in self._checked_dtypes:
            check_bounds(self.plan, {name: _format(dtype) for name, dtype in zip(self.names, dtypes, strict=True)})
            self._checked_dtypes.add(dtypes)

    @cached_property
    def _laws(self) -> list[tuple[Law, Places]]:
        return [_law(block) for block in self.plan.blocks]

    @cached_property
    def _gaps(self) -> ArrayGaps:
        return ArrayGaps(self.plan.system)

    def _flat(self, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
        """All numbers of the vectors in the order of the plan's parameters, in float64."""
        return np.concatenate([np.zeros(0), *(np.asarray(vectors[name], np.float64).ravel() for name in self.names)])

    def _prices(self, gradient: np.ndarray, weights: Mapping[str, np.ndarray]) -> Prices:
        return prices(self.plan.system, gradient, numbers_of(self.plan, weights) if weights else {})

    def _copies(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Row-major copies of the arrays of the rules, in the byte order of the machine."""
        return {name: np.array(arrays[name], _native(arrays[name].dtype), order="C") for name in self.names}

    def _weights_at(self, at: Mapping[str, np.ndarray] | None, call: str) -> Mapping[str, np.ndarray]:
        """The weights that tangents are taken at; empty where they depend on none."""
        return {} if all(isinstance(law, Linear) for law, _ in self._laws) else self._checked_weights(at, call)

    def _weights_priced(self, at: Mapping[str, np.ndarray] | None, call: str) -> Mapping[str, np.ndarray]:
        """The weights at which rules are priced; empty where all rules are linear equations.

        Inequalities that the plan drops, or holds as equations, have signs and slack all the same.
        """
        return self._checked_weights(at, call) if self.plan.system.kinds_at_weights else {}

    def _checked_weights(self, at: Mapping[str, np.ndarray] | None, call: str) -> Mapping[str, np.ndarray]:
        if at is None:
            raise AttachError(
                f"some of the rules are {self.plan.system.kinds_at_weights}, and what they allow depends on the "
                f"weights. Give the weights too: {call}."
            )
        check(self.plan, at)
        return at


def run(verb: Callable[..., Any], law: Law, places: Places, copies: Mapping[str, np.ndarray]) -> None:
    """Project the entries of one block in place."""
    flat = {name: copy.reshape(-1) for name, copy in copies.items()}
    x = entries_of(law, places, flat)
    with np.errstate(all="ignore"):  # infinities and NaN propagate as they do for tensors, without warnings
        made = verb(NumPy(), x)
        write(places, flat, run_alone(made))


def _move_onto_set(law: SetLaw, places: Places, copies: Mapping[str, np.ndarray]) -> None:
    """Move the entries of one block onto its set, in place; cells that are on it to rounding keep their bits."""
    flat = {name: copy.reshape(-1) for name, copy in copies.items()}
    with np.errstate(all="ignore"):
        write_entries(
            law, places, flat, law.snapped(NumPy(), entries_of(law, places, flat), _roundoff(law, places, flat))
        )


def _misses(law: Law, places: Places, copies: Mapping[str, np.ndarray]) -> bool:
    """Whether entries that were moved onto a set are off it, since no way to it was found."""
    if isinstance(law, Linear) or law.always_found:
        return False
    flat = {name: copy.reshape(-1) for name, copy in copies.items()}
    with np.errstate(all="ignore"):
        satisfied = law.satisfies(NumPy(), entries_of(law, places, flat), _roundoff(law, places, flat))
    return not bool(satisfied.all())


def _roundoff(law: SetLaw, places: Places, flat: Mapping[str, np.ndarray]) -> float:
    """The roundoff of sums of entries of a block that are stored in these arrays."""
    coarsest = max(float(np.finfo(flat[parameter.name].dtype).eps) for parameter, _ in places.sizes)
    return law.roundoff(coarsest / 2.0, float(np.finfo(np.float64).eps))


def _leave_cone(
    law: SetLaw, places: Places, copies: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
) -> None:
    """Subtract from vectors, in place, their part in the normal cone of the set at the nearest point to the weights."""
    flat = {name: copy.reshape(-1) for name, copy in copies.items()}
    v = entries_of(law, places, flat)
    native = {name: np.array(weights[name], _native(weights[name].dtype)).reshape(-1) for name in flat}
    u = _roundoff(law, places, native)
    with np.errstate(all="ignore"):
        at = law.snapped(NumPy(), entries_of(law, places, native).astype(v.dtype), u)
        write_entries(law, places, flat, v - law.normal(NumPy(), at, v, u))


def entries_of(law: Law | SetLaw, places: Places, flat: Mapping[str, np.ndarray]) -> np.ndarray:
    """The entries of a block, in the dtype and the shape of its law."""
    entries = read(places, flat)
    if not isinstance(law, Linear) and law.order is not None:
        entries = entries[law.order]
    wide = law.wide or entries.dtype == np.float64
    return entries.astype(np.float64 if wide else np.float32, copy=False).reshape(law.shape)


def write_entries(law: SetLaw, places: Places, flat: Mapping[str, np.ndarray], values: np.ndarray) -> None:
    """Write entries in the order of a law back."""
    if law.order is not None:
        in_places = np.empty(values.size, values.dtype)
        in_places[law.order] = values.reshape(-1)
        values = in_places
    write(places, flat, values)


def projector(plan: Plan, like: Any) -> ArrayProjector:
    """The projector of a plan for a mapping of names to NumPy arrays."""
    return ArrayProjector(plan, like)


def numbers_of(plan: Plan, weights: Mapping[str, np.ndarray]) -> dict[str, Weight]:
    """The weights of the rules as the numbers that rules are evaluated at."""
    check(plan, weights)
    return {parameter.name: _weight(np.asarray(weights[parameter.name])) for parameter in plan.parameters}


def check(plan: Plan, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise unless every parameter of the plan has an array of its shape and of a real floating dtype."""
    if not isinstance(arrays, Mapping):
        raise AttachError(
            f"give a mapping of names to arrays, such as numpy.load of an .npz file, not {type(arrays).__name__}."
        )
    for parameter in plan.parameters:
        array = arrays.get(parameter.name)
        if array is None:
            raise AttachError(
                f"the rules are about {parameter.name!r} and there is no such array; there are: "
                f"{', '.join(sorted(map(str, arrays))) or 'none'}."
            )
        if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
            raise AttachError(
                f"{parameter.name!r} is {type(array).__name__}, and must be a numpy.ndarray without a mask."
            )
        if tuple(array.shape) != parameter.shape:
            raise AttachError(
                f"the rules are about {parameter.name!r} of shape {parameter.shape}, and it has shape "
                f"{tuple(array.shape)}. Make the rules from affinet.weights of these very arrays."
            )
        if _native(array.dtype) not in DTYPES:
            raise UnsupportedWeightError(
                parameter.name, f"its dtype is {array.dtype}", "Rules need float16, float32 or float64."
            )


def _law(block: AnyBlock) -> tuple[Law, Places]:
    return block.law(), block.entries


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")


def _format(dtype: np.dtype[Any]) -> NumberFormat:
    info = np.finfo(dtype)
    return NumberFormat(dtype.name, float(info.eps), float(info.smallest_subnormal), float(info.max))


def _weight(array: np.ndarray) -> Weight:
    info = np.finfo(array.dtype)
    return Weight(array.reshape(-1), Rounding(float(info.eps), float(info.smallest_subnormal)))
