"""Cases with known projections, tangents and optima, by which support for any array library can be tested.

    import affinet, affinet.testing
    for case in affinet.testing.cases():
        affinet.testing.check(affinet.Plan.projector, case, "float32")

A library that has projections of its own calls `summarize`, which gives a badge and its evidence (docs/conformance.md).
`import affinet` does not import this module, and it needs no test runner.
"""

from __future__ import annotations

from affinet.testing.conformance_cases import cases
from affinet.testing.conformance_checks import Binding, Conformance, check
from affinet.testing.conformance_summary import Summary, Tally, Verdict, problems, summarize
from affinet.testing.equation_truth import equations
from affinet.testing.truth import Case, Quadratic, Truth

__all__ = [
    "Binding",
    "Case",
    "Conformance",
    "Quadratic",
    "Summary",
    "Tally",
    "Truth",
    "Verdict",
    "cases",
    "check",
    "equations",
    "problems",
    "summarize",
]
