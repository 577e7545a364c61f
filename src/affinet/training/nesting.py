"""Find the optimizer that steps inside one that wraps it, and refuse wrappers whose steps no hook sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import optim

from affinet.errors import AttachError


@dataclass(frozen=True, eq=False)
class Nest:
    """An optimizer as the user gave it: `stepper` is where hooks go, `wrappers` those around it, the outermost first.

    The stepper is the innermost optimizer that holds the same constrained parameters. `moving` are the wrappers that
    may move weights after it has stepped (Lookahead); the others only pass the call on. `core` is the innermost of all,
    whose class says how weights decay: of a ZeroRedundancyOptimizer the local one, which holds a part.
    """

    stepper: optim.Optimizer
    wrappers: tuple[optim.Optimizer, ...]
    core: optim.Optimizer

    @property
    def all(self) -> tuple[optim.Optimizer, ...]:
        """The stepper and those around it."""
        return (*self.wrappers, self.stepper)

    @property
    def moving(self) -> tuple[optim.Optimizer, ...]:
        """The wrappers with state of their own."""
        return tuple(one for one in self.wrappers if one.state is not self.stepper.state)


def nest(optimizer: optim.Optimizer, constrained: Iterable[int]) -> Nest:
    """The nest of an optimizer; `constrained` are the ids of the parameters in rules.

    Raises AttachError, before anything is changed, where steps would pass the hooks by.
    """
    wanted = held_by(optimizer) & set(constrained)
    chain = [optimizer]
    while (inner := _inside(chain[-1])) is not None and inner not in chain:
        chain.append(inner)
    place = max(k for k, one in enumerate(chain) if wanted <= held_by(one))
    found = Nest(chain[place], tuple(chain[:place]), chain[-1])
    _check(found, chain)
    return found


def held_by(optimizer: optim.Optimizer) -> set[int]:
    """The ids of the parameters that an optimizer holds."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _inside(optimizer: optim.Optimizer) -> optim.Optimizer | None:
    """The one optimizer among the attributes, None where there is none or there are several."""
    found = {id(value): value for value in vars(optimizer).values() if isinstance(value, optim.Optimizer)}
    found.pop(id(optimizer), None)
    return next(iter(found.values())) if len(found) == 1 else None


def _check(found: Nest, chain: list[optim.Optimizer]) -> None:
    kind = type(found.stepper).__name__
    if not takes_hooks(found.stepper):
        raise AttachError(
            f"{kind} takes no step hooks: its class does not call torch.optim.Optimizer.__init__, so that the rules "
            f"would not see its steps. Call super().__init__ in it, or train with affinet.reparametrize, which needs "
            f"no hooks."
        )
    if len(chain) == 1 and all(callable(getattr(found.stepper, verb, None)) for verb in ("first_step", "second_step")):
        raise AttachError(
            f"{kind} moves weights in first_step and second_step, which no hook sees. Train with "
            f"affinet.reparametrize, which needs no hooks, or use one that keeps its inner optimizer as an attribute "
            f"(base_optimizer)."
        )
    for wrapper in found.moving:
        if not takes_hooks(wrapper):
            raise AttachError(
                f"{type(wrapper).__name__} may move weights after the step of the {kind} inside it, and takes no step "
                f"hooks, so that the rules would not see it. Train with affinet.reparametrize, which needs no hooks."
            )


def takes_hooks(optimizer: optim.Optimizer) -> bool:
    """Whether hooks can be registered and are called by its step."""
    try:
        optimizer.register_step_post_hook(_nothing).remove()
    except AttributeError:
        return False
    return bool(getattr(type(optimizer).step, "hooked", False))


def _nothing(*_: Any) -> None:
    """A hook."""
