"""Find the optimizer inside its wrappers, and refuse wrappers whose steps call no hooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import optim

from affinet.errors import AttachError


@dataclass(frozen=True, eq=False)
class Nest:
    """An optimizer with its wrappers: `stepper` gets the hooks, `wrappers` are around it, the outermost first.

    The stepper is the innermost optimizer that holds the same constrained parameters. `moving` are the wrappers that
    may move weights after its step (Lookahead); other wrappers only forward the call. `core` is the innermost
    optimizer, whose class decides how weights decay: in a ZeroRedundancyOptimizer the local one, which holds a part.
    """

    stepper: optim.Optimizer
    wrappers: tuple[optim.Optimizer, ...]
    core: optim.Optimizer

    @property
    def all(self) -> tuple[optim.Optimizer, ...]:
        """The stepper and its wrappers."""
        return (*self.wrappers, self.stepper)

    @property
    def moving(self) -> tuple[optim.Optimizer, ...]:
        """The wrappers that have separate state."""
        return tuple(wrapper for wrapper in self.wrappers if wrapper.state is not self.stepper.state)


def nest(optimizer: optim.Optimizer, constrained: Iterable[int]) -> Nest:
    """The nest of an optimizer; `constrained` are the ids of the parameters in rules.

    Raises AttachError, before anything is changed, where steps would not call the hooks.
    """
    wanted_ids = parameter_ids(optimizer) & set(constrained)
    chain = [optimizer]
    while (inner := _inner_optimizer(chain[-1])) is not None and inner not in chain:
        chain.append(inner)
    index = max(position for position, candidate in enumerate(chain) if wanted_ids <= parameter_ids(candidate))
    nested = Nest(chain[index], tuple(chain[:index]), chain[-1])
    _check(nested, chain)
    return nested


def parameter_ids(optimizer: optim.Optimizer) -> set[int]:
    """The ids of the parameters that an optimizer holds."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _inner_optimizer(optimizer: optim.Optimizer) -> optim.Optimizer | None:
    """The optimizer among the attributes; None if there is not exactly one."""
    inner = {id(value): value for value in vars(optimizer).values() if isinstance(value, optim.Optimizer)}
    inner.pop(id(optimizer), None)
    return next(iter(inner.values())) if len(inner) == 1 else None


def _check(nested: Nest, chain: list[optim.Optimizer]) -> None:
    kind = type(nested.stepper).__name__
    if not takes_hooks(nested.stepper):
        raise AttachError(
            f"{kind} takes no step hooks: its class does not call torch.optim.Optimizer.__init__, so that the rules "
            f"would not see its steps. Call super().__init__ in it, or train with affinet.reparametrize, which needs "
            f"no hooks."
        )
    if len(chain) == 1 and all(
        callable(getattr(nested.stepper, method, None)) for method in ("first_step", "second_step")
    ):
        raise AttachError(
            f"{kind} moves weights in first_step and second_step, which no hook sees. Train with "
            f"affinet.reparametrize, which needs no hooks, or use a variant that keeps its inner optimizer as an "
            f"attribute (base_optimizer)."
        )
    for wrapper in nested.moving:
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
    """A hook that does nothing."""
