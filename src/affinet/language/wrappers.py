"""Walk through the parts of a model and skip wrappers (compiled, data-parallel, averaged, a trainer's) in names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from affinet.errors import AttachError
from affinet.language.dtensors import loaded_class

if TYPE_CHECKING:
    import torch

INNER = ("_orig_mod", "_forward_module", "_checkpoint_wrapped_module")
"""Names of the child by which a wrapper is recognised: of `torch.compile`, Lightning's Fabric, and checkpointing."""

CLASSES = (
    ("torch.nn.parallel", "DataParallel"),
    ("torch.nn.parallel", "DistributedDataParallel"),
    ("torch.optim.swa_utils", "AveragedModel"),
    ("deepspeed", "DeepSpeedEngine"),
)
"""Wrappers that keep the model as `module`, a name that other modules may use, too, so they are known by class."""


def parts(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every submodule and its path, without the names that wrappers add to paths.

    Errors: `AttachError` for weights that are flat pieces on several processes, before any storage is touched.
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
    if any(isinstance(part._modules.get(name), loaded_class("torch.nn", "Module")) for name in INNER):
        return True
    return any(isinstance(part, loaded_class(*kind)) for kind in CLASSES)


def _refuse_pieces(path: str, part: torch.nn.Module) -> None:
    if isinstance(part, loaded_class("torch.distributed.fsdp", "FullyShardedDataParallel")):
        where = f"{path} is" if path else "the model is"
        raise AttachError(
            f"{where} wrapped in FullyShardedDataParallel (FSDP1), whose parameters are flat pieces on each process, "
            f"so no rule can be about their entries. Shard the model with torch.distributed.fsdp.fully_shard, which "
            f"keeps names and shapes; then make the optimizer, and attach the rules."
        )
