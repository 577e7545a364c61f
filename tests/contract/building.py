"""From a case to models, weights, plans and the oracle; the tolerance of every dtype."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

import affinet
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.limits import planned
from tests.oracle import Oracle, oracle

PATHS = ("equations", "terms")
"""How rules are read: one equation at a time (the default for small ones), or from their terms."""


@dataclass(frozen=True)
class Precision:
    """What a dtype allows, in units of its spacing at one.

    `feasible`: |A w − b| of an equation over `Σ|a_j w_j| + |b|`. `near`: an entry's distance from the oracle's, over
    the largest entry.
    """

    dtype: torch.dtype
    feasible: float
    near: float

    @property
    def spacing(self) -> float:
        return float(torch.finfo(self.dtype).eps)

    @property
    def tiny(self) -> float:
        return float(torch.finfo(self.dtype).smallest_normal) * self.spacing

    def __str__(self) -> str:
        return str(self.dtype).removeprefix("torch.")


DOUBLE = Precision(torch.float64, feasible=4, near=16)
SINGLE = Precision(torch.float32, feasible=4, near=16)
HALF = Precision(torch.bfloat16, feasible=1, near=1.5)
PRECISIONS = (DOUBLE, SINGLE, HALF)


def numbers(case: Case, purpose: str, step: int = 0) -> dict[str, np.ndarray]:
    """Seeded random arrays of the parameters' shapes, the same in every process."""
    draw = np.random.default_rng([crc32(case.name.encode()), crc32(purpose.encode()), step])
    return {name: draw.standard_normal(shape) for name, shape in case.shapes.items()}


def model_of(case: Case, dtype: torch.dtype = torch.float64, device: str = "cpu") -> torch.nn.Module:
    """A module with the parameters of a case and no forward: names, memory order, ties and freezing as it says."""
    root = torch.nn.Module()
    parameters = {
        name: torch.nn.Parameter(
            _laid_out(torch.tensor(values, dtype=dtype, device=device), case.memory.get(name)), name not in case.frozen
        )
        for name, values in numbers(case, "weights").items()
    }
    for name, parameter in parameters.items():
        _register(root, name, parameter)
    for name, first in case.tied.items():
        _register(root, name, parameters[first])
    return root


def tensors_of(case: Case, purpose: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Seeded random tensors in the memory order of the case."""
    return {
        name: _laid_out(torch.tensor(values, dtype=dtype), case.memory.get(name))
        for name, values in numbers(case, purpose).items()
    }


def rules_of(case: Case) -> list[affinet.Constraint]:
    """The rules of a case over the symbols of its model."""
    return case.rules(affinet.weights(model_of(case)))


LIMITS: dict[str, dict[str, int]] = {
    "equations": {},
    "terms": {"one_by_one": 0, "fixed_from": 8},  # 8 entries stay on top of regular rules, as 2,000 do in large ones
}


def plan_along(path: str, rules: Iterable[affinet.Constraint]) -> Plan:
    """The plan of rules that are read along a path, as is all that is planned again from it."""
    return planned(rules, **LIMITS[path])


@cache
def plan_of(case_name: str, path: str) -> Plan:
    """The plan of a case of the table along a path."""
    return plan_along(path, rules_of(_named(case_name)))


@cache
def directions_of(case_name: str) -> tuple[float, np.ndarray]:
    """Condition number of the equilibrated rows, and an orthonormal basis of the directions they leave free."""
    truth = oracle_of(case_name)
    if not len(truth.rhs) or not truth.matrix.any():
        return 0.0, np.eye(truth.layout.size)
    _, sizes, vt = np.linalg.svd(truth.matrix)
    rank = _named(case_name).rank
    return float(sizes[0] / sizes[rank - 1]), vt[rank:].T


def conditioning_of(case_name: str) -> float:
    """What float64 adds to the error of a projection: its spacing times the condition number of the rows."""
    return DOUBLE.spacing * directions_of(case_name)[0]


@cache
def oracle_of(case_name: str) -> Oracle:
    """The dense oracle of a case of the table, nothing frozen."""
    return oracle(System.of(rules_of(_named(case_name))))


def oracle_of_training(case: Case, handle: affinet.Handle) -> Oracle:
    """The oracle of what a handle projects: frozen parameters are constants."""
    return oracle(handle.projector.plan.system) if case.frozen else oracle_of(case.name)


def plain(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors as float64 arrays."""
    return {name: np.array(tensor.detach().double().numpy(), order="C") for name, tensor in tensors.items()}


def flat(oracle: Oracle, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrays laid end to end in the oracle's order."""
    return np.concatenate(
        [np.zeros(0), *(np.asarray(values[p.name], np.float64).ravel() for p in oracle.layout.parameters)]
    )


def infeasibility(oracle: Oracle, weights: Mapping[str, np.ndarray], precision: Precision) -> float:
    """The largest |A w − b| over `Σ|a_j w_j| + |b|`, in spacings of the dtype; what underflows counts as zero."""
    w = flat(oracle, weights)
    gap = np.abs(oracle.matrix @ w - oracle.rhs)
    size = np.abs(oracle.matrix) @ np.abs(w) + np.abs(oracle.rhs)
    floor = precision.tiny * np.abs(oracle.matrix).sum(axis=1)
    return float((np.maximum(gap - floor, 0.0) / np.where(size > 0, size, 1.0)).max(initial=0.0) / precision.spacing)


def distance(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], *inputs: Mapping[str, np.ndarray]
) -> float:
    """The largest difference of entries over the largest entry wanted, or put in: what rounding is relative to."""
    size = max(_largest(values) for values in (wanted, *inputs))
    gap = _largest({name: found[name] - values for name, values in wanted.items()})
    return gap / size if size else gap


def _largest(values: Mapping[str, np.ndarray]) -> float:
    return max([0.0, *(float(np.abs(entries).max(initial=0.0)) for entries in values.values())])


def _named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def _laid_out(tensor: Tensor, memory: str | None) -> Tensor:
    if memory == "channels last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.T.contiguous().T if memory == "transposed" else tensor


def _register(root: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
    *path, key = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    root.register_parameter(key, parameter)
