"""A dense layer tied as a convolution: the same free numbers and outputs as torch's own."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.errors import ShapeError
from tests.language.counting import dense

SETTINGS: list[tuple[int, int, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (1, 1, (7,), (3,), {}),
    (4, 6, (9,), (2,), {"stride": 2, "groups": 2}),
    (3, 2, (8,), (3,), {"padding": 2, "dilation": 3}),
    (2, 3, (5, 6), (3, 3), {"padding": 1}),
    (3, 2, (6, 7), (2, 3), {"stride": (2, 1), "padding": (1, 0)}),
    (4, 4, (5, 5), (3, 2), {"groups": 4, "padding": 1, "dilation": (1, 2)}),
    (4, 6, (7, 4), (3, 1), {"groups": 2, "stride": 2}),
    (1, 2, (4, 3, 5), (2, 2, 3), {"padding": (0, 1, 1)}),
    (2, 3, (6, 5), (4, 3), {"padding": "same"}),
    (1, 2, (9,), (2,), {"padding": "same", "dilation": 3}),
    (1, 2, (6,), (3,), {"padding": "valid", "stride": 2}),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("into", "out", "size", "kernel", "options"), SETTINGS)
def test_the_free_numbers_and_outputs_of_a_convolution(
    into: int, out: int, size: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    convolution = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[len(size) - 1]
    torch.manual_seed(0)
    layer = convolution(into, out, kernel, bias=False, dtype=torch.float64, **options)
    inputs = into * prod(size)
    columns = layer(torch.eye(inputs, dtype=torch.float64).reshape(inputs, into, *size)).flatten(1)
    matrix = columns.T.detach()
    w = affinet.weights({"w": tuple(matrix.shape)})["w"]
    rule = families.convolution(w, size, kernel, **options)
    plan = affinet.plan(rule)
    assert w.size - int(str(plan.rank)) == layer.weight.numel()
    projector = plan.projector({"w": matrix})
    assert torch.equal(projector.project({"w": matrix})["w"], matrix)
    # And back: any matrix that satisfies the rule is that of some kernel, as the least-squares kernel shows.
    found = projector.project({"w": torch.randn(matrix.shape, dtype=torch.float64)})["w"]
    kernels = torch.eye(layer.weight.numel(), dtype=torch.float64).reshape(-1, *layer.weight.shape)
    basis = torch.stack([torch.func.functional_call(layer, {"weight": k}, (_units(into, size),)) for k in kernels])
    basis = basis.flatten(2).mT.flatten(1).T
    off = basis @ torch.linalg.lstsq(basis, found.flatten()[:, None]).solution - found.flatten()[:, None]
    assert float(off.abs().max()) < 1e-12


def _units(channels: int, size: tuple[int, ...]) -> torch.Tensor:
    count = channels * prod(size)
    return torch.eye(count, dtype=torch.float64).reshape(count, channels, *size)


def test_every_row_of_a_convolution_holds_its_kernel_to_the_bit() -> None:
    w = affinet.weights({"w": (2 * 6, 8)})["w"]
    plan = affinet.plan(families.convolution(w, (8,), 3))
    found = plan.projector({"w": torch.zeros(12, 8)}).project({"w": torch.randn(12, 8)})["w"]
    for k in range(6):
        assert torch.equal(found[k, k : k + 3], found[0, :3])
        assert torch.equal(found[6 + k, k : k + 3], found[6, :3])
    assert np.count_nonzero(found.numpy()) == 36


def test_places_of_the_kernel_that_meet_no_input_are_not_counted() -> None:
    w = affinet.weights({"w": (1, 1)})["w"]
    rule = families.convolution(w, (1,), 3, padding=1)
    assert rule.rows == 0
    assert not dense(rule, 1).size
    assert rule.text == "convolution(w, size=(1,), kernel_size=3, padding=1)"


def test_what_is_no_convolution() -> None:
    w = affinet.weights({"w": (12, 8)})["w"]
    with pytest.raises(ShapeError, match=r"takes size=\(height, width\), or size=\(length,\) for one axis; got 8"):
        families.convolution(w, 8, 3)
    with pytest.raises(ShapeError, match=r"\(w\) has shape \(12, 8\); .* \(out_channels · 5, in_channels · 7\)"):
        families.convolution(w, (7,), 3)
    with pytest.raises(ShapeError, match=r"\(w.flatten\(\)\) has shape \(96,\)"):
        families.convolution(w.flatten(), (8,), 3)
    with pytest.raises(ShapeError, match="the output would be empty"):
        families.convolution(w, (8,), 9)
    with pytest.raises(ShapeError, match="groups must divide the 2 output channels and the 1 input channels; got 2"):
        families.convolution(w, (8,), 3, groups=2)
    with pytest.raises(
        ShapeError, match=r"stride must be an integer that is at least 1, or 1 of them, one per axis; got \(1, 2\)"
    ):
        families.convolution(w, (8,), 3, stride=(1, 2))
    with pytest.raises(ShapeError, match=r"padding must be an integer that is at least 0, .* got -1"):
        families.convolution(w, (8,), 3, padding=-1)
    with pytest.raises(ShapeError, match=r"one integer per axis, \"valid\" or \"same\"; got 'full'"):
        families.convolution(w, (8,), 3, padding="full")
    with pytest.raises(ShapeError, match='padding="same" needs stride=1; got stride=2'):
        families.convolution(w, (8,), 3, padding="same", stride=2)
