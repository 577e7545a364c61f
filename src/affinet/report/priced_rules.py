"""Turn the cost of rules into the prices that a page shows, with a sentence about how far they hold."""

from __future__ import annotations

from affinet.report.cost import LOOSER, CostReport
from affinet.report.pages.contents import Price, Prices
from affinet.report.pages.shown_numbers import shown_number

NEAR_OPTIMUM = 0.1
"""The stationarity above which prices say little yet."""
MOST_PRICES = 1000


def prices_of(report: CostReport, place: str) -> Prices:
    """The dearest rules; `place` begins the note: at which weights and for which loss the figures are."""
    rules = report.rules[:MOST_PRICES]
    prices = tuple(Price(rule.name, rule.largest, rule.change, rule.shared_with) for rule in rules)
    count = report.count or len(report.rules)
    return Prices(prices, count, report.stationarity, LOOSER, f"{place}. {_distance(report.stationarity)}")


def _distance(stationarity: float) -> str:
    share = f"The rules leave {shown_number(stationarity, 2)} of the length of the gradient (stationarity ‖Pg‖/‖g‖)"
    if stationarity < NEAR_OPTIMUM:
        return f"{share}, so that the weights are near an optimum and the figures hold there."
    return f"{share}: the weights are far from an optimum, and the figures say little yet."
