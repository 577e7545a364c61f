"""Trainings over two processes by the strategies of torch, Lightning and accelerate: half of every batch for each."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import affinet
from tests.integrations.problem import BATCH, Net, batches, data, loss_of, rules_of

MOST = 0.05
"""The length to which gradients are clipped, after their projection."""


def adamw(parameters: Any) -> optim.Optimizer:
    return optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


def part(x: Tensor) -> Tensor:
    """The rows of a batch that this process sees."""
    return x.split(BATCH // dist.get_world_size())[dist.get_rank()]


def numbers(net: Any) -> Tensor:
    """All weights, put together from the processes."""
    weights = [parameter.detach() for parameter in net.parameters()]
    return torch.cat([(w.full_tensor() if isinstance(w, DTensor) else w).reshape(-1) for w in weights])


def by_hand(net: Any, kind: str, own: Callable[[Tensor], Tensor] = part) -> Tensor:
    """A loop of one's own: attached after the model is wrapped or sharded and its optimizer is made."""
    optimizer = adamw(net.parameters())
    handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    for x in batches():
        optimizer.zero_grad()
        loss_of(net, own(x)).backward()
        handle.project_gradients()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MOST)
        optimizer.step()
    return numbers(net)


def sharded(net: Net, mesh: Any) -> Net:
    from torch.distributed.fsdp import fully_shard

    for layer in (net.encoder, net.decoder, net):
        fully_shard(layer, mesh=mesh)
    return net


def ddp(kind: str) -> Tensor:
    return by_hand(torch.nn.parallel.DistributedDataParallel(Net()), kind)


def fsdp2(kind: str) -> Tensor:
    return by_hand(sharded(Net(), init_device_mesh("cpu", (2,))), kind)


def tensor_parallel(kind: str) -> Tensor:
    """Both processes see the whole batch, and each has a part of the layers."""
    net = Net()
    parallelize_module(net, init_device_mesh("cpu", (2,)), {"encoder": ColwiseParallel(), "decoder": RowwiseParallel()})
    return by_hand(net, kind, own=lambda x: x)


def lightning_module(kind: str, *, shards: bool) -> Any:
    from lightning.pytorch import LightningModule

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def configure_model(self) -> None:
            if shards and not isinstance(self.net.encoder.weight, DTensor):
                sharded(self.net, self.device_mesh["data_parallel"])

        def configure_optimizers(self) -> optim.Optimizer:
            optimizer = adamw(self.net.parameters())
            self.handle = affinet.project(self.net, optimizer, rules_of(affinet.weights(self.net), kind))
            return optimizer

        def configure_gradient_clipping(self, optimizer: Any, *limits: Any, **named_limits: Any) -> None:
            self.handle.project_gradients()
            self.clip_gradients(optimizer, *limits, **named_limits)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return loss_of(self.net, batch[0])

        def on_train_end(self) -> None:
            self.result = numbers(self.net)

    return Module()


def fitted(kind: str, strategy: Any, *, shards: bool) -> Tensor:
    import lightning.pytorch as lightning

    module = lightning_module(kind, shards=shards)
    rows = torch.cat([part(x) for x in data().split(BATCH)])
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            default_root_dir=folder, accelerator="cpu", devices=2, strategy=strategy, max_epochs=1, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            use_distributed_sampler=False, gradient_clip_val=MOST,
        )  # fmt: skip
        dataset = torch.utils.data.TensorDataset(rows)
        trainer.fit(module, torch.utils.data.DataLoader(dataset, batch_size=BATCH // 2))
    result: Tensor = module.result
    return result


def lightning_ddp(kind: str) -> Tensor:
    from lightning.pytorch.strategies import DDPStrategy

    return fitted(kind, DDPStrategy(), shards=False)


def lightning_model_parallel(kind: str) -> Tensor:
    from lightning.pytorch.strategies import ModelParallelStrategy

    # By default the axis "data_parallel" of the mesh has one process for each machine.
    return fitted(kind, ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1), shards=True)


def prepared(kind: str, *, early: bool = False, **options: Any) -> Tensor:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, **options)
    net: Any = Net()
    optimizer: Any = adamw(net.parameters())
    if early:
        handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    net, optimizer = accelerator.prepare(net, optimizer)
    if not early:
        handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    for x in batches():
        optimizer.zero_grad()
        accelerator.backward(loss_of(net, part(x)))
        handle.project_gradients()
        accelerator.clip_grad_norm_(net.parameters(), MOST)
        optimizer.step()
    if "fsdp_plugin" in options:
        assert all(isinstance(parameter, DTensor) for parameter in net.parameters())
    return numbers(net)


def accelerate_ddp(kind: str) -> Tensor:
    return prepared(kind, early=kind == "inequalities")  # before and after `prepare` are one


def sharded_by_accelerate(kind: str, *, early: bool = False) -> Tensor:
    """accelerate shards on accelerators only, and ignores its plugin on CPUs: it is told that these are some."""
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=1)
    try:
        return prepared(kind, early=early, fsdp_plugin=plugin)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.pop("ACCELERATE_USE_FSDP", None)


def accelerate_fsdp2(kind: str) -> Tensor:
    return sharded_by_accelerate(kind)


def accelerate_too_early(kind: str) -> Tensor:
    return sharded_by_accelerate(kind, early=True)


def fabric(kind: str, strategy: Any) -> Tensor:
    from lightning.fabric import Fabric

    runner = Fabric(accelerator="cpu", devices=2, strategy=strategy)
    runner.launch()
    net: Any = runner.setup_module(Net())
    optimizer = runner.setup_optimizers(adamw(net.parameters()))
    handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    for x in batches():
        optimizer.zero_grad()
        runner.backward(loss_of(net, part(x)))
        handle.project_gradients()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MOST)
        optimizer.step()
    return numbers(net)


def fabric_ddp(kind: str) -> Tensor:
    return fabric(kind, "ddp")


def fabric_model_parallel(kind: str) -> Tensor:
    from lightning.fabric.strategies import ModelParallelStrategy

    def parallelize(net: Any, mesh: Any) -> Any:
        return sharded(net, mesh["data_parallel"])

    return fabric(kind, ModelParallelStrategy(parallelize, data_parallel_size=2, tensor_parallel_size=1))


WAYS: dict[str, Callable[[str], Tensor]] = {
    way.__name__: way
    for way in (
        ddp, fsdp2, tensor_parallel, lightning_ddp, lightning_model_parallel, fabric_ddp, fabric_model_parallel,
        accelerate_ddp, accelerate_fsdp2, accelerate_too_early,
    )
}  # fmt: skip


def environment() -> Iterator[tuple[str, str]]:
    """What torchrun would set; the process group is there, so that nobody listens at the port."""
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        yield name, str(dist.get_rank()) if name != "GROUP_RANK" else "0"
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        yield name, str(dist.get_world_size())
    yield from {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "none"}.items()


def ends(ways: list[tuple[str, str]]) -> dict[tuple[str, str], Tensor | str]:
    """What trainings by these ways, under rules of these kinds, end with: all weights, or an error of affinet."""
    warnings.simplefilter("ignore")
    os.environ.update(environment())
    results: dict[tuple[str, str], Tensor | str] = {}
    for way, kind in ways:
        try:
            results[way, kind] = WAYS[way](kind)
        except affinet.AffinetError as error:
            results[way, kind] = f"{type(error).__name__}: {error}"
    return results
