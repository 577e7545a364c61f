"""Compile rules into a plan: immutable blocks that depend on no array library."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from affinet.analysis.determined import determined
from affinet.analysis.equations_alone import EquationsAlone
from affinet.analysis.findings.collecting import Finding, findings
from affinet.analysis.lookup.entry_names import counted
from affinet.analysis.lookup.incidence import Incidence
from affinet.analysis.lookup.together import rank_of
from affinet.analysis.summary import in_words, summary, with_findings
from affinet.blocks.interval import Interval
from affinet.blocks.kinds import AnyBlock
from affinet.errors import (
    AffinetError,
    NothingToTrainWarning,
    PlanFileError,
    TooLargeError,
    callers_line,
    visible,
)
from affinet.language.calculus.terms import Floats, Parameter
from affinet.language.constraint import Constraint
from affinet.language.forecast import LIMIT, limited
from affinet.language.nodes import missing_functions, opaque_functions
from affinet.language.opaque import Opaque
from affinet.language.origin import Family
from affinet.planning.compilation import compile_blocks
from affinet.planning.contradiction import Contradiction
from affinet.planning.refit.blocks import unchanged
from affinet.planning.refit.record import Record, recorded
from affinet.plans.backends import function_of, numba_installed, projector
from affinet.plans.matlab_plan import ColumnOrder, read_mat, write_mat
from affinet.plans.sharded_plan import Placements, ShardedPlan, sharded_plan
from affinet.system.files import plan_path
from affinet.system.limits import Limits
from affinet.system.magnitudes import too_far_apart
from affinet.system.stored.description import described, system_of
from affinet.system.stored.planfile import read_system, write_system
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Plan:
    """Rules, and disjoint blocks that together keep them exactly. `print(plan)` shows the analysis."""

    system: System
    blocks: tuple[AnyBlock, ...]
    record: Record | None = None
    """Decisions that depend on coefficients only, reused to plan other right-hand sides; None if not recorded."""

    @property
    def rows(self) -> int:
        """Equations, redundant ones included."""
        return self.system.equations

    @property
    def inequalities(self) -> int:
        """Inequalities, redundant ones and those without a bound included; a ball counts one for each vector."""
        return self.system.inequalities

    @property
    def size(self) -> int:
        """Entries touched."""
        return sum(block.size for block in self.blocks)

    @property
    def rank(self) -> int | Interval:
        """Independent equations; an Interval where a large irregular core left it between bounds.

        Inequalities that leave no room, such as `w <= 1` and `w >= 1`, count as the equations that follow from them.
        """
        low, high = self._bounds()
        return low if low == high else Interval(low, high)

    @property
    def free(self) -> int | Interval:
        """Degrees of freedom that remain among the touched entries, within the inequalities: size − rank."""
        low, high = self._bounds()
        return self.size - low if low == high else Interval(self.size - high, self.size - low)

    @property
    def redundant(self) -> int | Interval:
        """Equations that follow from other equations, and are dropped: rows − rank, without inequalities."""
        redundant = self._equations_alone.redundant
        return redundant.low if redundant.low == redundant.high else redundant

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters that the rules are about, by name."""
        return self.system.layout.parameters

    def projector(self, like: Any) -> Any:
        """A Projector for arrays of the kind of `like`: a model, a mapping of names to arrays, or one array.

        Returns affinet.Projector for PyTorch; for NumPy arrays, a projector with the same verbs. Raises AttachError for
        a kind that has no kernels.
        """
        return projector(self, like)

    def sharded(
        self, mesh: Any, placements: Placements | Mapping[str, Placements] | None = None, *, itemsize: int = 4
    ) -> ShardedPlan:
        """What the rules send in a step where weights are split over a mesh of processes; `print` shows it by rule.

        `mesh` is a number of processes, one for each dimension of a mesh, or a DeviceMesh of torch. `placements` are,
        for each of its dimensions, the axis along which all weights are split (None for copies), or such by name;
        without them all are split along their first axis, as `fully_shard` does. `itemsize` are the bytes of a number.
        Nothing is sent: it is computed from shapes. Raises AttachError for other values.
        """
        return sharded_plan(self.system, self.blocks, mesh, placements, itemsize)

    def with_constants(self, values: Mapping[str, Floats], epsilon: float, before: Plan | None = None) -> Plan:
        """The plan of the same rules with some parameters read as constants. Raises InfeasibleError.

        `before` is such a plan made with other values: its record of decisions is reused.
        """
        if not values:
            return self
        return compiled(self.system.with_constants(values, epsilon), before or Plan(self.system, ()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rules, and not how they were solved, to a safetensors file that `load` reads.

        An existing file is replaced in one step. Raises PlanFileError where the file cannot be written.
        """
        write_system(self.system, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        memory: int | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Plan:
        """Read a saved plan and plan its rules again: the same blocks, bit for bit.

        Nothing in the file is run; everything in it is checked first. `memory` bounds what one step of planning may
        take by forecast, in bytes: by default 512 MiB, or sixteen times the size of the file if that is more.
        `functions` are those of `affinet.equations` by name, of which a file holds the names alone. Raises
        PlanFileError, which says what is wrong.
        """
        system = read_system(path, partial(function_of, functions or {}))
        if missing := missing_functions(rule.expression.affine for rule in system.every):
            arguments = ", ".join(f"{name!r}: function" for name in missing)
            reason = f"has equations of {', '.join(map(repr, missing))}, functions that a file cannot hold"
            raise PlanFileError(path, reason, f"Give them: affinet.Plan.load(path, functions={{{arguments}}}).")
        return _compiled_from(path, lambda: system, memory, "Save the plan again, affinet.plan(rules).save(path).")

    def to_mat(self, path: str | os.PathLike[str], *, column_order: ColumnOrder = "row-major") -> None:
        """Write linear rules to a MATLAB file: sparse A, b, G, h of `A w = b`, `G w <= h`, and bounds lb, ub.

        w holds the weights by name, each flattened row-major, or with "column-major" as MATLAB's `W(:)` flattens it;
        the struct array `weights` in the file has their names and shapes. An existing file is replaced in one step.
        Raises PlanFileError for rules that are not linear, and where the file cannot be written.
        """
        write_mat(self.system, path, column_order)

    @classmethod
    def from_mat(cls, path: str | os.PathLike[str], *, memory: int | None = None) -> Plan:
        """Plan the rules in a file of `to_mat`, or in a MATLAB file with the same variables.

        The set of weights that satisfies the rules is that of the plan that was written, to rounding. Bounds become
        rules of their own. `memory` is that of `load`. Raises PlanFileError, which says what is wrong.
        """
        return _compiled_from(path, lambda: System.of(read_mat(path)), memory, "Correct the matrices in the file.")

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Consequences of the rules that may be unintended, the gravest first; `str` of each is its sentence.

        Entries that can take one value only, entries that can no longer differ, rules without effect, rules that nearly
        repeat or contradict others, matrices whose columns seem misaligned; and checks that were skipped. Computed at
        first access.
        """
        return findings(self.system, self.blocks, self._equations_alone)

    @cached_property
    def incidence(self) -> Incidence:
        """Looks up the equations of an entry; the rules are read once, at first use."""
        return Incidence(self.system)

    @cached_property
    def inequality_incidence(self) -> Incidence:
        """Looks up the inequalities of an entry, those of balls excepted."""
        return Incidence(self.system, inequalities=True)

    @cached_property
    def _equations_alone(self) -> EquationsAlone:
        return EquationsAlone(self.system, self.blocks)

    def table(self) -> str:
        """The analysis with a line per rule, without the findings; `str(plan)` shortens it."""
        return visible(summary(self.system, self.blocks, self._equations_alone, loops=numba_installed(), most=None))

    def __reduce__(self) -> tuple[Any, ...]:
        """The rules, as in a file; a copy in another process is planned there again, to the same bits.

        Pickled arrays would no longer share memory, and the choice of kernels depends on what they share.
        """
        functions = opaque_functions(rule.expression.affine for rule in self.system.every)
        return _planned_again, (*described(self.system), self.system.limits, functions)

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self

    def __str__(self) -> str:
        table = summary(self.system, self.blocks, self._equations_alone, loops=numba_installed())
        words = in_words(self.system, self.blocks, self._equations_alone)
        return visible(with_findings(f"{table}\n{words}".rstrip("\n"), self.findings))

    def __repr__(self) -> str:
        inequalities = f", {counted(self.inequalities, 'inequality')}" if self.inequalities else ""
        equations, entries = counted(self.rows, "equation"), counted(self.size, "entry")
        return f"<Plan: {equations}, rank {self.rank}{inequalities}, {entries}, {self.free} free>"

    def _bounds(self) -> tuple[int, int]:
        rank = rank_of(self.blocks)
        return rank.low, rank.high


def plan(rules: Iterable[Constraint] | Constraint, *, tolerance: float | None = None) -> Plan:
    """Compile rules into a plan.

    `rules`: constraints in any order, nested lists allowed. `tolerance` replaces the precision to which the constants
    are taken to be known (the spacing of the coarsest dtype among them), which decides what counts as redundant and
    what as contradictory. Raises InfeasibleError naming an irreducible set of rules that contradict each other,
    RuleError for values that are not rules, ConstantError for numbers whose products or quotients leave float64. Warns
    (NothingToTrainWarning) of weights whose every entry the rules determine, though no rule fixes them outright.
    """
    return with_warnings(compiled(System.of(rules, tolerance=tolerance)))


def with_warnings(made: Plan) -> Plan:
    """The plan; warns (NothingToTrainWarning) of weights whose every entry is determined though no rule fixes them."""
    for weight, entries, rules in determined(made.system, made.blocks):
        from_symmetry = any(rule.origin == Family("equivariant") for rule in rules)
        names = [rule.name for rule in rules]
        warnings.warn(NothingToTrainWarning(weight, entries, names, symmetry=from_symmetry), stacklevel=callers_line())
    return made


def compiled(system: System, before: Plan | None = None) -> Plan:
    """Plan a system. Raises InfeasibleError, and ConstantError where its numbers lie too far apart.

    `before` is a plan of the same coefficients: decisions are reused from its record, unchanged blocks are the same
    objects, and the new plan has a record too. Law: the blocks equal those of planning without it.
    """
    try:
        return _compile(system, before)
    except FloatingPointError:
        raise too_far_apart((rule.name, rule.expression) for rule in system.rules) from None


def _compiled_from(path: str | os.PathLike[str], read: Callable[[], System], memory: int | None, way_out: str) -> Plan:
    """Plan the system in a file, within `memory` or a limit by the size of the file. Raises PlanFileError."""
    file = plan_path(path)
    size = file.stat().st_size if file.is_file() else 0  # where there is no file, `read` says so
    trusted = f"Where you trust the file, load it with memory={LIMIT}."
    try:
        with limited(size, trusted, limit=memory):
            return compiled(read())
    except PlanFileError:
        raise
    except TooLargeError as error:
        reason = str(error).removesuffix(error.way_out).rstrip(" .")
        raise PlanFileError(path, f"holds rules that cannot be planned: {reason}", error.way_out) from error
    except AffinetError as error:
        raise PlanFileError(path, f"holds rules that cannot be planned: {str(error).rstrip('.')}", way_out) from error


@np.errstate(over="raise", divide="raise", invalid="raise")  # a number beyond float64 cannot be planned with
def _compile(system: System, before: Plan | None) -> Plan:
    try:
        with recorded(None if before is None else before.record or Record()) as record:
            blocks = compile_blocks(system)
        return Plan(system, blocks if before is None else unchanged(blocks, before.blocks), record)
    except Contradiction as contradiction:
        candidates, consequence, entries = contradiction.rules, contradiction.consequence, contradiction.entries
    from affinet.analysis.diagnosis.explaining import explain  # not needed for rules that can hold

    feasible = partial(_is_feasible, system)
    raise explain(system, candidates, consequence, feasible, feasible, entries=entries)


def _planned_again(
    description: Mapping[str, Any], rows: Sequence[Any], limits: Limits, functions: Mapping[str, Opaque]
) -> Plan:
    return compiled(replace(system_of(description, rows, lambda name, *_: functions[name]), limits=limits))


def _is_feasible(system: System, numbers: Iterable[int], tolerance: float | None = None) -> bool:
    known = system.tolerance if tolerance is None else replace(system.tolerance, epsilon=tolerance)
    try:
        compile_blocks(replace(system.only(numbers), tolerance=known))
    except Contradiction:
        return False
    return True
