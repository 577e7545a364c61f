"""Make numbers whole that `fully_shard` has split after weights were reparametrized; they stay parameters of FSDP.

Inside the forward of its own group of FSDP a number is whole already. Elsewhere, such as in the forward of another
layer that rules couple with it, each process gathers it, and its gradient is the mean over processes, as that of FSDP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.language.dtensors import is_distributed, loaded_class


def all_entries(number: Tensor) -> Tensor:
    """All entries of a number, differentiable; the number itself where one process has all of it."""
    if torch.compiler.is_compiling() or not is_distributed(number):
        return number
    entries: Tensor = _AllEntries.apply(number)
    return entries


def put_entries(number: Tensor, entries: Tensor) -> None:
    """Write all entries of a number; where processes hold it together, those of the first process."""
    if is_distributed(number):
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = number
        entries = distribute_tensor(entries.to(number.dtype), sharded.device_mesh, sharded.placements)
    number.copy_(entries)


def refuse_sharded(numbers: Iterable[Tensor], call: str, way_out: str) -> None:
    """Raise AttachError where processes hold some of these numbers together."""
    if any(map(is_distributed, numbers)):
        raise AttachError(
            f"{call} takes a reparametrized model of one process, and fully_shard has split the numbers that its "
            f"weights are computed from. {way_out}"
        )


def refuse_divided_gradients(model: torch.nn.Module) -> None:
    """Raise AttachError where FSDP divides gradients by a number that was set, and no longer takes their mean."""
    for name, part in model.named_modules():
        if isinstance(part, loaded_class("torch.distributed.fsdp", "FSDPModule")):
            group: Any = getattr(part._get_fsdp_state(), "_fsdp_param_group", None)  # torch has no public way to ask
            if getattr(group, "gradient_divide_factor", None) is not None:
                raise AttachError(
                    f"set_gradient_divide_factor was called on {name or 'the model'}. Rules couple weights of several "
                    f"groups of fully_shard, and their gradients are added up as means over processes. Leave the "
                    f"factor out and scale the loss, or shard these layers as one group: fully_shard([first, second])."
                )


def refuse_rounded(name: str, numbers: Iterable[Tensor | None], like: Tensor) -> None:
    """Raise AttachError where a weight would be computed from numbers that FSDP has rounded to fewer digits.

    Each group of `fully_shard` rounds its own numbers, so that equal weights of two groups would differ.
    """
    for number in numbers:
        if number is not None and number.itemsize < like.itemsize:
            raise AttachError(
                f"{name} has {like.dtype} and would be computed from numbers of {number.dtype}, as under "
                f"MixedPrecisionPolicy(param_dtype={number.dtype}). Leave param_dtype out and use torch.autocast, "
                f"convert the model before with model.to({number.dtype}), or train with affinet.project."
            )


class _AllEntries(torch.autograd.Function):
    """The entries of a DTensor; its gradient is the mean of those of all processes, sharded as the DTensor."""

    @staticmethod
    def forward(ctx: Any, number: Any) -> Tensor:
        ctx.mesh, ctx.placements = number.device_mesh, number.placements
        entries: Tensor = number.full_tensor()
        return entries

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        from torch.distributed.tensor import DTensor, Partial

        parts = DTensor.from_local(gradient / ctx.mesh.size(), ctx.mesh, [Partial()] * ctx.mesh.ndim)
        return parts.redistribute(placements=ctx.placements)
