"""Turn observations of a watch into curves over steps: violation, stationarity, and what projections undid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan

from affinet.report.observation import Observation
from affinet.report.pages.contents import Curve
from affinet.report.pages.shown_numbers import shown_number

WIDE = 20.0
"""The ratio of the largest to the smallest number from which a scale is logarithmic."""


def observed_curves(history: Sequence[Observation]) -> tuple[Curve, ...]:
    """The curves of the first optimizer that was observed; empty without observations."""
    if not history:
        return ()
    observed = [each for each in history if each.optimizer == history[0].optimizer]
    steps = tuple(float(each.step) for each in observed)
    quantities: tuple[tuple[str, str, Callable[[Observation], float]], ...] = (
        ("Largest violation", "Of any rule after the step", lambda o: max(o.violation.values(), default=0.0)),
        (
            "Stationarity",
            "‖Pg‖/‖g‖, the share of the gradient that the rules leave; 0 at an optimum",
            lambda o: nan if o.stationarity is None else o.stationarity,
        ),
        ("Undone by the projection", "Share of the step's squared length", lambda o: o.undone),
    )
    curves = []
    for title, sentence, quantity in quantities:
        values = tuple(float(quantity(each)) for each in observed)
        finite = [value for value in values if isfinite(value)]
        if finite:
            logarithmic = min(finite) > 0.0 and max(finite) > WIDE * min(finite)
            text = f"{sentence}: {shown_number(finite[-1])} at last, at most {shown_number(max(finite))}."
            curves.append(Curve(title, text, "step", steps, values, logarithmic))
    return tuple(curves)
