"""All cases, by what the user was doing."""

from __future__ import annotations

import inspect
from types import ModuleType

from tests.errors import (
    attaching,
    conforming,
    constants,
    damaged_plans,
    data_files,
    estimators,
    explaining,
    expressions,
    families,
    functions,
    groups_and_matrices,
    initial_jobs,
    job_files,
    lagrange_rules,
    launched_jobs,
    live_pages,
    matlab_plans,
    matrix_files,
    missing_packages,
    naming_weights,
    optimizers,
    plan_files,
    planning,
    reparametrizing,
    reports,
    resumed_runs,
    runs,
    scipy_solvers,
    shapes,
    sharded_plans,
    steps,
    texts,
    watching,
    weight_files,
    weight_folders,
)
from tests.errors.case import cases_of

ROOMS: tuple[tuple[ModuleType, ...], ...] = (
    (naming_weights,),
    (constants,),
    (expressions,),
    (shapes,),
    (texts,),
    (families,),
    (groups_and_matrices,),
    (functions,),
    (planning,),
    (explaining,),
    (plan_files, damaged_plans),
    (matlab_plans,),
    (sharded_plans,),
    (attaching,),
    (optimizers,),
    (steps,),
    (watching,),
    (lagrange_rules,),
    (scipy_solvers,),
    (estimators,),
    (missing_packages,),
    (conforming,),
    (reparametrizing,),
    (job_files,),
    (initial_jobs,),
    (data_files,),
    (matrix_files,),
    (runs,),
    (resumed_runs,),
    (reports,),
    (weight_files, weight_folders),
    (launched_jobs,),
    (live_pages,),
)
CASES = [case for room in ROOMS for module in room for case in cases_of(module)]


def title(room: tuple[ModuleType, ...]) -> str:
    """The first line of the docstring of a room: what the user was doing."""
    return inspect.cleandoc(room[0].__doc__ or "").partition("\n")[0]
