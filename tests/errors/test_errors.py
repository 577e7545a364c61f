"""Every error of the package is raised by a case of the catalogue, as `docs/errors.md` shows it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.errors.case import Case
from tests.errors.catalogue import CASES, PAGE, page
from tests.errors.running import outcome
from tests.errors.sites import Site, sites
from tests.errors.unraised import NO_CASE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_error_is_raised(case: Case) -> None:
    met = outcome(case)
    assert met.kind is case.kind, f"{case} met {met.kind}: {met.message}"
    assert not met.blemish, met.blemish
    assert case.fragment in met.message
    assert "…" in met.message or not case.foreign, "the pattern of what is foreign matches nothing"


def test_the_cases_have_different_names() -> None:
    names = Counter(str(case) for case in CASES)
    assert not [name for name, times in names.items() if times > 1]


def test_every_site_has_a_case() -> None:
    found = frozenset().union(*(outcome(case).sites for case in CASES))
    missed = [site for site in sites() if site not in found and reason(site) is None]
    assert not missed, f"{len(missed)} places raise or warn, and no case shows it:\n" + "\n".join(map(str, missed))
    free = [site.key for site in sites() if site not in found]
    assert not [begins for begins in NO_CASE if not any(key.startswith(begins) for key in free)], "these need no excuse"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/errors.md is stale: run `python -m tests.errors`"


def reason(site: Site) -> str | None:
    """Why a site needs no case; None where it needs one."""
    return next((why for begins, why in NO_CASE.items() if site.key.startswith(begins)), None)
