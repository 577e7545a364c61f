"""What rules send over a mesh, from shapes alone: the counted bytes of `tests/shards`, and layouts of any size.

Where anything is sent, a byte for each weight of the rules says whether its gradient is there.
"""

from __future__ import annotations

import affinet
from affinet import families


def test_rows_inside_of_a_shard_send_nothing_and_sums_across_send_one_number_each() -> None:
    w = affinet.weights({"a.weight": (8, 6), "b.weight": (6, 8)})
    plan = affinet.plan([w["a.weight"].sum(dim=1) == 1, w["b.weight"].sum(dim=0) == 1])
    assert plan.sharded(2).bytes_by_rule() == {"a.weight.sum(dim=1) == 1": 0, "b.weight.sum(dim=0) == 1": 2 * 4 * 8}
    assert plan.sharded(2, (1,)).bytes_a_step == 2 * 4 * 8 + 2
    assert plan.sharded(2, (1,), itemsize=8).bytes_a_step == 2 * 8 * 8 + 2
    assert plan.sharded((2, 2), {"a.weight": (None, 0), "b.weight": (None, None)}).bytes_a_step == 0
    assert plan.sharded(1).bytes_a_step == 0
    # Axes count from the end as well, as in torch: weights that seem to be copied would seem to send nothing.
    assert plan.sharded(2, (-1,)).bytes_a_step == plan.sharded(2, (1,)).bytes_a_step > 0


def test_the_layout_of_70_billion_weights_is_counted_from_shapes() -> None:
    shapes: dict[str, tuple[int, ...]] = {"embed": (128_256, 8_192), "head": (128_256, 8_192)}
    for layer in range(80):
        shapes |= {f"layers.{layer}.up": (28_672, 8_192), f"layers.{layer}.down": (8_192, 28_672)}
    w = affinet.weights(shapes)
    plan = affinet.plan(
        [w["embed"] == w["head"]]
        + [w[f"layers.{layer}.up"].sum(dim=1) == 0 for layer in range(80)]
        + [w[f"layers.{layer}.down"].sum(dim=0) == 0 for layer in range(80)]
    )
    sharded = plan.sharded(1_024, itemsize=2)
    assert sharded.bytes_a_step == 80 * 28_672 * 2 * 4 + 2 + 2 * 80  # 16 bits are computed in 32
    assert "Of 1,024 processes each sends 18,350,242 bytes a step for the rules." in str(sharded)


def test_cells_of_several_processes_send_their_entries() -> None:
    w = affinet.weights({"a.weight": (8, 6), "b.weight": (6, 8)})
    plan = affinet.plan([w["a.weight"] >= 0, families.unit_norm(w["b.weight"])])
    assert [*plan.sharded(2).bytes_by_rule().values()] == [0, 3 * 48 * 4]


def test_cells_of_one_process_send_nothing() -> None:
    w = affinet.weights({"a": (8, 6), "b": (8, 6)})
    rows = [families.simplex(w["a"], dim=1), families.unit_norm(w["b"], dim=1)]
    assert affinet.plan(rows).sharded(2, (0,)).bytes_a_step == 0
    assert affinet.plan(rows).sharded(2, (1,)).bytes_a_step == 2 * 3 * 48 * 4 + 2
    half_rows = affinet.plan([w["a"][:, :3].sum(dim=1) <= 1, w["a"][:, 3:].sum(dim=1) <= 1])
    assert half_rows.sharded(2, (0,)).bytes_a_step == 0
    assert half_rows.sharded(2, (1,)).bytes_a_step == 0
    both = affinet.plan([w["a"].sum(dim=1) == 1, w["a"][:, :2].sum(dim=1) <= 0.5, w["a"] >= 0])
    assert both.sharded((2, 2), {"a": (None, 0), "b": (None, 0)}).bytes_a_step == 0
    assert both.sharded((2, 2), {"a": (1, 0), "b": (None, 0)}).bytes_a_step == 3 * 48 * 4 + 1
