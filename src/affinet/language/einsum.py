"""Compute `einsum` of expressions and constants: diagonals, sums, products and permutations in one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, broadcast, from_constant, reword
from affinet.language.constants import Constant, compact
from affinet.language.forecast import forecast
from affinet.language.nonlinear import matmul, multiply
from affinet.language.rearranging import diagonal, permute, reshape
from affinet.language.reducing import total
from affinet.language.wording import Function, Word, Wording, say


@dataclass(frozen=True, slots=True)
class Subscripts:
    """The letters of each operand's axes and of the result's, `...` spelled out."""

    operands: tuple[str, ...]
    result: str


def einsum(subscripts: object, operands: Sequence[Affine]) -> Affine:
    """`numpy.einsum(subscripts, *operands)`; operands with weights are multiplied first, from left to right.

    Errors: `ShapeError` for subscripts that do not fit.
    """
    wording = Function("einsum", (Word(f'"{subscripts}"'), *(operand.wording for operand in operands)))
    letters = _read(subscripts, operands, wording)
    operands, letters = _with_one_subject(operands, letters, wording)
    weight_numbers = [k for k, operand in enumerate(operands) if operand.terms]
    subject_number = weight_numbers[0] if weight_numbers else 0
    subject, subject_letters = _merge_repeated(operands[subject_number], letters.operands[subject_number], wording)
    constant_numbers = [k for k in range(len(operands)) if k != subject_number]
    constant_letters = "".join(letters.operands[k] for k in constant_numbers)
    summed_axes = [
        axis
        for axis, letter in enumerate(subject_letters)
        if letter not in letters.result and letter not in constant_letters
    ]
    subject = total(subject, tuple(summed_axes), wording=wording) if summed_axes else subject
    subject_letters = "".join(letter for axis, letter in enumerate(subject_letters) if axis not in summed_axes)
    inner = "".join(letter for letter in subject_letters if letter not in letters.result)
    order = letters.result + inner
    result = _arrange_axes(subject, subject_letters, order, wording)
    if constant_numbers:
        constant = _multiply_constants(
            [operands[k] for k in constant_numbers], [letters.operands[k] for k in constant_numbers], order, wording
        )
        result = multiply(result, constant)
    if inner:
        result = total(result, tuple(range(len(letters.result), len(order))), wording=wording)
    return reword(result, wording)


def dot(left: Affine, right: Affine) -> Affine:
    """`numpy.dot`: sums over the last axis of `left` and the last axis but one of `right` (or its only axis)."""
    if not left.shape or not right.shape:
        return multiply(left, right)
    left_letters, right_letters = ascii_letters[: len(left.shape) - 1], ascii_letters[26 : 25 + len(right.shape)]
    second = f"{right_letters[:-1]}z{right_letters[-1:]}" if right_letters else "z"
    return einsum(f"{left_letters}z,{second}->{left_letters}{right_letters}", (left, right))


def inner(left: Affine, right: Affine) -> Affine:
    """`numpy.inner`: sums over the last axes of both."""
    if not left.shape or not right.shape:
        return multiply(left, right)
    left_letters, right_letters = ascii_letters[: len(left.shape) - 1], ascii_letters[26 : 25 + len(right.shape)]
    return einsum(f"{left_letters}z,{right_letters}z->{left_letters}{right_letters}", (left, right))


def outer(left: Affine, right: Affine) -> Affine:
    """`numpy.outer`: every entry of `left`, flattened, times every entry of `right`."""
    flat = [reshape(affine, (prod(affine.shape),), affine.wording) for affine in (left, right)]
    return einsum("i,j->ij", flat)


def _read(subscripts: object, operands: Sequence[Affine], wording: Wording) -> Subscripts:
    if not isinstance(subscripts, str):
        raise ShapeError(f'einsum takes its subscripts first, as in einsum("ij->i", w); got {subscripts!r:.60}.')
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"({say(wording)}) has subscripts for {len(terms)} operands; got {len(operands)}.")
    unused = [letter for letter in ascii_letters if letter not in text]
    pairs = list(zip(terms, operands, strict=True))
    dot_counts = [len(operand.shape) - len(term) + len("...") for term, operand in pairs if "..." in term]
    dots = "".join(unused[: max([0, *dot_counts])])
    labels = tuple(_spell_dots(term, operand, dots, wording) for term, operand in pairs)
    all_letters = "".join(labels)
    if not arrow:
        single_letters = sorted(
            {letter for letter in all_letters if all_letters.count(letter) == 1 and letter not in dots}
        )
        output = "..." * bool(dots) + "".join(single_letters)
    result = output.replace("...", dots)
    if len(set(result)) < len(result) or not set(result) <= set(all_letters):
        raise ShapeError(f"the result of ({say(wording)}) has a letter twice, or a letter that no operand has.")
    _check_sizes(labels, operands, wording)
    return Subscripts(labels, result)


def _spell_dots(term: str, operand: Affine, dots: str, wording: Wording) -> str:
    """The letters of one operand, one per axis; `...` becomes the last letters of `dots`, as NumPy aligns last axes."""
    named_letters = term.replace("...", "")
    missing = len(operand.shape) - len(named_letters)
    if not all(letter in ascii_letters for letter in named_letters) or term.count("...") > 1:
        raise ShapeError(f"({say(wording)}): {term!r} may hold only letters and one `...`.")
    if missing < 0 or (missing and "..." not in term):
        shape_text = f"{say(operand.wording)} has shape {operand.shape}"
        raise ShapeError(f"({say(wording)}): {term!r} names {len(named_letters)} axes, but {shape_text}.")
    return term.replace("...", dots[len(dots) - missing :])


def _check_sizes(labels: Sequence[str], operands: Sequence[Affine], wording: Wording) -> None:
    sizes: dict[str, int] = {}
    for letters, operand in zip(labels, operands, strict=True):
        for letter, size in zip(letters, operand.shape, strict=True):
            size_before = sizes.setdefault(letter, size)
            if size != size_before and 1 not in (size, size_before):
                raise ShapeError(
                    f"the axes named {letter} in ({say(wording)}) have the sizes {size_before} and {size}."
                )
            sizes[letter] = max(size, size_before) if 0 not in (size, size_before) else 0


def _with_one_subject(
    operands: Sequence[Affine], letters: Subscripts, wording: Wording
) -> tuple[Sequence[Affine], Subscripts]:
    """The same sum with at most one operand that has weights, the product of those that have."""
    weight_numbers = [k for k, operand in enumerate(operands) if operand.terms]
    if len(weight_numbers) < 2:
        return operands, letters
    constant_numbers = [k for k in range(len(operands)) if k not in weight_numbers]
    factors = [_merge_repeated(operands[k], letters.operands[k], wording) for k in weight_numbers]
    product, labels = factors[0]
    for number, (factor, factor_labels) in enumerate(factors[1:], 1):
        later = "".join(other_labels for _, other_labels in factors[number + 1 :])
        needed = letters.result + later + "".join(letters.operands[k] for k in constant_numbers)
        product, labels = _contract(product, labels, factor, factor_labels, needed, wording)
    remaining = [product, *(operands[k] for k in constant_numbers)]
    return remaining, Subscripts((labels, *(letters.operands[k] for k in constant_numbers)), letters.result)


def _contract(
    left: Affine, left_labels: str, right: Affine, right_labels: str, needed: str, wording: Wording
) -> tuple[Affine, str]:
    """The product of two operands with weights, and its letters; letters that are not `needed` are summed.

    Law: it is one matrix product, of a stack of matrices; a sum of products of entries where both are vectors; or a
    product entry by entry where no letter is summed.
    """
    left, left_labels = _sum_letters(left, left_labels, needed + right_labels, wording)
    right, right_labels = _sum_letters(right, right_labels, needed + left_labels, wording)
    sizes: dict[str, int] = {}
    for labels, operand in ((left_labels, left), (right_labels, right)):
        for letter, size in zip(labels, operand.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    shared = [letter for letter in left_labels if letter in right_labels]
    batch = "".join(letter for letter in shared if letter in needed)
    summed = "".join(letter for letter in shared if letter not in needed)
    left_only = "".join(letter for letter in left_labels if letter not in shared)
    right_only = "".join(letter for letter in right_labels if letter not in shared)
    labels = batch + left_only + right_only
    if not summed or not (left_only or right_only):
        order = labels + summed
        product = multiply(
            _expanded(_arrange_axes(left, left_labels, order, wording), order, left_labels, sizes),
            _expanded(_arrange_axes(right, right_labels, order, wording), order, right_labels, sizes),
        )
        return (total(product, tuple(range(len(labels), len(order))), wording=wording) if summed else product), labels
    rows = _as_matrices(left, left_labels, (batch, left_only, summed), sizes, wording)
    columns = _as_matrices(right, right_labels, (batch, summed, right_only), sizes, wording)
    return reshape(matmul(rows, columns), [sizes[letter] for letter in labels], wording), labels


def _sum_letters(affine: Affine, labels: str, needed: str, wording: Wording) -> tuple[Affine, str]:
    """Sum over the axes whose letters are not needed; the expression and its other letters."""
    axes = tuple(axis for axis, letter in enumerate(labels) if letter not in needed)
    if not axes:
        return affine, labels
    return total(affine, axes, wording=wording), "".join(letter for letter in labels if letter in needed)


def _as_matrices(
    affine: Affine, labels: str, groups: tuple[str, str, str], sizes: Mapping[str, int], wording: Wording
) -> Affine:
    """The expression with the axes of the letters of each group merged into one axis, the first group kept apart."""
    order = "".join(groups)
    full = _expanded(_arrange_axes(affine, labels, order, wording), order, labels, sizes)
    merged = [prod(sizes[letter] for letter in group) for group in groups[1:]]
    return reshape(full, [*(sizes[letter] for letter in groups[0]), *merged], wording)


def _expanded(affine: Affine, order: str, labels: str, sizes: Mapping[str, int]) -> Affine:
    """Axes of size one of letters that the operand has, repeated to the size that another operand has there."""
    return broadcast(affine, tuple(sizes[letter] if letter in labels else 1 for letter in order))


def _merge_repeated(affine: Affine, letters: str, wording: Wording) -> tuple[Affine, str]:
    """Take the diagonal of axes that share a letter; the expression, and its letters without repeats."""
    for letter in letters:
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            if affine.shape[first] != affine.shape[second]:
                sizes = f"{affine.shape[first]} and {affine.shape[second]}"
                raise ShapeError(f"the axes named {letter} in ({say(wording)}) have the sizes {sizes}.")
            affine = diagonal(affine, 0, first, second, wording)
            letters = "".join(other for axis, other in enumerate(letters) if axis not in (first, second)) + letter
    return affine, letters


def _arrange_axes(affine: Affine, letters: str, order: str, wording: Wording) -> Affine:
    """Bring the axes into the order of the letters; an axis has size one where the expression lacks its letter."""
    own_letters = [letter for letter in order if letter in letters]
    sorted_axes = permute(affine, [letters.index(letter) for letter in own_letters], wording)
    sizes = iter(sorted_axes.shape)
    return reshape(sorted_axes, [next(sizes) if letter in letters else 1 for letter in order], wording)


def _multiply_constants(constants: Sequence[Affine], letters: Sequence[str], order: str, wording: Wording) -> Affine:
    """Multiply the constants and sum over letters that are not in `order`; the result has the axes of `order`."""
    arrays = [np.broadcast_to(constant.constant, constant.shape) for constant in constants]
    kept_letters = "".join(letter for letter in order if any(letter in operand_letters for operand_letters in letters))
    sizes: dict[str, int] = {}
    for operand_letters, array in zip(letters, arrays, strict=True):
        sizes |= {letter: max(n, sizes.get(letter, 0)) for letter, n in zip(operand_letters, array.shape, strict=True)}
    forecast(f"the product of the constants in ({say(wording)})", prod(sizes[letter] for letter in kept_letters))
    values = np.einsum(f"{','.join(letters)}->{kept_letters}", *arrays)
    kept_sizes = iter(values.shape)
    shape = tuple(next(kept_sizes) if letter in kept_letters else 1 for letter in order)
    epsilon = max(constant.epsilon for constant in constants)
    values_at_shape = np.asarray(values, np.float64).reshape(shape)
    return from_constant(
        Constant(compact(values_at_shape) if values_at_shape.size else 0.0, shape, epsilon, constants[0].wording)
    )
