"""What a training over several processes meets, one function each; each returns what its test looks at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

import affinet
from tests.shards.contract_on_shards import placed
from tests.shards.fsdp_training import OPTIMIZERS, RULES, N, Net, numbers

RULES_OF_ALL = ("row sums", "tie over layers", "not negative")


def mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def net_of(shared: bool, dtype: torch.dtype = torch.float64, **policy: Any) -> Net:
    torch.manual_seed(1)
    net = Net().to(dtype)
    if shared:
        for layer in (net.first, net.second, net.third):
            fully_shard(layer, mesh=mesh(), **policy)
        fully_shard(net, mesh=mesh(), **policy)
    return net


def data(shared: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    x, y = (torch.randn(12, N, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2))
    if shared:
        rank, world = dist.get_rank(), dist.get_world_size()
        return x.chunk(world)[rank], y.chunk(world)[rank]
    return x, y


def rules(net: nn.Module, *names: str) -> list[Any]:
    w = affinet.weights(net)
    return [rule for name in names or RULES_OF_ALL for rule in RULES[name](w)]


def loss(net: nn.Module, shared: bool, dtype: torch.dtype = torch.float64) -> Tensor:
    x, y = data(shared, dtype)
    return (net(x) - y).square().mean()


def steps(net: nn.Module, optimizer: Any, shared: bool, count: int = 4) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        loss(net, shared).backward()
        optimizer.step()


def clipped(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net))
    for _ in range(4):
        optimizer.zero_grad()
        loss(net, shared).backward()
        handle.project_gradients()
        nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        optimizer.step()
    return numbers(net), handle.violation()


def accumulated(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net))
    for _ in range(3):
        optimizer.zero_grad()
        for last in (False, True):
            if shared:
                net.set_requires_gradient_sync(last)  # type: ignore[operator]
            loss(net, shared).backward()
        optimizer.step()
    return numbers(net)


def without_gradients(shared: bool) -> Any:
    """A layer that the loss does not reach, tied to one that it reaches."""
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net, "tie over layers", "symmetric", "polyhedron", "simplices"))
    for _ in range(4):
        optimizer.zero_grad()
        x, y = data(shared)
        (net.first(x) - y).square().mean().backward()
        optimizer.step()
    return numbers(net)


def missing_on_one(shared: bool) -> Any:
    """Gradients that are missing on one process, on another one, and on all: in one process the parts are zero."""
    kinds: dict[str, tuple[str, ...]] = {
        "sums": ("column sums", "tie over layers"),
        "swaps": ("transposed", "symmetric"),
        "gathered": ("polyhedron", "product"),
        "of each process": ("row sums", "not negative", "orthogonal"),
    }
    return {
        (kind, way): _trained_without_some(names, way, shared)
        for kind, names in kinds.items()
        for way in ("plain", "sgd", "adam")
        # Where nothing is exchanged, a part without a gradient stays, as it does without rules.
        if way == "plain" or kind != "of each process"
    }


def _trained_without_some(names: tuple[str, ...], way: str, shared: bool) -> Any:
    net = net_of(shared)
    optimizer = OPTIMIZERS[way](net.parameters()) if way in OPTIMIZERS else optim.SGD(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules(net, *names))
    world, rank = dist.get_world_size(), dist.get_rank()
    ranks = {
        name: of_rank for name, of_rank in PART_WITHOUT.items() if name in {p.name for p in handle.plan.parameters}
    }
    for step in range(4):
        optimizer.zero_grad()
        loss(net, shared).backward()
        for name, of_rank in ranks.items() if step != 1 else ():
            parameter = net.get_parameter(name)
            if not shared:
                assert parameter.grad is not None
                parameter.grad.chunk(world)[of_rank % world].zero_()
            elif rank == of_rank % world:
                parameter.grad = None
        if step == 2:
            net.third.weight.grad = None
        if way == "adam":
            handle.project_gradients()
            nn.utils.clip_grad_value_(net.parameters(), 0.05)
        optimizer.step()
    return numbers(net), handle.violation()


PART_WITHOUT = {"first.weight": 0, "second.weight": -1}
"""Weight → the process that has no gradient for its part of it."""


def frozen_later(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net, "transposed"))
    steps(net, optimizer, shared, 2)
    net.first.weight.requires_grad_(False)
    steps(net, optimizer, shared, 2)
    net.first.weight.requires_grad_(True)
    steps(net, optimizer, shared, 2)
    return numbers(net), handle.violation()


def watched(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net, *RULES_OF_ALL, "products in rows"))
    with handle.watch(multipliers=True) as watch:
        steps(net, optimizer, shared)
    return [(o.step, o.violation, dict(o.multipliers), o.stationarity, o.undone, o.returns) for o in watch.history]


def updated(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net))
    steps(net, optimizer, shared)
    handle.update(rules(net, "column sums", "chains"))
    steps(net, optimizer, shared)
    return numbers(net), handle.moved, handle.violation()


def with_closure(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.LBFGS(net.parameters(), lr=0.5, max_iter=5, line_search_fn=None)
    affinet.project(net, optimizer, rules(net))

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(net, shared)
        value.backward()
        if shared:
            value = value.detach()
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= dist.get_world_size()
        return value

    for _ in range(3):
        optimizer.step(closure)
    return numbers(net)


def in_metric(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net, "row sums", "tie over layers"), metric="optimizer")
    steps(net, optimizer, shared)
    return numbers(net)


def scaled(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    affinet.project(net, optimizer, rules(net))
    for _ in range(4):
        optimizer.zero_grad()
        scaler.scale(loss(net, shared)).backward()
        scaler.step(optimizer)
        scaler.update()
    return numbers(net)


def resumed(shared: bool) -> Any:
    """The state of a handle in a new training, beside the training that went on."""
    net = net_of(shared)
    optimizer = optim.SGD(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules(net, "simplices", "chains"))
    steps(net, optimizer, shared, 3)
    state, weights = handle.state_dict(), numbers(net)
    copy = net_of(shared)
    with torch.no_grad():
        for name, p in copy.named_parameters():
            p.copy_(dict(net.named_parameters())[name])
    optimizer2 = optim.SGD(copy.parameters(), lr=0.05)
    handle2 = affinet.project(copy, optimizer2, rules(copy, "simplices", "chains"))
    handle2.load_state_dict(state)
    steps(net, optimizer, shared, 3)
    steps(copy, optimizer2, shared, 3)
    a, b = numbers(net), numbers(copy)
    assert weights.keys() == a.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    return a


def in_bfloat16(shared: bool) -> Any:
    policy = {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
    net = net_of(shared, torch.float32, **(policy if shared else {}))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net))
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not shared):
            loss(net, shared, torch.float32).backward()
        optimizer.step()
    return max(handle.violation().values())


def overflowed_on_one(shared: bool) -> Any:
    """A scaled gradient that is infinite on the last process alone: no process takes the step, fused or not."""
    results: list[Any] = []
    for fused in (False, True):
        net = net_of(shared, torch.float32)
        # torch has no fused SGD for distributed weights; Adam divides a gradient that is rounding by its own size.
        optimizer: Any = (
            optim.Adam(net.parameters(), lr=0.01, fused=True) if fused else optim.SGD(net.parameters(), lr=0.01)
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        handle = affinet.project(net, optimizer, rules(net))
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(loss(net, shared, torch.float32)).backward()
            gradient: Any = net.third.weight.grad
            if step == 1 and shared and dist.get_rank() == dist.get_world_size() - 1:
                gradient.to_local()[-1, 0] = torch.inf
            elif step == 1 and not shared:
                gradient[-1, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
        kept = handle.violation() if fused else numbers(net)
        results.append((kept, scaler.get_scale()))
    return results


def unfinished_gradients(shared: bool) -> Any:
    """Gradients of copied weights that are sums yet to be added up, as tensor parallelism leaves them."""
    net = net_of(False)
    if shared:
        for name, parameter in list(net.first.named_parameters()):
            copied = distribute_tensor(parameter.detach(), mesh(), [Replicate()], src_data_rank=None)
            setattr(net.first, name, nn.Parameter(copied))
    optimizer = optim.SGD(net.first.parameters(), lr=0.1)
    affinet.project(net, optimizer, affinet.weights(net).first.weight.sum(dim=1) == 1)
    for name, parameter in net.first.named_parameters():
        gradient = torch.arange(1.0, 1.0 + parameter.numel(), dtype=torch.float64).reshape(parameter.shape).sin()
        if shared:
            part = gradient * (1.0 if name == "weight" else 2.0) / dist.get_world_size()
            gradient = DTensor.from_local(part, mesh(), [Partial()], run_check=False)
        elif name == "bias":
            gradient = 2.0 * gradient
        parameter.grad = gradient
    optimizer.step()
    return numbers(net)


class Averaged(optim.Optimizer):
    """Steps from points in its state, and gives their average, as schedule-free optimizers do."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            if not state:
                state["z"], state["k"] = p.detach().clone(), 0
            state["k"] += 1
            state["z"].sub_(p.grad, alpha=0.1)
            p.lerp_(state["z"], 1.0 / state["k"])


