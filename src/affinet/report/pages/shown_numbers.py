"""Write numbers and text as a page shows them: few digits, a real minus sign, no hidden characters."""

from __future__ import annotations

import re

from affinet.errors import visible

_PICTURES = "[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]"
_JOINERS = re.compile(f"(?<={_PICTURES})\u200d(?={_PICTURES})")
"""Zero-width joiners inside an emoji, which turn nothing around."""
_MINUS = re.compile(r"(?<![\w-])-(?=\d)|(?<=\de)-(?=\d)")


def shown_number(value: float, digits: int = 3) -> str:
    """`0.000767`, `−2.2e−7`, `1.5e9`."""
    value += 0.0  # no minus before zero
    mantissa, exponent, power = f"{value:.{digits}g}".partition("e")
    text = f"{mantissa}e{int(power)}" if exponent else mantissa
    return text.replace("-", "−")


def with_minus_signs(text: str) -> str:
    """A sentence whose negative numbers and exponents have the minus sign of `shown_number`."""
    return _MINUS.sub("−", text)


def shown_text(text: str) -> str:
    """Text with hidden characters shown by their code, except those that join the parts of an emoji."""
    return "\u200d".join(visible(part) for part in _JOINERS.split(text))
