"""Many weights in one line: groups by pattern and by slice, rules on each of them, modules tied to modules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from affinet.errors import (
    MissingOperationError,
    NotAffineError,
    RuleError,
    ShapeError,
    TruthValueError,
    UnknownWeightError,
    UnsupportedWeightError,
)
from affinet.language.evaluation import evaluate
from affinet.language.patterns import matching

SHAPES: dict[str, tuple[int, ...]] = {"head.weight": (4, 4), "head.bias": (4,), "top": (3,)}
for layer in range(3):
    SHAPES |= {f"layers.{layer}.first.weight": (4, 6), f"layers.{layer}.first.bias": (4,)}
    SHAPES |= {f"layers.{layer}.second.weight": (6, 4), f"layers.{layer}.square": (4, 4)}
W: Any = affinet.weights(SHAPES)
FIRST = [f"layers.{layer}.first.weight" for layer in range(3)]
VALUES = {name: np.random.default_rng(0).standard_normal(shape) for name, shape in SHAPES.items()}


def names(group: Any) -> list[str]:
    return [str(member) for member in group]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.*.w", ["a.0.w", "a.1.w"]),
        ("a.**.w", ["a.0.w", "a.1.w", "a.0.b.w", "a.w"]),
        ("**.w", ["a.0.w", "a.1.w", "a.0.b.w", "a.w", "w"]),
        ("**", ["a.0.w", "a.1.w", "a.0.b.w", "a.w", "w", "a.10.v1", "axw"]),
        ("*", ["w", "axw"]),
        ("a.*", ["a.w"]),
        ("a.1*.v*", ["a.10.v1"]),
        ("a.*w", ["a.w"]),
        ("a*", ["axw"]),
        ("a.**", ["a.0.w", "a.1.w", "a.0.b.w", "a.w", "a.10.v1"]),
        ("a.*.*.w", ["a.0.b.w"]),
        ("b.*", []),
    ],
)
def test_a_star_is_a_part_of_a_name_and_two_are_any_number(pattern: str, found: list[str]) -> None:
    assert matching(pattern, ["a.0.w", "a.1.w", "a.0.b.w", "a.w", "w", "a.10.v1", "axw"]) == found


def test_groups_by_pattern_and_by_slice() -> None:
    assert names(W["layers.*.first.weight"]) == FIRST
    assert names(W.layers["*.first.weight"]) == FIRST
    assert names(W.layers[:].first.weight) == names(W["layers.*"].first.weight) == FIRST
    assert names(W.layers[1:].first.weight) == FIRST[1:]
    assert names(W.layers[-2:]["first.weight"]) == FIRST[1:]
    assert names(W.layers[::2].first.weight) == FIRST[::2]
    assert names(W.layers[::-1].first.weight) == FIRST[::-1]
    assert names(W["layers.*.first.*"]) == [n for n in SHAPES if ".first." in n]
    assert names(W["**.bias"]) == ["head.bias", *(f"layers.{k}.first.bias" for k in range(3))]
    assert names(W["*"]) == ["top"], "weights first, and modules where there are none"
    assert [len(member) for member in W["layers.*"]] == [4, 4, 4]
    assert repr(W.layers[1:]) == "<Modules layers.1, layers.2>"
    assert repr(W["layers.*.first.weight"]) == f"<WeightGroup of 3: {', '.join(FIRST)}>"
    assert str(W["**.weight"]) == "head.weight, layers.0.first.weight, …, layers.2.second.weight"
    assert W["layers.*.first.weight"].shapes == ((4, 6),) * 3


def test_numbers_without_weights_are_left_out_of_a_slice() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    w: Any = affinet.weights(model)
    assert names(w[1:].bias) == ["2.bias", "3.bias"]
    assert names(w[:2].bias) == ["0.bias"]
    assert names(w["*.bias"]) == ["0.bias", "2.bias", "3.bias"]
    lists: Any = torch.nn.Module()
    lists.p = torch.nn.ParameterList([torch.zeros(2), torch.zeros(2)])
    assert names(affinet.weights(lists).p[:]) == ["p.0", "p.1"]


def test_a_tied_weight_is_in_a_group_once_and_one_that_cannot_be_constrained_is_refused() -> None:
    model: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.LazyLinear(2))
    model[1].weight = model[0].weight
    w = affinet.weights(model)
    with pytest.raises(UnsupportedWeightError, match=r"2\.weight cannot be constrained: it is lazy"):
        w["*.weight"]
    with pytest.raises(UnsupportedWeightError, match="it is lazy"):
        w[:].weight  # noqa: B018
    assert names(w[:2].weight) == ["0.weight", "0.weight"]
    del model[2]
    assert names(affinet.weights(model)["*.weight"]) == ["0.weight"]


EACH: dict[str, Callable[[Any], Any]] = {
    "sum": lambda w: w.sum(dim=1),
    "property": lambda w: w.T,
    "index": lambda w: w[:, 0],
    "part": lambda w: w[0, ...],
    "mask": lambda w: w[np.eye(4, 6) > 0],
    "arithmetic": lambda w: 2 * w - w / 4 + np.ones(6) - 1,
    "from the left": lambda w: 1 - 3 * -w,
    "matrix on the left": lambda w: np.ones((2, 4)) @ w,
    "matrix on the right": lambda w: w @ np.arange(6.0),
    "sparse on the left": lambda w: sparse.csr_array(np.ones((2, 4))) @ w,
    "tensor on the left": lambda w: torch.ones(2, 4, dtype=torch.float64).numpy() @ w,
    "NumPy": lambda w: np.sum(w, axis=0) + np.float64(2),
    "einsum": lambda w: np.einsum("ij,j->i", w, np.arange(6.0)),
    "itself": lambda w: w - w.flip(0),
}


@pytest.mark.parametrize("operation", EACH.values(), ids=list(EACH))
def test_what_is_done_to_a_group_is_done_to_each(operation: Callable[[Any], Any]) -> None:
    group = operation(W["layers.*.first.weight"])
    assert isinstance(group, affinet.WeightGroup)
    for member, name in zip(group, FIRST, strict=True):
        np.testing.assert_allclose(evaluate(member, VALUES), np.asarray(_on_numbers(operation, VALUES[name])))
    assert [str(member) for member in group] == [str(operation(W[name])) for name in FIRST]


def _on_numbers(operation: Callable[[Any], Any], values: np.ndarray) -> Any:
    if "flip" in operation.__code__.co_names:
        return values - np.flip(values, 0)
    return operation(values) if "dim" not in str(operation.__code__.co_consts) else values.sum(1)


def test_operations_of_torch_on_a_group() -> None:
    group = torch.sum(W["layers.*.first.weight"], dim=1) + torch.ones(4)
    assert names(group) == [f"{name}.sum(dim=1) + [1.0, 1.0, 1.0, 1.0]" for name in FIRST]
    assert names(torch.ones(1, 4) @ W["layers.*.first.weight"]) == [f"array(1, 4) @ {name}" for name in FIRST]


def test_a_rule_on_a_group_is_a_rule_on_each() -> None:
    rules = W["layers.*.first.weight"].sum(dim=1) == 1
    assert isinstance(rules, affinet.Rules)
    assert [rule.text for rule in rules] == [f"{name}.sum(dim=1) == 1" for name in FIRST]
    assert (len(rules), rules.rows) == (3, 12)
    plan = affinet.plan([rules, W.head.weight.sum() == 0])
    assert (plan.rows, plan.rank) == (13, 13)
    assert affinet.plan(rules).rank == 12
    named = rules.named("rows")
    assert [rule.name for rule in named] == [f"rows [{name}]" for name in FIRST]
    assert [rule.name for rule in (W["head.*ht"] == 0).named("one")] == ["one"]
    assert rules.text.splitlines() == [rule.text for rule in rules]
    with pytest.raises(TruthValueError, match="has no truth value"):
        bool(rules)
    with pytest.raises(TruthValueError, match="has no truth value"):
        bool(W["layers.*.first.weight"])


def test_groups_are_taken_pair_by_pair_and_others_with_each() -> None:
    pairs = W["layers.*.first.weight"] == W["layers.*.second.weight"].T
    assert [rule.text for rule in pairs] == [f"{name} == {name.replace('first', 'second')}.T" for name in FIRST]
    with_each = W["layers.*.square"] == W.head.weight
    assert [rule.right for rule in with_each] == ["head.weight"] * 3
    assert names(W.head.bias - W["layers.*.first.bias"]) == [f"head.bias - layers.{k}.first.bias" for k in range(3)]
    with pytest.raises(ShapeError, match="groups of 3 and of 2 weights"):
        W["layers.*.square"] == W.layers[1:].square  # noqa: B015


def test_families_on_a_group() -> None:
    rules: Any = families.symmetric(W["layers.*.square"])
    assert [rule.text for rule in rules] == [f"symmetric(layers.{k}.square)" for k in range(3)]
    mask = np.eye(4) == 0
    each: list[Any] = [
        families.skew(W["layers.*.square"]),
        families.toeplitz(W["layers.*.square"]),
        families.banded(W["layers.*.square"], 1, 1),
        families.block_diagonal(W["layers.*.square"], 2),
        families.share(W["layers.*.square"], np.arange(16).reshape(4, 4) % 3),
        families.fix(W["layers.*.square"], where=mask, value=2),
        families.sum_to(W["layers.*.square"], 1, dim=0),
        families.zero_mean(W["layers.*.square"]),
        families.equivariant(W["layers.*.square"], [[1, 0, 2, 3]], [[1, 0, 2, 3]]),
    ]
    assert all(isinstance(rules, affinet.Rules) and len(rules) == 3 for rules in each)
    everything = families.linear([W["layers.*.square"]], np.ones((1, 48)), 3)
    assert everything.text == f"linear([{', '.join(f'layers.{k}.square' for k in range(3))}], A=array(1, 48), b=3)"


def test_tying_a_group_and_modules() -> None:
    together: Any = families.tie(W["layers.*.square"])
    assert (
        together.text
        == families.tie(*W["layers.*.square"]).text
        == "tie(layers.0.square, layers.1.square, layers.2.square)"
    )
    modules: Any = families.tie(W.layers[1], W.layers[2])
    kinds = ("first.weight", "first.bias", "second.weight", "square")
    assert [rule.text for rule in modules] == [f"tie(layers.1.{kind}, layers.2.{kind})" for kind in kinds]
    assert [rule.name for rule in modules.named("equal layers")] == [f"equal layers [{kind}]" for kind in kinds]
    for all_three in (families.tie(*W["layers.*"]), families.tie(W.layers[:]), families.tie(W["layers.*"])):
        assert affinet.plan(all_three).rank == 2 * (24 + 4 + 24 + 16)
    pairs: Any = families.tie(W["layers.*.first.weight"], W["layers.*.second.weight"].T)
    assert [rule.rows for rule in pairs] == [24, 24, 24]


def test_modules_that_share_a_weight_already() -> None:
    model: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    w: Any = affinet.weights(model)
    rules: Any = families.tie(w[0], w[1])
    assert [rule.text for rule in rules] == ["tie(0.bias, 1.bias)"]


def test_modules_that_cannot_be_tied() -> None:
    with pytest.raises(RuleError, match=r"same names: 'head' has 'bias', but 'layers\.0' does not"):
        families.tie(W.layers[0], W.head)
    with pytest.raises(RuleError, match="takes weights or modules, not a mix"):
        families.tie(W.head, W.head.weight)
    with pytest.raises(RuleError, match="takes two modules or more"):
        families.tie(W.head)
    other: Any = affinet.weights({"a.w": (2, 3), "b.w": (3, 2)})
    with pytest.raises(ShapeError, match=r"tie takes equal shapes: \(a\.w\) has \(2, 3\) and \(b\.w\) has \(3, 2\)"):
        families.tie(other.a, other.b)
    with pytest.raises(RuleError, match="symmetric takes weights"):
        families.symmetric(W["layers.*"])


def test_what_a_group_does_not_do() -> None:
    group = W["layers.*.first.weight"]
    for key in (0, -1, slice(1, None), slice(None)):
        with pytest.raises(
            ShapeError, match=r"could mean some of the weights, or a part of each weight\. Write \[.*, \.\.\.\]"
        ):
            group[key]
    with pytest.raises(MissingOperationError, match=r"has no 'shape'\. Did you mean 'shapes'"):
        group.shape  # noqa: B018
    with pytest.raises(NotAffineError, match=r"abs of .* is not a function that rules can have"):
        abs(group)
    with pytest.raises(NotAffineError, match="a power with weights in the exponent"):
        group**group
    with pytest.raises(NotAffineError, match="a power with weights in the exponent"):
        2**group
    with pytest.raises(RuleError, match="strict inequality"):
        group < 1  # noqa: B015
    with pytest.raises(MissingOperationError, match=r"an array cannot hold .*affinet\.stack"):
        np.array(group, dtype=float)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # NumPy 1 does not say whether `array` or `asarray` is called
        with pytest.raises(MissingOperationError, match=r"an array cannot hold .*affinet\.stack"):
            np.array(group)
    for copied in (copy.deepcopy(group), pickle.loads(pickle.dumps(group))):
        assert names(copied) == FIRST


def test_patterns_and_slices_that_find_nothing_say_what_there_is() -> None:
    with pytest.raises(
        UnknownWeightError, match=r"'layers\.\*\.frist\.weight'\. Did you mean 'layers\..*A \* stands for"
    ):
        W["layers.*.frist.weight"]
    with pytest.raises(UnknownWeightError, match=r"no weight named '\[5:\]' under 'layers'"):
        W.layers[5:]
    with pytest.raises(UnknownWeightError, match=r"no weight named 'third' under 'layers\.1'"):
        W.layers[1:].third  # noqa: B018
    with pytest.raises(UnknownWeightError, match=r"There are: first\.bias, first\.weight"):
        W.layers[1:][0]
    mixed: Any = affinet.weights({"a.0": (2,), "a.1.w": (2,)})
    with pytest.raises(RuleError, match="some of these are weights and some are modules"):
        mixed.a[:]
    for mistake in (lambda m: m == 0, lambda m: m + 1, lambda m: np.ones(4) @ m):
        with pytest.raises(RuleError, match=r"'layers\.1' is a module, not a weight"):
            mistake(W.layers[1:])


def test_weights_as_a_mapping() -> None:
    assert [*W.head.keys()] == ["weight", "bias"]
    assert {name: symbol.shape for name, symbol in W.items()} == {name: tuple(shape) for name, shape in SHAPES.items()}
    assert [str(symbol) for symbol in W.head.values()] == ["head.weight", "head.bias"]
    assert {name: str(symbol) for name, symbol in dict(W.head).items()} == {
        "weight": "head.weight",
        "bias": "head.bias",
    }
    attention: Any = affinet.weights({"keys.weight": (2, 2), "values.weight": (2, 2)})
    assert str(attention.keys.weight) == "keys.weight"
    assert [name for name, _ in attention.items()] == ["keys.weight", "values.weight"]


SAID: dict[str, Callable[[], Any]] = {
    'w["layers.*.first.weight"].sum(dim=1) == 1': lambda: W["layers.*.first.weight"].sum(dim=1) == 1,
    'w["layers.*.first.weight"] == w["layers.*.second.weight"].T': lambda: (
        W["layers.*.first.weight"] == W["layers.*.second.weight"].T
    ),
    '2 * w["layers.*.square"][:, 0] - 1 == head.bias': lambda: 2 * W["layers.*.square"][:, 0] - 1 == W.head.bias,
    "layers[1:].first.bias == 0": lambda: W.layers[1:].first.bias == 0,
    'layers[1:]["first.bias"] == [1, 2, 3, 4]': lambda: W.layers[1:].first.bias == [1, 2, 3, 4],
    'symmetric(w["layers.*.square"])': lambda: families.symmetric(W["layers.*.square"]),
    "tie(layers[1], layers[2])": lambda: families.tie(W.layers[1], W.layers[2]),
    "tie(layers[0:3])": lambda: families.tie(W.layers[:]),
    'fix(w["**.bias"], value=1)': lambda: families.fix(W["**.bias"], value=1),
}


@pytest.mark.parametrize("text", SAID)
def test_the_same_as_text(text: str) -> None:
    rules: Any = affinet.parse(text, W)
    same = SAID[text]()
    assert [rule.text for rule in rules] == [rule.text for rule in same]
    for one, other in zip(rules, same, strict=True):
        np.testing.assert_array_equal(evaluate(one.expression, VALUES), evaluate(other.expression, VALUES))


def test_groups_in_text_that_are_one_rule() -> None:
    assert affinet.parse('tie(w["layers.*.square"])', W).rows == 32
    assert affinet.parse('stack(w["layers.*.square"]).sum(dim=0) == 0', W).rows == 16


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('w["layerz.*.square"] == 0', UnknownWeightError, r"^line 1, column 1: there is no weight named 'layerz"),
        ('w["layers.*.square"][0] == 0', ShapeError, r"^line 1, column 1: \[0\] of the 3 weights"),
        ("layers[1:] == 0", RuleError, r"^line 1, column 1: 'layers\.1' is a module"),
        ("layers[7:].square == 0", UnknownWeightError, r"^line 1, column 1: there is no weight named '\[7:\]'"),
        ("layers[1:].third == 0", UnknownWeightError, "no weight named 'third'"),
        ("layers[1:].__class__ == 0", UnknownWeightError, "no weight named '__class__'"),
        ("layers[1:].members == 0", UnknownWeightError, "no weight named 'members'"),
        ("layers[1:].square.members == 0", affinet.ParseError, "expressions have no members"),
        ("layers[1:].square() == 0", affinet.ParseError, "cannot be called"),
        ("layers[1:][0] == 0", affinet.ParseError, "modules are indexed by a number or a name"),
        ("layers[1:top] == 0", affinet.ParseError, "modules are indexed by a number or a name"),
        ("layers[::0].square == 0", affinet.ParseError, "modules are indexed by a number or a name"),
    ],
)
def test_mistakes_in_text(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        affinet.parse(text, W)


def test_training_under_rules_on_many_layers() -> None:
    torch.manual_seed(0)
    model: Any = torch.nn.Sequential(*(torch.nn.Linear(4, 4, dtype=torch.float64) for _ in range(4)))
    w: Any = affinet.weights(model)
    rules = [
        (w["*.weight"].sum(dim=1) == 1).named("rows sum to one"),
        families.tie(w[1], w[2]),
        affinet.parse("w[3:].bias == 0", w),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    handle = affinet.project(model, optimizer, rules)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(3, 4, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    assert max(handle.violation().values()) <= 1e-14
    assert torch.equal(model[1].weight, model[2].weight)
    assert torch.equal(model[1].bias, model[2].bias)
    assert not model[3].bias.any()
    assert {name for name in handle.violation() if name.startswith("rows")} == {
        f"rows sum to one [{k}.weight]" for k in range(4)
    }
