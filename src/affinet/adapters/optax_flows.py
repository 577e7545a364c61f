"""Follow gradients through a program of JAX: which results depend on them, which are zero whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal


@dataclass(frozen=True)
class Flow:
    """What is certain of an array of a program.

    `reads`: it may depend on a gradient, by more than a decision about the whole array, such as whether all gradients
    are finite. `zero`: all its numbers are zero. `passed`: at least at some steps it is a gradient that no rate has
    scaled; clipping, normalizing, means over several steps and sums with other arrays do not count as rates.
    `uniform`: all entries are one number. `counted`: it counts something, or is a truth value, without reading
    gradients.
    """

    reads: bool = False
    zero: bool = False
    passed: bool = False
    uniform: bool = False
    counted: bool = False


GRADIENT = Flow(reads=True, passed=True)
ZERO = Flow(zero=True)
OTHER = Flow()


def flows(program: Any, inputs: Sequence[Flow]) -> list[Flow]:
    """The flows of the results of a closed program of JAX, for those of its arguments."""
    constants = [OTHER] * len(program.jaxpr.constvars)
    known: dict[Any, Flow] = dict(
        zip((*program.jaxpr.constvars, *program.jaxpr.invars), (*constants, *inputs), strict=True)
    )

    def flow_of(atom: Any) -> Flow:
        if isinstance(atom, Literal):
            return Flow(zero=bool(np.all(np.asarray(atom.val) == 0)), uniform=True, counted=_counts(atom))
        return known[atom]

    for equation in program.jaxpr.eqns:
        arguments = [_typed(flow_of(atom), atom) for atom in equation.invars]
        results = _results(equation, arguments)
        known.update(zip(equation.outvars, map(_typed, results, equation.outvars), strict=True))
    return [flow_of(atom) for atom in program.jaxpr.outvars]


def _results(equation: Any, arguments: list[Flow]) -> Sequence[Flow]:
    """The flows of the results of one equation; where nothing better is certain, they read what its arguments read."""
    name, parameters, count = equation.primitive.name, equation.params, len(equation.outvars)
    if name in _ONE_RESULT:
        return [_ONE_RESULT[name](arguments)]
    if name == "cond":  # the index is one number for the whole arrays
        branches = [flows(branch, arguments[1:]) for branch in parameters["branches"]]
        return [reduce(_either, cases) for cases in zip(*branches, strict=True)]
    if name == "while":
        first, body = parameters["cond_nconsts"] + parameters["body_nconsts"], parameters["body_jaxpr"]
        constants = arguments[parameters["cond_nconsts"] : first]
        return _repeated(lambda carried: flows(body, [*constants, *carried]), arguments[first:])
    if name == "scan":
        first, carries = parameters["num_consts"], parameters["num_carry"]
        constants, inputs = arguments[:first], arguments[first + carries :]

        def body_of_scan(carried: Sequence[Flow]) -> list[Flow]:
            return flows(parameters["jaxpr"], [*constants, *carried, *inputs])

        carried = _repeated(lambda carried: body_of_scan(carried)[:carries], arguments[first : first + carries])
        return [*carried, *body_of_scan(carried)[carries:]]
    programs = [program for program in parameters.values() if isinstance(program, ClosedJaxpr)]
    if len(programs) == 1 and len(programs[0].jaxpr.invars) == len(arguments):
        return flows(programs[0], arguments)
    if name in _KEEPS_ZERO:
        return [replace(_any(arguments), zero=all(x.zero for x in arguments))] * count
    return [_any(arguments)] * count


def _repeated(body: Callable[[Sequence[Flow]], Sequence[Flow]], carried: Sequence[Flow]) -> Sequence[Flow]:
    """What is certain of the carried arrays of a loop, however often it runs: certainties are only ever lost."""
    while True:
        following = list(map(_either, carried, body(carried)))
        if following == list(carried):
            return carried
        carried = following


def _either(first: Flow, second: Flow) -> Flow:
    """One of two arrays."""
    cases = first, second
    return Flow(
        reads=any(x.reads for x in cases),
        zero=all(x.zero for x in cases),
        passed=any(x.passed for x in cases),
        uniform=all(x.uniform for x in cases),
        counted=all(x.counted for x in cases),
    )


def _any(arguments: Iterable[Flow]) -> Flow:
    return Flow(reads=any(x.reads for x in arguments))


def _typed(flow: Flow, atom: Any) -> Flow:
    """The flow with what follows from shape and dtype, and without what a zero cannot be."""
    if flow.zero:
        flow = replace(flow, reads=False, passed=False)
    uniform, counted = flow.uniform or not atom.aval.shape, flow.counted or _counts(atom)
    return replace(flow, uniform=uniform, counted=counted and not flow.reads)


def _counts(atom: Any) -> bool:
    dtype = atom.aval.dtype
    return bool(jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_))


def _selected(arguments: list[Flow]) -> Flow:
    condition, *cases = arguments
    chosen = reduce(_either, cases)
    return chosen if condition.uniform else replace(chosen, reads=chosen.reads or condition.reads)


def _added(arguments: list[Flow]) -> Flow:
    return Flow(
        reads=any(x.reads for x in arguments),
        zero=all(x.zero for x in arguments),
        passed=any(x.passed for x in arguments),
        uniform=all(x.uniform for x in arguments),
    )


def _subtracted(arguments: list[Flow]) -> Flow:
    return replace(_added(arguments), passed=arguments[0].passed)


def _multiplied(arguments: list[Flow]) -> Flow:
    gates = all(x.passed or x.counted for x in arguments)  # such as a truth value: whether it is time for a step
    product = _added(arguments)
    return replace(product, zero=any(x.zero for x in arguments), passed=product.passed and gates)


def _divided(arguments: list[Flow]) -> Flow:
    numerator, denominator = arguments
    counts = denominator.counted or (denominator.reads and denominator.uniform)  # how many gradients, or their norm
    return replace(_added(arguments), zero=numerator.zero, passed=numerator.passed and counts)


def _clamped(arguments: list[Flow]) -> Flow:
    return replace(_added(arguments), passed=arguments[1].passed)


def _contracted(arguments: list[Flow]) -> Flow:
    return replace(_any(arguments), zero=any(x.zero for x in arguments))


def _unchanged(arguments: list[Flow]) -> Flow:
    return arguments[0]


def _spread(arguments: list[Flow]) -> Flow:
    return replace(arguments[0], passed=False)


def _read_at(arguments: list[Flow]) -> Flow:
    return replace(_any(arguments), zero=arguments[0].zero)


_ONE_RESULT: dict[str, Callable[[list[Flow]], Flow]] = {
    "select_n": _selected,
    "add": _added,
    **dict.fromkeys(("add_any", "max", "min"), _added),
    "clamp": _clamped,
    "sub": _subtracted,
    "mul": _multiplied,
    "div": _divided,
    "dot_general": _contracted,
    **dict.fromkeys(("convert_element_type", "copy", "reduce_precision", "reshape"), _unchanged),
    **dict.fromkeys(("broadcast_in_dim", "squeeze", "expand_dims", "transpose"), _spread),
    **dict.fromkeys(("slice", "dynamic_slice", "gather", "rev"), _read_at),
}
"""Primitive → the flow of its only result."""
_KEEPS_ZERO = frozenset({
    *("neg", "abs", "sign", "sqrt", "cbrt", "square", "tanh", "sin", "reduce_sum", "reduce_max", "reduce_min"),
    *("cumsum", "concatenate", "pad", "split", "optimization_barrier", "device_put", "sharding_constraint"),
})  # fmt: skip
"""Primitives whose results are zero where all arguments are."""
