"""Say whether weights on rules are a local minimum: the figures of a certificate, and the verdict that they allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from affinet.errors import visible
from affinet.language.calculus.terms import Floats

Verdict = Literal["local minimum", "local maximum", "saddle", "cannot tell"]


@dataclass(frozen=True)
class Certificate:
    """The second-order conditions at weights that satisfy rules, and what they prove.

    `verdict` holds near the weights: a lower minimum may exist elsewhere. `reasons` say why a verdict is "cannot tell",
    and are empty otherwise. `stationarity` is `‖P g‖ / ‖g‖` over all trained weights. `sigma_ratio` is the smallest
    singular value that counts of the active rows, each of norm one, as a share of the largest of their group; 1 without
    rows. `rank` is that of the nonlinear equations, with the linear ones that share their weights, at these weights;
    `generic_rank` is their rank at almost all points; both are None without nonlinear equations, and `rank` also for
    groups that are too large. `at_bound` counts the inequalities at their bounds, `without_force` those of them whose
    multiplier is zero. `free` is the dimension of the space that active rows leave; None where it is not known.
    `smallest` and `largest` are curvatures of the loss along the rules (eigenvalues of the reduced Hessian of
    `f − νᵀc`), and None where there are none or the loss has no second derivatives. `direction` has, by name, the unit
    step of the smallest.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    stationarity: float
    sigma_ratio: float
    rank: int | None
    generic_rank: int | None
    at_bound: int
    without_force: int
    free: int | None
    smallest: float | None
    largest: float | None
    direction: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        ranks = f"{_count(self.rank)}, {_count(self.generic_rank)}"
        rows = [
            ("stationarity ‖Pg‖/‖g‖", f"{self.stationarity:.2g}"),
            ("σ ratio of the equations' derivatives", f"{self.sigma_ratio:.2g}"),
            ("rank of the nonlinear equations, here and elsewhere", ranks),
            ("inequalities at their bounds", f"{self.at_bound:,}"),
            ("of these with a multiplier of zero", f"{self.without_force:,}"),
            ("directions that stay free", _count(self.free)),
            ("smallest curvature along the rules", _number(self.smallest)),
            ("largest curvature along the rules", _number(self.largest)),
        ]
        if self.generic_rank is None:
            rows = [row for row in rows if not row[0].startswith("rank")]
        if not self.at_bound:
            rows = [row for row in rows if "bounds" not in row[0] and "multiplier" not in row[0]]
        width = max(len(name) for name, _ in rows)
        lines = [self._sentence(), "", *(f"{name:{width}}  {value}" for name, value in rows)]
        return visible("\n".join(lines))

    def _sentence(self) -> str:
        if self.verdict == "cannot tell":
            return "cannot tell, because " + "; and because ".join(self.reasons)
        return self.verdict


def _count(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _number(value: float | None) -> str:
    return "none" if value is None or np.isnan(value) else f"{value:.6g}"
