"""What the user holds: affine expressions in the weights, and the rules that `==` makes of them.

The two types name each other, so they share a file; everything they do is a function of `Affine` in another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NoReturn, TypeAlias

import numpy as np

from affinet.errors import MissingOperationError, NotAffineError, RuleError, ShapeError, TruthValueError
from affinet.language import arithmetic, joining, products, rearranging, reducing, repeating
from affinet.language import einsum as sums
from affinet.language.affine import Affine, Values, from_constant, from_parameter
from affinet.language.calculus.terms import Parameter, Term
from affinet.language.constants import (
    Constant,
    is_sparse,
    read_array,
    read_constant,
    read_matrix,
    right_hand_side,
    word_of,
)
from affinet.language.foreign import (
    COMPARISONS,
    DEFAULTS,
    MIRRORED,
    OPERATORS,
    check_arguments,
    function_of,
    method_of,
    missing,
    one_of,
    unpacked,
)
from affinet.language.indexing import index
from affinet.language.many import one_to_one
from affinet.language.origin import Origin, Said
from affinet.language.wording import Method, Operation, Property, Wording, differing, say

Dims: TypeAlias = int | Sequence[int] | None


@dataclass(frozen=True, eq=False, slots=True)
class Constraint:
    """A rule: `expression`, the left side minus the right side, is zero in every entry.

    `name` is what reports call it; without one they show its `text`.
    """

    expression: Expression
    sides: tuple[Wording, Wording]
    origin: Origin
    said: Wording | None = None
    name: str | None = None

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
        """The rule as it was said: `hidden.weight.sum(dim=1) == 1`."""
        return say(Operation(self.sides[0], "==", self.sides[1]) if self.said is None else self.said)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rule's equations."""
        return self.expression.shape

    @property
    def rows(self) -> int:
        """The number of equations."""
        return self.expression.size

    def named(self, name: str) -> Constraint:
        """The same rule under a name."""
        if not isinstance(name, str) or not name.strip():
            raise RuleError(f"{name!r:.60} is no name of a rule ({self.text}): a name is text that is not empty.")
        return replace(self, name=name)

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self.text)

    def __str__(self) -> str:
        return self.text if self.name is None else f'"{self.name}"  {self.text}'

    def __repr__(self) -> str:
        return f"<Constraint {self}, {self.rows} equation{'s' if self.rows != 1 else ''}>"


