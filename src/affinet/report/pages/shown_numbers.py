"""Write numbers as a page shows them: few digits, a real minus sign, exponents that no line end divides."""

from __future__ import annotations


def shown_number(value: float, digits: int = 3) -> str:
    """`0.000767`, `−2.2e−7`, `1.5e9`."""
    mantissa, exponent, power = f"{value:.{digits}g}".partition("e")
    text = f"{mantissa}e{int(power)}" if exponent else mantissa
    return text.replace("-", "−")
