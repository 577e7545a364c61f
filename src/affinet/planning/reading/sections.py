"""Cut a rule that concatenates several parts, such as row sums and then column sums, into sections."""

from __future__ import annotations

from itertools import pairwise

from affinet.language.calculus.terms import Term
from affinet.language.expression import Expression

MOST_SECTIONS = 8


def sections(expression: Expression) -> list[Expression]:
    """The expression cut along the first axis where no section needs all terms; uncut if there is no such axis.

    Law: the sections, one after the other along that axis, are the expression.
    """
    for axis, size in enumerate(expression.shape):
        spans = [_span_of(term, axis, size) for term in expression.terms]
        cuts = sorted({0, size, *(bound for span in spans for bound in span)})
        if not 2 < len(cuts) <= MOST_SECTIONS + 1:
            continue
        used = [sum(low < b and a < high for low, high in spans) for a, b in pairwise(cuts)]
        if max(used) < len(spans):
            all_before = (slice(None),) * axis
            return [expression[(*all_before, slice(a, b))] for a, b in pairwise(cuts)]
    return [expression]


def _span_of(term: Term, axis: int, size: int) -> tuple[int, int]:
    """The range of an output axis that a term covers."""
    start = term.start[axis]
    if start is None:
        return 0, size
    low = high = start
    for variable in term.variables:
        for place, step in variable.outputs:
            if place == axis:
                ends = (0, step * (variable.size - 1)) if isinstance(step, int) else (int(step.min()), int(step.max()))
                low, high = low + min(ends), high + max(ends)
    return low, high + 1
