"""The types that users work with: affine expressions in the weights, and the rules that comparisons make of them.

The two types refer to each other, so they share a file. Their methods call functions of `Affine` in other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NoReturn

import numpy as np

from affinet.errors import MissingOperationError, NotAffineError, RuleError, ShapeError, TruthValueError
from affinet.language import arithmetic, joining, nonlinear, products, rearranging, reducing, repeating
from affinet.language import einsum as sums
from affinet.language.affine import Affine, Dims, Values, from_constant, from_parameter
from affinet.language.calculus.terms import Parameter, Term
from affinet.language.constants import (
    Constant,
    is_sparse,
    read_array,
    read_bound,
    read_constant,
    read_matrix,
    right_hand_side,
    word_of,
)
from affinet.language.entry_functions import EntryFunctions
from affinet.language.foreign import UfuncProtocol, missing, not_a_rule, pick_synonym, unpack_dims
from affinet.language.foreign_calls import ForeignCalls
from affinet.language.indexing import index
from affinet.language.labels import entry_hint
from affinet.language.many import defer_to_many
from affinet.language.origin import Origin, WrittenEquation
from affinet.language.sense import Norm, Sense, unbounded
from affinet.language.wording import Method, Operation, Property, Wording, differing, say


@dataclass(frozen=True, eq=False, slots=True)
class Constraint:
    """A rule: `expression`, the left side minus the right side, is zero in every entry, or of the sign of `sense`.

    With the sense `<=` all entries are at most 0, with `>=` at least 0. Where a bound is infinite, the constant of
    `expression` is: such an entry states nothing. With a `norm` the rule is a ball: every vector along the
    last axis of `expression` has a norm of at most `radius`, a number or an array that broadcasts to the rule's shape.

    Reports show its `name`, or its `text` where it has no name. `wording`, where a family sets it, replaces the
    wording of the two sides.
    """

    expression: Expression
    sides: tuple[Wording, Wording]
    origin: Origin
    wording: Wording | None = None
    name: str | None = None
    sense: Sense = "=="
    norm: Norm | None = None
    radius: Values = 0.0

    @property
    def left(self) -> str:
        """The left side as text."""
        return say(self.sides[0])

    @property
    def right(self) -> str:
        """The right side as text."""
        return say(self.sides[1])

    @property
    def text(self) -> str:
        """The rule as it was written: `hidden.weight.sum(dim=1) == 1`."""
        return say(Operation(self.sides[0], self.sense, self.sides[1]) if self.wording is None else self.wording)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rule's equations or inequalities; a ball has one inequality for each vector."""
        return self.expression.shape if self.norm is None else self.expression.shape[:-1]

    @property
    def rows(self) -> int:
        """The number of equations or inequalities."""
        return prod(self.shape)

    def named(self, name: str) -> Constraint:
        """The same rule under a name."""
        if not isinstance(name, str) or not name.strip():
            raise RuleError(f"the name of a rule must be text that is not empty; got {name!r:.60} for ({self.text}).")
        return replace(self, name=name)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self.text, self.sense)

    def __str__(self) -> str:
        return self.text if self.name is None else f'"{self.name}"  {self.text}'

    def __repr__(self) -> str:
        singular, plural = ("equation", "equations") if self.sense == "==" else ("inequality", "inequalities")
        return f"<Constraint {self}, {self.rows} {singular if self.rows == 1 else plural}>"


