"""Files that hold no plan: one error, whatever the bytes are, in little time and memory; nothing in a file is run."""

from __future__ import annotations

import contextlib
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import affinet
from affinet import Plan, PlanFileError, families
from affinet.language.forecast import limited
from affinet.system.stored import planfile
from tests.plans.hostile_plans import contents, tampered, write_plan

W = affinet.weights({"a": (6, 8), "b": (8, 6), "c": (5,)})
RULES = [
    W.a == W.b.T,
    (W.a.sum(1) == 1).named("rows"),
    W.c[0] == 2 * W.c[1] + 0.5,
    W.a[[0, 3, 1]][:, [1, 2, 5]] == 0.25,
    W.a.cumsum(0)[-1] == np.arange(8.0) / 8,
    families.linear([W.a, W.c], np.random.default_rng(0).normal(size=(3, 53)), 1),
    W.b[np.arange(48).reshape(8, 6) % 5 < 2] == np.linspace(0, 1, 20, dtype=np.float32),
]
PLANS = [*(affinet.plan(rule) for rule in RULES), affinet.plan([RULES[0], RULES[1], RULES[2]])]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans") / "plan.safetensors"


@pytest.fixture(scope="module")
def good(path: Path) -> bytes:
    PLANS[-1].save(path)
    return path.read_bytes()


def assert_refused_or_read(path: Path) -> None:
    with contextlib.suppress(PlanFileError):
        Plan.load(path)


@given(content=st.binary(max_size=200))
def test_random_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PlanFileError, match=r"plan\.safetensors is no"):
        Plan.load(path)


@given(content=st.binary(max_size=200))
def test_random_bytes_in_a_header_of_the_right_length(path: Path, content: bytes) -> None:
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(
        PlanFileError, match=r"is not a readable safetensors file: |is a safetensors file without a plan"
    ):
        Plan.load(path)


@given(data=st.data())
def test_a_flipped_bit_is_found(path: Path, good: bytes, data: st.DataObject) -> None:
    flipped = bytearray(good)
    flipped[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    try:
        loaded = Plan.load(path)
    except PlanFileError:
        return
    assert [str(rule.expression) for rule in loaded.system.rules] == [
        str(rule.expression) for rule in PLANS[-1].system.rules
    ]  # the header's white space may change, and nothing else
    assert [rule.name for rule in loaded.system.rules] == [rule.name for rule in PLANS[-1].system.rules]


@given(data=st.data())
def test_a_file_that_is_cut_short_or_has_grown_is_found(path: Path, good: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(good) - 1))
    path.write_bytes(good[:cut] if data.draw(st.booleans()) else good + good[:cut] + b"x")
    with pytest.raises(PlanFileError, match=r"Name a file of Plan\.save|save the plan again"):
        Plan.load(path)


@settings(max_examples=400)
@given(data=st.data())
def test_changes_with_a_right_checksum_are_refused_or_planned(path: Path, data: st.DataObject) -> None:
    description, rows = data.draw(tampered(data.draw(st.sampled_from(PLANS)).system))
    assert_refused_or_read(write_plan(path, description, rows))


def change(description: Any, *keys: Any, to: Any) -> None:
    for key in keys[:-1]:
        description = description[key]
    description[keys[-1]] = to


EXPRESSION = ("rules", 0, "expression")
TERM = (*EXPRESSION, "terms", 0)


