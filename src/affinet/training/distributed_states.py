"""Convert what a block with inequalities has learned into tensors that are held as its weights are, and back.

Such a state is saved by the processes that hold the weights, each its part, and is read by any number of them to the
bit. A number of an entry is stored at the entry, in a tensor of the shape of its weight. Numbers of a cell, such as the
mark of its inequality, are stored at its first entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from affinet.blocks.normal_map import Learned
from affinet.blocks.places import no_places
from affinet.blocks.set_law import SetLaw
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.shards.held_box import placed_like, placement_of
from affinet.language.dtensors import gathered

Weights = Mapping[str, Tensor]


def distributed_state(kernel: ConvexKernel, law: SetLaw, known: Learned[Any], weights: Weights) -> dict[str, Any]:
    """`y` and the face as tensors like the weights; `law` is that of the entire block.

    The face of a set whose cells cannot be taken apart stays as it is: every process has it.
    """
    if law.only(no_places()) is None:
        face: list[Any] = [part.clone() for part in known.face]
    else:
        face = [[_like_weights(kernel, layer, weights) for layer in _layers(part, known.y)] for part in known.face]
    return {"y": _like_weights(kernel, known.y, weights), "face": face}


def parts_of_state(
    kernel: ConvexKernel, law: SetLaw, state: object, like: Learned[Any], weights: Weights
) -> list[Tensor]:
    """`y` and the parts of the face of a saved state, for the cells of a kernel; empty for a state of another form."""
    face = state.get("face") if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(face, list | tuple) or len(face) != len(like.face):
        return []
    pairs = zip((state.get("y"), *face), (like.y, *like.face), strict=True)
    saved = [_part(kernel, law, stored, other, weights) for stored, other in pairs]
    return [part for part in saved if part is not None]


def _like_weights(kernel: ConvexKernel, numbers: Tensor, weights: Weights) -> dict[str, Tensor]:
    """A number of each entry in tensors like the weights, with zeros elsewhere."""
    tensors = {name: torch.zeros_like(weight, dtype=numbers.dtype) for name, weight in weights.items()}
    kernel.write(tensors, torch.ones_like(numbers))  # a zero would keep its sign
    kernel.write(tensors, numbers)
    return tensors


def _layers(part: Tensor, y: Tensor) -> list[Tensor]:
    """Numbers of each cell, as arrays of the size of `y` that are filled up with zeros."""
    cells, width, columns = len(y), prod(y.shape[1:]), prod(part.shape[1:])
    padded = part.new_zeros((cells, width * -(-columns // width)))
    padded[:, :columns] = part.reshape(cells, columns)
    return list(padded.split(width, 1))


def _part(kernel: ConvexKernel, law: SetLaw, stored: Any, like: Tensor, weights: Weights) -> Tensor | None:
    """`y` or a part of a face, of the cells of a kernel; None where it is stored in no form that is known."""
    if isinstance(stored, Tensor):
        takes_own = kernel.cells is not None and stored.ndim > 0 and len(stored) == law.shape[0]
        return stored[torch.as_tensor(kernel.cells, device=stored.device)] if takes_own else stored
    width, columns = prod(law.shape[1:]), prod(like.shape[1:])
    layers = [stored] if isinstance(stored, Mapping) else stored
    if not isinstance(layers, list | tuple) or len(layers) != -(-columns // width):
        return None
    rows = [_numbers(kernel, layer, weights) for layer in layers]
    read = [row.reshape(len(like), width) for row in rows if row is not None]
    if len(read) < len(rows):
        return None
    every = torch.cat(read, 1) if read else like.new_zeros((len(like), 0))
    return every[:, :columns].reshape(like.shape)


def _numbers(kernel: ConvexKernel, stored: Any, weights: Weights) -> Tensor | None:
    """The numbers of entries in tensors like the weights; None for other tensors."""
    if not isinstance(stored, Mapping) or stored.keys() != weights.keys():
        return None
    if any(not isinstance(x, Tensor) or x.shape != weights[name].shape for name, x in stored.items()):
        return None
    alike = all(placement_of(x) == placement_of(weights[name]) for name, x in stored.items())
    tensors = stored if alike else {name: placed_like(gathered(x), weights[name]) for name, x in stored.items()}
    return kernel.numbers(tensors)