@dataclass(frozen=True, eq=False, slots=True)
class Expression(EntryFunctions):
    """An array of sums and functions of the weights: indexed, added, multiplied and compared as a NumPy array is.

    Errors: `NotAffineError` for functions that no rule can have, `ShapeError` for axes, indices and
    shapes that do not fit, `ConstantError` for constants that are not finite real numbers.
    """

    __hash__ = None  # type: ignore[assignment]  # `==` makes a rule, so an expression cannot be a key

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of every axis."""
        return self.affine.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.affine.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.affine.shape)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The part that depends on the weights, as a sum of terms."""
        return self.affine.terms

    @property
    def constant(self) -> Values:
        """The constant part: a number, or an array that broadcasts to `shape`."""
        return self.affine.constant

    @property
    def epsilon(self) -> float:
        """The spacing at 1 of the coarsest floating dtype among the constants in it."""
        return self.affine.epsilon

    def __str__(self) -> str:
        return say(self.affine.wording)

    def __repr__(self) -> str:
        return f"<Expression {self} of shape {self.shape}>"

    # Protocols that NumPy and torch call in place of their own functions: np.sum(w), torch.sum(w), array * w

    __array_ufunc__ = UfuncProtocol(lambda *arguments, **options: _FUNCTIONS.called_by_numpy(*arguments, **options))

    def __array_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        prefix = "linalg_" if function.__module__ == "numpy.linalg" else ""  # torch has it in its names
        return _FUNCTIONS.call_in_place_of(prefix + function.__name__, args, kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _FUNCTIONS.call_in_place_of(function.__name__, args, kwargs or {})

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Any:
        """An array of one object: SciPy then leaves `sparse @ weights` to the weights."""
        if copy or dtype is not None:
            raise MissingOperationError(
                f"an array cannot hold ({self}), which stands for weights without values. To join weights write "
                f"affinet.stack([...]) or affinet.concat([...]); for numbers, take the values from the model."
            )
        holder = np.empty((), object)
        holder[()] = self
        return holder

    def __len__(self) -> NoReturn:
        raise MissingOperationError(
            f"({self}) has no len(), since NumPy would take it for a list. Its shape is {self.shape}: write .shape[0]."
        )

    def keys(self) -> NoReturn:
        """Refused: dict(w) means the weights of a module."""
        raise MissingOperationError(
            f"({self}) is one expression, not a mapping of names. All weights are in affinet.weights(model).items()."
        )

    def __float__(self) -> NoReturn:
        raise NotAffineError(
            f"({self}) is not a number: it stands for weights without values. Take the value from the model."
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or name == "affine":  # copy and pickle ask for these before the fields are set
            raise AttributeError(name)
        raise missing(self, name, dir(Expression), entry_hint(self.affine, name))

    # Parts of the expression

    def __getitem__(self, key: object) -> Expression:
        return Expression(index(self.affine, key))

    def __iter__(self) -> Iterator[Expression]:
        if not self.shape:
            raise TypeError(f"({self}) is a single number and cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    # Arithmetic with constants and other expressions

    def __neg__(self) -> Expression:
        return Expression(arithmetic.negative(self.affine))

    def __pos__(self) -> Expression:
        return self

    @defer_to_many
    def __add__(self, other: object) -> Expression:
        if type(other) is int and other == 0:  # the start of the builtin sum()
            return self
        return Expression(arithmetic.add(self.affine, _affine(other)))

    @defer_to_many
    def __radd__(self, other: object) -> Expression:
        if type(other) is int and other == 0:
            return self
        return Expression(arithmetic.add(_affine(other), self.affine))

    @defer_to_many
    def __sub__(self, other: object) -> Expression:
        return Expression(arithmetic.subtract(self.affine, _affine(other)))

    @defer_to_many
    def __rsub__(self, other: object) -> Expression:
        return Expression(arithmetic.subtract(_affine(other), self.affine))

    @defer_to_many
    def __mul__(self, other: object) -> Expression:
        return Expression(nonlinear.multiply(self.affine, _affine(other)))

    @defer_to_many
    def __rmul__(self, other: object) -> Expression:
        return Expression(nonlinear.multiply(_affine(other), self.affine))

    @defer_to_many
    def __truediv__(self, other: object) -> Expression:
        return Expression(nonlinear.divide(self.affine, _affine(other)))

    @defer_to_many
    def __rtruediv__(self, other: object) -> Expression:
        return Expression(nonlinear.divide(_affine(other), self.affine))

    @defer_to_many
    def __matmul__(self, other: object) -> Expression:
        if isinstance(other, Expression):
            if not other.terms or not self.terms:
                return Expression(nonlinear.matmul_by_constant(self.affine, other.affine))
            return Expression(nonlinear.matmul(self.affine, other.affine))
        return Expression(products.from_right(self.affine, read_matrix(other)))

    @defer_to_many
    def __rmatmul__(self, other: object) -> Expression:
        return Expression(products.from_left(read_matrix(other), self.affine))

    @defer_to_many
    def __pow__(self, other: object) -> Expression:
        if isinstance(other, Expression):
            raise NotAffineError.function("a power with weights in the exponent", other)
        return Expression(nonlinear.power(self.affine, other))

    def __rpow__(self, other: object) -> NoReturn:
        raise NotAffineError.function("a power with weights in the exponent", self)

    def __abs__(self) -> NoReturn:
        raise NotAffineError.function("abs", self)

    def __floordiv__(self, other: object) -> NoReturn:
        raise NotAffineError.function("floor division", self)

    def __mod__(self, other: object) -> NoReturn:
        raise NotAffineError.function("a remainder", self)

    # Comparisons are rules

    @defer_to_many
    def __eq__(self, other: object) -> Constraint:  # type: ignore[override]
        return _rule(self.affine, "==", other)

    @defer_to_many
    def __le__(self, other: object) -> Constraint:
        return _rule(self.affine, "<=", other)

    @defer_to_many
    def __ge__(self, other: object) -> Constraint:
        return _rule(self.affine, ">=", other)

    def __ne__(self, other: object) -> NoReturn:
        raise not_a_rule(self, "!=")

    def __lt__(self, other: object) -> NoReturn:
        raise not_a_rule(self, "<")

    def __gt__(self, other: object) -> NoReturn:
        raise not_a_rule(self, ">")

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self)

    # Rearranging entries

    @property
    def T(self) -> Expression:
        """All axes in reverse order."""
        wording = Property(self.affine.wording, "T")
        return Expression(rearranging.permute(self.affine, range(self.ndim)[::-1], wording))

    @property
    def mT(self) -> Expression:
        """The transpose of every matrix in a stack: the last two axes exchanged."""
        return Expression(rearranging.swap(self.affine, -2, -1, Property(self.affine.wording, "mT")))

    def transpose(
        self,
        *dims: int | Sequence[int],
        dim0: int | None = None,
        dim1: int | None = None,
        axes: Sequence[int] | None = None,
    ) -> Expression:
        """Exchange two axes, given as two integers, as torch does; any other arguments mean what they mean in NumPy."""
        if dim0 is not None and dim1 is not None:
            dims = pick_synonym("transpose", dims=dims or None, dim0_and_dim1=(dim0, dim1))
        elif axes is not None:
            dims = (pick_synonym("transpose", dims=dims or None, axes=axes),)
        wording = self._wording_of("transpose", *dims)
        if len(dims) == 2:
            return Expression(rearranging.swap(self.affine, dims[0], dims[1], wording))
        order = unpack_dims(dims) if dims else range(self.ndim)[::-1]
        return Expression(rearranging.permute(self.affine, order, wording))

    def permute(self, *order: int | Sequence[int], dims: Sequence[int] | None = None) -> Expression:
        """Bring the axes into the given order."""
        order = order if dims is None else (pick_synonym("permute", order=order or None, dims=dims),)
        return Expression(rearranging.permute(self.affine, unpack_dims(order), self._wording_of("permute", *order)))

    def reshape(
        self, *sizes: int | Sequence[int], shape: Sequence[int] | int | None = None, order: str = "C"
    ) -> Expression:
        """Read the entries as another shape, row by row, or column by column with `order="F"`; one size may be -1."""
        sizes = sizes if shape is None else (pick_synonym("reshape", sizes=sizes or None, shape=shape),)
        wording = self._wording_of("reshape", *sizes, **differing(order=(order, "C")))
        return Expression(rearranging.reshape(self.affine, unpack_dims(sizes), wording, order))

    def flatten(self, start_dim: int | str = 0, end_dim: int = -1, *, order: str | None = None) -> Expression:
        """Merge the axes from `start_dim` to `end_dim` into one; NumPy's `flatten("F")` reads column by column."""
        if isinstance(start_dim, str):
            order, start_dim = pick_synonym("flatten", order=order, start_dim=start_dim), 0
        options = differing(start_dim=(start_dim, 0), end_dim=(end_dim, -1), order=(order or "C", "C"))
        return Expression(
            rearranging.flatten(self.affine, start_dim, end_dim, self._wording_of("flatten", **options), order)
        )

    def ravel(self, order: str = "C") -> Expression:
        """Merge all axes into one, row by row, or column by column with `order="F"`."""
        wording = self._wording_of("ravel", **differing(order=(order, "C")))
        return Expression(rearranging.flatten(self.affine, 0, -1, wording, order))

    def flip(self, *axes: int | Sequence[int], dims: Dims = None, dim: Dims = None, axis: Dims = None) -> Expression:
        """Reverse the order along the given axes, along all axes by default. All keywords mean the same."""
        dims_given = pick_synonym("flip", axes=axes or None, dims=dims, dim=dim, axis=axis)
        flipped = unpack_dims(axes) if axes else dims_given
        shown_dims = axes if axes or dims_given is None else (dims_given,)
        return Expression(rearranging.flip(self.affine, flipped, self._wording_of("flip", *shown_dims)))

    def roll(
        self,
        shift: Dims = None,
        dim: Dims = None,
        *,
        shifts: Dims = None,
        dims: Dims = None,
        axis: Dims = None,
    ) -> Expression:
        """Move entries `shift` places up along `dim`, from the end to the front; without `dim` in the flattened array.

        `shifts` and `dims` are torch's names of these arguments, `axis` is NumPy's.
        """
        shift, dim = (
            pick_synonym("roll", shift=shift, shifts=shifts),
            pick_synonym("roll", dim=dim, dims=dims, axis=axis),
        )
        wording = self._wording_of("roll", shift, **differing(dim=(dim, None)))
        return Expression(rearranging.roll(self.affine, shift, dim, wording))

    def diagonal(
        self, offset: int = 0, dim1: int = 0, dim2: int = 1, *, axis1: int | None = None, axis2: int | None = None
    ) -> Expression:
        """The entries whose position on `dim2` is their position on `dim1` plus `offset`, on a new last axis."""
        dim1, dim2 = dim1 if axis1 is None else axis1, dim2 if axis2 is None else axis2
        wording = self._wording_of("diagonal", **differing(offset=(offset, 0), dim1=(dim1, 0), dim2=(dim2, 1)))
        return Expression(rearranging.diagonal(self.affine, offset, dim1, dim2, wording))

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Expression:
        """Rotate the plane of two axes by `k` right angles, from the first axis towards the second."""
        wording = self._wording_of("rot90", **differing(k=(k, 1), dims=(dims, (0, 1))))
        return Expression(rearranging.quarter_turns(self.affine, k, dims, wording))

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Expression:
        """Move the axes `source` to the places `destination`; the other axes keep their order."""
        wording = self._wording_of("movedim", source, destination)
        return Expression(rearranging.move_axes(self.affine, source, destination, wording))

    def squeeze(self, dim: Dims = None, *, axis: Dims = None) -> Expression:
        """Remove axes of size one: the given ones, or all."""
        dim = pick_synonym("squeeze", dim=dim, axis=axis)
        wording = self._wording_of("squeeze", *([] if dim is None else [dim]))
        return Expression(repeating.squeeze(self.affine, dim, wording))

    def unsqueeze(self, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """Insert a new axis of size one at the place `dim`."""
        dim = pick_synonym("unsqueeze", dim=dim, axis=axis)
        return Expression(repeating.unsqueeze(self.affine, dim, self._wording_of("unsqueeze", dim)))

    # Repeating entries

    def expand(self, *sizes: int | Sequence[int], shape: Sequence[int] | None = None) -> Expression:
        """Repeat axes of size one to the given sizes; -1 keeps a size, and new axes come first."""
        target = pick_synonym("expand", sizes=unpack_dims(sizes) if sizes else None, shape=shape) or ()
        return Expression(repeating.expand(self.affine, target, self._wording_of("expand", *target)))

    def repeat(self, *repeats: int | Sequence[int]) -> Expression:
        """Repeat the whole array the given number of times along each axis, as torch's method of this name does.

        NumPy's `repeat` is `repeat_interleave` here, and `np.repeat(w, 2, axis=0)` calls that.
        """
        return Expression(repeating.tile(self.affine, unpack_dims(repeats), self._wording_of("repeat", *repeats)))

    def tile(self, *repeats: int | Sequence[int], dims: Dims = None) -> Expression:
        """As `repeat`, except that fewer numbers than axes apply to the last axes."""
        dims_given = pick_synonym("tile", repeats=unpack_dims(repeats) if repeats else None, dims=dims)
        counts = tuple(dims_given) if isinstance(dims_given, Sequence) else (dims_given,)
        all_counts = (1,) * (self.ndim - len(counts)) + counts
        return Expression(repeating.tile(self.affine, all_counts, self._wording_of("tile", *counts)))

    def repeat_interleave(self, repeats: Any, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """Repeat each position along `dim` the given number of times; without `dim` in the flattened array."""
        dim = pick_synonym("repeat_interleave", dim=dim, axis=axis)
        shown_repeats = repeats if isinstance(repeats, int) else word_of(read_array(repeats)[0])
        wording = self._wording_of("repeat_interleave", shown_repeats, **differing(dim=(dim, None)))
        return Expression(repeating.repeat_each(self.affine, repeats, dim, wording))

    # Summing along axes

    def dot(self, other: object) -> Expression:
        """`numpy.dot`: sums over the last axis and the constant's last axis but one (or its only axis)."""
        return _dot(self, other)

    def sum(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = None, keepdims: bool = False) -> Expression:
        """The sum over axes, over all by default; `axis` and `keepdims` are NumPy's names of `dim` and `keepdim`."""
        dim, keepdim = pick_synonym("sum", dim=dim, axis=axis), keepdim or keepdims
        wording = self._wording_of("sum", **differing(dim=(dim, None), keepdim=(keepdim, False)))
        return Expression(reducing.total(self.affine, dim, keepdim, wording))

    def mean(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = None, keepdims: bool = False) -> Expression:
        """The mean over axes, over all by default; `axis` and `keepdims` are NumPy's names of `dim` and `keepdim`."""
        dim, keepdim = pick_synonym("mean", dim=dim, axis=axis), keepdim or keepdims
        wording = self._wording_of("mean", **differing(dim=(dim, None), keepdim=(keepdim, False)))
        return Expression(reducing.mean(self.affine, dim, keepdim, wording))

    def cumsum(self, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """Running sums along `dim`; without `dim` over the flattened array, as in NumPy."""
        dim = pick_synonym("cumsum", dim=dim, axis=axis)
        wording = self._wording_of("cumsum", *([] if dim is None else [dim]))
        if dim is None:
            flat = rearranging.reshape(self.affine, (self.size,), wording)
            return Expression(reducing.running_sum(flat, 0, wording))
        return Expression(reducing.running_sum(self.affine, dim, wording))

    def diff(self, dim: int = -1, *, axis: int | None = None) -> Expression:
        """Each entry along `dim` minus the one before it."""
        dim = dim if axis is None else pick_synonym("diff", dim=None if dim == -1 else dim, axis=axis)
        return Expression(reducing.differences(self.affine, dim, self._wording_of("diff", **differing(dim=(dim, -1)))))

    def tril(self, diagonal: int = 0) -> Expression:
        """The entries on and below a diagonal of the last two axes; those above it become zero."""
        wording = self._wording_of("tril", *([] if type(diagonal) is int and diagonal == 0 else [diagonal]))
        return Expression(reducing.lower_triangle(self.affine, diagonal, wording))

    def triu(self, diagonal: int = 0) -> Expression:
        """The entries on and above a diagonal of the last two axes; those below it become zero."""
        wording = self._wording_of("triu", *([] if type(diagonal) is int and diagonal == 0 else [diagonal]))
        return Expression(reducing.upper_triangle(self.affine, diagonal, wording))

    def trace(
        self, offset: int = 0, dim1: int = -2, dim2: int = -1, *, axis1: int | None = None, axis2: int | None = None
    ) -> Expression:
        """The sum of a diagonal of two axes, by default the last two (for `np.trace`, as in NumPy, the first two)."""
        dim1, dim2 = dim1 if axis1 is None else axis1, dim2 if axis2 is None else axis2
        wording = self._wording_of("trace", **differing(offset=(offset, 0), dim1=(dim1, -2), dim2=(dim2, -1)))
        return Expression(reducing.trace(self.affine, offset, dim1, dim2, wording))

    def _wording_of(self, method: str, *positional: object, **options: object) -> Wording:
        return Method(self.affine.wording, method, (*(("", item) for item in positional), *options.items()))


def weight(parameter: Parameter) -> Expression:
    """An expression of all entries of a weight tensor."""
    return Expression(from_parameter(parameter))


def stack(expressions: Sequence[object], dim: int = 0) -> Expression:
    """Join expressions (or constants) of one shape along a new axis, as `numpy.stack` does."""
    return Expression(joining.stack(_parts("stack", expressions), dim))


def concat(expressions: Sequence[object], dim: int = 0) -> Expression:
    """Join expressions (or constants) end to end along an axis, as `numpy.concatenate` does."""
    return Expression(joining.concat(_parts("concat", expressions), dim))


def einsum(subscripts: str, *operands: object) -> Expression:
    """`numpy.einsum` of expressions and constants.

    Errors: `ShapeError` for subscripts that do not fit.
    """
    return Expression(sums.einsum(subscripts, [_affine(operand) for operand in operands]))


def _dot(left: Any, right: Any) -> Expression:
    """`numpy.dot`, where one of the two may be sparse."""
    if isinstance(left, Expression) and is_sparse(right):
        return Expression.__matmul__(left, right)
    if is_sparse(left):
        return Expression.__rmatmul__(right, left)
    return Expression(sums.dot(_affine(left), _affine(right)))


_FUNCTIONS: ForeignCalls = ForeignCalls(
    Expression,
    joining={"cat": concat, "concat": concat, "concatenate": concat, "stack": stack},
    products={
        "dot": _dot,
        "inner": lambda left, right: Expression(sums.inner(_affine(left), _affine(right))),
        "outer": lambda left, right: Expression(sums.outer(_affine(left), _affine(right))),
    },
    einsum=einsum,
)


def _affine(value: object) -> Affine:
    return value.affine if isinstance(value, Expression) else from_constant(read_constant(value))


def _parts(function: str, expressions: object) -> list[Affine]:
    if isinstance(expressions, str | bytes | Mapping) or not isinstance(expressions, Iterable):
        raise ShapeError(f"{function} takes a list of expressions, as in {function}([a, b]); got {expressions!r:.60}.")
    return [_affine(part) for part in expressions]


def _rule(left: Affine, sense: Sense, other: object) -> Constraint:
    """The rule that compares `left` with an expression or a constant, which may be infinite where it is a bound."""
    if isinstance(other, Expression):
        right = other.affine
    elif isinstance(other, Constant):
        right = from_constant(other)
    else:
        bound = right_hand_side(other) if sense == "==" else read_bound(other, unbounded(sense), left.wording)
        right = from_constant(bound)
    difference = arithmetic.subtract(left, right) if sense == "==" else arithmetic.subtract_bound(left, right)
    if sense != "==" and not (left.terms and right.terms):
        _check_repetition(left, right, difference.shape)
    origin = WrittenEquation.of(left, right)
    return Constraint(Expression(difference), (left.wording, right.wording), origin, sense=sense)


def _check_repetition(left: Affine, right: Affine, shape: tuple[int, ...]) -> None:
    """Raise ShapeError where a bound repeats the weights and is repeated itself, as shapes (m,) and (m, 1) do.

    Each weight then has many bounds, of which one counts. Weights that are compared with weights are left as written.
    """
    weights, bound = (left, right) if left.terms else (right, left)
    if weights.terms and prod(shape) > max(prod(weights.shape), prod(bound.shape)):
        raise ShapeError(
            f"({say(weights.wording)}) has shape {weights.shape} and its bound has shape {bound.shape}: together they "
            f"have shape {shape}, {prod(shape):,} inequalities for {prod(weights.shape):,} numbers, so that all but "
            f"one bound of each number would be without effect. Give the bound shape {weights.shape}, or a shape that "
            f"broadcasts to it."
        )