@pytest.mark.parametrize(
    ("plan", "keys", "to", "reason"),
    [
        (0, ("more",), 1, "the description has an unknown key 'more'"),
        (0, ("rules",), {}, "rules is a table of 0, not a list"),
        (0, ("rules", 0), 3, "rule 0 is 3, not a table"),
        (0, ("rules", 0, "text"), "", "text of rule 0 is '', not text"),
        (1, ("rules", 0, "name"), 7, "name of rule 0 is 7, not text"),
        (0, ("parameters", 0, "shape"), [6, True], "shape of parameter 0 is True, not an integer"),
        (0, ("parameters", 0, "shape"), [6, -8], r"shape of parameter 0 is -8, not between 0 and \d+"),
        (0, ("parameters", 0, "shape"), [2**61, 2**61], "parameter 0 has 2 axes, or more entries than 64 bits"),
        (0, ("parameters", 0, "name"), "z", "the parameters are not in the order of their names"),
        (0, ("tolerance", "factor"), float("nan"), "its description holds NaN"),
        (0, ("tolerance", "epsilon"), 2.0, "epsilon of the tolerance is 2.0, not between 1e-300 and 1"),
        (0, (*EXPRESSION, "epsilon"), 0, "epsilon of rule 0 is 0, not between"),
        (0, (*EXPRESSION, "constant"), float("inf"), "its description holds Infinity"),
        (0, (*EXPRESSION, "constant"), "1", "constant of rule 0 is '1', not a number"),
        (0, (*EXPRESSION, "shape"), [6, 0], "moves|places 0 to 7 of axis 1, which has 0"),
        (0, (*EXPRESSION, "shape"), [6], "axis of a variable of term 0 of rule 0 is 1, not between 0 and 0"),
        (0, (*EXPRESSION, "shape"), [1] * 33, "rule 0 has 33 axes"),
        (0, (*TERM, "parameter"), 2, "parameter of term 0 of rule 0 is 2, not between 0 and 1"),
        (0, (*TERM, "offset"), 1, "term 0 of rule 0 reads entries 1 to 48 of 'a', which has 48"),
        (0, (*TERM, "offset"), 2**64, "offset of term 0 of rule 0 is 18446744073709551616, not between"),
        (0, (*TERM, "scalar"), 0.0, "term 0 of rule 0 is multiplied by zero"),
        (0, (*TERM, "start"), [0, 1], "term 0 of rule 0 writes places 1 to 8 of axis 1, which has 8"),
        (0, (*TERM, "start"), [0, None], "moves along axis 1, on which it is declared constant"),
        (0, (*TERM, "start"), [0], "term 0 of rule 0 starts on 1 axes, and its rule has 2"),
        (0, (*TERM, "variables", 0, "size"), 10**9, "reads entries 0 to 7999999999 of 'a', which has 48"),
        (0, (*TERM, "variables", 0, "size"), 1, "size of a variable of term 0 of rule 0 is 1, not between 2"),
        (0, (*TERM, "variables", 0), {"size": 9, "source": 0, "outputs": []}, "does not move"),
        (0, (*TERM, "variables", 0, "outputs"), [[0]], "an output of .* is a list of 1, not a pair"),
        (0, (*TERM, "variables", 0, "outputs"), [[0, 1], [0, 1]], "moves twice along axis 0"),
        (0, (*TERM, "variables"), [{"size": 2, "source": 1, "outputs": []}] * 40, "has more than 32 loops"),
        (0, (*TERM, "variables", 0, "source"), {"view": 0}, "view of a step of term 0 of rule 0 is 0, not between"),
        (3, (*TERM, "variables", 0, "size"), 2, "a step of term 0 of rule 0 is not a table of 2 integers"),
        (4, (*TERM, "factors", 0, "variables"), [0, 0], "a factor of term 0 of rule 0 has shape"),
        (4, (*EXPRESSION, "constant"), {"view": 99}, "view of constant of rule 0 is 99, not between"),
        (4, ("views", 0, "shape"), [10**6, 10**6], "view 0 has 2 axes and 1 strides"),
        (4, ("views", 0, "shape"), [10**12], "view 0 reaches from 0 to 999999999999 of the"),
        (4, ("views", 0, "offset"), -1, "offset of view 0 is -1, not between"),
        (4, ("views", 0, "strides"), [-1], "view 0 reaches from -"),
        (4, ("views", 0, "row"), 9, "row of view 0 is 9, not between"),
    ],
)
def test_what_is_wrong_is_said(path: Path, plan: int, keys: tuple[Any, ...], to: Any, reason: str) -> None:
    description, rows = contents(PLANS[plan].system)
    change(description, *keys, to=to)
    with pytest.raises(PlanFileError, match=f"plan.safetensors holds no plan: .*({reason}).* save the plan again"):
        Plan.load(write_plan(path, description, rows))


def test_a_constant_that_repeats_itself(path: Path) -> None:
    description, rows = contents(PLANS[4].system)
    number = description["rules"][0]["expression"]["constant"]["view"]
    description["views"][number] |= {"shape": [8], "strides": [0]}
    with pytest.raises(PlanFileError, match="constant of rule 0 repeats its numbers"):
        Plan.load(write_plan(path, description, rows))


def test_a_constant_of_another_shape(path: Path) -> None:
    description, rows = contents(PLANS[4].system)
    number = description["rules"][0]["expression"]["constant"]["view"]
    description["views"][number] |= {"shape": [7]}
    with pytest.raises(PlanFileError, match=r"constant of rule 0 has shape \(7,\), which is not that of \(8,\)"):
        Plan.load(write_plan(path, description, rows))


