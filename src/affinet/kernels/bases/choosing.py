"""Chooses the basis of a block: the only place under `bases/` that branches on block kinds."""

from __future__ import annotations

from typing import Literal, assert_never, cast, get_args

from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import AnyLinear
from affinet.blocks.law import Linear
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.errors import AttachError
from affinet.kernels.bases.basis import Basis, Kind
from affinet.kernels.bases.bordered_basis import BorderedBasis
from affinet.kernels.bases.boxes import JoinedBasis, mirrored_product, product, slices
from affinet.kernels.bases.components_basis import ComponentsBasis
from affinet.kernels.bases.overlapping import overlapping_sums
from affinet.kernels.bases.tangents import MOST_ENTRIES, from_tangents
from affinet.kernels.bases.tied_bases import ConstantsBasis, PairsBasis, mirror, place_of_fixed, ties
from affinet.plans.plan import Plan

Parametrization = Literal["orthonormal", "free", "projection"]
"""What is trained: free numbers of a basis, or all numbers u of weights `Π(u)`."""


def check_parametrization(basis: object) -> None:
    """Raise AttachError for what is not a `Parametrization`."""
    if not isinstance(basis, str) or basis not in get_args(Parametrization):
        raise AttachError(f"basis is {basis!r:.60}; it is 'orthonormal', 'free' or 'projection'.")


def linear_blocks(plan: Plan, way_out: str = "affinet.project") -> tuple[AnyLinear, ...]:
    """The blocks of a plan of linear equations.

    Raises AttachError for other rules, which have no basis; `way_out` is the function that trains with them.
    """
    for block in plan.blocks:
        if not isinstance(block.law(), Linear):
            rules = [plan.system.rule(number) for number in dict.fromkeys(block.rules)]
            if inequalities := [rule.name for rule in rules if rule.sense != "=="]:
                raise AttachError(
                    f"the rules {', '.join(inequalities[:3])} hold inequalities, and no free numbers reach every point "
                    f"between bounds with a derivative that is nowhere zero. Use {way_out}, which reaches bounds "
                    f"exactly."
                )
            raise AttachError(
                f"the rules {', '.join([rule.name for rule in rules if rule.curved][:3])} are nonlinear equations, and "
                f"no matrix makes all their solutions from free numbers. Use {way_out}, which follows them."
            )
    return cast("tuple[AnyLinear, ...]", plan.blocks)


def basis_of(block: AnyLinear, kind: Kind, plan: Plan) -> Basis:
    """The basis of a block.

    Raises AttachError for a block whose only basis would be a large dense matrix of entries × free numbers.
    """
    match block:
        case Slices():
            return slices(block, kind)
        case Commuting() if block.mirror is not None:
            fits = kind == "orthonormal" and block.separate
            return mirrored_product(block, block.mirror) if fits else _without_structure(block, kind, plan)
        case Commuting() if block.separate:
            return product(block, kind)
        case Commuting():
            return overlapping_sums(block, kind) or _without_structure(block, kind, plan)
        case Mirror():
            return mirror(block, kind)
        case Joined():
            return JoinedBasis(block, basis_of(block.base, kind, plan))
        case Pairs():
            return PairsBasis(block, kind)
        case Fixed():
            return ConstantsBasis(place_of_fixed(block))
        case Ties():
            return ties(block, kind)
        case Dense():
            return ComponentsBasis(block, kind)
        case Bordered():
            bases = [basis_of(base, kind, plan) for base in block.bases]
            return BorderedBasis(block, bases, kind, plan.system.layout)
        case Sparse():
            return _without_structure(block, kind, plan, only_small=True)
        case _:
            assert_never(block)


def _without_structure(block: AnyLinear, kind: Kind, plan: Plan, *, only_small: bool = False) -> Basis:
    """A dense basis of a small block of any kind; `only_small`: a large block has no basis of either `kind`."""
    basis = from_tangents(block, plan.system.layout, kind)
    if basis is None:
        alternative = 'basis="projection"' if kind == "orthonormal" or only_small else 'basis="orthonormal"'
        names = ", ".join(dict.fromkeys(plan.system.rule(rule).name for rule in block.rules[:3]))
        weights = ", ".join(sorted({parameter.name for parameter, _ in block.entries.sizes}))
        raise AttachError(
            f'the rules on {weights} ({names}) have no basis="{kind}" that is cheaper '
            f"than a matrix of entries × free numbers, which is made for up to {MOST_ENTRIES:,} entries; these are "
            f"{block.size:,}. Use {alternative}, or affinet.project."
        )
    return basis
