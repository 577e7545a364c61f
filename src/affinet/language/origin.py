"""Record what made a rule, as typed values that analysis reads in place of the rule's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from affinet.language.affine import Affine
from affinet.language.wording import Wording, say_operand

LONGEST_SUBJECT = 60
"""Characters of a left side that is shown with an index behind it."""

FamilyName: TypeAlias = Literal[
    "banded",
    "block_diagonal",
    "circulant",
    "convolution",
    "doubly_centred",
    "equivariant",
    "fix",
    "hankel",
    "moments",
    "persymmetric",
    "rotations",
    "share",
    "skew",
    "subspace",
    "sum_to",
    "symmetric",
    "tie",
    "toeplitz",
    "zero_mean",
]
"""The functions of `affinet.families` that make a rule, except `linear`."""


@dataclass(frozen=True, slots=True)
class Said:
    """An equation written with `==`. Where its right side is one number, `left` and `number` are how both were written.

    Any one of its equations can then be shown as `left[index] == number`.
    """

    left: Wording | None = None
    number: Wording | None = None

    @classmethod
    def of(cls, left: Affine, right: Affine) -> Said:
        """The origin of `left == right`."""
        return cls(left.wording, right.wording) if right.shape == () and not right.terms else cls()

    @property
    def subject(self) -> str:
        """The left side, in parentheses where an index could not follow it; empty where it is long or has no number."""
        if self.left is None or self.number is None:
            return ""
        text = say_operand(self.left, LONGEST_SUBJECT)
        return text if len(text) <= LONGEST_SUBJECT else ""


@dataclass(frozen=True, slots=True)
class Linear:
    """Made by `families.linear`: `weights` has the name of each listed weight, None for a part or a rearrangement.

    `sparse` records that the matrix was given as a sparse one, whose zero columns are no sign of a mistake.
    """

    weights: tuple[str | None, ...]
    sparse: bool


@dataclass(frozen=True, slots=True)
class Family:
    """Made by another function of `affinet.families`."""

    name: FamilyName


Origin: TypeAlias = Said | Linear | Family
