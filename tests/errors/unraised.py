"""The places that raise and need no case, by the beginning of their key, and why."""

from __future__ import annotations

NO_CASE: dict[str, str] = {}
