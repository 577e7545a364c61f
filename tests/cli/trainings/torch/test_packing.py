from __future__ import annotations

import json

import pytest
import torch

from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.checkpoint_packing import pack, unpack
from affinet.errors import RunError
from affinet.system.malformed import Malformed


def optimizer(value: object = None) -> torch.optim.Optimizer:
    """An optimizer over two parameters that remembers `value` of the second."""
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(4))], lr=0.1)
    made.state[made.param_groups[0]["params"][1]]["kept"] = value
    return made


def returned(value: object) -> object:
    """What comes back of a value by way of JSON."""
    packed = pack(optimizer(value))
    other = optimizer()
    unpack(Packed(json.loads(json.dumps(packed.content)), [tensor.clone() for tensor in packed.tensors]), other)
    return other.state[other.param_groups[0]["params"][1]]["kept"]


@pytest.mark.parametrize(
    "value", [None, True, 3, -(2**70), 0.1 + 0.2, -0.0, 5e-324, float("inf"), "text", [1, [2.5, None]], (1, (2, [3]))]
)
def test_numbers_texts_lists_and_tuples_come_back_as_they_were(value: object) -> None:
    found = returned(value)
    assert found == value
    assert type(found) is type(value)
    assert str(found) == str(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_in_their_dtype(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 2], [3, 0, 5]]).to(dtype)
    found = returned([tensor, tensor[0, 1]])
    assert isinstance(found, list)
    assert all(one.dtype == dtype for one in found)
    assert torch.equal(found[0], tensor)
    assert found[1].shape == ()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_axes_come_back_in_their_order_in_memory(order: tuple[int, ...]) -> None:
    tensor = torch.randn(2, 3, 4).permute(order)
    found = returned(tensor)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, tensor)
    assert found.stride() == tensor.stride()


def test_tensors_with_gaps_and_repeats_come_back_with_their_entries() -> None:
    tensors = [torch.arange(6.0)[::2], torch.ones(1).expand(3)]
    found = returned(tensors)
    assert isinstance(found, list)
    assert all(torch.equal(one, other) for one, other in zip(found, tensors, strict=True))


def test_one_tensor_in_two_places_stays_one() -> None:
    tensor = torch.zeros(2)
    found = returned([tensor, tensor, tensor.clone()])
    assert isinstance(found, list)
    assert found[0] is found[1]
    assert found[0] is not found[2]


def test_settings_come_back() -> None:
    one, other = optimizer(), optimizer()
    one.param_groups[0].update(lr=0.25, momentum=torch.tensor(0.5), betas=(0.1, 0.2))
    other.param_groups[0]["betas"] = None
    unpack(pack(one), other)
    settings = other.param_groups[0]
    assert (settings["lr"], float(settings["momentum"]), settings["betas"]) == (0.25, 0.5, (0.1, 0.2))
    assert [p.shape for p in settings["params"]] == [(3, 2), (4,)]


@pytest.mark.parametrize("value", [{"a": 1}, {1}, object(), b"bytes"])
def test_what_no_optimizer_of_torch_keeps_is_refused(value: object) -> None:
    with pytest.raises(
        RunError, match=rf"the optimizer keeps a {type(value).__name__}, which a checkpoint cannot hold"
    ):
        pack(optimizer(value))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([], "the optimizer is .*, not a table"),
        ({"state": [], "settings": []}, "its state is not a table"),
        ({"state": {}, "settings": [[]]}, "its settings is not a table"),
        ({"state": {"0": {"a": {"run": "me"}}}, "settings": []}, "a tensor lacks 'tensor'"),
        ({"state": {"0": {"a": {"tuple": 1}}}, "settings": []}, "a tuple is 1, not a list"),
    ],
)
def test_what_was_never_packed_is_refused_and_changes_nothing(said: object, reason: str) -> None:
    made = optimizer(1)
    with pytest.raises(Malformed, match=reason):
        unpack(Packed(said, []), made)
    assert made.state[made.param_groups[0]["params"][1]] == {"kept": 1}
