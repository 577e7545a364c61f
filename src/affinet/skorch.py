"""Train nets of skorch whose weights obey rules, by a callback.

    from affinet.skorch import ProjectRules
    net = NeuralNetRegressor(Net, callbacks=[("rules", ProjectRules("hidden.weight.sum(dim=1) == 1"))])

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.errors import MissingPackageError

try:
    from affinet.adapters.skorch_rules import ProjectRules
except ModuleNotFoundError as missing:
    ways_out = dict.fromkeys(("skorch", "sklearn"), "Install it with: pip install skorch")
    raise MissingPackageError.of(missing, "affinet.skorch", ways_out) from None

__all__ = ["ProjectRules"]
