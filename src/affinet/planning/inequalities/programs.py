"""Split equations, inequalities and bounds over unknowns into connected programs, batched by their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.polyhedral_set import MOST_SMALL
from affinet.blocks.programs.gram_factor import SPARSE_BYTES, WAY_OUT, products_of
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import forecast
from affinet.planning.elimination.components import Batch, Giant, split
from affinet.planning.factors.panels import MOSTLY_ZEROS
from affinet.planning.inequalities.halfspaces import NodeBounds
from affinet.system.distinct import distinct
from affinet.system.limits import Limits
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows, concatenate

MOST_ROWS = 2_048
"""Most rows over few unknowns that are searched as a dense matrix, whatever is zero: 8 MB."""


@dataclass(frozen=True, eq=False)
class Programs:
    """`k` sets of one form: `matrix z == rhs` in the first `equations` rows, `<=` in the others, `lower <= z <= upper`.

    Shapes: nodes, lower, upper (k, n); matrix (k, m, n), or one csr matrix (m, n) where k is 1; rhs and its rounding
    magnitude `size` (k, m). `rows` (k, m) and `lower_row`, `upper_row` (k, n) are numbers of inequality rows, −1 where
    a row is missing. Rows of the matrix have norm one.
    """

    nodes: Integers
    matrix: Floats | sparse.csr_array
    rhs: Floats
    size: Floats
    equations: int
    lower: Floats
    upper: Floats
    rows: Integers
    lower_row: Integers
    upper_row: Integers
    lower_size: Floats
    upper_size: Floats

    @property
    def count(self) -> int:
        return len(self.nodes)

    @property
    def height(self) -> int:
        """Equations and inequalities of each set, without bounds."""
        return int(self.rhs.shape[1])

    @cached_property
    def gram(self) -> Floats:
        """The products of the rows of each set with each other (k, m, m)."""
        if isinstance(self.matrix, sparse.csr_array):
            return np.asarray((self.matrix @ self.matrix.T).toarray())[None]
        return np.asarray(np.matmul(self.matrix, self.matrix.transpose(0, 2, 1)))

    def dense(self) -> Floats:
        """The matrix as (k, m, n)."""
        return self.matrix.toarray()[None] if isinstance(self.matrix, sparse.csr_array) else self.matrix

    def select(self, cells: Integers) -> Programs:
        """Only some of the sets."""
        if len(cells) == self.count:
            return self
        assert not isinstance(self.matrix, sparse.csr_array)
        return replace(
            self,
            **{
                name: getattr(self, name)[cells]
                for name in (
                    "nodes",
                    "matrix",
                    "rhs",
                    "size",
                    "lower",
                    "upper",
                    "rows",
                    "lower_row",
                    "upper_row",
                    "lower_size",
                    "upper_size",
                )
            },
        )


def programs_of(
    core: Rows, inequalities: Rows, numbers: Integers, bounds: NodeBounds, limits: Limits, names: Sequence[str]
) -> list[Programs]:
    """The sets that equations (`core`) and inequalities over nodes form, those with any inequality or bound.

    `numbers` are those of the inequality rows. Nodes in no row of several nodes form sets of one node each.
    Raises TooLargeError.
    """
    several = np.flatnonzero(inequalities.lengths > 1)
    joint = concatenate([core, inequalities.select(several)])
    row_of = np.concatenate([np.full(core.count, -1), numbers[several]])
    programs: list[Programs] = []
    coupled = np.zeros(len(bounds.lower), bool)
    for component in split(joint, joint.magnitude, limits, names):
        coupled[component.nodes.ravel()] = True
        form = _in_best_form(component)
        _forecast_equations(form, row_of, joint, names)
        programs += _with_bounds(form, row_of, bounds)
    single_nodes = np.flatnonzero(bounds.bounded & ~coupled)
    if len(single_nodes):
        empty = np.zeros((len(single_nodes), 0))
        programs.append(
            Programs(
                single_nodes[:, None], np.zeros((len(single_nodes), 0, 1)), empty, empty, 0,
                bounds.lower[single_nodes, None], bounds.upper[single_nodes, None], empty.astype(np.int64),
                bounds.lower_row[single_nodes, None], bounds.upper_row[single_nodes, None],
                bounds.lower_size[single_nodes, None], bounds.upper_size[single_nodes, None],
            )
        )  # fmt: skip
    return programs


def _forecast_equations(component: Batch | Giant, row_of: Integers, joint: Rows, names: Sequence[str]) -> None:
    """Raise TooLargeError where the equations alone, which are active always, take too much memory in every step."""
    if isinstance(component, Batch):
        return  # at most `Limits.dense_rows` of them
    equations = np.flatnonzero(row_of[component.rows] < 0)
    rules = [names[rule] for rule in distinct(joint.rule[component.rows])]
    described = (
        f"the products of {len(equations):,} equations of one polyhedron over {component.matrix.shape[1]:,} entries"
    )
    try:
        forecast(described, products_of(component.matrix[equations]), item_bytes=SPARSE_BYTES, way_out=WAY_OUT)
    except TooLargeError as error:
        raise error.of_rules(rules) from None


def _in_best_form(component: Batch | Giant) -> Batch | Giant:
    """One large component as a sparse matrix if it is mostly zeros, and otherwise as a dense one.

    A dense matrix takes less memory than the rows that it was read from, which were found to fit.
    """
    if isinstance(component, Batch):
        count, height, width = component.matrix.shape
        if count > 1 or width <= MOST_SMALL or np.count_nonzero(component.matrix) * MOSTLY_ZEROS >= height * width:
            return component
        matrix = sparse.csr_array(component.matrix[0])
        return Giant(component.nodes[0], matrix, component.rhs[0], component.terms[0], component.rows[0])
    height, width = component.matrix.shape
    small = width <= MOST_SMALL and height <= MOST_ROWS
    if not small and component.matrix.nnz * MOSTLY_ZEROS < height * width:
        return component
    dense = component.matrix.toarray()[None]
    return Batch(component.nodes[None], dense, component.rhs[None], component.terms[None], component.rows[None])


def _with_bounds(component: Batch | Giant, row_of: Integers, bounds: NodeBounds) -> list[Programs]:
    """Programs of one component, by their number of equations; none of those without inequality and bound."""
    if isinstance(component, Giant):
        norms = norms_of_runs(component.matrix.data, component.matrix.indptr)
        matrix = sparse.csr_array(sparse.diags_array(1.0 / norms) @ component.matrix)
        program = _program(
            component.nodes[None], matrix, component.rhs[None], component.terms[None], norms[None],
            row_of[component.rows][None], bounds,
        )  # fmt: skip
        return [program] if program.height > program.equations or bounds.bounded[component.nodes].any() else []
    rows = row_of[component.rows]
    equations = (rows < 0).sum(axis=1)
    limited = (equations < rows.shape[1]) | bounds.bounded[component.nodes].any(axis=1)
    norms = np.sqrt(np.einsum("kmn,kmn->km", component.matrix, component.matrix))
    programs = []
    for count in np.unique(equations[limited]):
        at = np.flatnonzero(limited & (equations == count))
        programs.append(
            _program(
                component.nodes[at], component.matrix[at] / norms[at, :, None], component.rhs[at],
                component.terms[at], norms[at], rows[at], bounds,
            )
        )  # fmt: skip
    return programs


def _program(
    nodes: Integers, matrix: Floats | sparse.csr_array, rhs: Floats, terms: Floats, norms: Floats, rows: Integers,
    bounds: NodeBounds,
) -> Programs:  # fmt: skip
    return Programs(
        nodes, matrix, rhs / norms, terms / norms, int((rows[0] < 0).sum()), bounds.lower[nodes], bounds.upper[nodes],
        rows, bounds.lower_row[nodes], bounds.upper_row[nodes],
        bounds.lower_size[nodes], bounds.upper_size[nodes],
    )  # fmt: skip
