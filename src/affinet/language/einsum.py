"""Einstein's sum over one expression and constants: diagonals, sums, products and permutations in one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters

import numpy as np

from affinet.errors import NotAffineError, ShapeError
from affinet.language.affine import Affine, from_constant, reworded
from affinet.language.arithmetic import multiply
from affinet.language.constants import Constant, compacted
from affinet.language.forecast import forecast
from affinet.language.rearranging import diagonal, permute, reshape
from affinet.language.reducing import total
from affinet.language.wording import Function, Word, Wording, say


@dataclass(frozen=True, slots=True)
class Subscripts:
    """The letters of each operand's axes and of the result's, `...` spelled out."""

    operands: tuple[str, ...]
    result: str


def einsum(subscripts: object, operands: Sequence[Affine]) -> Affine:
    """`numpy.einsum(subscripts, *operands)`, at most one operand of which has weights.

    Errors: `ShapeError` for subscripts that do not fit, `NotAffineError` for a product of weights.
    """
    wording = Function("einsum", (Word(f'"{subscripts}"'), *(operand.wording for operand in operands)))
    letters = _read(subscripts, operands, wording)
    with_weights = [k for k, operand in enumerate(operands) if operand.terms]
    if len(with_weights) > 1:
        first, second = (say(operands[k].wording) for k in with_weights[:2])
        raise NotAffineError.product(first, "*", second)
    chosen = with_weights[0] if with_weights else 0
    subject, own = _without_repeats(operands[chosen], letters.operands[chosen], wording)
    others = [k for k in range(len(operands)) if k != chosen]
    foreign = "".join(letters.operands[k] for k in others)
    alone = [axis for axis, letter in enumerate(own) if letter not in letters.result and letter not in foreign]
    subject = total(subject, tuple(alone), wording=wording) if alone else subject
    own = "".join(letter for axis, letter in enumerate(own) if axis not in alone)
    inner = "".join(letter for letter in own if letter not in letters.result)
    order = letters.result + inner
    found = _placed(subject, own, order, wording)
    if others:
        constant = _product([operands[k] for k in others], [letters.operands[k] for k in others], order, wording)
        found = multiply(found, constant)
    if inner:
        found = total(found, tuple(range(len(letters.result), len(order))), wording=wording)
    return reworded(found, wording)


def dot(left: Affine, right: Affine) -> Affine:
    """`numpy.dot`: the last axis of `left` with the last but one of `right`, or with its only one."""
    if not left.shape or not right.shape:
        return multiply(left, right)
    ahead, behind = ascii_letters[: len(left.shape) - 1], ascii_letters[26 : 25 + len(right.shape)]
    second = f"{behind[:-1]}z{behind[-1:]}" if behind else "z"
    return einsum(f"{ahead}z,{second}->{ahead}{behind}", (left, right))


def inner(left: Affine, right: Affine) -> Affine:
    """`numpy.inner`: the last axes of both summed together."""
    if not left.shape or not right.shape:
        return multiply(left, right)
    ahead, behind = ascii_letters[: len(left.shape) - 1], ascii_letters[26 : 25 + len(right.shape)]
    return einsum(f"{ahead}z,{behind}z->{ahead}{behind}", (left, right))


def outer(left: Affine, right: Affine) -> Affine:
    """`numpy.outer`: every entry of one, flattened, times every entry of the other."""
    flat = [reshape(affine, (prod(affine.shape),), affine.wording) for affine in (left, right)]
    return einsum("i,j->ij", flat)


def _read(subscripts: object, operands: Sequence[Affine], wording: Wording) -> Subscripts:
    if not isinstance(subscripts, str):
        raise ShapeError(f'einsum takes its subscripts first, as in einsum("ij->i", w), and not {subscripts!r:.60}.')
    text = subscripts.replace(" ", "")
    before, arrow, after = text.partition("->")
    given = before.split(",")
    if len(given) != len(operands):
        raise ShapeError(f"({say(wording)}) has subscripts for {len(given)} operands, and {len(operands)} are given.")
    spare = [letter for letter in ascii_letters if letter not in text]
    paired = list(zip(given, operands, strict=True))
    dotted = [len(operand.shape) - len(own) + len("...") for own, operand in paired if "..." in own]
    dots = "".join(spare[: max([0, *dotted])])
    labels = tuple(_spelled(own, operand, dots, wording) for own, operand in paired)
    counts = "".join(labels)
    if not arrow:
        once = sorted({letter for letter in counts if counts.count(letter) == 1 and letter not in dots})
        after = "..." * bool(dots) + "".join(once)
    result = after.replace("...", dots)
    if len(set(result)) < len(result) or not set(result) <= set(counts):
        raise ShapeError(f"the result of ({say(wording)}) has a letter twice, or one that no operand has.")
    _check_sizes(labels, operands, wording)
    return Subscripts(labels, result)


def _spelled(given: str, operand: Affine, dots: str, wording: Wording) -> str:
    """The letters of one operand, one for each axis; `...` are the last of `dots`, as axes are aligned at the last."""
    plain = given.replace("...", "")
    missing = len(operand.shape) - len(plain)
    if not all(letter in ascii_letters for letter in plain) or given.count("...") > 1:
        raise ShapeError(f"({say(wording)}): {given!r} holds something other than letters and one `...`.")
    if missing < 0 or (missing and "..." not in given):
        has = f"{say(operand.wording)} has shape {operand.shape}"
        raise ShapeError(f"({say(wording)}): {given!r} names {len(plain)} axes, and {has}.")
    return given.replace("...", dots[len(dots) - missing :])


def _check_sizes(labels: Sequence[str], operands: Sequence[Affine], wording: Wording) -> None:
    sizes: dict[str, int] = {}
    for letters, operand in zip(labels, operands, strict=True):
        for letter, size in zip(letters, operand.shape, strict=True):
            known = sizes.setdefault(letter, size)
            if size != known and 1 not in (size, known):
                raise ShapeError(f"the axes named {letter} in ({say(wording)}) have the sizes {known} and {size}.")
            sizes[letter] = max(size, known) if 0 not in (size, known) else 0


def _without_repeats(affine: Affine, letters: str, wording: Wording) -> tuple[Affine, str]:
    """The expression where axes of one letter have the same position, and the letters that are left."""
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


def _placed(affine: Affine, letters: str, order: str, wording: Wording) -> Affine:
    """The axes in the order of the letters, of size one where the expression does not have a letter."""
    held = [letter for letter in order if letter in letters]
    sorted_axes = permute(affine, [letters.index(letter) for letter in held], wording)
    sizes = iter(sorted_axes.shape)
    return reshape(sorted_axes, [next(sizes) if letter in letters else 1 for letter in order], wording)


def _product(constants: Sequence[Affine], letters: Sequence[str], order: str, wording: Wording) -> Affine:
    """The product of the constants, with the axes of `order`, summed over the letters that are not in it."""
    arrays = [np.broadcast_to(constant.constant, constant.shape) for constant in constants]
    held = "".join(letter for letter in order if any(letter in own for own in letters))
    sizes: dict[str, int] = {}
    for own, array in zip(letters, arrays, strict=True):
        sizes |= {letter: max(n, sizes.get(letter, 0)) for letter, n in zip(own, array.shape, strict=True)}
    forecast(f"the product of the constants in ({say(wording)})", prod(sizes[letter] for letter in held))
    values = np.einsum(f"{','.join(letters)}->{held}", *arrays)
    sizes_held = iter(values.shape)
    shape = tuple(next(sizes_held) if letter in held else 1 for letter in order)
    epsilon = max(constant.epsilon for constant in constants)
    whole = np.asarray(values, np.float64).reshape(shape)
    return from_constant(Constant(compacted(whole) if whole.size else 0.0, shape, epsilon, constants[0].wording))
