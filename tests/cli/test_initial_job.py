"""`affinet init`: what it writes trains as it stands, with each of its rules, and nothing is overwritten."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affinet.cli.editor_schema import schema_text
from affinet.cli.initial_text import RULES, SCHEMA
from affinet.cli.jobs.jobfile import read_job
from tests.cli.conftest import Command

COMMENTED = re.compile(r'^# (".*" = ".*")$', re.MULTILINE)


@pytest.fixture
def tables(folder: Path) -> Path:
    """Beside `small.csv`, a table of one feature whose target `price` is a number."""
    x = np.random.default_rng(1).normal(size=30)
    pl.DataFrame({"size": x, "price": 2 * x + 0.5}).write_csv(folder / "houses.csv")
    return folder


@pytest.mark.parametrize(
    ("table", "target", "task", "shapes"),
    [
        ("small.csv", "kind", "classification, for the target 'kind' is text; 2 classes", ["(16, 3)", "(2, 16)"]),
        ("houses.csv", "price", "regression, for the target 'price' is decimal numbers", ["(16, 1)", "(1, 16)"]),
    ],
)
def test_the_job_trains_as_it_stands_and_under_each_rule(
    affinet: Command, tables: Path, table: str, target: str, task: str, shapes: list[str]
) -> None:
    written = affinet("init", table, "--target", target)
    assert written.exit_code == 0, written.output
    assert "affinet train job.toml" in written.stdout
    text = (tables / "job.toml").read_text(encoding="utf-8")
    assert f"# Found: {task}" in text
    assert re.findall(r"^#   \w+\.weight +(\(.*\))$", text, re.MULTILINE) == shapes
    assert text.startswith(f"#:schema ./{SCHEMA}\n")
    assert (tables / SCHEMA).read_text(encoding="utf-8") == schema_text()
    assert not read_job(tables / "job.toml").job.rules
    (tables / "job.toml").write_text(text.replace("epochs = 20", "epochs = 2"), encoding="utf-8")
    assert affinet("train", "job.toml").exit_code == 0
    assert len(COMMENTED.findall(text)) == len(RULES)
    for rule in COMMENTED.finditer(text):
        with_rule = text[: rule.start()] + rule[1] + text[rule.end() :]
        (tables / "job.toml").write_text(with_rule, encoding="utf-8")
        checked = affinet("check", "job.toml")
        assert checked.exit_code == 0, f"{rule[1]}: {checked.output}"
        assert "No contradictions" in checked.stdout, rule[1]


def test_shapes_of_the_comment_are_those_of_the_network(affinet: Command, folder: Path) -> None:
    assert affinet("init", "sklearn:digits", "--out", "digits.toml").exit_code == 0
    text = (folder / "digits.toml").read_text(encoding="utf-8")
    assert re.findall(r"^#   (\w+\.\w+) +(\(.*\))$", text, re.MULTILINE) == [
        ("hidden1.weight", "(16, 64)"),
        ("hidden1.bias", "(16,)"),
        ("output.weight", "(10, 16)"),
        ("output.bias", "(10,)"),
    ]
    assert "0 'pixel_0_0', 1 'pixel_0_1'" in text
    assert "(64 in all)" in text


def test_nothing_is_overwritten(affinet: Command, folder: Path) -> None:
    (folder / SCHEMA).write_text("mine")
    assert affinet("init", "small.csv", "--target", "kind").exit_code == 0
    assert (folder / SCHEMA).read_text() == "mine"
    (folder / "job.toml").write_text("mine")
    again = affinet("init", "small.csv", "--target", "kind")
    assert again.exit_code == 2
    assert again.stderr == "error: job.toml already exists and would be overwritten; name another file with --out.\n"
    assert (folder / "job.toml").read_text() == "mine"


def test_a_job_elsewhere_finds_its_table(affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "jobs").mkdir()
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    assert affinet("init", "../small.csv", "--target", "kind", "--out", "../jobs/owls.toml").exit_code == 0
    assert 'source = "../small.csv"' in (folder / "jobs" / "owls.toml").read_text()
    assert affinet("check", "../jobs/owls.toml").exit_code == 0
    assert affinet("init", "../small.csv", "--target", "kind").exit_code == 0
    assert read_job(folder / "job.toml").job.data.source == "small.csv"


@pytest.mark.parametrize("name", [r"a \ 'c'", "#\ttab", "two\nlines", "\x7f\x1b[2J", "ö\u202e"])
def test_any_name_of_a_column_or_file_is_quoted(affinet: Command, folder: Path, name: str) -> None:
    table = folder / f"sklearn:{name}.csv"
    pl.DataFrame({"size": range(30), name: [k % 3 for k in range(30)]}).write_csv(table)
    out = folder / f"{name}.toml"
    result = affinet("init", table, "--target", name, "--out", out)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert read_job(out).job.data.target == name
    assert affinet("check", out).exit_code == 0
    assert affinet("init", table, "--target", "size", "--out", folder / "other.toml").exit_code == 0
    assert affinet("check", folder / "other.toml").exit_code == 0


def test_a_task_that_the_column_does_not_decide(affinet: Command, tables: Path) -> None:
    pl.DataFrame({"size": range(30), "rooms": [1, *[2, 3] * 14, 2]}).write_csv(tables / "rooms.csv")
    refused = affinet("init", "rooms.csv", "--target", "rooms")
    assert refused.exit_code == 2
    assert "affinet init --task regression" in refused.stderr
    assert affinet("init", "rooms.csv", "--target", "rooms", "--task", "regression").exit_code == 0
    assert read_job(tables / "job.toml").job.data.task == "regression"
    assert affinet("check", "job.toml").exit_code == 0
    assert affinet("init", "rooms.csv", "--target", "rooms", "--task", "guessing").exit_code == 2
    assert "no built-in data set" in affinet("init", "sklearn:\udce9", "--out", "iris.toml").stderr
    ready_made = affinet("init", "sklearn:iris", "--task", "regression", "--out", "iris.toml")
    assert "sklearn:iris brings its own task" in ready_made.stderr


def test_without_a_target_the_last_column_is_predicted(affinet: Command, tables: Path) -> None:
    written = affinet("init", "small.csv")
    assert written.exit_code == 0, written.output
    assert "The target is the last column, 'kind'. To predict 'length', 'width', 'old': affinet init" in written.stdout
    assert read_job(tables / "job.toml").job.data.target == "kind"
    (tables / "last.csv").write_text("kind,size\n" + "\n".join(f"{k % 2},{k / 2 if k else ''}" for k in range(12)))
    refused = affinet("init", "last.csv", "--out", "last.toml")
    assert refused.exit_code == 2
    assert "'size', the first in line 2" in refused.stderr
    assert "'size' was taken as the last column; name another with --target." in refused.stderr
    assert "was taken" not in affinet("init", "last.csv", "--out", "last.toml", "--target", "size").stderr


def test_columns_that_cannot_be_features_are_left_out_with_the_reason(affinet: Command, folder: Path) -> None:
    rows = [f"{k},{k / 2},Ulm,2020-01-0{k % 9 + 1},{k if k != 3 else ''},{k / 4}" for k in range(20)]
    (folder / "mixed.csv").write_text("\n".join([",size,place,day,floors,price", *rows]))
    written = affinet("init", "mixed.csv")
    assert written.exit_code == 0, written.output
    assert "Column 'place' is left out: it is 'Ulm' in every row.\n" in written.stdout
    assert (
        "Column 'day' is left out: dates or times (such as '2020-01-01') in column 'day'. Write what" in written.stdout
    )
    assert "Column 'floors' is left out: 1 value missing, NaN or infinite in column 'floors', the" in written.stdout
    assert "Column '' is left out: it has no name, as row numbers that pandas wrote.\n" in written.stdout
    assert "[data]" not in written.stdout
    text = (folder / "job.toml").read_text(encoding="utf-8")
    assert 'ignore = ["", "place", "day", "floors"]\n' in text
    assert "#   0 'size'\n" in text
    assert "encode" not in text
    assert affinet("check", "job.toml").exit_code == 0
    (folder / "job.toml").write_text(text.replace('"floors"]', '"flors"]'))
    assert "has no column 'flors'. Did you mean 'floors'?" in affinet("check", "job.toml").stderr


QUOTED = """named = '''hidden1.weight[:, "colour=it's"] == hidden1.weight[:, "a=b=x=1"]'''"""


def test_columns_of_text_become_features_that_rules_name(affinet: Command, folder: Path) -> None:
    cells = ["no", "Yes", "yes"], ["red", "it's", "<b>", 'a ""b""'], ["x=1", "x=2"]
    rows = [",".join([str(k + 1), *(f'"{each[k % len(each)]}"' for each in cells), f"{k / 3}"]) for k in range(36)]
    (folder / "shop.csv").write_text("\n".join(["row,new,colour,a=b,price", *rows]) + "\n")
    written = affinet("init", "shop.csv")
    assert written.exit_code == 0, written.output
    assert "36 rows, 10 features; regression" in written.stdout
    assert "Column 'row' counts the rows. If it means nothing else, list it in 'ignore' of [data].\n" in written.stdout
    named = "3 features of zeros and ones: 'new=Yes', 'new=no', 'new=yes'. Among them are 'Yes' and 'yes', which"
    assert f"Column 'new' is text, which becomes {named} differ in capital letters alone.\n" in written.stdout
    text = (folder / "job.toml").read_text(encoding="utf-8")
    assert '\ntext = "encode" ' in text
    assert """4 'colour=<b>', 5 'colour=a "b"', 6 "colour=it's", 7 'colour=red'""" in text
    assert "Rules may name it, as in hidden1.weight[:, 'row']. The features:\n" in text
    found = [rule[1] for rule in COMMENTED.finditer(text)]
    assert len(found) == len(RULES) + 1
    assert "hidden1.weight[:, ['new=Yes', 'new=no', 'new=yes']].sum(dim=1) == 0" in found[-1]
    for rule in (*found, QUOTED):
        (folder / "job.toml").write_text(f"{text}\n{rule}\n", encoding="utf-8")
        checked = affinet("check", "job.toml")
        assert checked.exit_code == 0, f"{rule}: {checked.output}"
        assert "No contradictions" in checked.stdout


def test_few_whole_numbers_are_classes_where_they_are_repeated(affinet: Command, folder: Path) -> None:
    (folder / "line.csv").write_text("x,y\n" + "".join(f"{k},{2 * k + 1}\n" for k in range(10)))
    assert "regression, for the target 'y' is whole numbers with 10" in affinet("init", "line.csv").stdout
    (folder / "steps.csv").write_text("x,y\n" + "".join(f"{k},{k % 4}\n" for k in range(40)))
    assert "classification, for" in affinet("init", "steps.csv", "--out", "steps.toml").stdout


def test_a_target_of_amounts_with_a_sign_is_told_to_be_text(affinet: Command, folder: Path) -> None:
    (folder / "flats.csv").write_text("area,price\n" + "".join(f"{k}.5,${k}000\n" for k in range(40)))
    refused = affinet("init", "flats.csv")
    assert refused.exit_code == 2
    assert "The target is text, such as '$0000'; regression needs plain numbers." in refused.stderr
    assert "Did you mean 'price'?" in affinet("init", "flats.csv", "--target", "PRIC").stderr


def test_classes_that_are_probably_one_are_told(affinet: Command, folder: Path) -> None:
    for name, words, told in (
        (
            "spaces",
            ("low", "high", "low "),
            "has 'low' and 'low ', which differ in spaces alone, and they are different",
        ),
        ("case", ("Low", "high", "low"), "has 'Low' and 'low', which differ in capital letters alone, and they are"),
        ("blank", ("low", "high", " "), "has a class ' ': where its values are missing, remove the rows."),
    ):
        rows = "\n".join(f"{k % 7},{words[k % 3]}" for k in range(40))
        (folder / "levels.csv").write_text(f"a,level\n{rows}\n")
        assert f"\nThe target {told}" in affinet("init", "levels.csv", "--out", f"{name}.toml").stdout
        assert f"\nThe target {told}" in affinet("train", f"{name}.toml", "--out", name).stdout


def test_the_last_column_with_a_name_is_predicted(affinet: Command, folder: Path) -> None:
    (folder / "ends.csv").write_text("a,price,\n" + "".join(f"{k % 7},{k / 2},\n" for k in range(30)))
    written = affinet("init", "ends.csv")
    assert written.exit_code == 0, written.output
    assert "The target is the last column, 'price'. To predict 'a': affinet init" in written.stdout
    assert "Column '' is left out: it has no name" in written.stdout
    for words in (["--target", ""], []):
        (folder / "ends.csv").write_text(",\n" + "".join(f"{k % 7},{k / 2}\n" for k in range(30)))
        refused = affinet("init", "ends.csv", "--out", "other.toml", *words)
        assert refused.exit_code == 2
        assert refused.stderr


def test_a_line_with_too_many_fields_is_named(affinet: Command, folder: Path) -> None:
    for start, told in (
        ("sep=;\na;b;price\n", "line 2, and its first line has 2 names of columns"),
        ("# made today\n1,2,3\n", "line 2, and its first line has 1 name of columns"),
        ('a;b;price\n1;"two\nlines";3\n1;2;3;4\n', "line 4, and its first line has 3 names of columns"),
    ):
        (folder / "long.csv").write_text(start + "1;2;3\n" * 9)
        assert told in affinet("init", "long.csv").stderr
