"""Groups and their representations, which hold how every generator acts on a space and combine to larger spaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from affinet.errors import RuleError, ShapeError
from affinet.language.groups.actions import as_sparse, direct_sum, dual, identity, tensor
from affinet.language.groups.elements import Generator, Moves, read_generators

MOST_AXES = 64
"""The largest number of axes of a tensor, as of NumPy's arrays."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """A group of matrices, given by elements that generate it, of the group itself or of its Lie algebra.

    `generators` is a list as `families.equivariant` takes it: permutations, `SignedPermutation`, matrices, and
    `LieElement` for elements of the Lie algebra. Brackets of elements that are listed need not be listed.
    Errors: those of `equivariant`.
    """

    name: str
    generators: Any

    def __post_init__(self) -> None:
        generators = read_generators(f"the group {self.name}", self.generators, lie_algebra=False)
        object.__setattr__(self, "generators", tuple(generators))

    @property
    def size(self) -> int:
        """The number of entries of the vectors that the group acts on."""
        size: int = self.generators[0].size
        return size

    def T(self, p: int, q: int = 0) -> Representation:
        """Row-major tensors of p axes that transform as vectors and q axes that transform as linear functionals.

        `T(0)` are numbers that the group does not change, `T(1)` vectors, `T(1, 1)` linear maps of vectors.
        """
        for axes in (p, q):
            if isinstance(axes, bool) or not isinstance(axes, int) or not 0 <= axes <= MOST_AXES:
                raise ShapeError(f"T(p, q) takes integers from 0 to {MOST_AXES}; got T({p!r:.20}, {q!r:.20}).")
        text = f"{self.name}.T({p}, {q})" if q else f"{self.name}.T({p})"
        functionals = [dual(element) for element in self.generators] if q else self.generators
        actions = (
            reduce(tensor, [vector] * p + [functional] * q, identity(vector, 1))
            for vector, functional in zip(self.generators, functionals, strict=True)
        )
        return Representation(text, (self,), (tuple(actions),))

    def named(self, name: str) -> Group:
        """The same group under another name, so that a product may have it twice, as two different factors."""
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
        """The number of entries of a vector of the space."""
        return self.actions[0][0].size

    @property
    def matrices(self) -> tuple[Any, ...]:
        """The action of each generator as a sparse matrix: `x → matrix @ x`."""
        return tuple(as_sparse(element) for action in self.actions for element in action)

    @property
    def dual(self) -> Representation:
        """Linear functionals on the space: the group acts by transposed inverses, its Lie algebra by `−Xᵀ`."""
        actions = tuple(tuple(dual(element) for element in action) for action in self.actions)
        return Representation(f"{_in_brackets(self.text)}.dual", self.groups, actions)

    def under(self, group: Group) -> tuple[Generator, ...]:
        """The actions of one group's generators on this space: the identity if the group does not act on it."""
        for own_group, action in zip(self.groups, self.actions, strict=True):
            if same(own_group, group):
                return action
        return tuple(identity(element, self.size) for element in group.generators)

    def __add__(self, other: object) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        return _combine(f"{self.text} + {other.text}", self, other, direct_sum)

    def __matmul__(self, other: object) -> Representation:
        if not isinstance(other, Representation):
            return NotImplemented
        return _combine(f"{_in_brackets(self.text)} @ {_in_brackets(other.text)}", self, other, tensor)

    def __rmul__(self, copies: object) -> Representation:
        if isinstance(copies, bool) or not isinstance(copies, int):
            return NotImplemented
        return self._repeat(copies, "copies", direct_sum, f"{copies} * {_in_brackets(self.text)}")

    def __pow__(self, axes: object) -> Representation:
        if isinstance(axes, bool) or not isinstance(axes, int):
            return NotImplemented
        return self._repeat(axes, "axes", tensor, f"{_in_brackets(self.text)}**{axes}")

    def _repeat(
        self, count: int, unit: str, operation: Callable[[Generator, Generator], Generator], text: str
    ) -> Representation:
        if not count >= 1:
            raise ShapeError(f"{text} has {count} {unit}, and needs one or more.")
        actions = tuple(tuple(_repeat(operation, element, count) for element in action) for action in self.actions)
        return Representation(text, self.groups, actions)

    def __str__(self) -> str:
        return self.text


def paired_generators(
    inputs: object, outputs: object
) -> tuple[tuple[Generator, ...] | None, tuple[Generator, ...] | None]:
    """The generators of both sides, in one order; None for a side that is missing.

    Errors: `RuleError` where one side is not a representation, or they are of different groups.
    """
    by_side = {side: value for side, value in (("inputs", inputs), ("outputs", outputs)) if value is not None}
    for side, value in by_side.items():
        if not isinstance(value, Representation):
            raise RuleError(
                f"{side} is a list of generators and the other side is a representation. Give representations on both "
                f"sides, such as groups.SO(3).T(1), or lists on both."
            )
    sides: list[Representation] = [value for value in by_side.values() if isinstance(value, Representation)]
    groups = sides[0].groups
    for representation, (side, other) in ((sides[0], ("outputs", sides[-1])), (sides[-1], ("inputs", sides[0]))):
        for group in representation.groups:
            if not any(same(group, other_group) for other_group in other.groups):
                raise RuleError(
                    f"{group.name} acts on {representation} but not on {side}={other}, and both sides must be of the "
                    f"same groups. Where {group.name} does nothing, write {group.name}.T(0) @ …"
                )
    generators = {
        side: tuple(element for group in groups for element in value.under(group))  # type: ignore[attr-defined]
        for side, value in by_side.items()
    }
    return generators.get("inputs"), generators.get("outputs")


def same(a: Group, b: Group) -> bool:
    """Whether two groups have the same name and the same generators."""
    if a is b:
        return True
    if a.name != b.name or len(a.generators) != len(b.generators) or a.size != b.size:
        return False
    return all(_equal(x, y) for x, y in zip(a.generators, b.generators, strict=True))


def _equal(x: Generator, y: Generator) -> bool:
    if isinstance(x, Moves) != isinstance(y, Moves) or x.lie != y.lie:
        return False
    return bool((as_sparse(x) != as_sparse(y)).nnz == 0)


def _combine(
    text: str, a: Representation, b: Representation, operation: Callable[[Generator, Generator], Generator]
) -> Representation:
    groups = (*a.groups, *(group for group in b.groups if not any(same(group, group_of_a) for group_of_a in a.groups)))
    actions = (_map_pairs(operation, a.under(group), b.under(group)) for group in groups)
    return Representation(text, groups, tuple(actions))


def _repeat(operation: Callable[[Generator, Generator], Generator], element: Generator, count: int) -> Generator:
    """Combine `count` copies of one element, by halves: a thousand copies take ten steps."""
    if count == 1:
        return element
    half = _repeat(operation, element, count // 2)
    doubled = operation(half, half)
    return operation(doubled, element) if count % 2 else doubled


def _map_pairs(
    operation: Callable[[Generator, Generator], Generator], left: Sequence[Generator], right: Sequence[Generator]
) -> tuple[Generator, ...]:
    return tuple(operation(x, y) for x, y in zip(left, right, strict=True))


def _in_brackets(text: str) -> str:
    """The text, in parentheses unless it is a single name."""
    return f"({text})" if " " in text.replace(", ", ",") else text