def with_weights_in_the_state(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = Averaged(net.parameters())
    handle = affinet.project(net, optimizer, rules(net, "row sums", "transposed"))
    steps(net, optimizer, shared)
    return numbers(net), handle.violation()


def error_of(action: Callable[[], object]) -> str:
    """The error of affinet's that an action raises."""
    try:
        action()
    except affinet.AffinetError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def not_finite() -> str:
    """A gradient that is not finite on the last process alone."""
    net = net_of(True)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net), check_finite=True)
    loss(net, True).backward()
    gradient: Any = net.first.weight.grad
    if dist.get_rank() == dist.get_world_size() - 1:
        gradient.to_local()[0, 0] = torch.nan
    return error_of(optimizer.step)


def certified() -> str:
    """A weight that the optimizer trains, and that is in no module, so that the model cannot compute with all of it."""
    net: Any = net_of(True)
    optimizer = optim.Adam([*net.parameters(), nn.Parameter(net.first.weight.detach().clone())], lr=0.01)
    handle = affinet.project(net, optimizer, rules(net))
    return error_of(lambda: handle.certificate(lambda: loss(net, True)))


def reparametrized() -> str:
    net = net_of(True)
    return error_of(lambda: affinet.reparametrize(net, rules(net, "row sums")))


def augmented() -> str:
    net = net_of(True)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    return error_of(lambda: affinet.lagrange(net, optimizer, rules(net, "row sums")))


