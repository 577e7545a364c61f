"""The distinct numbers of an array, in both of the ways it is done."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from affinet.system.distinct import distinct, ranked

NUMBERS = st.one_of(st.lists(st.integers(-5, 20)), st.lists(st.integers(-(2**62), 2**62)))


@given(NUMBERS)
def test_distinct_is_what_numpy_says(numbers: list[int]) -> None:
    found = distinct(np.array(numbers, np.int64))
    assert found.tolist() == sorted(set(numbers))


@given(NUMBERS)
def test_ranked_leads_back(numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    values, place = ranked(array)
    assert values.tolist() == sorted(set(numbers))
    assert np.array_equal(values[place], array)