def test_numbers_where_positions_should_be_and_the_other_way(path: Path) -> None:
    description, rows = contents(PLANS[3].system)
    with pytest.raises(PlanFileError, match="is not a table of"):
        Plan.load(write_plan(path, description, [row.astype(np.float64) for row in rows]))
    description, rows = contents(PLANS[4].system)
    with pytest.raises(PlanFileError, match="is an array of int64, not of float64"):
        Plan.load(write_plan(path, description, [row.astype(np.int64) for row in rows]))


def test_two_rules_of_one_name_and_rules_without_equations(path: Path) -> None:
    description, rows = contents(PLANS[-1].system)
    description["rules"].append(description["rules"][0])
    with pytest.raises(PlanFileError, match="two rules have one name"):
        Plan.load(write_plan(path, description, rows))
    description, rows = contents(affinet.plan(W.a == 0).system)
    description["rules"][0]["expression"] |= {"shape": [0, 8], "terms": [], "constant": 1.0}
    with pytest.raises(PlanFileError, match="rule 0 has no equations, since its shape is"):
        Plan.load(write_plan(path, description, rows))


def test_more_equations_and_entries_than_are_counted(path: Path) -> None:
    description, rows = contents(affinet.plan([]).system)
    rule = {
        "text": "0 == 0",
        "expression": {"shape": [2**61], "says": "0", "terms": [], "constant": 0.0, "epsilon": 1e-9},
    }
    description["rules"] = [rule | {"name": str(k)} for k in range(3)]
    with pytest.raises(PlanFileError, match="the rules have more equations than 64 bits count"):
        Plan.load(write_plan(path, description, rows))
    description["rules"] = []
    description["parameters"] = [{"name": name, "shape": [2**61]} for name in "abc"]
    with pytest.raises(PlanFileError, match="or have more entries than 64 bits count"):
        Plan.load(write_plan(path, description, rows))


@pytest.mark.parametrize("number", [float("nan"), 1e200])
def test_arrays_of_finite_numbers_only(path: Path, number: float) -> None:
    description, rows = contents(PLANS[4].system)
    rows[0][0] = number
    with pytest.raises(PlanFileError, match=r"array 0 has numbers that are NaN or beyond 1e\+140"):
        Plan.load(write_plan(path, description, rows))


def test_tables_that_overlap_again_and_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.system.stored.packing.MOST_READ", 100)
    description, rows = contents(PLANS[3].system)
    place = description["rules"][0]["expression"]["terms"][0]["variables"][0]["source"]["view"]
    view = description["views"][place]
    first = len(description["views"])
    description["views"] += [dict(view) for _ in range(50)]
    for k in range(50):
        copied = json.loads(json.dumps(description["rules"][0]))
        copied["name"] = f"rule {k}"
        copied["expression"]["terms"][0]["variables"][0]["source"]["view"] = first + k
        description["rules"].append(copied)
    with pytest.raises(PlanFileError, match="its tables overlap so often that reading them would take too long"):
        Plan.load(write_plan(path, description, rows))


def test_factors_that_overflow_together(path: Path) -> None:
    description, rows = contents(PLANS[4].system)
    rows[0][:] = 1e100
    change(description, *TERM, "scalar", to=1e100)
    with pytest.raises(PlanFileError, match=r"multiplied by zero, or by numbers beyond 1e\+140"):
        Plan.load(write_plan(path, description, rows))


def test_arrays_of_other_kinds(path: Path) -> None:
    description, rows = contents(PLANS[4].system)
    for wrong in (rows[0].astype(np.float16), rows[0].reshape(-1, 1), rows[0].astype(bool)):
        with pytest.raises(PlanFileError, match=r"array 0 is \w+ of shape .*, not one axis of float64, int32, int64"):
            Plan.load(write_plan(path, description, [wrong, *rows[1:]]))
    with pytest.raises(PlanFileError, match=r"array 0 has shape \(0,\)"):
        Plan.load(write_plan(path, description, [rows[0][:0], *rows[1:]]))


def test_arrays_under_other_names(path: Path) -> None:
    description, rows = contents(PLANS[4].system)
    metadata = planfile._dump({"version": 1, "written_by": "", "checksum": "", "description": description})
    save_file({f"x{k}": row for k, row in enumerate(rows)}, path, metadata={planfile.FORMAT: metadata})
    with pytest.raises(PlanFileError, match="it has no array '0'"):
        Plan.load(path)


