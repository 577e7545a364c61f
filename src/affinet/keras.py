"""Train models of Keras whose weights obey rules, with any optimizer of Keras, on TensorFlow, JAX or torch.

    import affinet.keras
    w = affinet.keras.weights(model)
    optimizer = affinet.keras.project(model, "adam", [w["dense/kernel"].sum(dim=0) == 1.0])
    model.compile(optimizer, loss="mse")

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.errors import MissingPackageError

try:
    from affinet.adapters.keras_projection import Project, project, remove_rules
    from affinet.adapters.keras_reports import RuleLog, verify
    from affinet.adapters.keras_variables import weights
except ModuleNotFoundError as missing:
    other = "or choose another backend by the environment variable KERAS_BACKEND (tensorflow, jax or torch)."
    ways_out = {
        "keras": 'Install it with: pip install "affinet[keras]", and a backend.',
        "tensorflow": f'It is the backend of Keras. Install it with: pip install "affinet[keras-tf]", {other}',
        "jax": f'It is the backend of Keras. Install it with: pip install "affinet[jax]", {other}',
        "torch": f"It is the backend of Keras. Install it with: pip install torch, {other}",
    }
    raise MissingPackageError.of(missing, "affinet.keras", ways_out) from None

__all__ = ["Project", "RuleLog", "project", "remove_rules", "verify", "weights"]
