"""A step under rules sends few numbers between processes: counted, message by message."""

from __future__ import annotations

import affinet
from tests.shards.counted_bytes import LARGE, LOCAL_BY_ROWS, RULES, N
from tests.shards.gang import together

REDUCED = 16
"""Bytes for each equation between processes: one float32 number or two for the gradient, and one for the weights."""


def test_a_step_sends_what_equations_between_processes_need() -> None:
    for found in together(2, "tests.shards.counted_bytes:counted", "rows"):
        assert all(found[name] == (0, 0) for name in LOCAL_BY_ROWS)
        assert found["column sums"][0] <= REDUCED * N
        assert found["dense equations"][0] <= REDUCED * 5
        assert found["a tie over processes"][0] <= REDUCED
        assert found["rows that are equal"] == (24 * N + 1, 3)
        for name, (number_bytes, messages) in found.items():
            rule, itemsize = RULES[name.removesuffix(", float64")], 8 if name.endswith("float64") else 4
            sizes = {"first.weight": (N, N), "second.weight": (N, N), "first.bias": (N,), "second.bias": (N,)}
            sizes |= {"third.weight": (LARGE, LARGE), "fourth.weight": (LARGE, LARGE), "third.bias": (LARGE,)}
            sharded = affinet.plan(rule(affinet.weights(sizes))).sharded(2, itemsize=itemsize)
            assert (sharded.bytes_a_step, sharded.messages_a_step) == (number_bytes, messages), name
        # Half of the entries have their partner on the other process, and each process holds half of these: what it
        # gives is its own, for the gradient and for the weights, and half of what may be sent.
        for name, crossing in {
            "transposed layers": N * N,
            "a symmetric matrix": N * N // 2,
            "a skew matrix": N * N // 2,
            "large transposed layers": LARGE * LARGE,
            "a large symmetric matrix": LARGE * LARGE // 2,
            "a large skew matrix": LARGE * LARGE // 2,
            "rows in mirrored order": LARGE * LARGE,
        }.items():
            assert found[name] == (2 * (crossing // 2) * 4 + weights_of(name), 3), name
        assert found["permuted rows"][0] <= 2 * 2 * LARGE * LARGE * 4 + weights_of("permuted rows")


def test_all_blocks_share_the_messages_of_a_step() -> None:
    for found in together(2, "tests.shards.counted_bytes:counted", "columns"):
        assert found["column sums"] == found["simplices of columns"] == found["not negative"] == (0, 0)
        assert found["row sums"][0] <= REDUCED * N
        assert found["row sums"][1] == 3


def weights_of(name: str) -> int:
    """The weights in a rule: each process sends a byte for each, which says whether it has its gradient."""
    sizes = {"first.weight": (N, N), "third.weight": (LARGE, LARGE), "fourth.weight": (LARGE, LARGE)}
    return len(affinet.plan(RULES[name](affinet.weights(sizes | {"second.weight": (N, N)}))).parameters)
