"""Walk through the parts of a model and skip wrappers (compiled, data-parallel, averaged, a trainer's) in names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from affinet.errors import AttachError

if TYPE_CHECKING:
    import torch

INNER = ("_orig_mod", "_forward_module")
"""Names of the child by which a wrapper is recognised: of `torch.compile`, and of Lightning's Fabric."""

CLASSES = (
    ("torch.nn.parallel", "DataParallel"),
    ("torch.nn.parallel", "DistributedDataParallel"),
    ("torch.optim.swa_utils", "AveragedModel"),
)
"""Wrappers that keep the model as `module`, a name that other modules may use, too, so they are known by class."""


def parts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every submodule and its path, without the names that wrappers add to paths.

    Errors: `AttachError` for weights that are split over several processes, before any storage is touched.
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
    if any(isinstance(part._modules.get(name), _loaded_class("torch.nn", "Module")) for name in INNER):
        return True
    return any(isinstance(part, _loaded_class(*kind)) for kind in CLASSES)


def _refuse_pieces(path: str, part: torch.nn.Module) -> None:
    if isinstance(part, _loaded_class("torch.distributed.fsdp", "FullyShardedDataParallel")):
        where = f"{path} is" if path else "the model is"
        raise AttachError(
            f"{where} wrapped in FullyShardedDataParallel (FSDP1), whose parameters are flat pieces on each process, "
            f"so no rule can be about their entries. Attach the rules before wrapping, and train in one process or "
            f"with DistributedDataParallel. (torch.distributed.fsdp.fully_shard keeps names and shapes; a later "
            f"version of affinet will support it.)"
        )
    for key, parameter in part._parameters.items():
        if isinstance(parameter, _loaded_class("torch.distributed.tensor", "DTensor")):
            name = f"{path}.{key}" if path else key
            raise AttachError(
                f"{name} is a DTensor (sharded or replicated over a device mesh by fully_shard, tensor parallelism or "
                f"distribute_tensor), which affinet does not support yet. Nothing was changed. Train in one process, "
                f"or with DistributedDataParallel."
            )


def _loaded_class(module: str, name: str) -> Any:
    """A class of torch, or an empty tuple (for isinstance) where its module is not loaded."""
    return getattr(sys.modules.get(module), name, ())
