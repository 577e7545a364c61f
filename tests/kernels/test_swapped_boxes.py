"""Pairs over the parts of several processes, computed here for all of them: the numbers of one, the same on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.kernels.torch.kernel import Decay
from affinet.kernels.torch.preparing import prepare
from affinet.kernels.torch.shards.divided_blocks import _mirror_of_part, _pairs_of_parts
from affinet.kernels.torch.shards.swapped_boxes import SwappedBoxes
from affinet.planning.shards.division import Exchanged, division_of
from affinet.planning.shards.exchanged_boxes import ExchangedBoxes
from affinet.planning.shards.splits import HeldBox, Split, Splits
from affinet.plans.plan import Plan

N, WIDE = 200, 240
"""Smaller matrices are read entry by entry."""
SHIFT = np.random.default_rng(5).standard_normal((N, WIDE))
SQUARE = SHIFT[:, :N]
SHAPES = {
    "a": (N, WIDE),
    "b": (WIDE, N),
    "c": (N, WIDE),
    "s": (N, N),
    "t": (2 * N, N),
    "u": (2 * WIDE, N),
    "v": (N, 2 * WIDE),
    "k": (64, 64, 3, 3),
    "l": (64, 64, 3, 3),
}
RULES: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda w: w.a == w.b.T,
    "opposite": lambda w: w.a == -w.b.T,
    "three times": lambda w: w.a == 3 * w.b.T,
    "shifted": lambda w: w.a == w.b.T / 3 + SHIFT,
    "shifted by one number": lambda w: w.a == w.b.T + 1,
    "parts": lambda w: w.a[7:, 30:] == 2 * w.u[60::2, :193].T,
    "every second column": lambda w: w.b == -w.v[:, ::2].T,
    "in other order": lambda w: w.a == w.c.flip(0),
    "in other order, transposed": lambda w: w.a == w.b.flip(1).T,
    "both in other order": lambda w: w.a[::-1] == w.b[::-1, ::-1].T,
    "halves": lambda w: w.t[:200, :] == w.t[200:, ::-1],
    "kernels": lambda w: w.k == w.l.permute(1, 0, 3, 2),
    "symmetric": lambda w: w.s == w.s.T,
    "skew": lambda w: w.s == -w.s.T,
    "skew around a matrix": lambda w: w.s == SQUARE + SQUARE.T - w.s.T,
    "mirrored rows": lambda w: w.s == w.s.flip(0),
    "mirrored diagonal": lambda w: w.s == w.s.flip(0).flip(1).T,
    "kernel and its image": lambda w: w.k == w.k.transpose(0, 1).flip(2),
}
ALL = slice(None)
_CROSS = np.zeros((N, N), bool)
_CROSS[3] = _CROSS[:, 3] = True
MIXED: dict[str, tuple[Callable[[Any], list[Any]], dict[str, Any]]] = {
    "a row is zero": (lambda w: [w.a == w.b.T, w.a[1] == 0], {"a": 1, "b": (ALL, 1)}),
    "every seventh entry is fixed": (
        lambda w: [w.a == -w.b.T, w.a[:, ::7] == 0.5],
        {"a": (ALL, slice(None, None, 7)), "b": slice(None, None, 7)},
    ),
    "a shifted column is fixed": (lambda w: [w.a == w.b.T + SHIFT, w.b[:, 0] == 0], {"a": 0, "b": (ALL, 0)}),
    "in other order, a row is zero": (lambda w: [w.a == w.c.flip(0), w.a[3] == 0], {"a": 3, "c": N - 4}),
    "a symmetric column is one": (lambda w: [w.s == w.s.T, w.s[:, 3] == 1], {"s": _CROSS}),
    "an entry of mirrored rows is two": (lambda w: [w.s == w.s.flip(0), w.s[5, 7] == 2], {"s": ([5, N - 6], [7, 7])}),
}
"""Pairs of which other rules have some entries: the rules, and where in each weight these entries are."""
LAYOUTS = {"rows of 2": (2, 0), "columns of 3": (3, 1), "rows of 7": (7, 0)}
FEW_ROUNDINGS = 8
"""Of numbers up to 5: a number of a pair is made of two by four operations, in one order by one process and in another
order by several."""


def numbers(dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def parts_of(tensors: Mapping[str, Tensor], boxes: Mapping[str, HeldBox]) -> dict[str, Tensor]:
    """What the process with these boxes holds."""
    return {
        name: tensors[name][_index(box)].clone(memory_format=torch.contiguous_format) for name, box in boxes.items()
    }


def _index(box: HeldBox) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(box.offset, box.sizes, strict=True))


def projected(
    plan: Plan, tensors: dict[str, Tensor], layout: str, *, affine: bool, floor: float, decay: Decay | None
) -> dict[str, Tensor]:
    """All entries after every process has projected its part, in place of the exchange of numbers between them."""
    count, axis = LAYOUTS[layout]
    (block,) = (block for block in plan.blocks if isinstance(block, Mirror | Pairs))
    names = [parameter.name for parameter, _ in block.entries.sizes]
    splits = {name: Splits(SHAPES[name], (count,), (Split(axis),)) for name in names}
    division = division_of(block, splits)
    assert isinstance(division, Exchanged)
    held = {name: each.boxes_along(0) for name, each in splits.items()}
    known = {name: boxes for name, boxes in held.items() if boxes is not None}
    assert known.keys() == held.keys()
    exchanges, running, parts = [], [], []
    for own in range(count):
        of_process = {name: boxes[own] for name, boxes in known.items()}
        parts.append(parts_of(tensors, of_process))
        decayed = None if decay is None else Decay(decay.rates, parts_of(decay.weights, of_process))
        if division.dimension is None:
            boxes = division.grouped.boxes({name: [box] for name, box in of_process.items()}, 0)
        else:
            boxes = division.grouped.boxes(known, own)
        assert boxes is not None
        _settle_local(boxes, parts[own], affine=affine, floor=floor, decay=decayed)
        exchanges.append(boxes)
        swapped: Any = SwappedBoxes(boxes, exchange=None)  # type: ignore[arg-type]
        running.append(swapped.rounds(parts[own], affine=affine, floor=floor, decay=decayed))
    _exchange(exchanges, running)
    whole = {name: tensors[name].clone() for name in names}
    for own, part in enumerate(parts):
        for name, numbers_held in part.items():
            whole[name][_index(known[name][own])] = numbers_held
    return whole


def _settle_local(
    boxes: ExchangedBoxes, part: dict[str, Tensor], *, affine: bool, floor: float, decay: Decay | None
) -> None:
    blocks = [] if boxes.local is None else [_pairs_of_parts(boxes.local, part, prepare)]
    if boxes.mirror is not None:
        blocks.append(_mirror_of_part(boxes.mirror, part, prepare))
    for block in blocks:
        assert block.kernel is not None
        if not block.kernel.settle(part, affine=affine, quiet=floor, decay=decay):
            assert next(block.rounds(part, affine=affine, floor=floor, decay=decay), None) is None


def _exchange(exchanges: list[ExchangedBoxes], running: list[Any]) -> None:
    """Give each process what the others give to it, and check that both know how many numbers these are."""
    gifts: dict[tuple[int, int], Tensor] = {}
    for own, (boxes, rounds) in enumerate(zip(exchanges, running, strict=True)):
        given = next(rounds).numbers
        assert len(given) == sum(each.size for each in boxes.sent)
        first = 0
        for each in boxes.sent:
            earlier = gifts.get((own, each.peer), given.new_zeros(0))
            gifts[own, each.peer] = torch.cat([earlier, given[first : first + each.size]])
            first += each.size
    for own, (boxes, rounds) in enumerate(zip(exchanges, running, strict=True)):
        received = [gifts.get((peer, own), torch.zeros(0)) for peer in range(len(running))]
        sizes = [sum(each.size for each in boxes.received if each.peer == peer) for peer in range(len(running))]
        assert list(map(len, received)) == sizes
        with pytest.raises(StopIteration):
            rounds.send(torch.cat([each for each in received if len(each)] or [torch.zeros(0)]))


@pytest.mark.parametrize("loops", [True, False], ids=["loops", "no loops"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", RULES)
def test_boxes_of_processes_get_the_numbers_of_one(
    rule: str, layout: str, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loops:
        monkeypatch.setattr("affinet.kernels.torch.looped.available", lambda: False)
        monkeypatch.setattr("affinet.kernels.torch.shards.swapped_boxes.available", lambda: False)
    plan = affinet.plan(RULES[rule](affinet.weights(SHAPES)))
    for dtype in (torch.float32, torch.float64):
        weights, gradients = numbers(dtype, 0), numbers(dtype, 1)
        bound = FEW_ROUNDINGS * 5 * torch.finfo(dtype).eps
        projector = plan.projector({p.name: weights[p.name] for p in plan.parameters})
        found = projected(plan, weights, layout, affine=True, floor=0.0, decay=None)
        _assert_close(found, projector.project(weights), bound)
        if rule not in ("three times", "parts", "shifted", "shifted by one number", "skew around a matrix"):
            assert max(projector.violation(found).values()) == 0.0  # equal or opposite to the bit
        for decay in (None, Decay({"a": 0.3, "s": 0.2}, weights)):
            tangent = projected(plan, gradients, layout, affine=False, floor=1e-30, decay=decay)
            alone = {p.name: gradients[p.name].clone() for p in plan.parameters}
            projector.project_gradients_(alone, weights, {} if decay is None else decay.rates)
            _assert_close(tangent, alone, bound)


@pytest.mark.parametrize("loops", [True, False], ids=["loops", "no loops"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rule", MIXED)
def test_entries_of_other_rules_keep_their_numbers(
    rule: str, layout: str, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loops:
        monkeypatch.setattr("affinet.kernels.torch.looped.available", lambda: False)
        monkeypatch.setattr("affinet.kernels.torch.shards.swapped_boxes.available", lambda: False)
    make, places = MIXED[rule]
    plan = affinet.plan(make(affinet.weights(SHAPES)))
    weights = numbers(torch.float64, 0)
    found = projected(plan, weights, layout, affine=True, floor=0.0, decay=None)
    expected = plan.projector({name: weights[name] for name in found}).project(weights)
    for name, values in found.items():
        assert torch.equal(values[places[name]], weights[name][places[name]])
        expected[name][places[name]] = weights[name][places[name]]
    _assert_close(found, expected, FEW_ROUNDINGS * 5 * torch.finfo(torch.float64).eps)


def _assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], bound: float) -> None:
    for name, values in found.items():
        assert float((values - expected[name]).abs().max()) <= bound, name


def test_both_holders_silence_the_same_pairs() -> None:
    """A gradient that the projection removes is noise on both processes, and zero on both."""
    plan = affinet.plan(RULES["transposed"](affinet.weights(SHAPES)))
    gradients = numbers(torch.float32, 2)
    gradients["b"] = -gradients["a"].T * (1 + torch.randint(-3, 4, (WIDE, N)) * 2.0**-23)
    found = projected(plan, gradients, "rows of 2", affine=False, floor=2.0**-25, decay=None)
    assert torch.equal(found["a"], found["b"].T)
    assert 0 < int(found["a"].count_nonzero()) < found["a"].numel()


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_missing_gradient_counts_as_zero_for_the_others(missing: str) -> None:
    plan = affinet.plan(RULES["transposed"](affinet.weights(SHAPES)))
    gradients = numbers(torch.float64, 3)
    present = "b" if missing == "a" else "a"
    splits = {name: Splits(SHAPES[name], (2,), (Split(0),)) for name in ("a", "b")}
    division = division_of(plan.blocks[0], splits)
    assert isinstance(division, Exchanged)
    held = {name: each.boxes_along(0) or [] for name, each in splits.items()}
    exchanges, running, parts = [], [], []
    for own in (0, 1):
        boxes = division.grouped.boxes(held, own)
        assert boxes is not None
        part: dict[str, Any] = parts_of(gradients, {name: held[name][own] for name in ("a", "b")})
        part[missing] = None
        swapped: Any = SwappedBoxes(boxes, exchange=None)  # type: ignore[arg-type]
        running.append(swapped.rounds(part, affine=False, floor=0.0, decay=None))
        exchanges.append(boxes)
        parts.append(part[present])
    _exchange(exchanges, running)
    whole, rows = torch.cat(parts), len(parts[0])
    before, across = gradients[present], torch.ones(whole.shape, dtype=torch.bool)
    columns = len(held[missing][0].positions()) // SHAPES[missing][1]
    across[:rows, :columns] = across[rows:, columns:] = False
    assert torch.equal(whole[~across], before[~across])  # the other block of the same process projects these
    assert torch.equal(whole[across], before[across] / 2)
