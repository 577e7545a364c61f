"""Train models of Keras whose weights obey rules, with any optimizer of Keras, on TensorFlow, JAX or torch.

    import affinet.keras
    w = affinet.keras.weights(model)
    optimizer = affinet.keras.project(model, "adam", [w["dense/kernel"].sum(dim=0) == 1.0])
    model.compile(optimizer, loss="mse")

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.adapters.keras_projection import Project, project
from affinet.adapters.keras_reports import RuleLog, verify
from affinet.adapters.keras_variables import weights

__all__ = ["Project", "RuleLog", "project", "verify", "weights"]
