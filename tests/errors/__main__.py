"""Write docs/errors.md anew: `python -m tests.errors`."""

from __future__ import annotations

from tests.errors.catalogue import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
