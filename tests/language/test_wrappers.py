"""Modules around a model: names see through those that keep its parameters, and pieces of parameters are refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import affinet
from affinet.errors import AttachError, UnsupportedWeightError
from tests.language.process import one_process


def names(model: torch.nn.Module) -> list[str]:
    return [str(symbol) for symbol in affinet.weights(model)]


class FabricModule(torch.nn.Module):
    """As Lightning's Fabric keeps a model: under two names, the first of which is what it calls."""

    def __init__(self, forward_module: torch.nn.Module, original_module: torch.nn.Module) -> None:
        super().__init__()
        self._forward_module, self._original_module = forward_module, original_module


def test_names_see_through_an_averaged_model_and_a_fabric_module() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    plain = names(model)
    assert names(AveragedModel(model)) == plain
    assert names(torch.compile(AveragedModel(model))) == plain
    assert names(FabricModule(model, model)) == plain
    assert names(FabricModule(torch.nn.DataParallel(model), model)) == plain
    inside = torch.nn.Module()
    inside.net = FabricModule(model, model)
    assert names(inside) == [f"net.{name}" for name in plain]


def test_names_see_through_the_engine_of_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency of these tests: this class stands for it, and keeps the model under the same name."""

    class DeepSpeedEngine(torch.nn.Module):
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert names(DeepSpeedEngine(model)) == [f"module.{name}" for name in names(model)]
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(DeepSpeedEngine=DeepSpeedEngine))
    assert names(DeepSpeedEngine(model)) == names(model)


def test_rules_hold_for_a_model_in_a_fabric_module() -> None:
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    wrapped = FabricModule(model, model)
    w: Any = affinet.weights(wrapped)
    handle = affinet.project(wrapped, torch.optim.Adam(wrapped.parameters()), w.weight.sum(1) == 1)
    assert max(handle.violation().values()) <= 1e-15
    assert float((model.weight.sum(1) - 1).detach().abs().max()) <= 1e-15


def test_an_averaged_model_can_be_asked_for_its_violation() -> None:
    model = torch.nn.Linear(4, 3, dtype=torch.float64)
    w: Any = affinet.weights(model)
    handle = affinet.project(model, torch.optim.Adam(model.parameters()), (w.weight.sum(1) == 1).named("rows"))
    averaged = AveragedModel(model)
    assert handle.plan.projector(averaged).violation(averaged.module.state_dict())["rows"] <= 1e-15


def test_a_weight_of_no_entry_and_no_strides_is_a_weight() -> None:
    model = torch.nn.Module()
    model.nothing, model.p = torch.nn.Parameter(torch.zeros(1).expand(0, 3)), torch.nn.Parameter(torch.ones(3))
    assert model.nothing.stride() == (0, 0)
    w: Any = affinet.weights(model)
    affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), [w.nothing == 0, w.p.sum() == 0])
    assert model.p.tolist() == [0.0, 0.0, 0.0]


def test_names_and_shapes_of_distributed_weights_are_those_of_the_model() -> None:
    fully_shard = pytest.importorskip("torch.distributed.fsdp").__dict__.get("fully_shard")
    if fully_shard is None:
        pytest.skip("this torch has no fully_shard")
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    with one_process() as mesh:
        sharded = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 3))
        for placement in (Shard(0), Shard(1), Replicate()):
            sharded[1].weight = torch.nn.Parameter(distribute_tensor(torch.ones(3, 3), mesh, [placement]))
            assert affinet.weights(sharded)["1.weight"].shape == (3, 3)
        with torch.device("meta"):
            whole = torch.nn.Linear(4, 3)
        fully_shard(whole, mesh=mesh)
        assert affinet.plan(affinet.weights(whole).weight.sum(1) == 1).rank == 3
        sharded[1].weight = torch.nn.Parameter(DTensor.from_local(torch.ones(3, 3), mesh, [Partial()]))
        with pytest.raises(UnsupportedWeightError, match="the sum of what several processes hold"):
            affinet.weights(sharded)["1.weight"]


@pytest.mark.parametrize("original", [True, False])
def test_flat_pieces_of_parameters_are_refused(original: bool) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with one_process():
        flat = FullyShardedDataParallel(torch.nn.Linear(4, 3), device_id=torch.device("cpu"), use_orig_params=original)
        with pytest.raises(AttachError, match=r"^the model is wrapped in .*FSDP1.*fully_shard"):
            affinet.weights(flat)
        inside = torch.nn.Module()
        inside.net = flat
        with pytest.raises(AttachError, match=r"^net is wrapped in FullyShardedDataParallel"):
            affinet.weights(inside)


def test_names_see_through_wrappers_of_wrappers() -> None:
    """FSDP2, DDP, compiled modules, activation checkpointing and Fabric, in the orders in which trainers nest them."""
    fully_shard = pytest.importorskip("torch.distributed.fsdp").__dict__.get("fully_shard")
    if fully_shard is None:
        pytest.skip("this torch has no fully_shard")
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.nn.parallel import DistributedDataParallel

    def model(change: Any = lambda layer: layer) -> torch.nn.Module:
        layers = [change(torch.nn.Linear(2, 2)), change(torch.nn.Sequential(torch.nn.Linear(2, 2)))]
        return torch.nn.Sequential(*layers)

    def sharded(module: torch.nn.Module) -> torch.nn.Module:
        for layer in module.children():
            fully_shard(layer, mesh=mesh)
        shards: torch.nn.Module = fully_shard(module, mesh=mesh)
        return shards

    def fabric(module: torch.nn.Module) -> torch.nn.Module:
        return FabricModule(module, module)

    def compiled(module: torch.nn.Module) -> torch.nn.Module:
        return torch.compile(module)  # type: ignore[return-value]

    with one_process() as mesh:
        wrapped = [
            sharded(model(checkpoint_wrapper)),
            sharded(model(compiled)),
            sharded(model(lambda layer: compiled(checkpoint_wrapper(layer)))),
            sharded(model(lambda layer: checkpoint_wrapper(compiled(layer)))),
            compiled(sharded(model(checkpoint_wrapper))),
            fabric(compiled(sharded(model()))),
            compiled(fabric(sharded(model(compiled)))),
            DistributedDataParallel(compiled(model(checkpoint_wrapper))),
            compiled(DistributedDataParallel(model(checkpoint_wrapper))),
            fabric(DistributedDataParallel(model(compiled))),
            fabric(compiled(DistributedDataParallel(model(checkpoint_wrapper)))),
            AveragedModel(compiled(model(checkpoint_wrapper))),
            checkpoint_wrapper(compiled(model())),
        ]
        in_place = model()
        in_place.compile()
        for number, module in enumerate([*wrapped, in_place]):
            assert names(module) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"], number
            for name in names(module):
                assert affinet.weights(module)[name].shape == ((2, 2) if name.endswith("weight") else (2,))
