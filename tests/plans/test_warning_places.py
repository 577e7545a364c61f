"""A warning of planning points at the line of the user that asked for the plan."""

from __future__ import annotations

import pytest

import affinet


def test_nothing_to_train_is_said_of_the_callers_line() -> None:
    w = affinet.weights({"a": (2,)})
    with pytest.warns(affinet.NothingToTrainWarning) as caught:
        affinet.plan([w.a[0] + w.a[1] == 1, w.a[0] - w.a[1] == 0])
    assert [warning.filename for warning in caught] == [__file__]
