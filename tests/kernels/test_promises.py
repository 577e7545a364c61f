"""The violation that docs/numerics.md promises for every kind of block and dtype: kept, and not idle."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from affinet.kernels.torch import looped
from tests.kernels.adversarial import hard
from tests.kernels.block_kinds import KINDS, Kind, plan_of, weights
from tests.kernels.judging import miss, moved_again

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
SIZE = 260
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
IDLE = 30.0
"""A promise is idle where no input comes within this factor of it."""
AVERAGED = ("wide",)
"""Rounding of the 67,600 entries of one equation averages out: only if all rounded the same way it would not."""
EXACT = (("fixed", torch.float64),)
"""A value given in float64 is stored as it is."""


@cache
def promised() -> dict[str, tuple[bool, tuple[float, ...]]]:
    """Kind → whether its size is that of the component, and spacings by dtype: read from the table of the page."""
    lines = PAGE.read_text(encoding="utf-8").split("<!-- promises -->")[1].split("<!-- end of promises -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.strip().splitlines()[2:]]
    return {row[0]: (row[2] == "component", tuple(map(float, row[3:7]))) for row in rows}


def test_the_page_speaks_of_every_kind() -> None:
    assert list(promised()) == [kind.name for kind in KINDS]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rules_hold_to_what_is_promised(kind: Kind, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(kind, SIZE)
    assert kind.block in {type(block).__name__ for block in plan.blocks}
    component, spacings = promised()[kind.name]
    limit, found = spacings[DTYPES.index(dtype)], {}
    # With compiled loops where there are some, and without.
    for way in ("compiled", "torch") if dtype.itemsize > 2 else ("torch",):
        monkeypatch.setattr(looped, "available", looped.available if way == "compiled" else lambda: False)
        projector = plan.projector(weights(plan, dtype))
        for name, given in hard(plan, dtype):
            found[f"{name}, {way}"] = miss(plan, projector.project(given), dtype, component=component)
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= limit, f"{worst}: {found[worst]:.3g} spacings"
    if kind.exact:
        assert limit == 0.0
    elif kind.name not in AVERAGED and (kind.name, dtype) not in EXACT:
        assert found[worst] >= limit / IDLE, f"{worst} comes nearest: {found[worst]:.3g} spacings"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_pass_after_a_step_is_as_near(kind: Kind, dtype: torch.dtype) -> None:
    """A step moves weights that satisfy the rules a little: the one pass after it keeps the promise of two."""
    plan = plan_of(kind, SIZE)
    component, spacings = promised()[kind.name]
    start = weights(plan, dtype)
    projector = plan.projector(start)
    moved = {name: x + 1e-3 * torch.randn_like(x) for name, x in projector.project(start).items()}
    projector.project_(moved)
    assert miss(plan, moved, dtype, component=component) <= spacings[DTYPES.index(dtype)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_projecting_again_moves_by_rounding_only(kind: Kind, dtype: torch.dtype) -> None:
    """Where entries are equal or opposite, or given, it changes no bit."""
    plan = plan_of(kind, SIZE)
    projector = plan.projector(weights(plan, dtype))
    for name, given in hard(plan, dtype):
        once = projector.project(given)
        share = moved_again(plan, once, projector.project(once))
        assert share <= (0.0 if kind.exact or kind.name == "fixed" else 1.0), f"{name}: {share:.3g} of what it may"