def sharded_after_attaching() -> str:
    net = net_of(False)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net))
    fully_shard(net, mesh=mesh())
    return error_of(lambda: steps(net, optimizer, True, 1))


def measured_after_sharding() -> str:
    """The violation of weights that the model no longer has."""
    net = net_of(False)
    handle = affinet.project(net, optim.Adam(net.parameters(), lr=0.01), rules(net))
    fully_shard(net, mesh=mesh())
    steps(net, optim.Adam(net.parameters(), lr=0.01), True, 1)
    return error_of(handle.violation)


def optimizer_made_before() -> str:
    net = net_of(False)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    fully_shard(net, mesh=mesh())
    return error_of(lambda: affinet.project(net, optimizer, rules(net)))


def other_rules() -> str:
    """The last process has another rule than the others."""
    net = net_of(True)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    last = dist.get_rank() == dist.get_world_size() - 1
    return error_of(lambda: affinet.project(net, optimizer, rules(net, "row sums" if last else "column sums")))


def other_order() -> str:
    net = net_of(True)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    names = ("row sums", "transposed")
    last = dist.get_rank() == dist.get_world_size() - 1
    return error_of(lambda: affinet.project(net, optimizer, rules(net, *(names[::-1] if last else names))))


def other_numbers() -> str:
    net = net_of(True)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    total = float(dist.get_rank())
    rule = (affinet.weights(net).second.weight.sum() == total).named("the whole")
    return error_of(lambda: affinet.project(net, optimizer, rule))


def not_on_every_process() -> str:
    """All but the first process attach no rules; the first says so, and the others play no part."""
    net, store = net_of(True), dist.distributed_c10d._get_process_group_store(mesh().get_group())
    if dist.get_rank():
        return ""
    patience = store.timeout
    store.set_timeout(timedelta(seconds=1))
    try:
        return error_of(lambda: affinet.project(net, optim.SGD(net.parameters(), lr=0.1), rules(net)))
    finally:
        store.set_timeout(patience)


def other_rules_of_copies() -> str:
    """Copies in DistributedDataParallel, of which each would follow rules of its own."""
    net = nn.parallel.DistributedDataParallel(net_of(False))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    rule = affinet.weights(net).second.bias.sum() == float(dist.get_rank())
    return error_of(lambda: affinet.project(net, optimizer, rule))


def partial_weights() -> str:
    net: Any = net_of(False)
    net.first.weight = nn.Parameter(DTensor.from_local(net.first.weight.detach(), mesh(), [Partial()], run_check=False))
    return error_of(lambda: affinet.weights(net).first.weight)


def strided_weights() -> str:
    """A placement under which every process holds two pieces of a weight."""
    net: Any = net_of(False)
    whole = net.first.weight.detach()
    pieces = torch.cat([part.chunk(dist.get_world_size())[dist.get_rank()] for part in whole.chunk(2)])
    strided = _StridedShard(0, split_factor=2)
    net.first.weight = nn.Parameter(
        DTensor.from_local(pieces, mesh(), [strided], run_check=False, shape=whole.shape, stride=whole.stride())
    )
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    return error_of(lambda: affinet.project(net, optimizer, rules(net, "chains")))


