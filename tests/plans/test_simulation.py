"""Bytes, messages and times of steps over processes, simulated from shapes."""

from __future__ import annotations

import pytest

import affinet

LATENCY, BANDWIDTH = 10e-6, 25e9


def plan() -> affinet.Plan:
    w = affinet.weights({"up": (64, 16), "down": (16, 64), "square": (128, 128), "head": (64, 16)})
    return affinet.plan(
        [w["up"].sum(dim=1) == 0, w["down"].sum(dim=0) == 0, w["square"] == -w["square"].T, w["head"] >= 0]
    )


def test_a_step_takes_the_time_of_its_messages() -> None:
    simulation = affinet.simulate(plan(), [1, 8, 64])
    alone, eight, many = simulation.meshes
    assert (alone.bytes_a_step, alone.messages_a_step, simulation.seconds[0]) == (0, 0, 0)
    # One all-reduce of the column sums for the gradient and one for the weights, and one all-to-all for each. Before
    # them one all-reduce of a byte for each of four weights: which of them have a gradient.
    assert eight.messages_a_step == many.messages_a_step == 5
    sums = 2 * 64 * 4 + 4
    swapped = eight.bytes_a_step - sums
    # Of its 16 rows a process swaps all but the square on the diagonal with the others.
    assert swapped == 2 * 16 * (128 - 16) * 4
    hops = 3 * 2 * 3 + 2 * 7
    assert simulation.seconds[1] == pytest.approx((2 * sums + swapped) / BANDWIDTH + hops * LATENCY, rel=1e-12)


def test_other_rates_and_meshes_of_two_dimensions() -> None:
    rules = plan()
    copies = affinet.simulate(rules, (4, 8), (None, 0), gigabytes_per_second=1.0, microseconds=5.0)
    flat = affinet.simulate(rules, 8, gigabytes_per_second=1.0, microseconds=5.0)
    assert copies.meshes[0].bytes_a_step == flat.meshes[0].bytes_a_step
    assert copies.seconds == flat.seconds
    assert flat.seconds[0] > affinet.simulate(rules, 8, microseconds=5.0).seconds[0]


def test_the_table_has_a_line_for_each_mesh() -> None:
    text = str(affinet.simulate(plan(), [8, 64], itemsize=2))
    lines = text.splitlines()
    assert lines[0].split() == ["processes", "bytes", "a", "step", "messages", "milliseconds"]
    assert [line.split()[0] for line in lines[2:4]] == ["8", "64"]
    assert lines[-1] == "At 25 GB/s a process, 10 µs a message."
