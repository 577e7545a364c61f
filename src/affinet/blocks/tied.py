"""Classes of tied places of a block, each decided by one free number."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Tied:
    """Class k holds `places[bounds[k]:bounds[k + 1]]`, each of which is `scale · z_k + shift`.

    `scale` and `shift` follow the order of `places`. `rules` are the numbers of the rules that tie them.
    """

    places: Integers
    bounds: Integers
    scale: Floats
    shift: Floats
    rules: tuple[int, ...]
