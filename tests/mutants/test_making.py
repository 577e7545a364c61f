"""What is mutated and what is left out, how a sample is drawn, and what a score says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mutmut")
pytest.importorskip("libcst")

from tools.mutants import choosing, scoring
from tools.mutants.covering import Coverage, together
from tools.mutants.making import Mutant, mutants_of
from tools.mutants.running import Trial

LEFT_OUT = '''"""What it does."""
from typing import TYPE_CHECKING, Literal, assert_never, cast
if TYPE_CHECKING:
    LIMIT = 3
Number = int | float

@cached(size=3)
def read(value: Literal["a", "b"]) -> tuple[int, ...]:
    """Says `1 + 1`."""
    assert value == "c", 1 + 1
    return cast("tuple[int, ...]", value)
'''


def changes(text: str) -> list[str]:
    return [mutant.after for mutant in mutants_of("file.py", text)]


def test_what_no_test_could_tell_is_left_out() -> None:
    assert changes(LEFT_OUT) == ['return cast("tuple[int, ...]", None)', 'return cast("tuple[int, ...]", )']


def test_an_error_keeps_its_text_but_not_its_facts() -> None:
    assert changes('def check(n):\n    raise ShapeError("too long by 1", f"{n - 1}", n + 1)\n') == [
        'raise ShapeError("too long by 1", f"{n - 1}", None)',
        'raise ShapeError("too long by 1", f"{n - 1}", )',
        'raise ShapeError("too long by 1", f"{n - 1}", n - 1)',
        'raise ShapeError("too long by 1", f"{n - 1}", n + 2)',
    ]


def test_a_mutant_is_the_file_with_one_change() -> None:
    text = "def f(a):\n    if a < 1:\n        return -a\n    return a\n"
    found = mutants_of("file.py", text)
    assert [mutant.of(text) for mutant in found] == [
        text.replace("a < 1", "a <= 1"),
        text.replace("a < 1", "a < 2"),
        text.replace("-a", "+a"),
    ]
    assert {(mutant.function, mutant.first, mutant.before) for mutant in found} == {
        ("f", 2, "if a < 1:"),
        ("f", 3, "return -a"),
    }


def test_equal_lines_of_a_function_are_told_apart() -> None:
    found = mutants_of("file.py", "def f(a):\n    a -= 1\n    a -= 1\n")
    assert len({mutant.key for mutant in found}) == len(found) == 6


def mutant(place: int, file: str = "src/a.py") -> Mutant:
    return Mutant(file, "f", place, place, f"{place}", "None", place, place + 1, "None")


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_takes_its_share_of_every_file(seed: int) -> None:
    found = {f"{size}.py": [mutant(place, f"{size}.py") for place in range(size)] for size in (10, 30, 60, 0, 1)}
    drawn = choosing.sampled(found, 20, seed)
    assert len(set(drawn)) == len(drawn)
    for size, mutants in ((size, found[f"{size}.py"]) for size in (10, 30, 60, 0, 1)):
        assert abs(sum(each in mutants for each in drawn) - 20 * size / 101) < 1
    assert drawn == choosing.sampled(found, 20, seed) != choosing.sampled(found, 20, seed + 1)
    assert len(choosing.sampled(found, None, seed)) == 101


def test_near_and_quick_tests_come_first_until_the_time_is_spent() -> None:
    seconds = {"tests/test_far.py::quick": 1.0, "tests/test_a.py::slow": 4.0, "tests/test_a.py::quick": 0.5, "x": 9.0}
    coverage = Coverage(seconds, {"src/a.py": {"3": [0, 1, 2], "4": [3], "7": []}})
    near = ["tests/test_a.py::quick", "tests/test_a.py::slow"]
    assert choosing.tests_of(mutant(3), coverage, Path(), 5.0) == (near, 4.5)
    assert choosing.tests_of(mutant(3), coverage, Path(), 9.0) == ([*near, "tests/test_far.py::quick"], 5.5)
    assert choosing.tests_of(mutant(4), coverage, Path(), 5.0) == (["x"], 9.0)  # at least one
    assert len(choosing.tests_of(mutant(7), coverage, Path(), 99.0)[0]) == 4  # run at import: by all tests of the file
    assert choosing.tests_of(mutant(8), coverage, Path(), 99.0) == ([], 0.0)  # no test runs it
    assert choosing.tests_of(mutant(3, "src/b.py"), coverage, Path(), 99.0) == ([], 0.0)


def test_tests_that_are_measured_again_count_as_the_second_time() -> None:
    old = Coverage({"a": 1.0, "b": 2.0}, {"f.py": {"1": [0, 1], "2": [0]}})
    new = Coverage({"c": 3.0, "a": 4.0}, {"f.py": {"2": [0], "3": [1]}})
    both = together(old, new)
    names = list(both.seconds)
    runs = {line: {names[number] for number in numbers} for line, numbers in both.tests["f.py"].items()}
    assert both.seconds == {"a": 4.0, "b": 2.0, "c": 3.0}
    assert runs == {"1": {"b"}, "2": {"c"}, "3": {"a"}}


def test_a_score_counts_survivors_that_are_answered_as_survivors() -> None:
    fates = ["killed", "killed", "out of time", "survived", "survived", "no test"]
    tried = [(mutant(place), Trial(fate, "", 0.0)) for place, fate in enumerate(fates)]
    answered = {mutant(3).key: "the same number", mutant(0).key: "killed all the same"}
    found = scoring.score(tried, answered)
    assert (found.tried, found.killed, found.out_of_time, found.answered, found.open) == (6, 2, 1, 1, 2)
    assert found.share == 0.5
    low, high = found.interval
    assert low < 0.5 < high
    entries = "\n".join(scoring.still_open(tried, answered))
    assert entries.count("[[answer]]") == 2


def test_every_answer_is_given_once_and_says_why() -> None:
    path = Path(__file__).parent / "answers.toml"
    assert path.exists()
    answers = scoring.answers(path)
    assert len(answers) == path.read_text(encoding="utf-8").count("[[answer]]")
    assert all(len(why.split()) >= 4 for why in answers.values())
