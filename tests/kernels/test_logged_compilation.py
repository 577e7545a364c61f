"""A loop that takes long to compile says so while it is compiled, and a loop that is there says nothing."""

from __future__ import annotations

import logging
from threading import Event
from types import SimpleNamespace

import pytest

from affinet.kernels.torch.looped import available

pytestmark = pytest.mark.skipif(not available(), reason="needs numba")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Set as soon as anything is logged by affinet; nothing waits before."""
    from affinet.kernels.loops import jit

    happened = Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.levelno == logging.WARNING
            assert "compiles loops for a test, once on this machine" in record.getMessage()
            happened.set()

    monkeypatch.setattr(jit, "PATIENCE", 0.0)
    monkeypatch.setattr(logging.getLogger("affinet"), "handlers", [Handler()])
    return happened


def test_a_long_compilation_is_logged_while_it_runs(logged: Event) -> None:
    from affinet.kernels.loops.jit import logged_compilation

    with logged_compilation(SimpleNamespace(signatures=[]), "a test"):
        assert logged.wait(10.0)


def test_a_compiled_loop_logs_nothing(logged: Event) -> None:
    from affinet.kernels.loops.jit import logged_compilation

    with logged_compilation(SimpleNamespace(signatures=["known"]), "a test"):
        assert not logged.wait(0.2)


def test_a_loop_that_was_compiled_in_time_logs_nothing(logged: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    from affinet.kernels.loops import jit

    monkeypatch.setattr(jit, "PATIENCE", 0.3)
    with jit.logged_compilation(SimpleNamespace(signatures=[]), "a test"):
        pass
    assert not logged.wait(0.6)