def on_another_mesh() -> str:
    """A weight that the first process holds alone; the other ones do not hold any of it."""
    net: Any = net_of(False)
    alone = distribute_tensor(net.first.weight.detach(), DeviceMesh("cpu", [0]), [Replicate()])
    net.first.weight = nn.Parameter(alone)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    if dist.get_rank() == 0:
        return "AttachError: first.weight is held by processes [0], and this is process 0"
    return error_of(lambda: affinet.project(net, optimizer, rules(net, "chains")))


def other_placements() -> str:
    """An optimizer of weights that are split in another way than those of the model."""
    net, other = net_of(True), net_of(True)
    for layer in (other.first, other.second, other.third):
        layer.weight = nn.Parameter(layer.weight.detach().redistribute(placements=[Replicate()]))  # type: ignore[attr-defined]
    optimizer = optim.Adam(other.parameters(), lr=0.01)
    return error_of(lambda: affinet.project(net, optimizer, rules(net, "row sums")))


def evaluated_between(shared: bool) -> Any:
    net = net_of(shared)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, rules(net))
    for _ in range(3):
        optimizer.zero_grad()
        loss(net, shared).backward()
        with torch.no_grad():
            net(data(shared)[0])
        optimizer.step()
        if shared:
            net.reshard()  # type: ignore[operator]
    return numbers(net)


def from_meta(shared: bool) -> Any:
    """A model that is sharded on the meta device, planned there, and then given numbers."""
    if not shared:
        net = net_of(False)
        plan = affinet.plan(rules(net))
    else:
        with torch.device("meta"):
            net = Net().double()
        fully_shard(net, mesh=mesh())
        plan = affinet.plan(rules(net))
        net.to_empty(device="cpu")
        given = dict(net_of(False).named_parameters())
        with torch.no_grad():
            for name, p in net.named_parameters():
                p.copy_(placed(given[name].detach(), mesh(), "rows"))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    affinet.project(net, optimizer, plan)
    steps(net, optimizer, shared)
    return numbers(net)


def redistributed(shared: bool) -> Any:
    """Weights that are split in another way after the rules are attached."""
    net = net_of(shared)
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    handle = affinet.project(net, optimizer, rules(net, "column sums", "simplices", "tie over layers"))
    for placements in ([Shard(1)], [Replicate()], [Shard(0)]):
        for name, parameter in net.named_parameters():
            draw = torch.Generator().manual_seed(len(name))
            gradient: Any = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            if shared and parameter.ndim == 2:
                held: Any = parameter
                parameter.data = held.detach().redistribute(placements=placements)
                gradient = distribute_tensor(gradient, held.device_mesh, placements)
            elif shared:
                gradient = placed_alike(gradient, parameter)
            parameter.grad = gradient
        optimizer.step()
    return numbers(net), handle.violation()


def placed_alike(gradient: Tensor, parameter: Any) -> Tensor:
    return distribute_tensor(gradient, parameter.device_mesh, parameter.placements)


def projected_alone(shared: bool) -> Any:
    net = net_of(shared)
    projector = affinet.plan(rules(net)).projector(net)
    moved = projector.project(net)
    numbers_moved = {name: (x.full_tensor() if isinstance(x, DTensor) else x) for name, x in moved.items()}
    return numbers_moved, projector.violation(net), projector.violation(moved)


SCENARIOS = (
    clipped,
    accumulated,
    without_gradients,
    missing_on_one,
    frozen_later,
    watched,
    updated,
    with_closure,
    in_metric,
    scaled,
    resumed,
    in_bfloat16,
    evaluated_between,
    from_meta,
    projected_alone,
    overflowed_on_one,
    unfinished_gradients,
    with_weights_in_the_state,
    redistributed,
)
"""Trainings that do over processes what they do in one."""
REFUSED = (
    not_finite,
    certified,
    reparametrized,
    augmented,
    sharded_after_attaching,
    measured_after_sharding,
    optimizer_made_before,
    other_rules,
    other_order,
    other_numbers,
    other_rules_of_copies,
    partial_weights,
    strided_weights,
    on_another_mesh,
    other_placements,
    not_on_every_process,
)
"""What is refused, by all processes alike; each returns the error."""


def played() -> dict[str, tuple[Any, Any]]:
    """Scenario → what it returns in one process, and in all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {function.__name__: (function(False), function(True)) for function in SCENARIOS}


def refused() -> dict[str, str]:
    """Scenario → the error that every process raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {function.__name__: function() for function in REFUSED}
