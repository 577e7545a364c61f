"""Plans in MATLAB files: `plan.to_mat` and `Plan.from_mat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

import affinet
from affinet.errors import PlanFileError
from affinet.plans import matlab_plan
from tests.errors.case import case


def weights_of(*shapes: Any, **more: Any) -> np.ndarray:
    """The struct array `weights` with names w1, w2, …"""
    fields = [("name", "O"), ("shape", "O"), *((name, "O") for name in more)]
    return np.array([[(f"w{k}", shape, *more.values())] for k, shape in enumerate(shapes, 1)], fields)


def read(folder: Path, **changes: Any) -> None:
    content = {"weights": weights_of(3.0), "column_order": "row-major", "A": np.ones((1, 3)), "b": 1.0} | changes
    kept = {name: value for name, value in content.items() if value is not None}
    scipy.io.savemat(folder / "plan.mat", kept)
    affinet.Plan.from_mat(folder / "plan.mat")


def plan_of_sums() -> affinet.Plan:
    return affinet.plan([affinet.weights({"w": (2, 3)}).w.sum(dim=1) == 1])


@case(PlanFileError, "A nonlinear equation, which matrices cannot say.", "Keep the plan with `plan.save`.")
def a_nonlinear_rule_for_matlab(folder: Path) -> None:
    w = affinet.weights({"w": (3,)}).w
    affinet.plan([w @ w == 1]).to_mat(folder / "plan.mat")


@case(PlanFileError, "A misspelt order.", 'Write "row-major" or "column-major".')
def an_unknown_column_order(folder: Path) -> None:
    plan_of_sums().to_mat(folder / "plan.mat", column_order="F")  # type: ignore[arg-type]


@case(PlanFileError, "More numbers than a file of version 5 holds.", "Keep the plan with `plan.save`.")
def a_matrix_beyond_what_matlab_files_hold(folder: Path) -> None:
    most, matlab_plan.MOST_BYTES = matlab_plan.MOST_BYTES, 40
    try:
        plan_of_sums().to_mat(folder / "plan.mat")
    finally:
        matlab_plan.MOST_BYTES = most


@case(PlanFileError, "The folder does not exist.", "Name another place.")
def a_matlab_file_in_no_folder(folder: Path) -> None:
    plan_of_sums().to_mat(folder / "none" / "plan.mat")


@case(PlanFileError, "The path is wrong.", "Name a file of `plan.to_mat`.")
def a_matlab_file_that_is_not_there(folder: Path) -> None:
    affinet.Plan.from_mat(folder / "plan.mat")


@case(PlanFileError, "A file of another kind.", "Write it with `plan.to_mat`.", foreign="file: .*, which is not there")
def a_file_that_matlab_did_not_write(folder: Path) -> None:
    (folder / "plan.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"nonsense")
    affinet.Plan.from_mat(folder / "plan.mat")


@case(PlanFileError, "MATLAB's newest format, which is HDF5.", "Save it with '-v7'.")
def a_plan_of_matlabs_newest_format(folder: Path) -> None:
    (folder / "plan.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    affinet.Plan.from_mat(folder / "plan.mat")


@case(PlanFileError, "The variable weights is missing.", "Save names and shapes of the weights.")
def columns_of_unknown_weights(folder: Path) -> None:
    read(folder, weights=None)


@case(PlanFileError, "A shape of fractions, or a name that is there twice.", "Correct weights.")
def a_weight_without_a_shape(folder: Path) -> None:
    read(folder, weights=weights_of(1.5))


@case(PlanFileError, "The weights leave a gap between their columns.", "Write them one after the other.")
def weights_with_a_gap(folder: Path) -> None:
    read(folder, weights=weights_of(3.0, first=2.0))


@case(PlanFileError, "The order of entries is not stated.", "Save column_order.")
def entries_in_an_unknown_order(folder: Path) -> None:
    read(folder, column_order=None)


@case(PlanFileError, "Neither equations nor inequalities nor bounds.", "Save some.")
def a_matlab_file_without_rules(folder: Path) -> None:
    read(folder, A=None)


@case(PlanFileError, "A has another number of columns than there are entries.", "Give each entry a column.")
def a_matrix_of_other_weights(folder: Path) -> None:
    read(folder, A=np.ones((1, 4)))


@case(PlanFileError, "A is not finite.", "Find where NaN comes from.")
def a_matlab_matrix_with_nan(folder: Path) -> None:
    read(folder, A=np.full((1, 3), np.nan))


@case(PlanFileError, "The right-hand sides are missing.", "Save b too.")
def equations_without_right_hand_sides(folder: Path) -> None:
    read(folder, b=None)


@case(PlanFileError, "Another number of right-hand sides than of rows.", "Give one per row.")
def right_hand_sides_of_other_equations(folder: Path) -> None:
    read(folder, b=np.ones(2))


@case(PlanFileError, "A bound is NaN.", "Use -Inf or Inf where there is no bound.")
def a_bound_that_is_nan(folder: Path) -> None:
    read(folder, ub=np.full(3, np.nan))


@case(PlanFileError, "rules(k).A names rows that A does not have, or a row twice.", "Correct it, or leave rules out.")
def a_rule_of_rows_that_are_not_there(folder: Path) -> None:
    read(folder, rules=np.array([[("r", 2.0)]], [("name", "O"), ("A", "O")]))


@case(PlanFileError, "A lower bound above the upper bound.", "Correct the bounds.")
def bounds_of_a_matlab_file_in_the_wrong_order(folder: Path) -> None:
    read(folder, lb=np.full(3, 2.0), ub=np.full(3, 1.0))


@case(PlanFileError, "The equations in the file contradict each other.", "Correct the matrices.")
def matrices_that_contradict_themselves(folder: Path) -> None:
    read(folder, A=np.ones((2, 3)), b=np.array([1.0, 2.0]))
