"""Draw a badge of two words as SVG: static, with a title for screen readers, and of the same width in every font."""

from __future__ import annotations

from xml.sax.saxutils import escape

CHARACTER, PADDING, HEIGHT = 6.6, 8, 20
"""Pixels: the mean width of a character in 11 pixels of Verdana, to which `textLength` stretches other fonts."""
GREY, GREEN, ORANGE = "#444444", "#226d38", "#9a4a00"
"""On each of these, white text has a contrast of more than 4.5, as WCAG 2.2 asks for."""

TEXT = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<rect width="{width}" height="{height}" rx="3" fill="{grey}"/>
<path d="M{first} 0h{second_square}a3 3 0 0 1 3 3v{inner}a3 3 0 0 1 -3 3h-{second_square}z" fill="{colour}"/>
<g fill="#ffffff" text-anchor="middle" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">
<text x="{first_middle}" y="14" textLength="{first_text}">{label}</text>
<text x="{second_middle}" y="14" textLength="{second_text}">{message}</text>
</g>
</svg>
"""


def badge_of(label: str, message: str, good: bool) -> str:
    """The badge `label | message`, green where it is good, and orange where it is not."""
    label_length, message_length = (round(CHARACTER * len(text)) for text in (label, message))
    first, second = label_length + 2 * PADDING, message_length + 2 * PADDING
    label, message = (escape(text, {'"': "&quot;"}) for text in (label, message))
    return TEXT.format(
        width=first + second,
        height=HEIGHT,
        title=f"{label}: {message}",
        grey=GREY,
        colour=GREEN if good else ORANGE,
        first=first,
        second_square=second - 3,
        inner=HEIGHT - 6,
        first_middle=first / 2,
        second_middle=first + second / 2,
        first_text=label_length,
        second_text=message_length,
        label=label,
        message=message,
    )
