"""Representations of groups: how every generator acts on a space, and larger spaces made of smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from affinet.errors import RuleError, ShapeError
from affinet.language.groups.actions import as_sparse, direct, dual, identity, tensor
from affinet.language.groups.elements import Generator, Moves, read_generators

MOST_AXES = 64


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """A group of matrices, by elements that generate it, and of its Lie algebra where it has one.

    `generators` is a list as `families.equivariant` takes it: permutations, `SignedPermutation`, matrices, and
    `LieElement` for elements of the Lie algebra. Elements that brackets of others make can be left out.
    Errors: those of `equivariant`.
    """

    name: str
    generators: Any

    def __post_init__(self) -> None:
        read = read_generators(f"the group {self.name}", self.generators, lie_algebra=False)
        object.__setattr__(self, "generators", tuple(read))

    @property
    def size(self) -> int:
        """Entries of the vectors that the group acts on."""
        size: int = self.generators[0].size
        return size

    def T(self, p: int, q: int = 0) -> Representation:
        """Row-major tensors of p axes that turn as vectors do and q axes that turn as linear functionals do.

        `T(0)` are numbers that the group leaves as they are, `T(1)` vectors, `T(1, 1)` linear maps of vectors.
        """
        for axes in (p, q):
            if isinstance(axes, bool) or not isinstance(axes, int) or not 0 <= axes <= MOST_AXES:
                raise ShapeError(
                    f"T({p!r:.20}, {q!r:.20}) is no space of tensors: p and q are integers from 0 to {MOST_AXES}."
                )
        text = f"{self.name}.T({p}, {q})" if q else f"{self.name}.T({p})"
        functionals = [dual(element) for element in self.generators] if q else self.generators
        actions = (
            reduce(tensor, [vector] * p + [functional] * q, identity(vector, 1))
            for vector, functional in zip(self.generators, functionals, strict=True)
        )
        return Representation(text, (self,), (tuple(actions),))

    def named(self, name: str) -> Group:
        """The same group under another name, beside which the first is another factor of a product."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, slots=True)
class Representation:
    """A space that a group acts on, or the product of several groups: `actions[k]` are the generators of `groups[k]`.

    `a + b` lays spaces end to end, `3 * a` three copies, `a @ b` is the tensor product (row-major, an axis of `a` and
    one of `b`), `a**2` that of `a` with itself, `a.dual` the linear functionals on `a`. Where `a` and `b` are of
    different groups the result is of their product, each acting on its own part.
    """

    text: str
    groups: tuple[Group, ...]
    actions: tuple[tuple[Generator, ...], ...]

    @property
    def size(self) -> int:
        """Entries of a vector of the space."""
        return self.actions[0][0].size

    @property
    def matrices(self) -> tuple[Any, ...]:
        """How each generator acts, as sparse matrices: `x → matrix @ x`."""
        return tuple(as_sparse(element) for action in self.actions for element in action)

    @property
    def dual(self) -> Representation:
        """Linear functionals on the space: the group acts by transposed inverses, its Lie algebra by `−Xᵀ`."""
        actions = tuple(tuple(dual(element) for element in action) for action in self.actions)
        return Representation(f"{_closed(self.text)}.dual", self.groups, actions)

    def under(self, group: Group) -> tuple[Generator, ...]:
        """The generators of one group on this space: the identity where the group is none of these."""
        for own, action in zip(self.groups, self.actions, strict=True):
            if same(own, group):
                return action
        return tuple(identity(element, self.size) for element in group.generators)

    def __add__(self, other: object) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        return _together(f"{self.text} + {other.text}", self, other, direct)

    def __matmul__(self, other: object) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        return _together(f"{_closed(self.text)} @ {_closed(other.text)}", self, other, tensor)

    def __rmul__(self, copies: object) -> Representation:
        if isinstance(copies, bool) or not isinstance(copies, int):
            return NotImplemented
        return self._repeated(copies, "copies", direct, f"{copies} * {_closed(self.text)}")

    def __pow__(self, axes: object) -> Representation:
        if isinstance(axes, bool) or not isinstance(axes, int):
            return NotImplemented
        return self._repeated(axes, "axes", tensor, f"{_closed(self.text)}**{axes}")

    def _repeated(
        self, count: int, what: str, operation: Callable[[Generator, Generator], Generator], text: str
    ) -> Representation:
        if not count >= 1:
            raise ShapeError(f"{text} has {count} {what}, and a representation has one or more.")
        actions = tuple(tuple(_repeated(operation, element, count) for element in action) for action in self.actions)
        return Representation(text, self.groups, actions)

    def __str__(self) -> str:
        return self.text


def paired(inputs: object, outputs: object) -> tuple[tuple[Generator, ...] | None, tuple[Generator, ...] | None]:
    """The generators of both sides, in one order; None for a side that is missing.

    Errors: `RuleError` where one side is no representation, or they are of different groups.
    """
    given = {side: one for side, one in (("inputs", inputs), ("outputs", outputs)) if one is not None}
    for side, one in given.items():
        if not isinstance(one, Representation):
            raise RuleError(
                f"{side} is a list of generators and the other side a representation: give a representation on both "
                f"sides, such as groups.SO(3).T(1), or lists on both."
            )
    sides: list[Representation] = [one for one in given.values() if isinstance(one, Representation)]
    groups = sides[0].groups
    for one, (side, other) in ((sides[0], ("outputs", sides[-1])), (sides[-1], ("inputs", sides[0]))):
        for group in one.groups:
            if not any(same(group, own) for own in other.groups):
                raise RuleError(
                    f"{group.name} acts on {one} and not on {side}={other}, and a rule is about one group. Where it "
                    f"does nothing, write {group.name}.T(0) @ … for that side."
                )
    acting = {side: tuple(x for group in groups for x in one.under(group)) for side, one in given.items()}  # type: ignore[attr-defined]
    return acting.get("inputs"), acting.get("outputs")


def same(a: Group, b: Group) -> bool:
    """Whether two groups have one name and the same generators."""
    if a is b:
        return True
    if a.name != b.name or len(a.generators) != len(b.generators) or a.size != b.size:
        return False
    return all(_equal(x, y) for x, y in zip(a.generators, b.generators, strict=True))


def _equal(x: Generator, y: Generator) -> bool:
    if isinstance(x, Moves) != isinstance(y, Moves) or x.lie != y.lie:
        return False
    return bool((as_sparse(x) != as_sparse(y)).nnz == 0)


def _together(
    text: str, a: Representation, b: Representation, operation: Callable[[Generator, Generator], Generator]
) -> Representation:
    groups = (*a.groups, *(group for group in b.groups if not any(same(group, own) for own in a.groups)))
    actions = (_each(operation, a.under(group), b.under(group)) for group in groups)
    return Representation(text, groups, tuple(actions))


def _repeated(operation: Callable[[Generator, Generator], Generator], element: Generator, count: int) -> Generator:
    """`count` of one element put together, by halves: a thousand copies take ten steps."""
    if count == 1:
        return element
    half = _repeated(operation, element, count // 2)
    both = operation(half, half)
    return operation(both, element) if count % 2 else both


def _each(
    operation: Callable[[Generator, Generator], Generator], left: Sequence[Generator], right: Sequence[Generator]
) -> tuple[Generator, ...]:
    return tuple(operation(x, y) for x, y in zip(left, right, strict=True))


def _closed(text: str) -> str:
    """The text in brackets where it is more than one name."""
    return f"({text})" if " " in text.replace(", ", ",") else text
