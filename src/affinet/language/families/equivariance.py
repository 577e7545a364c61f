"""The rule that a linear map commutes with a group: ties where generators move entries, equations for the others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from affinet.errors import NothingToTrainWarning, RuleError, ShapeError, callers_line
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat, stack
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.families.orbits import orbits
from affinet.language.families.sharing import tie_to_first
from affinet.language.groups.brackets import generating_subset
from affinet.language.groups.elements import Generator, Moves, generators_text, read_generators
from affinet.language.groups.representation import Representation, paired_generators
from affinet.language.weight_groups import over_weights
from affinet.language.wording import Word

TRIVIAL = Moves(np.zeros(1, np.int64), None)
"""The generator that acts on a single number and leaves it; it stands in for a side that is missing."""


@over_weights
def equivariant(w: Expression, inputs: Any = None, outputs: Any = None, *, lie_algebra: bool = False) -> Constraint:
    """`ρ_out(g) w == w ρ_in(g)` for every generator g, so that `w @ (ρ_in(g) x) == ρ_out(g) (w @ x)` for the group.

    `w` has shape (…, out, in): a matrix for each index of the leading axes. `inputs` and `outputs` list how the same
    generators act on either side. Each generator is
    - a permutation p as an index array: `ρ x = x[p]`, so that `w[p_out[i], p_in[j]] == w[i, j]`, as in `powers`;
    - `SignedPermutation(p, s)`: `(ρ x)[i] = s[i] x[p[i]]`;
    - a square matrix, dense or scipy sparse: `ρ x = matrix @ x`; within 1e-12 of a signed permutation it counts as one;
    - `LieElement(X)`: an element of the group's Lie algebra, `X_out w == w X_in`, and 0 in place of `w` on the right
      where one side is missing; on tensor powers it acts by `kronecker_sum`.
    Instead of a list, each side may be a representation of one group, such as `groups.O(3).T(2)`.
    Without `inputs`, `w` of shape (…, out) holds invariant vectors, `ρ_out(g) w == w`: the biases of an equivariant
    layer. Without `outputs`, `w` of shape (…, in) holds invariant functionals, `w ρ_in(g) == w`.
    With `lie_algebra` all matrices are elements of a Lie algebra.

    Permutations on both sides become ties, exact to the bit: one equation for every entry but the first of each orbit,
    in linear time. Signed permutations become ties with a sign, and zeros on orbits that contradict themselves. A
    matrix on either side becomes out · in equations, as small factors. An element of a Lie algebra that is a bracket of
    other elements adds no equations.
    Errors: `RuleError` for lists of different lengths and representations of different groups, `ShapeError` for values
    that are not generators or do not fit `w`.
    Warns (NothingToTrainWarning) where signs allow only zero; where matrices do, `affinet.plan` warns.
    Source: Finzi, Welling & Wilson 2021, A practical method for constructing equivariant multilayer perceptrons for
    arbitrary matrix groups (the equations); Maron et al. 2019, Invariant and equivariant graph networks (orbits).
    """
    w = checked_expression("equivariant", w)
    if inputs is None and outputs is None:
        raise RuleError("equivariant takes inputs=, outputs= or both: how the generators of the group act on each.")
    on_inputs, on_outputs = _sides(inputs, outputs, lie_algebra)
    _check_generators(w, on_inputs, on_outputs)
    residuals, only_zero = _residuals(w, on_inputs, on_outputs)
    by_side = {"inputs": (inputs, on_inputs), "outputs": (outputs, on_outputs)}
    arguments: dict[str, Any] = {
        side: Word(
            str(argument)
            if isinstance(argument, Representation)
            else generators_text(generators, lie_algebra=lie_algebra)
        )
        for side, (argument, generators) in by_side.items()
        if generators is not None
    }
    if lie_algebra:
        arguments["lie_algebra"] = True
    rule = named_rule(residuals == 0, "equivariant", w, **arguments)
    if only_zero:
        warnings.warn(NothingToTrainWarning(str(w), w.size, [rule.text], symmetry=True), stacklevel=callers_line())
    return rule


def _sides(
    inputs: Any, outputs: Any, lie_algebra: bool
) -> tuple[Sequence[Generator] | None, Sequence[Generator] | None]:
    """The generators as they act on inputs and on outputs; None for a side that is missing."""
    if isinstance(inputs, Representation) or isinstance(outputs, Representation):
        if lie_algebra:
            raise RuleError(
                "lie_algebra=True is for lists of matrices: a representation knows which of its generators belong to "
                "a Lie algebra. Leave lie_algebra out."
            )
        return paired_generators(inputs, outputs)
    on_inputs, on_outputs = (
        None if value is None else read_generators(side, value, lie_algebra=lie_algebra)
        for side, value in (("inputs", inputs), ("outputs", outputs))
    )
    return on_inputs, on_outputs


def _check_generators(
    w: Expression, on_inputs: Sequence[Generator] | None, on_outputs: Sequence[Generator] | None
) -> None:
    if on_inputs is not None and on_outputs is not None and len(on_inputs) != len(on_outputs):
        raise RuleError(
            f"there are {len(on_inputs)} generators in inputs and {len(on_outputs)} in outputs, and the numbers must "
            f"be equal. Where an element of the group does nothing, write the identity."
        )
    for number, (a, b) in enumerate(zip(on_inputs or (), on_outputs or (), strict=False)):
        if a.lie != b.lie:
            lie_side, group_side = ("inputs", "outputs") if a.lie else ("outputs", "inputs")
            raise RuleError(
                f"generator {number} is an element of a Lie algebra in {lie_side} and one of the group in "
                f"{group_side}. Where an element of the algebra does nothing, write "
                f"families.LieElement(np.zeros((n, n)))."
            )
    sizes = tuple(side[0].size for side in (on_outputs, on_inputs) if side is not None)
    if w.shape[-len(sizes) :] != sizes:
        sides = " and ".join(
            f"{name} acts on {side[0].size}"
            for name, side in (("outputs", on_outputs), ("inputs", on_inputs))
            if side is not None
        )
        raise ShapeError(
            f"({w}) has shape {w.shape}, and its shape must end with {sizes}: {sides}. For a vector of weights leave "
            f"inputs or outputs out."
        )


def _residuals(
    w: Expression, on_inputs: Sequence[Generator] | None, on_outputs: Sequence[Generator] | None
) -> tuple[Expression, bool]:
    """The expression that must be zero: ties for all generators that move entries, equations for each of the others.

    Also whether the signs of the ties allow only zero; where matrices allow only zero, the plan reports it.
    """
    axes = sum(side is not None for side in (on_inputs, on_outputs))
    count = len(on_inputs or on_outputs or ())
    pairs = list(zip(on_outputs or [TRIVIAL] * count, on_inputs or [TRIVIAL] * count, strict=True))
    moving = [(a, b) for a, b in pairs if isinstance(a, Moves) and isinstance(b, Moves)]
    lie_numbers = [k for k, (a, b) in enumerate(pairs) if a.lie or b.lie]
    lie_elements = [[side[k] for k in lie_numbers] for side in (on_outputs, on_inputs) if side is not None]
    implied = set(lie_numbers) - {lie_numbers[k] for k in generating_subset(lie_elements)}
    residuals = [
        _matrix_residual(w, None if on_outputs is None else a, None if on_inputs is None else b)
        for k, (a, b) in enumerate(pairs)
        if not (isinstance(a, Moves) and isinstance(b, Moves)) and k not in implied
    ]
    if not moving:
        return stack(residuals, dim=w.ndim - axes), False
    marks, signs = orbits([a for a, _ in moving], [b for _, b in moving])
    only_zero = signs is not None and bool(w.size) and not signs.any()
    ties = tie_to_first(w.flatten(w.ndim - axes), marks, signs)
    all_residuals = (
        concat([ties, *(residual.flatten(w.ndim - axes) for residual in residuals)], dim=-1) if residuals else ties
    )
    return all_residuals, only_zero


def _matrix_residual(w: Expression, on_outputs: Generator | None, on_inputs: Generator | None) -> Expression:
    """`ρ_out w − w ρ_in` for one generator; with only one side `ρ w − w`, or `X w` in a Lie algebra."""
    if on_outputs is not None and on_inputs is not None:
        difference: Expression = on_outputs.matrix() @ w - w @ on_inputs.matrix()
        return difference
    generator = on_outputs if on_outputs is not None else on_inputs
    assert generator is not None
    transformed: Expression = w @ (generator.matrix().T if on_outputs is not None else generator.matrix())
    return transformed if generator.lie else transformed - w