def test_the_checksum(path: Path) -> None:
    description, rows = contents(PLANS[0].system)
    with pytest.raises(PlanFileError, match="is not as it was written: its checksum differs"):
        Plan.load(write_plan(path, description, rows, checksum="0" * 64))


@pytest.mark.parametrize("version", [0, 6, 10**50])
def test_another_version_says_the_way_out(path: Path, version: int) -> None:
    _, rows = contents(PLANS[0].system)
    with pytest.raises(
        PlanFileError, match=r"is a plan of format .*, and affinet .* reads formats 1 to 5\. Read it with the"
    ):
        Plan.load(write_plan(path, {"of": "the future"}, rows, version=version))


@pytest.mark.parametrize("changes", [{"version": None}, {"version": True}, {"checksum": ...}, {"surprise": 1}])
def test_other_metadata(path: Path, changes: dict[str, Any]) -> None:
    description, rows = contents(PLANS[0].system)
    with pytest.raises(PlanFileError, match="holds no plan: "):
        Plan.load(write_plan(path, description, rows, **changes))


def metadata_of(text: str) -> Callable[[Path], None]:
    return lambda path: save_file({}, path, metadata={planfile.FORMAT: text})


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.unlink(missing_ok=True), r"does not exist\. Name a file of Plan\.save"),
        (lambda path: save_file({"w": np.zeros(3)}, path), "is a safetensors file without a plan, such as the weights"),
        (lambda path: path.write_bytes(pickle.dumps([1])), "is not a plan: it begins with .* nothing is unpickled"),
        (lambda path: torch.save({"w": torch.zeros(3)}, path), "is not a plan: it begins with b'PK"),
        (lambda path: path.write_bytes((2**62).to_bytes(8, "little")), "is not a plan: it begins with"),
        (lambda path: path.write_bytes(b""), "is not a plan: it begins with b''"),
        (metadata_of("{"), "its description is not JSON"),
        (metadata_of("[" * 100_000), "its description is not JSON"),
        (metadata_of('{"version": 1' + "0" * 10_000 + "}"), "its description is not JSON"),
        (metadata_of("[]"), "its metadata is a list of 0, not a table"),
    ],
    ids=["no file", "weights", "pickle", "torch.save", "a huge header", "empty", "half", "deep", "long", "a list"],
)
def test_other_files(path: Path, write: Callable[[Path], None], reason: str) -> None:
    write(path)
    with pytest.raises(PlanFileError, match=f"plan.safetensors .*({reason})"):
        Plan.load(path)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="is a folder, not a file"):
        Plan.load(tmp_path)


@pytest.mark.parametrize("depth", range(100, 1200, 100))
def test_descriptions_of_any_depth(path: Path, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    text = f'{{"version":1,"written_by":"","checksum":"","description":{nested}}}'
    save_file({}, path, metadata={planfile.FORMAT: text})
    with pytest.raises(PlanFileError, match=r"its checksum differs|holds no plan"):
        Plan.load(path)


def test_a_description_that_is_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planfile, "LONGEST", 5_000)
    save_file({}, path, metadata={planfile.FORMAT: " " * 6_000})
    with pytest.raises(PlanFileError, match="its description has 6,000 characters, and 5,000 are read"):
        Plan.load(path)


def test_rules_that_cannot_hold_together(path: Path) -> None:
    description, rows = contents(affinet.plan([W.c[0] == 1, W.c[1] == 2]).system)
    description["rules"][1]["expression"]["terms"][0].pop("offset")
    with pytest.raises(PlanFileError, match="holds rules that cannot be planned: these rules cannot hold together"):
        Plan.load(write_plan(path, description, rows))


