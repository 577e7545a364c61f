"""affinet on a Python for which there is no numba: everything works, and a plan says what takes longer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import affinet
from affinet.kernels.torch import looped
from affinet.plans import backends
from tests.kernels.dangerous import ROOT, ran

FOLDER = Path(__file__).parent
NOTE = "note: numba is not installed, so projections on the CPU run on torch's own operations and take longer."


def test_a_part_of_the_contract_holds_without_numba() -> None:
    """Every case of the table in float32, where most projections are compiled otherwise, by one path or the other."""
    files = [str(ROOT / "tests" / "contract" / name) for name in ("test_projections.py", "test_steps.py")]
    said = ran(str(FOLDER / "numbaless.py"), *files, "-k", "float32 and (nearest or (keeps_the_laws and AdamW))")
    assert NOTE in said.splitlines()
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) > 100
    assert "skipped" not in said


@pytest.fixture
def asked_anew() -> Iterator[None]:
    backends.numba_installed.cache_clear()
    looped.available.cache_clear()
    yield
    backends.numba_installed.cache_clear()
    looped.available.cache_clear()


def test_a_plan_says_nothing_of_numba_where_it_is_installed() -> None:
    assert "numba" not in str(affinet.plan(affinet.weights({"a": (8, 8)}).a.sum(dim=1) == 1))


@pytest.mark.usefixtures("asked_anew")
def test_a_numba_that_does_not_go_with_this_numpy_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")

    def refused(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.5 or less")

    monkeypatch.setattr(looped, "import_module", refused)
    with pytest.warns(UserWarning, match=r"cannot be imported \(Numba needs NumPy 2.5 or less\)"):
        assert not looped.available()
    assert not looped.available(), "and no second warning, which would be an error here"
