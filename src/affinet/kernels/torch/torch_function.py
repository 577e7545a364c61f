"""Equations whose left sides any torch function computes: its numbers and derivatives, for tensors and for arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.errors import RuleError, ShapeError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.nonlinear import result_of
from affinet.language.wording import Word

PROBES = 2
"""Nearby points at which the rounding of a function is measured."""
NEARBY = 4.0
"""How far they are, in roundoffs of the numbers."""


def equations(
    function: Callable[..., Tensor], weights: Sequence[Expression], *, count: int, name: str | None = None
) -> Constraint:
    """`function(*weights) == 0`, `count` equations: for what the language of rules cannot say.

    `function` takes a tensor for each of `weights`, of its shape, in float64 where the device has it, and returns a
    tensor of `count` numbers, or a single number for `count=1`. Autograd must give its derivatives; it is called
    several times per step, and must be deterministic. A plan file holds only its name, which is that of the function
    unless `name` is given.

    Errors: `ShapeError` for results of another shape, `RuleError` for a function that is not deterministic, that fails,
    or through which no derivatives pass.
    """
    parts = [checked_expression("equations", w) for w in weights]
    if not callable(function):
        raise RuleError(
            f"equations takes a function of tensors first; got {function!r:.60} ({type(function).__name__})."
        )
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ShapeError(f"the count of equations is {count!r:.60}; give the number of results of the function.")
    called = name or str(getattr(function, "__name__", type(function).__name__))
    opaque = TorchFunction(function, tuple(part.shape for part in parts), count, called)
    opaque.check()
    numbers = concat([part.flatten() for part in parts])
    rule = Expression(result_of(opaque, numbers.affine)) == 0
    return named_rule(rule, "equations", *parts, listed=True, function=Word(called), count=count)


@dataclass(frozen=True, eq=False)
class TorchFunction:
    """A function of tensors of some shapes with `count` results, as one of their numbers in one row."""

    function: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    count: int
    name: str

    @property
    def key(self) -> str:
        return f"{id(self.function)} {self.shapes} {self.count}"

    @property
    def size(self) -> int:
        """The numbers that the function takes."""
        return sum(map(prod, self.shapes))

    def values(self, x: Any) -> Any:
        """The results, as an array of the library of x; derivatives pass through where x asks for them."""
        if isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled():
            return self._called(x)
        if isinstance(x, Tensor):
            with _own_context():
                return self._called(x.detach().clone()).detach()
        return self.values(torch.tensor(np.asarray(x, np.float64))).numpy()

    def linearized(self, x: Any) -> tuple[Any, Any, Any]:
        """Results, the sizes to which their rounding is relative, and derivatives, as arrays of the library of x.

        A function does not tell its terms. Its rounding is measured at points so near that, but for rounding, the
        results there follow from the derivatives; where that is less than a result, the result is the size.
        """
        if not isinstance(x, Tensor):
            made = self.linearized(torch.tensor(np.asarray(x, np.float64)))
            return tuple(part.numpy() for part in made)
        with _own_context():
            x = x.detach().clone()
            values, derivatives = self._differentiated(x)
            u, sizes = 0.5 * torch.finfo(x.dtype).eps, values.abs()
            for probe in range(PROBES):
                signs = torch.tensor(np.random.default_rng(probe).choice([-1.0, 1.0], len(x)), dtype=x.dtype)
                nearby = x * (1.0 + NEARBY * u * signs.to(x.device))
                rounding = (self._called(nearby).detach() - values - derivatives @ (nearby - x)).abs() / u
                sizes = torch.maximum(sizes, rounding.nan_to_num(0.0, 0.0, 0.0))
            return values, sizes, derivatives

    def check(self) -> None:
        """Raise ShapeError or RuleError where the function is not what `equations` takes."""
        x = torch.tensor(np.random.default_rng(0).standard_normal(self.size))
        with torch.random.fork_rng(devices=[]):
            first, second = self.values(x), self.values(x)
            if not torch.equal(first.nan_to_num(), second.nan_to_num()):
                raise RuleError(
                    f"the function {self.name!r} is not deterministic: at the same weights it returned {_shown(first)} "
                    f"and then {_shown(second)}. Take its random numbers out of it."
                )
            with _own_context():
                self._differentiated(x)

    def _differentiated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Results and derivatives."""
        leaf = x.requires_grad_()
        with torch.enable_grad():
            results = self._called(leaf)
            if not results.requires_grad:
                raise RuleError(
                    f"no derivatives pass through the function {self.name!r}: its results do not depend on the "
                    f"weights, or were computed without autograd (.detach(), .item(), NumPy). Write it in operations "
                    f"of torch."
                )
            rows = [
                torch.autograd.grad(results[k], leaf, retain_graph=True, materialize_grads=True)[0]
                for k in range(self.count)
            ]
        x.requires_grad_(False)
        return results.detach(), torch.stack(rows)

    def _called(self, x: Tensor) -> Tensor:
        """The results (count,) at the numbers of all tensors. Raises ShapeError for other results."""
        pieces = x.split([prod(shape) for shape in self.shapes])
        try:
            results = self.function(*(piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)))
        except Exception as error:
            raise RuleError(f"the function {self.name!r} raised {type(error).__name__}: {error}") from error
        is_tensor = isinstance(results, Tensor)
        if not is_tensor or results.numel() != self.count or results.ndim > 1:
            what = f"a tensor of shape {tuple(results.shape)}" if is_tensor else type(results).__name__
            raise ShapeError(
                f"the function {self.name!r} returned {what}, and count={self.count} says {self.count} numbers in one "
                f"axis."
            )
        return results.reshape(self.count).to(x.dtype)


@contextmanager
def _own_context() -> Iterator[None]:
    """Without inference mode and autocast, in which projections may run."""
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def _shown(results: Tensor) -> str:
    return str([float(f"{number:.6g}") for number in results[:3].tolist()])
