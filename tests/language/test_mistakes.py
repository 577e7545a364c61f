"""What is no expression is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse
import torch

from affinet.errors import ConstantError, NotAffineError, ShapeError
from affinet.language.calculus.terms import Term
from affinet.language.expression import concat, stack
from tests.language.drawn import (
    COLUMNS,
    C,
    K,
    M,
    N,
    W,
    X,
    b,
    parameter,
)

NO_FUNCTION = "is not a function that rules can have"
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "exponential": (lambda: 2**W, f"a power with weights in the exponent of .W. {NO_FUNCTION}"),
    "power of weights": (lambda: W**W, f"a power with weights in the exponent of .W. {NO_FUNCTION}"),
    "cube root": (lambda: W ** (1 / 3), r"\(W\) \*\* 0.333\d*: the exponent must be an integer from -64 to 64, or 0.5"),
    "large power": (lambda: W**65, r"\(W\) \*\* 65: the exponent must be"),
    "large negative power": (lambda: W**-65, r"\(W\) \*\* -65: the exponent must be"),
    "huge power": (lambda: W**10**400, "the exponent must be"),
    "infinite power": (lambda: W**np.inf, r"\*\* inf: the exponent must be"),
    "nan power": (lambda: W**np.nan, r"\*\* nan: the exponent must be"),
    "true power": (lambda: W**True, r"\*\* True: the exponent must be"),
    "powers in an array": (lambda: W ** np.array([1, 2]), r"\*\* array\(\[1, 2\]\): the exponent must be"),
    "power of text": (lambda: W ** "2", r"\*\* '2': the exponent must be"),
    "sum of magnitudes": (lambda: W.norm(1), "norm of .W. has the order 1, and rules can have Euclidean lengths only"),
    "largest magnitude": (lambda: W.norm(np.inf, dim=1), "norm of .W. has the order inf"),
    "true norm": (lambda: W.norm(True), "norm of .W. has the order True"),
    "abs": (lambda: abs(W), f"abs of .W. {NO_FUNCTION}"),
    "floor": (lambda: W // 2, f"floor division of .W. {NO_FUNCTION}"),
    "remainder": (lambda: W % 2, f"a remainder of .W. {NO_FUNCTION}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_functions_that_rules_cannot_have_are_refused(case: str) -> None:
    mistake, message = REFUSED[case]
    with pytest.raises(NotAffineError, match=message):
        mistake()


SHAPE_MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "sum of shapes": (lambda: W + b, r"do not fit: W has shape \(6, 8\) and b has shape \(6,\)"),
    "equation of shapes": (lambda: W == X, r"\(W - X\) do not fit"),
    "matrix on the left": (
        lambda: N @ W,
        r"array\(8, 2\) has shape \(8, 2\) and W has shape \(6, 8\). .* 2 and 6 must be equal",
    ),
    "matrix on the right": (lambda: W @ M, "3 and 8 must be equal"),
    "number in a product": (lambda: 2 @ W, "does not take single numbers"),
    "product of weights": (lambda: W * b, r"\(W \* b\) do not fit: W has shape \(6, 8\) and b has shape \(6,\)"),
    "quotient of weights": (lambda: W / b, r"do not fit: W has shape \(6, 8\)"),
    "matrices of weights": (lambda: X @ W, r"\(X @ W\) do not fit: .* The inner sizes 5 and 6 must be equal"),
    "vectors of weights": (lambda: b @ W[0], r"The inner sizes 6 and 8 must be equal"),
    "number of weights in a product": (lambda: W @ b[0], r"in \(W @ b\[0\]\) `@` does not take single numbers"),
    "stacks of weights": (lambda: K @ K[:3], r"stacks of \(4, 3\) and \(3, 3\) matrices cannot be aligned"),
    "determinant": (lambda: W.det(), r"det\(W\) needs square matrices along the last two axes: W has shape \(6, 8\)"),
    "determinant of a vector": (lambda: b.det(), "needs square matrices"),
    "inverse": (lambda: X.inverse(), r"inverse\(X\) needs square matrices"),
    "axis of a norm": (lambda: W.norm(dim=2), r"in \(W.norm\(dim=2\)\) there is no axis 2"),
    "number as a product": (lambda: W[0, 0] @ M, "does not take single numbers"),
    "index": (lambda: W[6], r"index 6 in \(W\[6\]\) is out of range: axis 0 of W has size 6"),
    "two indices": (lambda: W[0, -9], r"index -9 in \(W\[0, -9\]\) is out of range: axis 1 of W has size 8"),
    "index array": (lambda: W[:, [0, 8]], r"index 8 in .* is out of range: axis 1"),
    "too many": (lambda: W[0, 0, 0], r"has 3 indices, but W has shape \(6, 8\)"),
    "dots twice": (lambda: W[..., 0, ...], "has `...` twice"),
    "mask": (lambda: W[COLUMNS], r"the mask in .* has shape \(8,\), and the axes that it indexes have \(6,\)"),
    "index arrays apart": (lambda: W[[0, 1], [0, 1, 2]], r"have shapes \(2,\) and \(3,\), which do not broadcast"),
    "float index": (lambda: W[1.0], "an index of W must be"),
    "text index": (lambda: W["weight"], "an index of W must be .* got 'weight'"),
    "bool index": (lambda: W[True], "an index of W must be .* got True"),
    "weights index": (lambda: W[b], "an index of W must be"),
    "step": (lambda: W[::0], "a slice has step 0"),
    "slice bound": (lambda: W[1.5:], "the bounds of a slice must be integers; got 1.5"),
    "axis": (lambda: W.sum(dim=2), r"there is no axis 2: W has shape \(6, 8\), so its axes are 0 to 1"),
    "axis of a number": (lambda: W[0, 0].sum(dim=0), "so it is a single number without axes"),
    "axis twice": (lambda: W.sum(dim=(0, -2)), "an axis is named twice"),
    "axis of another kind": (lambda: W.sum(dim="0"), "'0' must be an integer"),
    "permutation": (lambda: K.permute(0, 1), r"names the axes \(0, 1\), but K of shape \(4, 3, 3, 3\) has 4"),
    "reshape": (lambda: W.reshape(5, -1), "W of shape .* has 48 entries"),
    "reshape to negative": (lambda: W.reshape(-2, -24), "the product of the sizes must be 48"),
    "flatten": (lambda: K.flatten(2, 1), "the first axis 2 comes after the last one 1"),
    "roll": (lambda: W.roll((1, 2), 0), r"the numbers of shifts \(2\) and of axes \(1\) must be equal"),
    "diagonal": (lambda: W.diagonal(0, 1, 1), "two different axes"),
    "offset": (lambda: W.diagonal(0.5), "0.5 must be an integer"),
    "triangle": (lambda: b.tril(), r"needs two axes or more: b has shape \(6,\)"),
    "trace": (lambda: b.trace(), "needs two axes"),
    "matrix transpose": (lambda: b.mT, "there is no axis -2"),
    "mean of nothing": (lambda: W[:0].mean(0), "is a mean of no numbers"),
    "concat": (
        lambda: concat([W, X]),
        r"W has shape \(6, 8\) and X has shape \(8, 5\). The shapes may differ along axis 0",
    ),
    "concat of nothing": (lambda: concat([]), "concat needs one expression or more"),
    "stack": (lambda: stack([W, X]), "The shapes must be equal"),
    "too many axes": (lambda: W[(None,) * 31], "has 33 axes, and NumPy has at most 32"),
    "stack of nothing": (lambda: stack([]), "stack needs one expression or more"),
}


@pytest.mark.parametrize("case", SHAPE_MISTAKES)
def test_shapes_that_do_not_fit_say_both(case: str) -> None:
    mistake, message = SHAPE_MISTAKES[case]
    with pytest.raises(ShapeError, match=message):
        mistake()


CONSTANT_MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "nan": (lambda: W + np.nan, "nan is not finite"),
    "nan in an array": (
        lambda: W + np.where(C > 0, C, np.nan),
        r"has \d+ entries that are NaN or infinite, the first at",
    ),
    "infinity": (lambda: W == torch.tensor([1.0, np.inf] * 4), r"has 4 entries .* the first at 1 \(inf\)"),
    "complex": (lambda: W * 1j, "is not a number"),
    "complex array": (lambda: W * np.ones(8, complex), "dtype is complex128"),
    "text": (lambda: W + "1", "'1' .str. is not a number"),
    "none": (lambda: W == None, "None .NoneType. is not a number"),  # noqa: E711
    "dictionary": (lambda: W == {}, "is not a number"),
    "list of weights": (lambda: W[0, :2] == [W[1, 0], W[1, 1]], "To join weights write affinet.stack"),
    "ragged": (lambda: W == [[1], [1, 2]], "is not an array of numbers"),
    "large": (lambda: W + 10**400, "larger than any float64"),
    "large in a list": (lambda: W[:, 0] + [10**400] * 6, "one of the integers in this list is larger"),
    "meta": (lambda: W + torch.ones(8, device="meta"), "meta device has no numbers"),
    "sparse": (lambda: W + scipy.sparse.eye_array(8), "is sparse; sparse matrices are allowed only in"),
    "sparse tensor": (lambda: W * torch.ones(8).to_sparse(), "is sparse"),
    "complex sparse": (lambda: scipy.sparse.eye_array(6, dtype=complex) @ W, "must be a real sparse matrix"),
    "nan in sparse": (lambda: scipy.sparse.csr_array([[np.nan] * 6]) @ W, "NaN or infinite"),
    "masked": (lambda: W + np.ma.masked_equal(np.arange(8), 3), "is masked"),
    "zero": (lambda: W / 0, r"\(W / 0\) divides by zero"),
    "zeros": (lambda: W / np.arange(8), r"divides by zero: 1 of its 8 entries, the first at \(0,\)"),
    "overflow": (lambda: W * 1e300 * 1e300, "beyond the range of float64"),
    "overflow of constants": (lambda: W + 1e308 + 1e308, "beyond the range of float64"),
    "a rule": (lambda: W == (W == 1), "Constraint"),
}


@pytest.mark.parametrize("case", CONSTANT_MISTAKES)
def test_constants_that_are_none_are_refused(case: str) -> None:
    mistake, message = CONSTANT_MISTAKES[case]
    with pytest.raises(ConstantError, match=message):
        mistake()


def test_expressions_are_no_sequences_and_no_keys() -> None:
    with pytest.raises(TypeError, match=r"\(W\) has no len\(\).*Its shape is \(6, 8\): write \.shape\[0\]"):
        len(W)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # NumPy 1 does not say whether it makes an array or looks at one
        with pytest.raises(TypeError, match=r"an array cannot hold \(W\).*affinet\.stack"):
            np.array(W)
    with pytest.raises(TypeError, match=r"an array cannot hold \(W\)"):
        np.asarray(W, dtype=float)
    with pytest.raises(TypeError, match=r"\(W\) is one expression, not a mapping of names"):
        dict(W)
    with pytest.raises(TypeError, match="single number and cannot be iterated"):
        iter(W[0, 0])
    assert [str(row) for row in b[:2]] == ["b[:2][0]", "b[:2][1]"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(W)
    assert [str(row) for row in list(b)[:2]] == ["b[0]", "b[1]"]


def test_expressions_and_rules_are_immutable() -> None:
    with pytest.raises(AttributeError):
        W.affine = X.affine  # type: ignore[misc]
    with pytest.raises(AttributeError):
        (W == 0).name = "x"  # type: ignore[misc]


def test_terms_are_in_normal_form() -> None:
    (term,) = parameter("one", 1, 4, 1).terms
    assert isinstance(term, Term)
    assert [variable.size for variable in term.variables] == [4]
    (term,) = W[2:3, 1].terms
    assert (term.variables, term.offset, term.start) == ((), 17, (0,))


def test_what_numpy_alone_takes_is_refused_in_our_words() -> None:
    with pytest.raises(NotAffineError, match=r"sum of \(W\) cannot be called with these arguments: .*'where'"):
        np.sum(W, where=np.ones((6, 8), dtype=bool))
    with pytest.raises(NotAffineError, match=r"\(W\[0, 0\]\) is not a number"):
        float(W[0, 0])
