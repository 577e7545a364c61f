"""Weights that somebody writes to between steps are told by a watch."""

from __future__ import annotations

import pytest
import torch
from torch import optim

import affinet
from tests.training.test_traps import Net, worst
from tests.training.watched import step, watched


def loaded(net: Net) -> None:
    net.load_state_dict({name: torch.full_like(p, 0.3) for name, p in net.state_dict().items()})


def edited(net: Net) -> None:
    with torch.no_grad():
        net.first.weight.clamp_(-0.1, 0.1)


def one_entry(net: Net) -> None:
    with torch.no_grad():
        net.first.weight[2, 3] += 1e-3


def assigned(net: Net) -> None:
    net.first.weight.data = torch.ones(5, 6, dtype=net.first.weight.dtype)


def unseen(net: Net) -> None:
    net.first.weight.data.mul_(1.5)


WRITES = {"loaded": loaded, "edited": edited, "one entry": one_entry, "assigned": assigned}


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("how", WRITES)
def test_a_write_that_leaves_the_rules_is_told_with_its_weight_its_step_and_its_size(how: str, every: int) -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    handle.watch(every=every)
    for _ in range(3):
        step(net, optimizer)
    WRITES[how](net)
    off = handle.violation()["rows"]
    assert off > 5e-4
    with pytest.warns(
        affinet.WeightsWrittenWarning, match=r"before step 3 .*first\.weight.*\"rows\" by .*nearest point"
    ) as told:
        step(net, optimizer)
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.WeightsWrittenWarning)
    assert "first.weight" in said.weights
    assert (said.step, dict(said.violated)["rows"]) == (3, off)
    assert worst(handle) < 1e-12
    WRITES[how](net)
    step(net, optimizer)  # told once: a second warning would be an error here


@pytest.mark.parametrize(("dtype", "much"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_writes_are_told_from_rounding_in_fewer_digits(dtype: torch.dtype, much: float) -> None:
    net, optimizer, _, _ = watched(optim.SGD, dtype, lr=0.01)
    step(net, optimizer)
    with torch.no_grad():
        net.second.weight[1, 0] += much  # tied to its neighbour
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"second\.weight was written to.*\"columns\" by"):
        step(net, optimizer)


@pytest.mark.parametrize("written", [True, False])
def test_one_entry_of_a_large_sum_is_not_lost_in_its_rounding(written: bool) -> None:
    """A hundred thousand times 64 spacings of the largest entry are 3; after a step the sum is off by far less."""
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.randn(100_000)))
    optimizer, w = optim.Adam(model.parameters(), lr=1e-3), affinet.weights(model)
    watch = affinet.project(model, optimizer, (w.a.sum() == 1).named("sum")).watch()

    def once() -> None:
        optimizer.zero_grad()
        (model.a.square().mean() + model.a.sin().sum()).backward()
        optimizer.step()

    for _ in range(3):
        once()
    with torch.no_grad():
        model.a[70_000] += 1.0 if written else 0.0
    if written:
        with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 3 a was written to.*\"sum\" by (1|0\.99)"):
            once()
    else:
        once()
        assert len(watch.history) == 4


def test_a_write_through_data_is_found_before_a_step_that_is_looked_at() -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    handle.watch(every=3)
    step(net, optimizer)
    unseen(net)
    step(net, optimizer)  # projected back, and nobody looked
    step(net, optimizer)
    unseen(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 3 weights were written to unnoticed .*\.data"):
        step(net, optimizer)


def test_weights_loaded_before_the_watch_began_are_told_too() -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    loaded(net)
    handle.watch()
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 0 .*before the watch began"):
        step(net, optimizer)


def test_a_second_watch_tells_again_and_the_way_out_is_one() -> None:
    net, optimizer, handle, _ = watched()
    loaded(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"project_\(dict\(model\.named_parameters\(\)\)\)"):
        step(net, optimizer)
    handle.watch()
    loaded(net)
    handle.projector.project_(dict(net.named_parameters()))
    step(net, optimizer)
    loaded(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match="before step 1 "):
        step(net, optimizer)


def test_new_values_of_frozen_weights_are_new_constants_and_no_write() -> None:
    net, optimizer, handle, _ = watched(optim.SGD)
    net.second.requires_grad_(False)
    for value in (0.1, 0.2):
        net.zero_grad()
        step(net, optimizer)
        with torch.no_grad():
            net.second.bias.fill_(value)
    step(net, optimizer)
    assert worst(handle) < 1e-12
    with torch.no_grad():
        net.second.bias.fill_(0.3)
        net.first.weight.add_(1.0)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"step 3 first\.weight was written to"):
        step(net, optimizer)
