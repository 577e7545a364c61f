"""Record what made a rule, as typed values that analysis reads in place of the rule's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from affinet.language.affine import Affine
from affinet.language.wording import Wording, say_operand

LONGEST_SUBJECT = 60
"""The largest number of characters of a left side that is shown with an index after it."""

FamilyName: TypeAlias = Literal[
    "banded",
    "block_diagonal",
    "circulant",
    "concave",
    "convex",
    "convolution",
    "determinant",
    "doubly_centred",
    "equal_energy",
    "equations",
    "equivariant",
    "fix",
    "hankel",
    "involution",
    "l1_ball",
    "l2_ball",
    "moments",
    "monotone",
    "orthogonal",
    "persymmetric",
    "polynomial",
    "product",
    "projection_matrix",
    "psd",
    "rotations",
    "share",
    "skew",
    "spd",
    "spectral_norm",
    "subspace",
    "sum_to",
    "symmetric",
    "tie",
    "toeplitz",
    "unit_norm",
    "wavelet",
    "zero_mean",
]
"""The functions of `affinet.families` that make a rule, except `linear`."""


@dataclass(frozen=True, slots=True)
class WrittenEquation:
    """The origin of a rule that was written with `==`, `<=` or `>=`; its sense is that of the rule.

    Where the right side is a single number, `left` and `number` are the wordings of both sides, so that each of the
    rule's equations can be shown as `left[index] == number`, or with the sense of the rule.
    """

    left: Wording | None = None
    number: Wording | None = None

    @classmethod
    def of(cls, left: Affine, right: Affine) -> WrittenEquation:
        """The origin of a rule that compares `left` with `right`."""
        return cls(left.wording, right.wording) if right.shape == () and not right.terms else cls()

    @property
    def subject(self) -> str:
        """The left side, in parentheses where an index could not follow; empty if it is long or `number` is None."""
        if self.left is None or self.number is None:
            return ""
        text = say_operand(self.left, LONGEST_SUBJECT)
        return text if len(text) <= LONGEST_SUBJECT else ""


@dataclass(frozen=True, slots=True)
class Linear:
    """The origin of a rule of `families.linear`: `weights` are the names of the listed weights, None for expressions.

    `sparse` records that the matrix was sparse, so that its zero columns are not a sign of a mistake.
    """

    weights: tuple[str | None, ...]
    sparse: bool


@dataclass(frozen=True, slots=True)
class Family:
    """The origin of a rule of any other function of `affinet.families`."""

    name: FamilyName


Origin: TypeAlias = WrittenEquation | Linear | Family
