"""The same language as text: what it means, and that nothing else gets through."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affinet.errors import (
    AffinetError,
    ConstantError,
    NotAffineError,
    ParseError,
    RuleError,
    ShapeError,
    TooLargeError,
    UnknownWeightError,
)
from affinet.language import families, groups
from affinet.language.evaluation import evaluate
from affinet.language.expression import concat, einsum, stack
from affinet.language.group_syntax import GROUPS
from affinet.language.syntax import FAMILIES, FUNCTIONS, METHODS, PROPERTIES
from affinet.language.text import LONGEST, parse
from affinet.language.weights import weights

SHAPES = {
    "0.weight": (4, 3),
    "hidden.weight": (3, 3),
    "hidden.bias": (3,),
    "layers.0.weight": (2, 3, 3),
    "sum": (2,),
    "long": (4, 8),
}
RANDOM = np.random.default_rng(0)
VALUES = {name: RANDOM.standard_normal(shape) for name, shape in SHAPES.items()}
w = weights(SHAPES)
H, B, L = w.hidden.weight, w.hidden.bias, w.layers[0].weight

SAME: dict[str, Any] = {
    "hidden.weight[0, 1] == hidden.weight[2, -1]": H[0, 1] == H[2, -1],
    "hidden.weight * hidden.bias == hidden.bias**3": H * B == B**3,
    "hidden.weight.T @ hidden.weight @ hidden.bias == -hidden.bias**2": H.T @ H @ B == -(B**2),
    "(-hidden.bias)**-2 == 1 / (1 + hidden.bias)": (-B) ** -2 == 1 / (1 + B),
    "hidden.bias @ hidden.bias == sqrt(2)": B @ B == math.sqrt(2),
    "hidden.weight @ hidden.weight == eye(3)": H @ H == np.eye(3),
    "hidden.weight @ hidden.weight - 2 * eye(3) / 4 == -eye(3)": H @ H - np.eye(3) / 2 == -np.eye(3),
    "eye(3) @ hidden.bias == 0": np.eye(3) @ B == 0,
    "det(hidden.weight) == hidden.weight.inverse().det()": H.det() == H.inverse().det(),
    "sin(hidden.bias) + cos(hidden.bias) * tanh(hidden.bias) == exp(log(hidden.bias**2) / 2)": (
        np.sin(B) + np.cos(B) * np.tanh(B) == np.exp(np.log(B**2) / 2)
    ),
    "hidden.weight.norm(dim=1) == [1, 2**0.5, 3]": H.norm(dim=1) == [1, 2**0.5, 3],
    "hidden.weight.norm(dim=(0, 1), keepdim=True) == 2**-1": H.norm(dim=(0, 1), keepdim=True) == 0.5,
    "hidden.weight.norm() == exp(1)": H.norm() == math.e,
    "sqrt(hidden.bias**2).square().sum() == reciprocal(hidden.bias[0])": np.sqrt(B**2).square().sum()
    == B[0].reciprocal(),
    "hidden.bias.square().reciprocal().sqrt().exp().log().sin().cos().tanh() == exp(hidden.bias)**0.5": (
        np.tanh(np.cos(np.sin(np.log(np.exp(np.sqrt(np.reciprocal(B**2))))))) == np.exp(B) ** 0.5
    ),
    'einsum("ij,kj->ik", hidden.weight, hidden.weight) == layers[0].weight.dot(hidden.bias)[0]': (
        einsum("ij,kj->ik", H, H) == L.dot(B)[0]
    ),
    "hidden.weight[0] <= 2 * hidden.bias - 1": H[0] <= 2 * B - 1,
    "0 <= hidden.weight.sum(dim=1)": H.sum(dim=1) >= 0,
    "hidden.bias >= -inf": B >= -np.inf,
    "[1, inf, 0.5] >= hidden.bias": B <= [1, np.inf, 0.5],
    "hidden.weight.sum(dim=1) == 1": H.sum(dim=1) == 1,
    'w["0.weight"].T == 2': w["0.weight"].T == 2,
    "w[0].weight.mT == 2": w["0.weight"].mT == 2,
    "layers[0].weight.mean((1, 2)) == 0": L.mean((1, 2)) == 0,
    "layers[-1]['weight'].mean((1, 2), keepdim=True) == 0": L.mean((1, 2), keepdim=True) == 0,
    "3 * hidden.bias[0] - hidden.bias[1] / 2 == 0.5": 3 * B[0] - B[1] / 2 == 0.5,
    "-(hidden.bias + 1) * 2 == +hidden.bias": -(B + 1) * 2 == B,
    "[1, 2, 3] @ hidden.weight == [0.5, 1e-3, -2]": [1, 2, 3] @ H == [0.5, 1e-3, -2],
    "hidden.weight @ [[1, 0], [0, 1], [1, 1]] == 0": H @ [[1, 0], [0, 1], [1, 1]] == 0,
    "hidden.weight[::-1, [0, 2]] == hidden.weight[None, ..., 1:][0]": H[::-1, [0, 2]] == H[None, ..., 1:][0],
    "hidden.bias[[True, False, True]] == 0": B[[True, False, True]] == 0,
    "stack([hidden.bias, 2 * hidden.bias], dim=1) == 0": stack([B, 2 * B], dim=1) == 0,
    "concat([hidden.bias, hidden.weight.flatten()]) == 0": concat([B, H.flatten()]) == 0,
    "1 - 2 * 3 / 4 == hidden.bias": B == 1 - 2 * 3 / 4,
    "layers[0].weight.permute(2, 0, 1).reshape(3, -1).cumsum(1).diff() == 0": L.permute(2, 0, 1)
    .reshape(3, -1)
    .cumsum(1)
    .diff()
    == 0,
    "hidden.weight.tril(-1).triu(diagonal=-1).roll(1, dim=0).flip(0) == 0": H.tril(-1).triu(-1).roll(1, 0).flip(0) == 0,
    "hidden.weight.transpose(0, 1).diagonal(1).sum() + hidden.weight.trace() == 0": H.transpose(0, 1).diagonal(1).sum()
    + H.trace()
    == 0,
    "sum[0] == w.sum[1]": w["sum"][0] == w["sum"][1],
    "(\n  hidden.weight.sum()  # all of it\n  == 1\n)": H.sum() == 1,
    "\n\n  hidden.bias[0]\n    == 1  # \u00e4 comment with == in it": B[0] == 1,
    "hidden.bias == 10000000000000000000000": B == 1e22,
    "symmetric(hidden.weight)": families.symmetric(H),
    "skew(hidden.weight - 1)": families.skew(H - 1),
    "toeplitz(w['0.weight'])": families.toeplitz(w["0.weight"]),
    "circulant(layers[0].weight)": families.circulant(L),
    "hankel(hidden.weight)": families.hankel(H),
    "persymmetric(hidden.weight)": families.persymmetric(H),
    "doubly_centred(layers[0].weight)": families.doubly_centred(L),
    "banded(hidden.weight, 0, upper=1)": families.banded(H, 0, 1),
    "block_diagonal(hidden.weight, 3)": families.block_diagonal(H, 3),
    "block_diagonal(w[0].weight, [(1, 2), (3, 1)])": families.block_diagonal(w["0.weight"], [(1, 2), (3, 1)]),
    "rotations(layers[0].weight, flips=True)": families.rotations(L, flips=True),
    "convolution(hidden.weight, (3,), 3, padding=1)": families.convolution(H, (3,), 3, padding=1),
    "moments(hidden.bias, [-1, 0, 1], derivative=1, order=3)": families.moments(B, [-1, 0, 1], derivative=1, order=3),
    "moments(hidden.weight, [[-1, 0, 1], [0, 1, 2]], derivative=(0, 1), order=2)": families.moments(
        H, [[-1, 0, 1], [0, 1, 2]], derivative=(0, 1), order=2
    ),
    "share(hidden.bias, [0, 0, 0], signs=[1, -1, 0])": families.share(B, [0, 0, 0], [1, -1, 0]),
    "equivariant(hidden.weight, inputs=[[1, 2, 0]], outputs=[[1, 2, 0]])": families.equivariant(
        H, [[1, 2, 0]], [[1, 2, 0]]
    ),
    "equivariant(hidden.bias, outputs=[[[0, -1, 0], [1, 0, 0], [0, 0, 0]]], lie_algebra=True)": families.equivariant(
        B, outputs=[[[0, -1, 0], [1, 0, 0], [0, 0, 0]]], lie_algebra=True
    ),
    "equivariant(hidden.weight, inputs=SO(3).T(1), outputs=SO(3).T(1))": families.equivariant(
        H, groups.SO(3).T(1), groups.SO(3).T(1)
    ),
    "equivariant(hidden.weight, groups.D(2).T(1) + D(2).T(0), D(n=2).T(p=0, q=0) + groups.D(2).T(1))": (
        families.equivariant(H, groups.D(2).T(1) + groups.D(2).T(0), groups.D(2).T(0) + groups.D(2).T(1))
    ),
    "equivariant(long[0], outputs=2 * O(2).T(1) + O(2).T(1, 1).dual)": families.equivariant(
        w.long[0], outputs=2 * groups.O(2).T(1) + groups.O(2).T(1, 1).dual
    ),
    "equivariant(outputs=Lorentz().T(1) @ S(2).T(0), inputs=Lorentz().T(1) @ S(2).T(1), w=long)": families.equivariant(
        w.long, groups.Lorentz().T(1) @ groups.S(2).T(1), groups.Lorentz().T(1) @ groups.S(2).T(0)
    ),
    "equivariant(long[1], outputs=(SL(1).T(0) + SL(1).T(1))**3)": families.equivariant(
        w.long[1], outputs=(groups.SL(1).T(0) + groups.SL(1).T(1)) ** 3
    ),
    'equivariant(long[2], outputs=Z(2).named("this").T(1) @ Z(4).T(1))': families.equivariant(
        w.long[2], outputs=groups.Z(2).named("this").T(1) @ groups.Z(4).T(1)
    ),
    "hidden.weight.ravel('F')[:4] + hidden.weight.trace(1) == hidden.weight.flatten(order=\"F\")[4:8]": (
        H.ravel("F")[:4] + H.trace(1) == H.flatten("F")[4:8]
    ),
    "tie(hidden.bias, hidden.weight[0], hidden.weight[1])": families.tie(B, H[0], H[1]),
    "fix(hidden.weight, where=(0, [1, 2]), value=[3, 4])": families.fix(H, where=(0, [1, 2]), value=[3, 4]),
    "fix(hidden.bias, [True, False, True])": families.fix(B, [True, False, True]),
    "share(hidden.weight, [[0, 1, 1], [1, 0, 2], [2, 2, -1]])": families.share(H, [[0, 1, 1], [1, 0, 2], [2, 2, -1]]),
    "nonnegative(hidden.bias)": families.nonnegative(B),
    "monotone(hidden.weight, 0, gap=[0.1, 0.2, 0.3])": families.monotone(H, 0, gap=[0.1, 0.2, 0.3]),
    "monotone(hidden.bias, increasing=False)": families.monotone(B, increasing=False),
    "convex(layers[0].weight, dim=1)": families.convex(L, 1),
    "concave(hidden.weight)": families.concave(H),
    "l1_ball(layers[0].weight, radius=[1, 2], dim=(1, 2))": families.l1_ball(L, [1, 2], (1, 2)),
    "l2_ball(2 * hidden.weight - 1, 0.5, dim=0)": families.l2_ball(2 * H - 1, 0.5, 0),
    "l2_ball(hidden.bias, 3)": families.l2_ball(B, 3),
    "spectral_norm(2 * hidden.weight, 3)": families.spectral_norm(2 * H, 3),
    "psd(hidden.weight[:2, :2])": families.psd(H[:2, :2]),
    "sum_to(hidden.weight, 1, dim=0)": families.sum_to(H, 1, dim=0),
    "zero_mean(layers[0].weight)": families.zero_mean(L),
}


@pytest.mark.parametrize("text", SAME)
def test_text_means_what_python_means(text: str) -> None:
    rule, same = parse(text, w), SAME[text]
    assert (rule.text, rule.sense, rule.norm) == (same.text, same.sense, same.norm)
    np.testing.assert_array_equal(rule.radius, same.radius)
    assert rule.expression.shape == same.expression.shape
    np.testing.assert_array_equal(evaluate(rule.expression, VALUES), evaluate(same.expression, VALUES))


# Arrays, and weights whose name is no Python attribute, are said in a way that is not read.
READABLE = [text for text, rule in SAME.items() if not re.search(r"array\(|(^|\W)\d+\.weight|this", rule.text)]


@pytest.mark.parametrize("text", READABLE)
def test_what_a_rule_says_can_be_read_again(text: str) -> None:
    rule = SAME[text]
    again = parse(rule.text, w)
    assert (again.text, again.sense) == (rule.text, rule.sense)
    np.testing.assert_array_equal(evaluate(again.expression, VALUES), evaluate(rule.expression, VALUES))


SEVERAL: dict[str, Any] = {
    "between(0, hidden.bias, [0.1, 0.2, 0.3])": families.between(0, B, [0.1, 0.2, 0.3]),
    "between(-inf, hidden.weight, 1)": families.between(-np.inf, H, 1),
    "between(hidden.bias, hidden.weight, inf)": families.between(B, H, np.inf),
    "linf_ball(hidden.bias, [1, 2, 3])": families.linf_ball(B, [1, 2, 3]),
    "simplex(hidden.weight, dim=1)": families.simplex(H, 1),
    "simplex(long, (0, 1), total=3)": families.simplex(w.long, (0, 1), 3),
    "sum_at_most(hidden.weight, 2)": families.sum_at_most(H, 2),
    "transport(hidden.weight, [1, 2, 3], 2)": families.transport(H, [1, 2, 3], 2),
}


@pytest.mark.parametrize("text", SEVERAL)
def test_families_of_several_rules_are_read(text: str) -> None:
    rules = parse(text, w)
    assert rules.labels == SEVERAL[text].labels
    for rule, same in zip(rules, SEVERAL[text], strict=True):
        again = parse(rule.text, w)
        assert (again.text, again.sense) == (rule.text, rule.sense) == (same.text, same.sense)
        for read in (again, rule):
            np.testing.assert_array_equal(evaluate(read.expression, VALUES), evaluate(same.expression, VALUES))


def test_bounds_on_both_sides_are_two_rules() -> None:
    rules = parse("between(-1, hidden.bias, [0, 1, inf])", w)
    assert [rule.text for rule in rules] == ["hidden.bias >= -1", "hidden.bias <= [0.0, 1.0, inf]"]
    assert parse("inf <= 1", weights({"inf": 3})).text == "inf <= 1", "a child named inf is a weight"


def test_a_child_named_w_hides_the_root() -> None:
    assert parse("w == 1", weights({"w": 3})).text == "w == 1"
    assert parse("w.a == w.b", weights({"w.a": 3, "w.b": 3})).text == "w.a == w.b"


MISREAD: dict[str, tuple[str, int, int]] = {
    "": ("there is no rule in this text", 1, 1),
    "  # nothing": ("there is no rule in this text", 1, 1),
    "hidden.bias": ("it has no `==`", 1, 1),
    "hidden.bias = 1": ("Equations are written with `==`", 1, 13),
    "hidden.bias == 1 == 1": ("a rule has one comparison; write `a == b == c` as two rules", 1, 21),
    "hidden.bias < 1": ("no nearest point; write `<=`", 1, 1),
    "hidden.bias > 1": ("no nearest point; write `>=`", 1, 1),
    "0 <= hidden.bias <= 1": ("write `0 <= a <= 1` as between\\(0, a, 1\\)", 1, 21),
    "hidden.bias => 1": ("Inequalities are written with `<=` and `>=`", 1, 13),
    "hidden.bias =< 1": ("Inequalities are written with `<=` and `>=`", 1, 13),
    "hidden.bias ≥ 1": ("Inequalities are written with `<=` and `>=`", 1, 13),
    "hidden.bias != 1": ("rules are written with `==`, `<=` or `>=`", 1, 1),
    "hidden.bias in [1]": ("rules are written with `==`, `<=` or `>=`", 1, 1),
    "1 <= 2": ("neither side of the comparison has weights in it", 1, 1),
    "inf - inf <= hidden.bias": ("this number is larger than any float64", 1, 1),
    "1 == 1": ("neither side of the comparison has weights in it", 1, 1),
    "[1] == [1]": ("neither side of the comparison has weights in it", 1, 1),
    "(hidden.bias == 1) == 1": ("it stands once", 1, 2),
    "hidden.bias == (hidden.bias == 1)": ("it stands once", 1, 17),
    "hidden.bias.sums() == 1": ("expressions have no sums. Did you mean sum?", 1, 1),
    "hidden.bias.__class__ == 1": ("expressions have no __class__", 1, 1),
    "hidden.bias.affine == 1": ("expressions have no affine", 1, 1),
    "hidden.bias.terms == 1": ("expressions have no terms", 1, 1),
    "hidden.bias.__init__(1) == 1": ("expressions have no __init__", 1, 1),
    "hidden.bias.sum == 1": ("sum is a method: write .sum", 1, 1),
    "hidden.bias.T() == 1": ("expressions have no T", 1, 1),
    "hidden.bias.sum(axes=0) == 1": ("sum: got an unexpected keyword argument 'axes'. It takes", 1, 1),
    "hidden.bias.sum(0, False, 1) == 1": ("sum: too many positional arguments", 1, 1),
    "hidden.bias.sum(*[0]) == 1": ("a `\\*` before an argument", 1, 17),
    "hidden.bias.sum(**0) == 1": ("a `\\*\\*` before an argument", 1, 19),
    "hidden.bias(0) == 1": ("weights and modules cannot be called", 1, 1),
    "hidden.bias[0](0) == 1": ("only methods of expressions and named functions", 1, 1),
    "w('0.weight') == 1": ("there is no function w", 1, 1),
    "print(1) == 1": ("there is no function print", 1, 1),
    "stak([hidden.bias]) == 1": ("there is no function stak. Did you mean stack?", 1, 1),
    "stack == hidden.bias": ("stack is a function: write stack", 1, 1),
    "symmetric == hidden.bias": ("symmetric is a function", 1, 1),
    "symmetric(hidden.weight) == 1": ("is a rule by itself", 1, 1),
    "symmetric(symmetric(hidden.weight))": ("is a rule by itself", 1, 11),
    "symmetric()": ("symmetric: missing a required argument: 'w'", 1, 1),
    "linear([hidden.bias], [[1, 1, 1]])": ("there is no function linear", 1, 1),
    "equivariant(hidden.bias, outputs=SU3(3).T(1))": (
        "there is no group SU3. Did you mean SU. Groups: GL\\(n\\)",
        1,
        34,
    ),
    "equivariant(hidden.bias, outputs=so(3).T(1))": ("there is no group so. Did you mean SO.", 1, 34),
    "equivariant(hidden.bias, outputs=open('x').T(1))": ("there is no group open", 1, 34),
    "equivariant(hidden.bias, outputs=groups.open('x').T(1))": ("there is no group open", 1, 34),
    "equivariant(hidden.bias, outputs=os.SO(3).T(1))": ("this is not a group", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3))": ("SO\\(3\\) is a group, and .* write SO\\(3\\).T\\(1\\)", 1, 34),
    "equivariant(hidden.bias, outputs=SO)": ("SO is a group: write SO\\(n\\)", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3).T)": ("T is a method: write .T\\(p\\)", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3).U(1))": ("this is not a group", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3).T(1).size)": ("this is not a group", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3).T(1) - SO(3).T(0))": ("not a representation of a group: a rep", 1, 34),
    "equivariant(hidden.bias, outputs=SO(3).T(1) * 2)": (
        "the number of copies, as in 3 \\* a, must be an integer",
        1,
        34,
    ),
    "equivariant(hidden.bias, outputs=SO(3).T(1)**0.5)": ("the power, as in a\\*\\*2, must be an integer", 1, 46),
    "equivariant(hidden.bias, outputs=SO(3.0).T(1))": ("an argument of SO must be an integer", 1, 37),
    "equivariant(hidden.bias, outputs=SO(True).T(1))": ("an argument of SO must be an integer", 1, 37),
    "equivariant(hidden.bias, outputs=SO(3).T(2**2))": ("an argument of SO\\(3\\).T must be an integer", 1, 42),
    "equivariant(hidden.bias, outputs=SO(3, 3).T(1))": ("SO: too many positional arguments. It takes \\(n\\)", 1, 34),
    "equivariant(hidden.bias, outputs=SO(m=3).T(1))": ("SO: missing a required argument: 'n'", 1, 34),
    "equivariant(hidden.bias, outputs=SO(*[3]).T(1))": ("an argument of SO must be an integer", 1, 37),
    "equivariant(hidden.bias, outputs=SO(3).T(64))": ("T\\(64\\) has more entries than the 3 of the longest", 1, 34),
    "equivariant(hidden.bias, outputs=9999999999 * S(1).T(1))": ("has more entries than the 3 of", 1, 34),
    "equivariant(hidden.bias, outputs=S(3).T(1)**9999999999)": ("has more entries than the 3 of", 1, 34),
    "equivariant(hidden.bias, outputs=[SO(3).T(1)])": ("SO is a group: its spaces, .* without a list", 1, 35),
    "SO(3).T(1) == hidden.bias": ("SO is a group: its spaces", 1, 1),
    "hidden.weight.sum('F') == 0": ("'F' is not a number", 1, 19),
    "2 ** 99999 == hidden.bias": ("this number is larger than any float64", 1, 1),
    "9**9**9 == hidden.bias": ("this number is larger than any float64", 1, 1),
    "hidden.bias**9**9**9 == 1": ("this number is larger than any float64", 1, 14),
    "(-8)**0.5 == hidden.bias": ("this power of a negative number is not a real number", 1, 1),
    "hidden.bias == 0**-1": ("this divides by zero", 1, 16),
    "[1, 2]**2 == hidden.bias": ("lists are constants", 1, 1),
    "sqrt == hidden.bias": ("sqrt is a function: write sqrt", 1, 1),
    "hidden.bias.sin == 1": ("sin is a method: write .sin", 1, 1),
    "sin(hidden.bias, 2) == 1": ("sin: too many positional arguments. It takes \\(x\\)", 1, 1),
    "tan(hidden.bias) == 1": ("there is no function tan. Did you mean tanh\\?", 1, 1),
    "hidden.bias // 2 == 1": ("`floordiv` is not part of the language", 1, 1),
    "hidden.bias % 2 == 1": ("`mod` is not part", 1, 1),
    "hidden.bias << 2 == 1": ("`lshift` is not part", 1, 1),
    "~hidden.bias == 1": ("`invert` is not part", 1, 1),
    "not hidden.bias == 1": ("`not` is not part", 1, 1),
    "(lambda: 1)() == hidden.bias": ("only methods of expressions and named functions", 1, 1),
    "hidden.bias == (lambda: 1)": ("`lambda` is not part", 1, 17),
    "[x for x in w] == hidden.bias": ("a comprehension is not part", 1, 1),
    "hidden.bias[{0}] == 1": ("a set is not part", 1, 13),
    "hidden.bias[{0: 1}] == 1": ("a dictionary is not part", 1, 13),
    "hidden.bias == f'{1}'": ("a formatted string is not part", 1, 16),
    "hidden.bias == (x := 1)": ("`:=` is not part", 1, 17),
    "hidden.bias == 1 if 1 else 2": ("`if … else` is not part", 1, 1),
    "hidden.bias == 1 and hidden.bias == 2": ("`and` / `or` is not part", 1, 1),
    "hidden.bias == [*[1, 2, 3]]": ("`\\*` before a value is not part", 1, 17),
    "hidden.bias == 'one'": ("'one' is not a number: text is allowed only as a name in brackets", 1, 16),
    "hidden.bias == b'one'": ("is not a number", 1, 16),
    "hidden.bias == 1j": ("is not a number", 1, 16),
    "hidden.bias == None": ("arithmetic takes weights, numbers and lists", 1, 16),
    "hidden.bias == True": ("arithmetic takes weights, numbers and lists", 1, 16),
    "hidden.bias + ... == 1": ("arithmetic takes weights, numbers and lists", 1, 15),
    "hidden.bias == (1, 2, 3)": ("arithmetic takes weights, numbers and lists", 1, 16),
    "-[1] == hidden.bias": ("a list cannot have a sign", 1, 1),
    "[1] * 1000000000 == hidden.bias": ("lists are constants", 1, 1),
    "[1] + [2] == hidden.bias": ("lists are constants", 1, 1),
    "1 @ 2 == hidden.bias": ("lists are constants", 1, 1),
    "1 / 0 == hidden.bias": ("this divides by zero", 1, 1),
    "1e999 == hidden.bias": ("this number is larger than any float64", 1, 1),
    "1e300 * 1e300 == hidden.bias": ("this number is larger than any float64", 1, 1),
    "1" + "0" * 400 + " == hidden.bias": ("this number is larger than any float64", 1, 1),
    "[1, 2][0] == hidden.bias": ("only weights and expressions in them can be indexed", 1, 1),
    "(1).real == hidden.bias": ("only weights and expressions in them have a", 1, 1),
    "w[0, 1] == 1": ("modules are indexed by a number or a name", 1, 3),
    "w['a' 'b'.x] == 1": ("text is allowed only as a name in brackets", 1, 3),
    "hidden.bias ==": ("this is not a rule: invalid syntax", 1, 15),
    "hidden.bias) == (1": ("this is not a rule: unmatched '\\)'", 1, 12),
    "hidden.bias == 1; import os": ("this is not a rule: invalid syntax", 1, 17),
    "import os": ("this is not a rule: invalid syntax", 1, 1),
    "hidden.bias == \x00": ("a rule must not hold the character", 1, 16),
    "hidden.bias ==\n \ud800": ("a rule must not hold the character", 2, 2),
    "hidden.weight[0] == (\n  1 +\n  print())": ("there is no function print", 3, 3),
    "hidden.bias == 'ü' + hidden.bias.foo": ("'ü' is not a number", 1, 16),
    "hidden.bias == hidden['bias'] + hidden.bias.foo": ("expressions have no foo", 1, 33),
}


@pytest.mark.parametrize("text", MISREAD)
def test_what_is_not_in_the_language_is_placed(text: str) -> None:
    reason, line, column = MISREAD[text]
    with pytest.raises(ParseError, match=f"line {line}, column {column}: .*{reason}") as caught:
        parse(text, w)
    assert (caught.value.line, caught.value.column) == (line, column)


LOCATED: dict[str, tuple[type[AffinetError], str]] = {
    "hidden.bias == hiden.bias": (UnknownWeightError, "line 1, column 16: there is no weight named 'hiden'"),
    "hidden.bia == 1": (UnknownWeightError, "line 1, column 1: .*'bia' under 'hidden'. Did you mean 'bias'"),
    "hidden.__dict__ == 1": (UnknownWeightError, "no weight named '__dict__' under 'hidden'"),
    "hidden._symbols == 1": (UnknownWeightError, "no weight named '_symbols'"),
    "__import__ == 1": (UnknownWeightError, "no weight named '__import__'"),
    "layers[3].weight == 1": (UnknownWeightError, "no weight named '3' under 'layers'"),
    "hidden.sum() == 1": (UnknownWeightError, "no weight named 'sum' under 'hidden'"),
    "1 +\n hidden.bias[3] == 1": (ShapeError, "line 2, column 2: index 3 in .* is out of range"),
    "hidden.bias[hidden.bias] == 1": (ShapeError, "line 1, column 1: an index of hidden.bias must be"),
    "hidden.bias[10000000000000000000] == 1": (ShapeError, "an index of .* must be"),
    "hidden.weight.reshape(2, 2) == 1": (ShapeError, "line 1, column 1: .* has 9 entries"),
    "stack([1, [2, 3]]) == hidden.bias": (ShapeError, "must be equal"),
    "hidden.bias == [1, 2]": (ShapeError, r"line 1, column 1: .*hidden.bias has shape \(3,\)"),
    "tie(hidden.bias, hidden.weight)": (ShapeError, "line 1, column 1: tie takes equal shapes"),
    "2 == 1 + 2**hidden.bias": (NotAffineError, "line 1, column 10: a power with weights in the exponent"),
    "hidden.bias**hidden.bias == 1": (NotAffineError, "line 1, column 1: a power with weights in the exponent"),
    "hidden.bias**0.3 == 1": (NotAffineError, "line 1, column 1: .* the exponent must be an integer"),
    "hidden.bias.norm(1) == 1": (NotAffineError, "line 1, column 1: norm of .* has the order 1"),
    "w**2 == 1": (RuleError, "the whole model is a module"),
    "2**hidden == 1": (RuleError, "'hidden' is a module"),
    "1 == layers[:]**2": (RuleError, "'layers.0' is a module"),
    "det(hidden.bias) == 1": (ShapeError, "line 1, column 1: .* needs square matrices"),
    "det(3) == hidden.bias": (RuleError, "line 1, column 1: det takes a matrix of weights; got 3"),
    "sqrt([1]) == hidden.bias": (RuleError, "line 1, column 1: sqrt takes weights or a number; got \\[1\\]"),
    "sqrt(-1) == hidden.bias": (ConstantError, "line 1, column 1: sqrt\\(-1\\) is not a finite number"),
    "eye(3.0) == hidden.weight": (RuleError, "line 1, column 1: eye takes the number of its rows, 1 or more; got 3.0"),
    "eye(10**6) == hidden.weight": (TooLargeError, "line 1, column 1: eye\\(1,000,000\\) would take"),
    "log(0) == hidden.bias": (ConstantError, "line 1, column 1: log\\(0\\) is not a finite number"),
    "exp(1000) == hidden.bias": (ConstantError, "line 1, column 1: exp\\(1000\\) is not a finite number"),
    "hidden.bias / 0 == 1": (ConstantError, "line 1, column 1: .* divides by zero"),
    "hidden.bias == [[1], [1, 2]]": (ConstantError, "is not an array of numbers"),
    "hidden.bias >= inf": (
        ConstantError,
        "line 1, column 1: the lower bound of .*: inf cannot be a bound. A lower bound must be",
    ),
    "inf * hidden.bias <= 1": (ConstantError, "line 1, column 1: inf is not finite"),
    "hidden.bias == inf": (ConstantError, "line 1, column 1: inf is not finite"),
    "hidden <= 1": (RuleError, "'hidden' is a module"),
    "between(1, hidden.bias, 0)": (ConstantError, "line 1, column 1: the lower bound of"),
    "hidden.bias == [hidden.bias]": (ConstantError, "To join weights write affinet.stack"),
    "hidden == 1": (RuleError, "line 1, column 1: 'hidden' is a module, not a weight"),
    "1 - hidden == 1": (RuleError, "'hidden' is a module"),
    "-w == 1": (RuleError, "the whole model is a module"),
    "+w == 1": (RuleError, "the whole model is a module"),
    "stack(2) == 0": (ShapeError, r"stack takes a list of expressions, as in stack\(\[a, b\]\); got 2"),
    "hidden.bias + [1e308, 0, 0] + [1e308, 0, 0] == 0": (ConstantError, "beyond the range of float64"),
    "symmetric(hidden)": (RuleError, "symmetric takes weights"),
    "sum_to(hidden.bias, hidden.bias)": (ConstantError, "is not a number"),
}


@pytest.mark.parametrize("text", LOCATED)
def test_errors_of_the_language_keep_their_type_and_say_where(text: str) -> None:
    kind, message = LOCATED[text]
    with pytest.raises(kind, match=message) as caught:
        parse(text, w)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("line ")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 500 + "1" + ")" * 500 + " == hidden.bias",
        "[" * 190 + "]" * 190 + " == hidden.bias",
        "-" * 5000 + "hidden.bias == 1",
        "hidden.bias" + "[...]" * 20_000 + " == 0",
        "+".join(["hidden.bias"] * 8_000) + " == 0",
        "x" * (LONGEST + 1),
        "hidden.bias == " + "9" * 5000,
    ],
    ids=["parentheses", "brackets", "signs", "subscripts", "sum", "long", "digits"],
)
def test_hostile_sizes_are_refused_or_read(text: str) -> None:
    try:
        parse(text, w)
    except AffinetError:
        return
    assert text.startswith("hidden.bias+")


def test_a_sum_of_a_thousand_weights_can_be_read() -> None:
    rule = parse(" + ".join(f"v[{i}]" for i in range(1000)) + " == 1", weights({"v": 1000}))
    assert len(rule.expression.terms) == 1000


def test_rules_are_text() -> None:
    with pytest.raises(ParseError, match=r"a rule must be text; got 3 \(int\)"):
        parse(3, w)  # type: ignore[arg-type]


def test_the_whitelist_is_what_the_documentation_lists() -> None:
    methods = (
        "cos cumsum det diagonal diff dot exp expand flatten flip inverse log mean movedim norm permute ravel "
        "reciprocal repeat repeat_interleave reshape roll rot90 sin sqrt square squeeze sum tanh tile trace transpose "
        "tril triu unsqueeze"
    )
    assert " ".join(sorted(METHODS)) == methods
    assert sorted(PROPERTIES) == ["T", "mT"]
    functions = "concat cos det einsum exp eye inverse log reciprocal sin sqrt stack sum tanh"
    assert " ".join(sorted(FUNCTIONS)) == functions
    rules = (
        "banded between block_diagonal circulant concave convex convolution determinant doubly_centred equal_energy "
        "equivariant fix hankel involution l1_ball l2_ball linf_ball moments monotone nonnegative orthogonal "
        "persymmetric polynomial product projection_matrix psd rotation rotations share simplex skew spd spectral_norm "
        "sum_at_most sum_to symmetric tie toeplitz transport unit_norm wavelet zero_mean"
    )
    assert " ".join(sorted(FAMILIES)) == rules
    assert sorted(GROUPS) == ["C", "D", "GL", "Lorentz", "O", "ProperLorentz", "S", "SL", "SO", "SU", "Sp", "U", "Z"]


WORDS = (
    "hidden bias weight layers w . [ ] ( ) == = + - * / @ ** , : 0 1 -1 2.5 1e9 None ... True sum tril reshape stack"
)
PIECES = st.sampled_from(
    [
        *WORDS.split(),
        "tie",
        "sqrt",
        ".square()",
        "det(hidden.weight",
        "equivariant(hidden.weight, ",
        "SO(3)",
        "S(2)",
        ".T(1)",
        ".dual",
        "dim=",
        "lambda ",
        "for ",
        " in ",
        "__class__",
        "'a'",
        "\n",
        "#",
        "ü",
        ";",
        ":=",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=30))
def test_any_text_is_a_rule_or_one_of_our_errors(text: str) -> None:
    said = ""
    try:
        parse(text, w)
    except AffinetError as error:
        said = str(error)
    assert not said or said.startswith("line ")


def test_nothing_is_ever_run() -> None:
    import affinet.language.group_syntax
    import affinet.language.syntax
    import affinet.language.text

    for module in (affinet.language.text, affinet.language.syntax, affinet.language.group_syntax):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"eval", "exec", "compile", "__import__"}
