"""Give the rules of a plan to the solvers of scipy.optimize: matrices, bounds, and weights as one vector.

    import affinet, affinet.scipy
    problem = affinet.scipy.linear_constraints(plan)
    minimize(loss, problem.to_vector(weights), constraints=problem.constraints, bounds=problem.bounds)

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.adapters.scipy_constraints import PlanConstraints, linear_constraints
from affinet.adapters.weight_vector import from_vector, to_vector
from affinet.analysis.null_space import NullSpace

__all__ = ["NullSpace", "PlanConstraints", "from_vector", "linear_constraints", "to_vector"]