class Ufuncs:
    """What NumPy finds as `__array_ufunc__`.

    On the class, where NumPy's own functions look, it is the function that they call: `array * w` and `np.multiply`
    then mean the operator, and what is not affine is an error in our words. On an expression it is None, which tells
    masked arrays and other libraries to leave an operator to the expression.
    """

    def __get__(self, instance: object, owner: type) -> Callable[..., Any] | None:
        return _called_by_numpy if instance is None else None


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """An array that is affine in the weights: indexed, added, scaled and compared as a NumPy array is.

    Errors: `NotAffineError` for what is not a sum of weights times constants, `ShapeError` for axes, indices and
    shapes that do not fit, `ConstantError` for constants that are no finite real numbers.
    """

    affine: Affine

    __hash__ = None  # type: ignore[assignment]  # `==` makes a rule, so an expression is no key

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
        """What the weights add to it."""
        return self.affine.terms

    @property
    def constant(self) -> Values:
        """What is added to the terms: a number, or an array that broadcasts to `shape`."""
        return self.affine.constant

    @property
    def epsilon(self) -> float:
        """The spacing at 1 of the coarsest floating dtype among the constants in it."""
        return self.affine.epsilon

    def __str__(self) -> str:
        return say(self.affine.wording)

    def __repr__(self) -> str:
        return f"<Expression {self} of shape {self.shape}>"

    # What NumPy and torch call in place of their own functions: np.sum(w), torch.sum(w), array * w

    __array_ufunc__ = Ufuncs()

    def __array_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        inside = "linalg_" if function.__module__ == "numpy.linalg" else ""  # torch has it in its names
        return _in_place_of(inside + function.__name__, args, kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _in_place_of(function.__name__, args, kwargs or {})

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Any:
        """SciPy leaves `sparse @ weights` to the weights where NumPy makes an array of one object of them."""
        if copy or dtype is not None:
            raise MissingOperationError(
                f"an array cannot hold ({self}): it is about weights that are not known yet. To put weights together "
                f"write affinet.stack([...]) or affinet.concat([...]); for numbers, take the values from the model."
            )
        whole = np.empty((), object)
        whole[()] = self
        return whole

    def __len__(self) -> NoReturn:
        raise MissingOperationError(
            f"({self}) has no length, since NumPy would take it for a list. Its shape is {self.shape}: write .shape[0]."
        )

    def keys(self) -> NoReturn:
        """Refused: dict(w) means the weights of a module."""
        raise MissingOperationError(
            f"({self}) is one expression, and no mapping of names. affinet.weights(model).items() are all weights."
        )

    def __float__(self) -> NoReturn:
        raise NotAffineError(
            f"({self}) is no number: it is about weights that are not known yet. Take the value from the model."
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or name == "affine":  # copies and pickles ask for these before there is anything to say
            raise AttributeError(name)
        raise missing(self, name, dir(Expression))

    # What it is made of

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

    @one_to_one
    def __add__(self, other: object) -> Expression:
        if type(other) is int and other == 0:  # the start of the builtin sum()
            return self
        return Expression(arithmetic.add(self.affine, _affine(other)))

    @one_to_one
    def __radd__(self, other: object) -> Expression:
        if type(other) is int and other == 0:
            return self
        return Expression(arithmetic.add(_affine(other), self.affine))

    @one_to_one
    def __sub__(self, other: object) -> Expression:
        return Expression(arithmetic.subtract(self.affine, _affine(other)))

    @one_to_one
    def __rsub__(self, other: object) -> Expression:
        return Expression(arithmetic.subtract(_affine(other), self.affine))

    @one_to_one
    def __mul__(self, other: object) -> Expression:
        return Expression(arithmetic.multiply(self.affine, _affine(other)))

    @one_to_one
    def __rmul__(self, other: object) -> Expression:
        return Expression(arithmetic.multiply(_affine(other), self.affine))

    @one_to_one
    def __truediv__(self, other: object) -> Expression:
        return Expression(arithmetic.divide(self.affine, _affine(other)))

    @one_to_one
    def __rtruediv__(self, other: object) -> Expression:
        return Expression(arithmetic.divide(_affine(other), self.affine))

    @one_to_one
    def __matmul__(self, other: object) -> Expression:
        if isinstance(other, Expression):
            raise NotAffineError.product(self, "@", other)
        return Expression(products.from_right(self.affine, read_matrix(other)))

    @one_to_one
    def __rmatmul__(self, other: object) -> Expression:
        return Expression(products.from_left(read_matrix(other), self.affine))

    def __pow__(self, other: object) -> NoReturn:
        raise NotAffineError.function("a power", self)

    def __rpow__(self, other: object) -> NoReturn:
        raise NotAffineError.function("an exponential", self)

    def __abs__(self) -> NoReturn:
        raise NotAffineError.function("abs", self)

    def __floordiv__(self, other: object) -> NoReturn:
        raise NotAffineError.function("floor division", self)

    def __mod__(self, other: object) -> NoReturn:
        raise NotAffineError.function("a remainder", self)

    # Comparisons: equations are rules, inequalities are not there yet

    @one_to_one
    def __eq__(self, other: object) -> Constraint:  # type: ignore[override]
        if isinstance(other, Expression):
            right = other.affine
        else:
            right = from_constant(other if isinstance(other, Constant) else right_hand_side(other))
        difference = arithmetic.subtract(self.affine, right)
        return Constraint(Expression(difference), (self.affine.wording, right.wording), Said.of(self.affine, right))

    def __ne__(self, other: object) -> NoReturn:
        raise _no_inequality(self, "!=")

    def __lt__(self, other: object) -> NoReturn:
        raise _no_inequality(self, "<")

    def __le__(self, other: object) -> NoReturn:
        raise _no_inequality(self, "<=")

    def __gt__(self, other: object) -> NoReturn:
        raise _no_inequality(self, ">")

    def __ge__(self, other: object) -> NoReturn:
        raise _no_inequality(self, ">=")

    def __bool__(self) -> NoReturn:
        raise TruthValueError(self)

    # The same entries in another arrangement

    @property
    def T(self) -> Expression:
        """All axes in reverse order."""
        wording = Property(self.affine.wording, "T")
        return Expression(rearranging.permute(self.affine, range(self.ndim)[::-1], wording))

    @property
    def mT(self) -> Expression:
        """The last two axes exchanged: every matrix of a stack transposed."""
        return Expression(rearranging.swap(self.affine, -2, -1, Property(self.affine.wording, "mT")))

    def transpose(
        self,
        *dims: int | Sequence[int],
        dim0: int | None = None,
        dim1: int | None = None,
        axes: Sequence[int] | None = None,
    ) -> Expression:
        """Two integers: these two axes exchanged, as in torch. Nothing, a tuple or more: as in NumPy."""
        if dim0 is not None and dim1 is not None:
            dims = one_of("transpose", dims=dims or None, dim0_and_dim1=(dim0, dim1))
        elif axes is not None:
            dims = (one_of("transpose", dims=dims or None, axes=axes),)
        wording = self._said("transpose", *dims)
        if len(dims) == 2:
            return Expression(rearranging.swap(self.affine, dims[0], dims[1], wording))
        order = unpacked(dims) if dims else range(self.ndim)[::-1]
        return Expression(rearranging.permute(self.affine, order, wording))

    def permute(self, *order: int | Sequence[int], dims: Sequence[int] | None = None) -> Expression:
        """The axes in the given order."""
        order = order if dims is None else (one_of("permute", order=order or None, dims=dims),)
        return Expression(rearranging.permute(self.affine, unpacked(order), self._said("permute", *order)))

    def reshape(
        self, *sizes: int | Sequence[int], shape: Sequence[int] | int | None = None, order: str = "C"
    ) -> Expression:
        """The same entries in another shape, row by row, or column by column by `order="F"`; one size may be -1."""
        sizes = sizes if shape is None else (one_of("reshape", sizes=sizes or None, shape=shape),)
        wording = self._said("reshape", *sizes, **differing(order=(order, "C")))
        return Expression(rearranging.reshape(self.affine, unpacked(sizes), wording, order))

    def flatten(self, start_dim: int | str = 0, end_dim: int = -1, *, order: str | None = None) -> Expression:
        """The axes from `start_dim` to `end_dim` made one; `flatten("F")` of NumPy goes column by column."""
        if isinstance(start_dim, str):
            order, start_dim = one_of("flatten", order=order, start_dim=start_dim), 0
        options = differing(start_dim=(start_dim, 0), end_dim=(end_dim, -1), order=(order or "C", "C"))
        return Expression(rearranging.flatten(self.affine, start_dim, end_dim, self._said("flatten", **options), order))

    def ravel(self, order: str = "C") -> Expression:
        """All axes made one, row by row, or column by column by `order="F"`."""
        wording = self._said("ravel", **differing(order=(order, "C")))
        return Expression(rearranging.flatten(self.affine, 0, -1, wording, order))

    def flip(self, *axes: int | Sequence[int], dims: Dims = None, dim: Dims = None, axis: Dims = None) -> Expression:
        """The order along the given axes reversed; along all axes where none is named. All keywords mean the same."""
        given = one_of("flip", axes=axes or None, dims=dims, dim=dim, axis=axis)
        named = unpacked(axes) if axes else given
        said = axes if axes or given is None else (given,)
        return Expression(rearranging.flip(self.affine, named, self._said("flip", *said)))

    def roll(
        self,
        shift: Dims = None,
        dim: Dims = None,
        *,
        shifts: Dims = None,
        dims: Dims = None,
        axis: Dims = None,
    ) -> Expression:
        """Entries moved `shift` places up along `dim`, round the end; without `dim` in the flattened array.

        `shifts` and `dims` are torch's words for the same, `axis` is NumPy's.
        """
        shift, dim = one_of("roll", shift=shift, shifts=shifts), one_of("roll", dim=dim, dims=dims, axis=axis)
        wording = self._said("roll", shift, **differing(dim=(dim, None)))
        return Expression(rearranging.roll(self.affine, shift, dim, wording))

    def diagonal(
        self, offset: int = 0, dim1: int = 0, dim2: int = 1, *, axis1: int | None = None, axis2: int | None = None
    ) -> Expression:
        """The entries whose place on `dim2` is their place on `dim1` plus `offset`; their axis comes last."""
        dim1, dim2 = dim1 if axis1 is None else axis1, dim2 if axis2 is None else axis2
        wording = self._said("diagonal", **differing(offset=(offset, 0), dim1=(dim1, 0), dim2=(dim2, 1)))
        return Expression(rearranging.diagonal(self.affine, offset, dim1, dim2, wording))

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Expression:
        """The plane of two axes turned by `k` right angles, from the first axis towards the second."""
        wording = self._said("rot90", **differing(k=(k, 1), dims=(dims, (0, 1))))
        return Expression(rearranging.quarter_turns(self.affine, k, dims, wording))

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Expression:
        """The axes `source` moved to the places `destination`, the others in their order."""
        wording = self._said("movedim", source, destination)
        return Expression(rearranging.move_axes(self.affine, source, destination, wording))

    def squeeze(self, dim: Dims = None, *, axis: Dims = None) -> Expression:
        """Without the axes of size one: the named ones, or all."""
        dim = one_of("squeeze", dim=dim, axis=axis)
        wording = self._said("squeeze", *([] if dim is None else [dim]))
        return Expression(repeating.squeeze(self.affine, dim, wording))

    def unsqueeze(self, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """A new axis of size one at the place `dim`."""
        dim = one_of("unsqueeze", dim=dim, axis=axis)
        return Expression(repeating.unsqueeze(self.affine, dim, self._said("unsqueeze", dim)))

    # Entries repeated

    def expand(self, *sizes: int | Sequence[int], shape: Sequence[int] | None = None) -> Expression:
        """Axes of size one repeated to these sizes; -1 keeps a size, and new axes stand in front."""
        given = one_of("expand", sizes=unpacked(sizes) if sizes else None, shape=shape) or ()
        return Expression(repeating.expand(self.affine, given, self._said("expand", *given)))

    def repeat(self, *repeats: int | Sequence[int]) -> Expression:
        """The whole laid beside itself so many times along each axis, as torch's method of this name has it.

        NumPy's `repeat` is `repeat_interleave`, and `np.repeat(w, 2, axis=0)` means that.
        """
        return Expression(repeating.tile(self.affine, unpacked(repeats), self._said("repeat", *repeats)))

    def tile(self, *repeats: int | Sequence[int], dims: Dims = None) -> Expression:
        """As `repeat`, and with fewer numbers than axes these are about the last axes."""
        given = one_of("tile", repeats=unpacked(repeats) if repeats else None, dims=dims)
        counts = tuple(given) if isinstance(given, Sequence) else (given,)
        whole = (1,) * (self.ndim - len(counts)) + counts
        return Expression(repeating.tile(self.affine, whole, self._said("tile", *counts)))

    def repeat_interleave(self, repeats: Any, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """Every place along `dim` so many times in a row; without `dim` in the flattened array."""
        dim = one_of("repeat_interleave", dim=dim, axis=axis)
        said = repeats if isinstance(repeats, int) else word_of(read_array(repeats)[0])
        wording = self._said("repeat_interleave", said, **differing(dim=(dim, None)))
        return Expression(repeating.repeat_each(self.affine, repeats, dim, wording))

    # Sums along axes

    def dot(self, other: object) -> Expression:
        """`numpy.dot`: the last axis of this with the last but one of the constant, or with its only one."""
        return _dot(self, other)

    def sum(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = None, keepdims: bool = False) -> Expression:
        """The sum over axes, over all without `dim`; `axis` and `keepdims` are NumPy's words for the same."""
        dim, keepdim = one_of("sum", dim=dim, axis=axis), keepdim or keepdims
        wording = self._said("sum", **differing(dim=(dim, None), keepdim=(keepdim, False)))
        return Expression(reducing.total(self.affine, dim, keepdim, wording))

    def mean(self, dim: Dims = None, keepdim: bool = False, *, axis: Dims = None, keepdims: bool = False) -> Expression:
        """The mean over axes, over all without `dim`; `axis` and `keepdims` are NumPy's words for the same."""
        dim, keepdim = one_of("mean", dim=dim, axis=axis), keepdim or keepdims
        wording = self._said("mean", **differing(dim=(dim, None), keepdim=(keepdim, False)))
        return Expression(reducing.mean(self.affine, dim, keepdim, wording))

    def cumsum(self, dim: int | None = None, *, axis: int | None = None) -> Expression:
        """Running sums along `dim`; without `dim` over the flattened array, as NumPy has it."""
        dim = one_of("cumsum", dim=dim, axis=axis)
        wording = self._said("cumsum", *([] if dim is None else [dim]))
        if dim is None:
            flat = rearranging.reshape(self.affine, (self.size,), wording)
            return Expression(reducing.running_sum(flat, 0, wording))
        return Expression(reducing.running_sum(self.affine, dim, wording))

    def diff(self, dim: int = -1, *, axis: int | None = None) -> Expression:
        """Each entry along `dim` minus the one before it."""
        dim = dim if axis is None else one_of("diff", dim=None if dim == -1 else dim, axis=axis)
        return Expression(reducing.differences(self.affine, dim, self._said("diff", **differing(dim=(dim, -1)))))

    def tril(self, diagonal: int = 0) -> Expression:
        """What lies above the given diagonal of the last two axes set to zero."""
        wording = self._said("tril", *([] if type(diagonal) is int and diagonal == 0 else [diagonal]))
        return Expression(reducing.lower_triangle(self.affine, diagonal, wording))

    def triu(self, diagonal: int = 0) -> Expression:
        """What lies below the given diagonal of the last two axes set to zero."""
        wording = self._said("triu", *([] if type(diagonal) is int and diagonal == 0 else [diagonal]))
        return Expression(reducing.upper_triangle(self.affine, diagonal, wording))

    def trace(
        self, offset: int = 0, dim1: int = -2, dim2: int = -1, *, axis1: int | None = None, axis2: int | None = None
    ) -> Expression:
        """The sum of a diagonal of two axes, the last two if no others are named (of NumPy's `np.trace`: the first)."""
        dim1, dim2 = dim1 if axis1 is None else axis1, dim2 if axis2 is None else axis2
        wording = self._said("trace", **differing(offset=(offset, 0), dim1=(dim1, -2), dim2=(dim2, -1)))
        return Expression(reducing.trace(self.affine, offset, dim1, dim2, wording))

    def _said(self, method: str, *positional: object, **options: object) -> Wording:
        return Method(self.affine.wording, method, (*(("", item) for item in positional), *options.items()))


def weight(parameter: Parameter) -> Expression:
    """The whole of a weight tensor."""
    return Expression(from_parameter(parameter))


def stack(expressions: Sequence[object], dim: int = 0) -> Expression:
    """Expressions (or constants) of one shape along a new axis, as `numpy.stack`."""
    return Expression(joining.stack(_parts("stack", expressions), dim))


def concat(expressions: Sequence[object], dim: int = 0) -> Expression:
    """Expressions (or constants) one after the other along an axis, as `numpy.concatenate`."""
    return Expression(joining.concat(_parts("concat", expressions), dim))


def einsum(subscripts: str, *operands: object) -> Expression:
    """`numpy.einsum` of expressions and constants, of which one at most has weights.

    Errors: `ShapeError` for subscripts that do not fit, `NotAffineError` for a product of weights.
    """
    return Expression(sums.einsum(subscripts, [_affine(operand) for operand in operands]))


def _called_by_numpy(subject: Expression, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """What a ufunc of NumPy means on an expression; `array += w` makes an expression of `array`."""
    out = options.pop("out", (None,))
    if method == "__call__" and not options and (out[0] is None or out[0] is inputs[0]):
        return _in_place_of(ufunc.__name__, inputs, {})
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    raise missing(subject, name, dir(Expression))


def _in_place_of(function: str, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What a function of NumPy or torch means on an expression. Raises MissingOperationError where it means nothing."""
    name = function_of(function)
    parts = args[0] if args and isinstance(args[0], list | tuple) else ()
    subject: Any = next((part for part in (*args, *parts) if isinstance(part, Expression)), "these weights")
    if name in ("cat", "concat", "concatenate", "stack") and parts and len(args) <= 2:
        join = stack if name == "stack" else concat
        return join(parts, *args[1:], **({"dim": options["axis"]} if "axis" in options else options))
    if name in OPERATORS and not options and len(args) <= 2:
        operator, reflected = OPERATORS[name]
        others = [arg for k, arg in enumerate(args) if k != (0 if args[0] is subject else 1)]
        return getattr(subject, operator if args[0] is subject else reflected)(*others)
    if name in COMPARISONS:
        raise _no_inequality(subject, COMPARISONS[name if args[0] is subject else MIRRORED.get(name, name)])
    if name == "einsum" and not {*options} - {"optimize"}:
        operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
        return einsum(args[0], *operands)
    if name in PRODUCTS and not options and len(args) == 2:
        return PRODUCTS[name](*args)
    if args and args[0] is subject:
        found = method_of(name, args[1:], {**(DEFAULTS.get(function, {}) if subject.ndim > 2 else {}), **options})
        if found is not None:
            method = getattr(subject, found[0])
            check_arguments(method, subject, args[1:], found[1])
            return method(*args[1:], **found[1])
    raise missing(subject, function, dir(Expression))


def _dot(left: Any, right: Any) -> Expression:
    """`numpy.dot`, where one of the two may be sparse."""
    if isinstance(left, Expression) and is_sparse(right):
        return Expression.__matmul__(left, right)
    if is_sparse(left):
        return Expression.__rmatmul__(right, left)
    return Expression(sums.dot(_affine(left), _affine(right)))


PRODUCTS: Mapping[str, Callable[[Any, Any], Expression]] = {
    "dot": _dot,
    "inner": lambda left, right: Expression(sums.inner(_affine(left), _affine(right))),
    "outer": lambda left, right: Expression(sums.outer(_affine(left), _affine(right))),
}


def _affine(value: object) -> Affine:
    return value.affine if isinstance(value, Expression) else from_constant(read_constant(value))


def _parts(function: str, expressions: object) -> list[Affine]:
    if isinstance(expressions, str | bytes | Mapping) or not isinstance(expressions, Iterable):
        raise ShapeError(f"{function} takes a list of expressions, {function}([a, b]), and not {expressions!r:.60}.")
    return [_affine(part) for part in expressions]


def _no_inequality(subject: object, operator: str) -> RuleError:
    return RuleError(
        f"({subject}) {operator} … is no rule: rules are equations, written with `==`. Inequalities are not there yet."
    )
