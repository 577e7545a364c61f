"""Fill in missing gradients: a weight without a gradient gets its share where rules couple it to weights with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import ref

import torch
from torch import Tensor

from affinet.kernels.torch.precision import regular_dtype
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.shards.held_box import held_box, placed_like
from affinet.language.dtensors import gathered, is_distributed, local_part

MOST = 64
"""Most sets of missing gradients whose couplings are cached: a mixture of experts has many."""


class Couplings:
    """Finds the entries of weights without a gradient that rules couple to weights with one."""

    def __init__(
        self, projector: Projector, parameters: Mapping[str, torch.nn.Parameter], *, in_step: bool = False
    ) -> None:
        """`in_step`: the processes that hold the weights look for the same parameters at the same time."""
        self._projector = projector
        self._parameters = parameters
        self._in_step = in_step
        self._cache: dict[frozenset[str], dict[str, Tensor]] = {}

    def of(self, missing: Iterable[str]) -> dict[str, Tensor]:
        """Name → mask of the coupled entries, for the missing parameters that have coupled entries.

        Law: an entry is coupled if and only if `P g` can differ from zero there where g is zero on all missing
        parameters; with inequalities, on any face.
        """
        names = frozenset(missing)
        if names not in self._cache:
            if len(self._cache) >= MOST:
                self._cache.clear()
            self._cache[names] = self._compute_masks(names)
        return self._cache[names]

    def _compute_masks(self, missing: frozenset[str]) -> dict[str, Tensor]:
        """Project random numbers: an entry of the result that is zero is zero for every gradient."""
        generator = torch.Generator().manual_seed(0)
        vectors = {
            name: torch.zeros(p.shape, dtype=regular_dtype(p.dtype), device=p.device)
            if name in missing
            else torch.randn(p.shape, generator=generator).to(p.device, regular_dtype(p.dtype))
            for name, p in self._parameters.items()
        }
        tangent = self._projector.tangent(vectors, at=self._point(generator))
        # Solvers and Schur complements return rounding errors in place of zeros.
        masks = {name: tangent[name].abs() > max(1e-9, 64.0 * torch.finfo(tangent[name].dtype).eps) for name in missing}
        masks = self._with_cells(masks)
        return {name: masks[name] for name in sorted(missing) if bool(masks[name].any())}

    def _point(self, generator: torch.Generator) -> dict[str, Tensor] | None:
        """The weights, of which random numbers stand for what this process cannot know; None where rules are linear."""
        if not self._projector.has_inequalities:
            return None
        if self._in_step:
            return {name: gathered(parameter.detach()) for name, parameter in self._parameters.items()}
        return {name: _among_random_numbers(name, p.detach(), generator) for name, p in self._parameters.items()}

    def _with_cells(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """The masks with all entries that inequalities couple, whichever of these are at their bounds at present."""
        if not self._projector.has_inequalities:
            return masks
        present = {
            name: torch.full(p.shape, float(name not in masks), dtype=p.dtype, device=p.device)
            for name, p in self._parameters.items()
        }
        sets = self._projector.sets(present)
        coupled = {name: torch.zeros_like(mask) for name, mask in present.items()}
        with torch.no_grad():
            for kernel in sets:
                kernel.write(coupled, kernel.coupled(kernel.read(present)).to(kernel.dtype))
        return {name: mask | (coupled[name] != 0.0) for name, mask in masks.items()}


def _among_random_numbers(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    """The part of a weight that this process holds, in its place among random numbers."""
    if not is_distributed(weight):
        return weight
    part, box = local_part(weight), held_box(name, weight)
    numbers = torch.randn(weight.shape, generator=generator).to(part.device, part.dtype)
    numbers[tuple(slice(first, first + size) for first, size in zip(box.offset, box.sizes, strict=True))] = part
    return numbers


class StandIns:
    """Gradients that replace missing ones for one step, and are removed after it.

    The optimizer steps with them, so that tied weights move equally. Entries that are not coupled have no gradient:
    they are reset to their former values, whatever momentum or decay would have made of a zero gradient.
    """

    def __init__(self) -> None:
        self._gradients: dict[str, tuple[ref[torch.nn.Parameter], Tensor]] = {}
        self._saved: dict[str, tuple[Tensor, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._gradients)

    def put(self, name: str, parameter: torch.nn.Parameter, coupled: Tensor | None = None) -> Tensor:
        """Give a parameter a gradient of zeros, which the projection fills, and return it.

        Without `coupled` they are the gradient of all entries, and none of these is reset.
        """
        if coupled is not None and name not in self._saved and not bool(coupled.all()):
            self._saved[name] = coupled, parameter.detach().clone()
        gradient = torch.zeros_like(parameter)
        parameter.grad = gradient
        self._gradients[name] = ref(parameter), gradient
        return gradient

    def reset_uncoupled(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Undo the moves of entries without a gradient, after the step of the optimizer that holds these parameters."""
        with torch.no_grad():
            for name, (coupled, former) in self._saved.items():
                if name in parameters:
                    parameters[name].copy_(torch.where(placed_like(coupled, former), parameters[name], former))

    def remove(self) -> None:
        """Remove the gradients again, before the loop computes new ones."""
        for reference, gradient in self._gradients.values():
            parameter = reference()
            if parameter is not None and parameter.grad is gradient:
                parameter.grad = None
        self._gradients.clear()

    def close(self) -> None:
        """Remove everything, after all optimizers have stepped."""
        self.remove()
        self._saved.clear()
