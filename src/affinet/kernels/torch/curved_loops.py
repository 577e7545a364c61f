"""Runs the tangent sandwich of small equal cells in compiled loops on the CPU.

Cells that the loops leave out, because their equations depend on each other or their way back is not short, go through
the law over array operations: its results are the same to rounding, where both have one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.cell_programs import AffineMap, CellProgram
from affinet.blocks.curved_cells import Outcome
from affinet.blocks.curved_set import TOLERANCE, CurvedFace, CurvedSet
from affinet.blocks.tangent_map import Following, Tangent, TangentMap
from affinet.kernels.torch.torch_namespace import Torch

LANES = 256
"""Cells that are computed together: what a step of a program costs to interpret is shared by them. Of 10,000
determinants of 2 × 2, a step takes 1.8 ms with 32 lanes, 1.0 ms with 256 and 0.9 ms with 512."""
WORKED_IN = 2**15
"""Numbers that a thread works in, which stay in the cache next to the core."""
MOST_EQUATIONS, MOST_DERIVATIVES, MOST_NUMBERS = 12, 1024, 4096
"""The largest cells that loops take: elimination without pivots, and derivatives that stay in the cache."""
WORTH, WORTH_TOGETHER, SEVERAL = 128, 24, 4
"""Fewest entries for which loops are used, and fewest in `SEVERAL` cells or more: to compile them takes up to half a
minute, once on a machine. A step of 4 cells of 6 entries takes 0.5 ms with them, and 4 ms without them."""
COARSE = 1e-12
"""Unit roundoffs above this are those of weights that are rounded after they were computed in float64."""


class CurvedLoops:
    """The loops of one program, over arrays (cells, width) of float64: they are compiled for no other dtype."""

    in_place = False
    dtype = torch.float64

    def __init__(self, curved: CurvedSet) -> None:
        self._set, self._xp = curved, Torch()
        self._program, self._saved = _tables(curved.program)

    def nearest_(self, x: Tensor, metric: Tensor | None = None) -> Tensor:
        """The nearest points; they are searched for rarely, and not in loops."""
        nearest: Tensor = self._set.nearest(self._xp, x)
        return nearest

    def project_(self, x: Tensor, u: float) -> Tensor:
        """As `nearest_`, but cells that hold to u times the size of their terms are left there."""
        snapped: Tensor = TangentMap(self._set).snapped(self._xp, x, u)
        return snapped

    def start(self, w: Tensor) -> Tangent[CurvedFace]:
        """What is known at weights: a face that holds the point alone, until its plane is needed."""
        return Tangent(CurvedFace(w, w.new_empty(0), w.new_empty(0)))

    def face(self, w: Tensor) -> CurvedFace:
        """The tangent planes at a point."""
        return self.learn_(torch.zeros_like(w), w, None, 0.0)[0].face

    def learn_(
        self, g: Tensor, w: Tensor, state: Any, floor: float, spare: Tensor | None = None
    ) -> tuple[Following[CurvedFace], Tensor]:
        """As `TangentMap.learn`, with rounding noise of the projected gradient set to zero, in the place of g."""
        g, w = g.detach().contiguous(), w.detach().contiguous()
        cells, width, count = *self._set.shape, self._set.equations
        rows = torch.empty(cells, count, width, dtype=torch.float64)
        inverse = torch.empty(cells, count, count, dtype=torch.float64)
        marks = np.zeros(cells, np.uint8)
        threads, scratch = self._scratch()
        face = rows.numpy(), inverse.numpy(), marks
        arrays = g.numpy(), w.numpy(), g.numpy()
        self._follow(False, arrays, (floor, 0.0), face, scratch, threads)
        increment_version(g)
        if marks.any():
            self._learn_others(np.flatnonzero(marks), g, w, floor, rows, inverse)
        known = Tangent(CurvedFace(w, rows, inverse))
        return Following(known.face, w, known), g

    def land_(
        self, stepped: Tensor, state: Following[CurvedFace], u: float, condition: Tensor | None, *, reuse: bool
    ) -> tuple[Tensor, Tangent[CurvedFace]]:
        """As `TangentMap.land`; the face that is returned holds the point alone, and no plane."""
        if condition is not None and not bool(condition):
            return stepped, state.former
        stepped, before = stepped.detach().contiguous(), state.before.detach().contiguous()
        plane = self.completed(state.face)
        marks, landed = np.zeros(len(before), np.uint8), torch.empty_like(before)
        threads, scratch = self._scratch()
        face = plane.rows.numpy(), plane.inverse.numpy(), marks
        # Weights that are rounded need no more digits than they have; the tolerance is for what rounding adds.
        unit = u if u > COARSE else TOLERANCE * 0.5 * torch.finfo(torch.float64).eps
        arrays, limits = (stepped.numpy(), before.numpy(), landed.numpy()), (unit, TOLERANCE * u / unit)
        self._follow(True, arrays, limits, face, scratch, threads)
        outcome = None
        if marks.any():
            outcome = self._land_others(np.flatnonzero(marks), stepped, before, plane, u, landed)
        return landed, replace(self.start(landed), outcome=outcome)

    def _follow(
        self,
        lands: bool,
        arrays: tuple[np.ndarray, ...],
        limits: tuple[float, float],
        face: tuple[np.ndarray, ...],
        scratch: tuple[np.ndarray, ...],
        threads: int,
    ) -> None:
        """The loop before a step, or after it where it `lands`."""
        from affinet.kernels.loops.curved_lanes import follow_cells
        from affinet.kernels.loops.jit import logged_compilation

        with logged_compilation(follow_cells, "small groups of nonlinear equations"):
            follow_cells(lands, arrays, self._program, limits, face, scratch, threads)

    def completed(self, face: CurvedFace) -> CurvedFace:
        """The planes at the point of a face that may hold the point alone."""
        return face if len(face.rows) == len(face.point) else self.face(face.point)

    def _scratch(self) -> tuple[int, tuple[np.ndarray, ...]]:
        """The number of threads, and what they work in."""
        from affinet.kernels.loops.openmp import team

        (cells, width), count = self._set.shape, self._set.equations
        numbers = width + sum(step.count for step in self._set.program.steps)
        of_lane = 2 * numbers + self._saved + count * (width + count) + 3 * width + 6 * count + 9
        lanes = max(1, min(LANES, WORKED_IN // of_lane, cells))
        # A number of an equation takes about as long as many numbers of a sum.
        threads = min(team(16 * cells * width * count, torch.get_num_threads()), -(-cells // lanes))
        rows = numbers, max(1, self._saved), numbers + 1
        values, saved, pulled, vectors, sums = (
            np.empty((threads, size, lanes)) for size in (*rows, 3 * width, 6 * count + 8)
        )
        derivatives, inverse = (np.empty((threads, count, size, lanes)) for size in (width, count))
        chosen, state = (np.empty((threads, lanes), np.int64) for _ in range(2))
        return threads, (values, saved, pulled, derivatives, inverse, vectors, sums, chosen, state)

    def _learn_others(
        self, cells: np.ndarray, g: Tensor, w: Tensor, floor: float, rows: Tensor, inverse: Tensor
    ) -> None:
        """Project the gradients of cells that the loops left out."""
        law, at = TangentMap(_set_of(self._set, cells)), torch.from_numpy(cells)
        gradients, start = g[at], w[at]
        step, projected = law.learn(self._xp, gradients, start, law.start(self._xp, gradients, start, 0.0))
        g[at] = law.silenced(self._xp, projected, gradients, floor)
        rows[at], inverse[at] = step.face.rows, step.face.inverse

    def _land_others(
        self, cells: np.ndarray, stepped: Tensor, before: Tensor, plane: CurvedFace, u: float, landed: Tensor
    ) -> Outcome:
        """Follow the steps of cells that the loops left out."""
        law, at = TangentMap(_set_of(self._set, cells)), torch.from_numpy(cells)
        face = CurvedFace(before[at], plane.rows[at], plane.inverse[at])
        landed[at], known = law.land(self._xp, stepped[at], Following(face, before[at], Tangent(face)), u)
        outcome = []
        for part in known.outcome or ():
            every = torch.zeros(len(before), 1, dtype=part.dtype)
            every[at] = part
            outcome.append(every)
        return Outcome(*outcome)


def fits(curved: CurvedSet) -> bool:
    """Whether loops can take the cells of a set."""
    from affinet.kernels.loops.program_lanes import KINDS, LARGEST_MATRIX

    program = curved.program
    numbers = program.width + sum(step.count for step in program.steps)
    least = WORTH_TOGETHER if program.cells >= SEVERAL else WORTH
    if program.cells * program.width < least or any(step.kind not in KINDS for step in program.steps):
        return False
    is_small = curved.equations <= MOST_EQUATIONS and curved.equations * program.width <= MOST_DERIVATIVES
    sizes = [step.size for step in program.steps if step.kind in ("det", "inverse")]
    return is_small and numbers <= MOST_NUMBERS and all(size <= LARGEST_MATRIX for size in sizes)


def _set_of(curved: CurvedSet, cells: np.ndarray) -> CurvedSet:
    """The set of some of the cells."""

    def map_of(affine: AffineMap) -> AffineMap:
        values = affine.values if len(affine.values) == 1 else affine.values[cells]
        constant = affine.constant if len(affine.constant) == 1 else affine.constant[cells]
        return AffineMap(affine.columns, values, constant)

    program = curved.program
    steps = tuple(replace(step, operands=tuple(map(map_of, step.operands))) for step in program.steps)
    return CurvedSet(replace(program, cells=len(cells), steps=steps, outputs=map_of(program.outputs)))


def _tables(program: CellProgram) -> tuple[tuple[np.ndarray, ...], int]:
    """A program as the arrays that loops interpret, and how many values of operands they store."""
    from affinet.kernels.loops.program_lanes import KINDS, MAP_FIELDS, STEP_FIELDS

    steps, maps = [], []
    columns: list[np.ndarray] = []
    coefficients: list[np.ndarray] = []
    constants: list[np.ndarray] = []

    def append(affine: AffineMap) -> int:
        ends = [sum(map(len, parts)) for parts in (columns, coefficients, constants)]
        by_cell = len(affine.values) > 1, len(affine.constant) > 1
        maps.append((affine.rows, affine.columns.shape[1], ends[0], ends[1], by_cell[0], ends[2], by_cell[1]))
        for parts, numbers in ((columns, affine.columns), (coefficients, affine.values), (constants, affine.constant)):
            parts.append(np.ascontiguousarray(numbers).ravel())
        return len(maps) - 1

    first, saved = program.width, 0
    for step in program.steps:
        numbers = [append(operand) for operand in step.operands]
        stored = [saved, saved + step.operands[0].rows]
        saved += sum(operand.rows for operand in step.operands)
        maps_of, places_of = (numbers[0], numbers[-1]), stored
        steps.append((KINDS[step.kind], step.exponent, step.size, first, step.count, *maps_of, *places_of))
        first += step.count
    append(program.outputs)
    tables = np.array(steps, np.int64).reshape(-1, STEP_FIELDS), np.array(maps, np.int64).reshape(-1, MAP_FIELDS)
    joined = (
        np.concatenate([np.zeros(0, np.int64), *columns]),
        np.concatenate(coefficients),
        np.concatenate(constants),
    )
    return (*tables, joined[0].astype(np.int64), joined[1].astype(np.float64), joined[2].astype(np.float64)), saved
