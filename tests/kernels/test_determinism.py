"""Every block kind under `torch.use_deterministic_algorithms(True)`: no error, and the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet.kernels.torch.putting import put
from tests.kernels.block_kinds import KINDS, Kind, plan_of, weights

SIZE = 260


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_block_computes_the_same_bits_twice(kind: Kind, dtype: torch.dtype) -> None:
    plan = plan_of(kind, SIZE)
    assert kind.block in {type(block).__name__ for block in plan.blocks}
    given = weights(plan, dtype)
    assert_equal(*(every_verb(plan, given) for _ in range(2)))


def every_verb(plan: affinet.Plan, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a projector gives that was made for this alone: weights, vectors, gradients with decay, violations."""
    projector = plan.projector(given)
    projected, gradients = projector.project(given), {name: x.clone() for name, x in given.items()}
    projector.project_gradients_(gradients, given, dict.fromkeys(given, 0.1))
    found = {"project": projected, "tangent": projector.tangent(given), "gradients": gradients}
    violations = projector.violation(projected)
    return {
        **{f"{verb} {name}": x for verb, tensors in found.items() for name, x in tensors.items()},
        **{name: torch.tensor(value) for name, value in violations.items()},
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
def test_weights_in_another_memory_order_are_written_too(few: bool) -> None:
    n = 6 if few else 80
    w = affinet.weights({"a": (n, n)})
    pattern = np.arange(n * (n - 4)).reshape(-1, n) % 7
    plan = affinet.plan([w.a[0, 1] == 2 * w.a[3, 2], affinet.families.share(w.a[4:], pattern)])
    values = {"a": torch.randn(n, n).T}
    wanted = plan.projector(values).project({"a": values["a"].contiguous()})["a"]
    found = plan.projector(values).project(values)["a"]
    assert torch.equal(found, wanted)
    assert found.stride() == values["a"].stride()


@pytest.mark.usefixtures("deterministic")
def test_torch_itself_still_refuses_put() -> None:
    """Where this fails `putting.py` has nothing left to do."""
    places = torch.tensor([2, 0])
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        torch.zeros(3).put_(places, torch.ones(2))
    assert torch.equal(put(torch.zeros(3), places, torch.tensor([1.0, 2.0])), torch.tensor([2.0, 0.0, 1.0]))
    turned = torch.zeros(2, 3).T
    put(turned, torch.tensor([3, 4]), torch.tensor([5.0, 7.0]))
    assert torch.equal(turned, torch.tensor([[0.0, 0.0], [0.0, 5.0], [7.0, 0.0]]))
