"""The functions of expressions that are not affine: of every entry, of vectors, and of matrices."""

from __future__ import annotations

from typing import Self

from affinet.language import nonlinear
from affinet.language.affine import Affine
from affinet.language.foreign import pick_synonym
from affinet.language.nodes import Kind


class EntryFunctions:
    """Methods of `Expression`, which holds an `affine`; each makes a node."""

    __slots__ = ()

    affine: Affine

    def __init__(self, affine: Affine) -> None:
        raise NotImplementedError

    def square(self) -> Self:
        """Every entry times itself."""
        return type(self)(nonlinear.power(self.affine, 2))

    def sqrt(self) -> Self:
        """The square root of every entry."""
        return self._function("sqrt")

    def reciprocal(self) -> Self:
        """1 divided by every entry."""
        return self._function("reciprocal")

    def exp(self) -> Self:
        """The exponential of every entry."""
        return self._function("exp")

    def log(self) -> Self:
        """The natural logarithm of every entry."""
        return self._function("log")

    def sin(self) -> Self:
        """The sine of every entry, in radians."""
        return self._function("sin")

    def cos(self) -> Self:
        """The cosine of every entry, in radians."""
        return self._function("cos")

    def tanh(self) -> Self:
        """The hyperbolic tangent of every entry."""
        return self._function("tanh")

    def norm(
        self, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False
    ) -> Self:
        """The Euclidean length along `dim`, or of all entries."""
        return type(self)(nonlinear.norm(self.affine, pick_synonym("norm", dim=dim, axis=axis), keepdim or keepdims))

    def det(self) -> Self:
        """The determinant of the matrix along the last two axes, or of each matrix of a stack."""
        return type(self)(nonlinear.determinant(self.affine))

    def inverse(self) -> Self:
        """The inverse of the matrix along the last two axes, or of each matrix of a stack."""
        return type(self)(nonlinear.inverse(self.affine))

    def _function(self, name: Kind) -> Self:
        return type(self)(nonlinear.function(name, self.affine))
