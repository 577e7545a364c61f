"""Train pytrees of JAX arrays whose weights obey rules, with any optimizer of Optax.

    import affinet, affinet.optax
    w = affinet.weights(params)
    plan = affinet.plan([w.dense.kernel.sum(dim=0) == 1.0])
    optimizer = affinet.optax.project(plan, optax.adam(1e-3))

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.errors import MissingPackageError

try:
    from affinet.adapters.optax_projection import Counts, ProjectState, project
    from affinet.adapters.optax_reparametrization import FreeNumbers, Reparametrization, reparametrize
    from affinet.kernels.jax.tree_projector import TreeProjector
except ModuleNotFoundError as missing:
    way_out = 'Install it with: pip install "affinet[jax]"'
    raise MissingPackageError.of(missing, "affinet.optax", dict.fromkeys(("jax", "jaxlib", "optax"), way_out)) from None

__all__ = [
    "Counts",
    "FreeNumbers",
    "ProjectState",
    "Reparametrization",
    "TreeProjector",
    "project",
    "reparametrize",
]
