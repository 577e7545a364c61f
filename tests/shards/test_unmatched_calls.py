"""A call that not all processes make is named, by what the others have not called, and they can go on after it."""

from __future__ import annotations

import inspect

from affinet.training.handle import Handle
from tests.shards.gang import together
from tests.shards.unmatched_calls import CALLS

LOCAL = {"attached_to", "capture", "forget", "remove", "state_dict", "load_state_dict", "plan", "moved", "projector"}
"""What a process does without the others."""
OTHERWISE = {"project_gradients": "a part of a step", "update": "attaches rules"}


def test_calls_of_one_process_are_named() -> None:
    every = together(2, "tests.shards.unmatched_calls:unmatched")
    for number, name in enumerate([*(f"handle.{call}()" for call in CALLS), "of computed weights"]):
        rank = number % 2
        call = name if name.startswith("handle") else "handle.violation()"
        assert every[rank][name].startswith(
            f"AttachError: processes [{1 - rank}] hold parts or copies of the same weights as this one, {rank}, and "
            f"have not called {call} for 0.5 seconds. All of them take part in it: call it on every process"
        ), every[rank][name]
    for rank, (other, ours, theirs) in enumerate([(1, "violation", "active"), (0, "active", "violation")]):
        assert every[rank]["different"].startswith(
            f"AttachError: process {rank} has called handle.{ours}(), and process {other} has called handle.{theirs}()."
        ), every[rank]["different"]
    assert every[0]["violation"] == every[1]["violation"]


def test_every_verb_of_a_handle_waits_for_all_processes() -> None:
    verbs = {name for name, verb in inspect.getmembers(Handle, inspect.isfunction) if not name.startswith("_")}
    assert verbs - LOCAL - OTHERWISE.keys() == CALLS.keys()
    for name in CALLS:
        assert f'self._await("handle.{name}()")' in inspect.getsource(getattr(Handle, name))
