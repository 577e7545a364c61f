"""Linear maps that commute with a group: rules from its generators, as ties where these move entries."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from affinet.errors import NothingToTrainWarning, RuleError, ShapeError, callers_line
from affinet.language.expression import Constraint, Expression, concat, stack
from affinet.language.families.orbits import orbits
from affinet.language.families.saying import checked, said
from affinet.language.families.sharing import tied
from affinet.language.groups.brackets import needed
from affinet.language.groups.elements import Generator, Moves, read_generators, said_generators
from affinet.language.groups.representation import Representation, paired
from affinet.language.weight_groups import over_weights
from affinet.language.wording import Word

TRIVIAL = Moves(np.zeros(1, np.int64), None)
"""The generator that acts on numbers alone, where one side is missing."""


@over_weights
def equivariant(w: Expression, inputs: Any = None, outputs: Any = None, *, lie_algebra: bool = False) -> Constraint:
    """`ρ_out(g) w == w ρ_in(g)` for every generator g, so that `w @ (ρ_in(g) x) == ρ_out(g) (w @ x)` for the group.

    `w` has shape (…, out, in), a matrix for each index ahead. `inputs` and `outputs` list what the same generators
    do on either side. Each is
    - a permutation p as an index array: `ρ x = x[p]`, so that `w[p_out[i], p_in[j]] == w[i, j]`, as in `powers`;
    - `SignedPermutation(p, s)`: `(ρ x)[i] = s[i] x[p[i]]`;
    - a square matrix, dense or scipy sparse: `ρ x = matrix @ x`. Within 1e-12 of a signed permutation it is one.
    - `LieElement(X)`: an element of the group's Lie algebra, `X_out w == w X_in`, and 0 in place of `w` on the right
      where one side is missing; on tensor powers it acts by `kronecker_sum`.
    Or each is a representation of one group, such as `groups.O(3).T(2)`, which has a list of these.
    Without `inputs`, `w` of shape (…, out) holds invariant vectors, `ρ_out(g) w == w`: the biases of an equivariant
    layer. Without `outputs`, `w` of shape (…, in) holds invariant functionals, `w ρ_in(g) == w`.
    With `lie_algebra` all matrices are elements of a Lie algebra.

    Permutations on both sides become ties, exact to the bit, of one equation an entry less one an orbit, found in
    linear time; signed ones opposite ties, and zeros where an orbit contradicts itself. A matrix on either side
    becomes out · in equations, as small factors. Elements of a Lie algebra that brackets of others make add none.
    Errors: `RuleError` for lists of different lengths and representations of different groups, `ShapeError` for what is
    no generator or does not fit `w`.
    Warns (NothingToTrainWarning) where signs leave zero alone; `affinet.plan` does where matrices do.
    Source: Finzi, Welling & Wilson 2021, A practical method for constructing equivariant multilayer perceptrons for
    arbitrary matrix groups (the equations); Maron et al. 2019, Invariant and equivariant graph networks (orbits).
    """
    w = checked("equivariant", w)
    if inputs is None and outputs is None:
        raise RuleError("equivariant takes inputs=, outputs= or both: what the generators of the group do there.")
    into, out = _sides(inputs, outputs, lie_algebra)
    _check(w, into, out)
    left, nothing = _left(w, into, out)
    given = {"inputs": (inputs, into), "outputs": (outputs, out)}
    words: dict[str, Any] = {
        side: Word(str(one) if isinstance(one, Representation) else said_generators(read, lie_algebra=lie_algebra))
        for side, (one, read) in given.items()
        if read is not None
    }
    if lie_algebra:
        words["lie_algebra"] = True
    rule = said(left == 0, "equivariant", w, **words)
    if nothing:
        warnings.warn(NothingToTrainWarning(str(w), w.size, [rule.text], symmetry=True), stacklevel=callers_line())
    return rule


def _sides(
    inputs: Any, outputs: Any, lie_algebra: bool
) -> tuple[Sequence[Generator] | None, Sequence[Generator] | None]:
    """What the generators do on either side; None where one is missing."""
    if isinstance(inputs, Representation) or isinstance(outputs, Representation):
        if lie_algebra:
            raise RuleError(
                "lie_algebra=True is for lists of matrices: a representation knows which of its generators are of an "
                "algebra. Leave it out."
            )
        return paired(inputs, outputs)
    into, out = (
        None if given is None else read_generators(side, given, lie_algebra=lie_algebra)
        for side, given in (("inputs", inputs), ("outputs", outputs))
    )
    return into, out


def _check(w: Expression, into: Sequence[Generator] | None, out: Sequence[Generator] | None) -> None:
    if into is not None and out is not None and len(into) != len(out):
        raise RuleError(
            f"there are {len(into)} generators in inputs and {len(out)} in outputs: each element of the group acts on "
            f"both sides, by the identity where it does nothing."
        )
    for number, (a, b) in enumerate(zip(into or (), out or (), strict=False)):
        if a.lie != b.lie:
            lie, not_lie = ("inputs", "outputs") if a.lie else ("outputs", "inputs")
            raise RuleError(
                f"generator {number} is an element of a Lie algebra in {lie} and one of the group in {not_lie}. Where "
                f"an element of the algebra does nothing, write families.LieElement(np.zeros((n, n)))."
            )
    needed = tuple(side[0].size for side in (out, into) if side is not None)
    if w.shape[-len(needed) :] != needed:
        sides = " and ".join(
            f"{name} acts on {side[0].size}" for name, side in (("outputs", out), ("inputs", into)) if side is not None
        )
        raise ShapeError(
            f"({w}) has shape {w.shape}, and must end with {needed}: {sides}. A vector goes without inputs or outputs."
        )


def _left(w: Expression, into: Sequence[Generator] | None, out: Sequence[Generator] | None) -> tuple[Expression, bool]:
    """What is zero: the ties of all generators that move entries at once, and the equations of each of the others.

    And whether the signs of the ties leave zero alone; what matrices leave is for the plan to say.
    """
    axes = sum(side is not None for side in (into, out))
    count = len(into or out or ())
    pairs = list(zip(out or [TRIVIAL] * count, into or [TRIVIAL] * count, strict=True))
    moving = [(a, b) for a, b in pairs if isinstance(a, Moves) and isinstance(b, Moves)]
    lie = [k for k, (a, b) in enumerate(pairs) if a.lie or b.lie]
    acting = [[side[k] for k in lie] for side in (out, into) if side is not None]
    implied = set(lie) - {lie[k] for k in needed(acting)}
    mixed = [
        _mixed(w, None if out is None else a, None if into is None else b)
        for k, (a, b) in enumerate(pairs)
        if not (isinstance(a, Moves) and isinstance(b, Moves)) and k not in implied
    ]
    if not moving:
        return stack(mixed, dim=w.ndim - axes), False
    marks, signs = orbits([a for a, _ in moving], [b for _, b in moving])
    nothing = signs is not None and bool(w.size) and not signs.any()
    ties = tied(w.flatten(w.ndim - axes), marks, signs)
    whole = concat([ties, *(one.flatten(w.ndim - axes) for one in mixed)], dim=-1) if mixed else ties
    return whole, nothing


def _mixed(w: Expression, out: Generator | None, into: Generator | None) -> Expression:
    """`ρ_out w − w ρ_in` of one generator; `ρ w − w`, or `X w` in an algebra, where there is one side."""
    if out is not None and into is not None:
        both: Expression = out.matrix() @ w - w @ into.matrix()
        return both
    one = out if out is not None else into
    assert one is not None
    moved: Expression = w @ (one.matrix().T if out is not None else one.matrix())
    return moved if one.lie else moved - w
