"""Plan files that say what no plan says: each is one error, of one cause."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import affinet
from affinet.errors import PlanFileError
from tests.errors.case import Case, case
from tests.errors.symbols import W
from tests.plans.hostile_plans import contents, write_plan

CAUSE, WAY_OUT = "The file was damaged, or another program wrote it.", "Copy it again, or save the plan again."
PLAN = affinet.plan((W[[2, 0, 1], [1, 2, 0]] * np.array([2.0, 3.0, 5.0]) == [1.0, 2.0, 4.0]).named("three"))
Change = Callable[[Any, list[np.ndarray]], object]


@case(PlanFileError, CAUSE, WAY_OUT)
def a_damaged_plan(folder: Path) -> None:
    load(lambda said, rows: said["rules"][0].pop("text"), folder)


def load(change: Change, folder: Path) -> None:
    description, rows = contents(PLAN.system)
    change(description, rows)
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows))


def rule(**values: Any) -> Change:
    return lambda said, rows: said["rules"][0].update(values)


def expression(**values: Any) -> Change:
    return lambda said, rows: said["rules"][0]["expression"].update(values)


def term(**values: Any) -> Change:
    return lambda said, rows: said["rules"][0]["expression"]["terms"][0].update(values)


def variable(**values: Any) -> Change:
    return lambda said, rows: said["rules"][0]["expression"]["terms"][0]["variables"][0].update(values)


def several(**values: Any) -> Change:
    """Variables that repeat the first one."""
    return lambda said, rows: term(variables=said["rules"][0]["expression"]["terms"][0]["variables"] * 40)(said, rows)


def view(**values: Any) -> Change:
    return lambda said, rows: said["views"][0].update(values)


def number(value: float) -> Change:
    return lambda said, rows: rows[1].__setitem__(0, value)


def node(**values: Any) -> Change:
    return lambda said, rows: said["nodes"][0].update(values)


LARGE = 2**40
DAMAGES: dict[str, Change] = {
    "rule 0 is None, not a table": lambda said, rows: said["rules"].__setitem__(0, None),
    "has an unknown key 'colour'": rule(colour="red"),
    "rules is a table of 0, not a list": lambda said, rows: said.update(rules={}),
    "size of a variable of term 0 of rule 0 is 'three', not an integer": variable(size="three"),
    "size of a variable of term 0 of rule 0 is 1, not between": variable(size=1),
    "scalar of term 0 of rule 0 is None, not a number": term(scalar=None),
    "scalar of term 0 of rule 0 is 1e+300, not between": term(scalar=1e300),
    "text of rule 0 is '', not text": rule(text=""),
    "not in the order of their names": lambda said, rows: said["parameters"].extend(said["parameters"]),
    "two rules have one name": lambda said, rows: said["rules"].extend(said["rules"]),
    "array 0 has numbers that are NaN or beyond 1e+140": lambda said, rows: rows.insert(0, np.array([1e300])),
    "array 1 has shape (0,)": lambda said, rows: rows.__setitem__(1, np.zeros(0)),
    "view 0 has 2 axes and 1 strides": view(shape=[1, 1]),
    "view 0 reaches from 5 to 7": view(offset=5),
    "has no equations, since its shape is (0,)": expression(shape=[0], constant=1.0, terms=[]),
    "which is not that of (4,)": expression(shape=[4], terms=[]),
    "constant of rule 0 repeats its numbers": lambda said, rows: said["views"][2].update(strides=[0]),
    "rule 0 has 40 axes": expression(shape=[1] * 40),
    "is an array of int32, not of float64": expression(constant={"view": 0}),
    "is multiplied by zero": term(scalar=0),
    "is 3, not a pair of an axis and a step": variable(outputs=[3]),
    "moves twice along axis 0": variable(outputs=[[0, 1], [0, 1]]),
    "does not move": variable(source=0, outputs=[]),
    "moves by nothing along axis 0": variable(outputs=[[0, 0]]),
    "is not a table of 3 integers": variable(source={"view": 1}),
    "which is not that of its variables": term(factors=[{"variables": [0, 0], "view": 1}]),
    "starts on 2 axes, and its rule has 1": term(start=[0, 0]),
    "has more than 32 loops": several(),
    "has more pairs than 64 bits can count": term(
        variables=[{"size": LARGE, "source": 1, "outputs": []}] * 2, factors=[], start=[0]
    ),
    "reads entries 90 to 97": term(offset=88),
    "on which it is declared constant": term(start=[None]),
    "writes places 7 to 9 of axis 0, which has 3": term(start=[7]),
    "sense of rule 0 is '<', not": rule(sense="<"),
    "rule 0 is not a ball": rule(norm=2, radius=1.0),
    "matrix of rule 0 has other entries than its expression": rule(
        sense="<=", norm="spectral", radius=1.0, matrix=[2, 2]
    ),
    "radius of rule 0 is not positive": rule(sense="<=", norm=2, radius=-1.0),
    "constant of rule 0 has infinite numbers": lambda said, rows: rows[2].__setitem__(0, np.inf),
    "the rules have more equations than 64 bits count": lambda said, rows: said.update(
        rules=[
            {"text": f"{k}", "expression": {**said["rules"][0]["expression"], "shape": [2**61], "constant": 0.0}}
            for k in range(3)
        ]
    ),
    "would take too long": lambda said, rows: (
        rows.append(np.zeros(2**20, np.int32)),
        said["views"].extend({"row": 3, "offset": 0, "shape": [2**20 - k], "strides": [1]} for k in range(1100)),
        term(
            factors=[],
            variables=[{"size": 2**20 - k, "source": {"view": 3 + k}, "outputs": [[0, 1]]} for k in range(1100)],
        )(said, rows),
    ),
}

OTHERS = [
    Case(f"a_damaged_plan_{k}", PlanFileError, CAUSE, WAY_OUT, partial(load, change), fragment=fragment)
    for k, (fragment, change) in enumerate(DAMAGES.items())
]

CURVED = affinet.plan([W[0] * W[1] == 1, W[2] ** 2 == 4])
DAMAGED_NODES: dict[str, Change] = {
    "kind of node 0 is 'eval', not one of": node(kind="eval"),
    "node 0 is a power without an exponent": node(exponent=2),
    "node 0 has an operand without weights": lambda said, rows: said["nodes"][0]["operands"][0].update(terms=[]),
    "node 0 is a inverse of operands": node(kind="inverse"),
    "node 0 has more entries": lambda said, rows: (
        said["nodes"][0].update(kind="matmul"),
        [operand.update(_tall(operand, k)) for k, operand in enumerate(said["nodes"][0]["operands"])],
    ),
    "node 0 lacks its function": node(kind="function"),
    "node 0 is a function of other shapes": node(kind="function", function="law", shapes=[[5]], count=1),
    "node 2 is stored twice": lambda said, rows: said["nodes"].append(said["nodes"][0]),
    "there are no nodes": lambda said, rows: (said.update(nodes=[]), said.update(rules=[])),
    "there are nodes that no rule reads": lambda said, rows: said["rules"].pop(),
    "rule 0 is a ball that reads nodes": rule(sense="<=", norm=2, radius=1.0),
}


def _tall(operand: Any, place: int) -> dict[str, Any]:
    """A column of 2**40 entries, or a row of them, of the first entry of the operand."""
    shape = [LARGE, 1] if place == 0 else [1, LARGE]
    first = {key: value for key, value in operand["terms"][0].items() if key in ("parameter", "scalar")}
    return {"shape": shape, "constant": 0.0, "terms": [first | {"start": [None, None]}]}


def load_curved(change: Change, folder: Path) -> None:
    description, rows = contents(CURVED.system)
    change(description, rows)
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows, version=5))


NODES = [
    Case(f"damaged_nodes_{k}", PlanFileError, CAUSE, WAY_OUT, partial(load_curved, change), fragment=fragment)
    for k, (fragment, change) in enumerate(DAMAGED_NODES.items())
]
