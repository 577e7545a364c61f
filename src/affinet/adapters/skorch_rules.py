"""A callback of skorch that keeps the weights of a net on rules, for every call of `fit` and of `partial_fit`."""

from __future__ import annotations

from typing import Any, Self

from skorch.callbacks import Callback

from affinet.adapters.named_rules import AnyRules, read_rules
from affinet.language.constraint import Constraint
from affinet.language.weights import weights
from affinet.plans.plan import Plan
from affinet.training.handle import Handle
from affinet.training.projection import project


class ProjectRules(Callback):  # type: ignore[misc]
    """Project a net of skorch onto rules: `NeuralNet(…, callbacks=[("rules", ProjectRules("output.bias == 0"))])`.

    `rules` are text, a function of the weights of the module, `lambda w: w.output.bias == 0`, a list of these, or a
    plan.
    The rules hold after every step. What was learned about bounds goes on to the next call of `partial_fit`, as the
    state of the optimizer does. `handle_` is the `affinet.Handle` while a training runs.
    """

    def __init__(self, rules: AnyRules | Plan) -> None:
        self.rules = rules

    def initialize(self) -> Self:
        """Forget what earlier trainings learned; skorch calls this for a new module."""
        self.learned_: dict[str, Any] | None = None
        self._detach()
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Attach the rules. Errors: those of rules and of `affinet.project`."""
        self._detach()  # a training that an error ended leaves its handle
        symbols = weights(net.module_)
        rules: Plan | list[Constraint] = self.rules if isinstance(self.rules, Plan) else read_rules(self.rules, symbols)
        self.handle_: Handle | None = project(net.module_, net.optimizer_, rules)
        if self.learned_ is not None:
            self.handle_.load_state_dict(self.learned_)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take the rules off, and keep what was learned about them."""
        if self.handle_ is not None:
            self.learned_ = self.handle_.state_dict()
        self._detach()

    def _detach(self) -> None:
        if getattr(self, "handle_", None) is not None:
            self.handle_.remove()  # type: ignore[union-attr]
        self.handle_ = None
