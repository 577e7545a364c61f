"""Train pytrees of JAX arrays whose weights obey rules, with any optimizer of Optax.

    import affinet, affinet.optax
    w = affinet.weights(params)
    plan = affinet.plan([w.dense.kernel.sum(dim=0) == 1.0])
    optimizer = affinet.optax.project(plan, optax.adam(1e-3))

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.adapters.optax_projection import Counts, ProjectState, project
from affinet.kernels.jax.tree_projector import TreeProjector

__all__ = ["Counts", "ProjectState", "TreeProjector", "project"]