def test_a_claim_of_many_equations_takes_no_memory(path: Path) -> None:
    description, rows = contents(affinet.plan(W.c[0] == 1).system)
    change(description, *EXPRESSION, "shape", to=[10**10])
    change(description, *TERM, "start", to=[0])
    write_plan(path, description, rows)
    tracemalloc.start()
    with pytest.raises(PlanFileError, match=r"holds rules that cannot be planned: .* would take .* GiB, and the limit"):
        Plan.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_what_a_small_file_says_takes_little_memory_unless_it_is_trusted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affinet.language.forecast.BACKED", 1_000)
    monkeypatch.setattr("affinet.language.forecast.GROWTH", 1)
    steps = affinet.plan([W.a[k % 6, k % 8] + 2 * W.b[k % 8, k % 6] == 3 for k in range(400)])
    steps.save(path)
    assert repr(Plan.load(path)) == repr(steps)  # a file of its size may
    few = affinet.plan(families.linear([W.a, W.b], np.ones((1, 96)), 1))
    few.save(path)
    assert path.stat().st_size < 64 * 96
    with pytest.raises(
        PlanFileError, match=r"would take 0.0 GiB, .* Where you trust the file, load it with memory=4294"
    ):
        Plan.load(path)
    assert repr(Plan.load(path, memory=2**32)) == repr(few)
    with pytest.MonkeyPatch.context() as patch:  # nobody is sent where he has been
        patch.setattr("affinet.language.forecast.LIMIT", 1_000)
        with pytest.raises(PlanFileError, match=r"would take .* Write the rule in parts"):
            Plan.load(path, memory=2**32)
    with pytest.raises(affinet.TooLargeError, match="Say the rule in parts"), limited(0, "Say the rule in parts."):
        affinet.plan(families.linear([W.a, W.b], np.ones((30, 96)), 1))
    assert affinet.plan(families.linear([W.a, W.b], np.ones((30, 96)), 1)).rank == 1


def test_a_tolerance_of_zero_is_no_plan(path: Path) -> None:
    description, rows = contents(PLANS[0].system)
    change(description, "tolerance", "epsilon", to=0.0)
    with pytest.raises(PlanFileError, match=r"epsilon of the tolerance is 0\.0, not between"):
        Plan.load(write_plan(path, description, rows))


def test_a_tolerance_that_is_scaled_down_is_no_plan(path: Path) -> None:
    """Nothing makes one, and equal rows would be independent by their rounding."""
    description, rows = contents(PLANS[0].system)
    change(description, "tolerance", "factor", to=2.2e-16)
    with pytest.raises(PlanFileError, match=r"factor of the tolerance is 2\.2e-16, not between 1 and"):
        Plan.load(write_plan(path, description, rows))


def test_a_loop_that_moves_by_nothing_along_an_axis_is_no_plan(path: Path) -> None:
    description, rows = contents(affinet.plan((W.a.sum(1) == 1).named("rows")).system)
    change(description, *TERM, "variables", 0, "outputs", to=[[0, 0]])
    with pytest.raises(PlanFileError, match="moves by nothing along axis 0"):
        Plan.load(write_plan(path, description, rows))


MASKED = PLANS[6]
SOURCE = ("rules", 0, "expression", "terms", 0, "variables", 0, "source")


def format_of(path: Path) -> int:
    with safe_open(path, framework="numpy") as file:
        version: int = json.loads(file.metadata()[planfile.FORMAT])["version"]
    return version


def test_plans_with_masks_and_float32_are_of_the_second_format(path: Path) -> None:
    MASKED.save(path)
    assert planfile.read_system(path).rules[0].expression.constant.dtype == np.float32  # type: ignore[union-attr]
    assert format_of(path) == 2
    PLANS[0].save(path)
    assert format_of(path) == 1


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("places", 46, "a mask is longer than its places"),
        ("places", 200, "not their bits"),
        ("places", 10**15, "not their bits"),
        ("step", 0, "or has a step of 0"),
        ("step", 2**60, "or has a step of"),
        ("step", 2, "reads entries"),
        ("step", -1, "reads entries"),
        ("mask", 1, "not their bits"),
        ("mask", 9, "not between 0 and"),
    ],
)
def test_masks_that_lead_elsewhere(path: Path, key: str, value: int, match: str) -> None:
    description, rows = contents(MASKED.system)
    change(description, *SOURCE, key, to=value)
    with pytest.raises(PlanFileError, match=match):
        Plan.load(write_plan(path, description, rows, version=2))


def test_a_mask_of_more_places_than_its_loop_has_points(path: Path) -> None:
    description, rows = contents(MASKED.system)
    bits = next(row for row in rows if row.dtype == np.uint8)
    bits[0] ^= 128
    with pytest.raises(PlanFileError, match="does not have the 20 places of its loop"):
        Plan.load(write_plan(path, description, rows, version=2))


def test_masks_of_one_row_of_bits_are_read_so_often_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.system.stored.packing.MOST_READ", 1)
    description, rows = contents(MASKED.system)
    description["rules"] *= 40
    for number, rule in enumerate(description["rules"]):
        description["rules"][number] = {**rule, "name": f"rule {number}"}
    with pytest.raises(PlanFileError, match="its tables overlap so often that reading them would take too long"):
        Plan.load(write_plan(path, description, rows, version=2))
