"""The methods of expressions that are not affine: functions of every entry, Euclidean lengths, and matrix functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from affinet.errors import NotAffineError
from affinet.language import nonlinear
from affinet.language.affine import Affine, Dims
from affinet.language.foreign import pick_synonym
from affinet.language.wording import say


@dataclass(frozen=True, eq=False, slots=True)
class EntryFunctions:
    """The part of `Expression` that makes nodes; the result of each method is an expression of the same class."""

    affine: Affine

    def square(self) -> Self:
        """Every entry times itself."""
        return replace(self, affine=nonlinear.power(self.affine, 2))

    def sqrt(self) -> Self:
        """The square root of every entry."""
        return replace(self, affine=nonlinear.function("sqrt", self.affine))

    def reciprocal(self) -> Self:
        """1 divided by every entry."""
        return replace(self, affine=nonlinear.function("reciprocal", self.affine))

    def exp(self) -> Self:
        """The exponential of every entry."""
        return replace(self, affine=nonlinear.function("exp", self.affine))

    def log(self) -> Self:
        """The natural logarithm of every entry."""
        return replace(self, affine=nonlinear.function("log", self.affine))

    def sin(self) -> Self:
        """The sine of every entry, in radians."""
        return replace(self, affine=nonlinear.function("sin", self.affine))

    def cos(self) -> Self:
        """The cosine of every entry, in radians."""
        return replace(self, affine=nonlinear.function("cos", self.affine))

    def tanh(self) -> Self:
        """The hyperbolic tangent of every entry."""
        return replace(self, affine=nonlinear.function("tanh", self.affine))

    def norm(
        self, p: object = 2, dim: Dims = None, keepdim: bool = False, *, axis: Dims = None, keepdims: bool = False
    ) -> Self:
        """The Euclidean length along `dim`, or of all entries; `axis` and `keepdims` are NumPy's names.

        The first argument is the order, as in torch, and must be 2 (or "fro").
        Errors: `NotAffineError` for any other order.
        """
        if isinstance(p, bool) or p not in (2, "fro", None):
            raise NotAffineError(
                f"norm of ({say(self.affine.wording)}) has the order {p!r:.60}, and rules can have Euclidean lengths "
                f"only: write .norm(dim=…). families.l1_ball and families.linf_ball bound other norms."
            )
        dim = pick_synonym("norm", dim=dim, axis=axis)
        return replace(self, affine=nonlinear.norm(self.affine, dim, keepdim or keepdims))

    def det(self) -> Self:
        """The determinant of the matrix along the last two axes, or of each matrix of a stack."""
        return replace(self, affine=nonlinear.determinant(self.affine))

    def inverse(self) -> Self:
        """The inverse of the matrix along the last two axes, or of each matrix of a stack."""
        return replace(self, affine=nonlinear.inverse(self.affine))
