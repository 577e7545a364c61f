"""Modules that stand around a model: compiled, data-parallel, averaged, a trainer's. Names see through them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from affinet.errors import AttachError

if TYPE_CHECKING:
    import torch

INNER = ("_orig_mod", "_forward_module")
"""Children by which a wrapper is known: of `torch.compile`, and of Lightning's Fabric."""

CLASSES = (
    ("torch.nn.parallel", "DataParallel"),
    ("torch.nn.parallel", "DistributedDataParallel"),
    ("torch.optim.swa_utils", "AveragedModel"),
)
"""Wrappers that keep the model under the name `module`, which any other module may use too."""


def parts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every submodule and its path; the names that wrappers put into paths are left out.

    Errors: `AttachError` for weights that are in pieces on several processes, before any storage is touched.
    """
    names: dict[str, str] = {}
    wrappers: set[str] = set()
    for path, part in module.named_modules(remove_duplicate=False):
        parent, _, key = path.rpartition(".")
        if not path:
            names[path] = ""
        elif parent in wrappers:
            names[path] = names[parent]
        else:
            names[path] = f"{names[parent]}.{key}" if names[parent] else key
        if _is_wrapper(part):
            wrappers.add(path)
        _refuse_pieces(names[path], part)
        yield names[path], part


def _is_wrapper(part: torch.nn.Module) -> bool:
    if any(isinstance(part._modules.get(name), _known("torch.nn", "Module")) for name in INNER):
        return True
    return any(isinstance(part, _known(*kind)) for kind in CLASSES)


def _refuse_pieces(path: str, part: torch.nn.Module) -> None:
    if isinstance(part, _known("torch.distributed.fsdp", "FullyShardedDataParallel")):
        where = f"{path} is" if path else "the model is"
        raise AttachError(
            f"{where} wrapped in FullyShardedDataParallel (FSDP1), whose parameters are flat pieces on each process: "
            f"no rule can be about their entries. Attach the rules before wrapping and train in one process or with "
            f"DistributedDataParallel; torch.distributed.fsdp.fully_shard, which keeps names and shapes, is what a "
            f"later version of affinet will read."
        )
    for key, parameter in part._parameters.items():
        if isinstance(parameter, _known("torch.distributed.tensor", "DTensor")):
            name = f"{path}.{key}" if path else key
            raise AttachError(
                f"{name} is a DTensor (sharded or replicated over a device mesh by fully_shard, tensor parallelism or "
                f"distribute_tensor), and affinet does not read these yet. Nothing was changed. Make the rules for the "
                f"model in one process, or train with DistributedDataParallel."
            )


def _known(module: str, name: str) -> Any:
    """A class of torch, or no class at all where nobody has loaded its module yet."""
    return getattr(sys.modules.get(module), name, ())
