"""Every error of the package is raised by a case of the catalogue, and `docs/errors.md` explains every class."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from affinet import errors
from tests.errors.case import Case
from tests.errors.catalogue import CASES
from tests.errors.running import outcome
from tests.errors.sites import Site, sites
from tests.errors.unraised import NO_CASE

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \|.*\| (?P<last>[^|]*) \|$", re.MULTILINE)
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


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


def test_every_case_has_a_cause_and_a_way_out() -> None:
    wrong = [
        f"{case}: {sentence!r}"
        for case in CASES
        for sentence in (case.cause, case.way_out)
        if not re.fullmatch(r"\W*\w.*[.…][`)]*", sentence, re.DOTALL)
    ]
    assert not wrong, f"these are not sentences: {'; '.join(wrong)}"


def test_the_page_explains_every_class_once() -> None:
    rows = Counter(row["name"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8")))
    assert rows == Counter(kind.__name__ for kind in KINDS if kind is not errors.AffinetError)


def test_the_page_says_which_errors_of_python_the_classes_are() -> None:
    written = {row["name"]: row["last"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    for kind in KINDS:
        if issubclass(kind, errors.AffinetError) and kind is not errors.AffinetError:
            bases = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"]
            nearest = [name for name in bases if name not in ("Exception", "BaseException", "object")]
            assert set(written[kind.__name__].replace("`", "").split(", ")) <= {*nearest}, kind


def reason(site: Site) -> str | None:
    """Why a site needs no case; None where it needs one."""
    return next((why for begins, why in NO_CASE.items() if site.key.startswith(begins)), None)
