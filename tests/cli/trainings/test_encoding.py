"""Text as features: zeros and ones by the categories of the train rows, named in rules, stored for new rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from affinet.cli.jobs.job import DataTable
from affinet.cli.trainings.data import Data, load_data, read_lesson
from affinet.errors import DataError
from tests.cli.conftest import Command

JOB = """\
[data]
source = "t.csv"
target = "price"
text = "encode"

[model]
hidden = {hidden}

[train]
learning_rate = 0.01
epochs = 2

[rules]
"""
COLOURS = ("red", "blue", "green")


def write(folder: Path, colours: list[str], columns: str = "size,colour,old,price") -> Path:
    random = np.random.default_rng(0)
    rows = [f"{random.normal():.3f},{each},{k % 3 == 0},{random.normal():.3f}" for k, each in enumerate(colours)]
    (folder / "t.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: 30 rows, of which one alone is `teal`."""
    monkeypatch.chdir(tmp_path)
    return write(tmp_path, [COLOURS[k % 3] if k != 7 else "teal" for k in range(30)])


def raw_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "t.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def features_of(row: dict[str, str], scaling: dict[str, list[str]]) -> list[float]:
    """The features of a row of the table, as docs/runs.md says it."""
    numbers = {"True": 1.0, "False": 0.0}
    found: list[float] = []
    for column in scaling["columns"]:
        if column in scaling["categories"]:
            found += [float(row[column] == category) for category in scaling["categories"][column]]  # type: ignore[call-overload]
        else:
            found.append(numbers.get(row[column]) if row[column] in numbers else float(row[column]))  # type: ignore[arg-type]
    return found


def loaded(folder: Path, seed: int) -> Data:
    return load_data(DataTable(source="t.csv", target="price", text="encode"), folder, seed)


def test_what_is_stored_leads_from_a_new_row_to_the_rows_of_the_training(folder: Path) -> None:
    seen = set()
    for seed in range(20):
        data = loaded(folder, seed)
        scaling = json.loads(data.scaling.text())
        colours = scaling["categories"]["colour"]
        assert colours == sorted(colours)
        assert scaling["features"] == ["size", *(f"colour={each}" for each in colours), "old"]
        assert data.inputs == len(scaling["features"]) == len(data.scaling.means)
        raw = np.array([features_of(row, scaling) for row in raw_rows(folder)])
        scaled = ((raw - scaling["means"]) / scaling["spreads"]).tolist()
        assert sorted(scaled) == sorted([*data.train_features.tolist(), *data.test_features.tolist()])
        assert set(data.train_features[:, 1:-1].ravel()) == {0.0, 1.0}
        in_training = raw[:, 1:-1].sum(axis=1) == 1
        assert len(data.train_features) <= in_training.sum()
        seen.add("teal" in colours)
        notices = data.scaling.encoding.notices()
        assert (notices == ()) == ("teal" in colours)
        if notices:
            assert notices[0].startswith("No row to train on has 'teal' in column 'colour': rows to test on that do")
            assert (~in_training).sum() == 1
    assert seen == {True, False}, "no seed has the one row of 'teal' among those to test on"


def test_names_known_before_the_split_are_those_of_the_training(folder: Path) -> None:
    table = DataTable(source="t.csv", target="price", text="encode")
    for seed in range(20):
        assert read_lesson(table, folder, seed).encoding.names == loaded(folder, seed).scaling.features


@pytest.mark.parametrize(("hidden", "first"), [("[3]", "hidden1.weight"), ("[]", "output.weight")])
def test_rules_name_features(affinet: Command, folder: Path, hidden: str, first: str) -> None:
    rules = {
        "blue adds": f"{first}[:, 'colour=blue'] >= 0.25",
        "small": f"{first}[:, ['size', 'old']].sum(dim=1) == 0",
        "by its name alone": f"{first}['colour=red'] == 0",
    }
    text = JOB.format(hidden=hidden) + "".join(f'"{name}" = "{says}"\n' for name, says in rules.items())
    (folder / "job.toml").write_text(text)
    trained = affinet("train", "job.toml", "--out", "run")
    assert trained.exit_code == 0, trained.output
    weight = load_file("run/model.safetensors")[first]
    features = json.loads((folder / "run" / "scaling.json").read_text(encoding="utf-8"))["features"]
    assert weight[:, features.index("colour=blue")].min() >= 0.25
    assert not weight[:, features.index("colour=red")].any()
    # Two float32 numbers of size below one that are moved to a sum of zero: a rounding each.
    np.testing.assert_allclose(weight[:, features.index("size")] + weight[:, features.index("old")], 0, atol=2e-7)
    assert affinet("verify", "run/model.safetensors", "run/plan.safetensors").exit_code == 0
    report = affinet("report", "run")
    assert report.exit_code == 0
    assert "colour=blue" in (folder / "run" / "report.html").read_text(encoding="utf-8")
    explained = affinet("check", "job.toml", "--explain", f"{first}[0, 'colour=blue']").stdout
    column = features.index("colour=blue")
    assert f"{first}[0, {column}] is bounded by 1 inequality" in explained
    assert f"  column {column} is about the feature 'colour=blue'\n" in explained
    wrong = affinet("check", "job.toml", "--explain", f"{first}[0, 'colour=blu']")
    assert wrong.exit_code == 2
    assert "has no entry named 'colour=blu'. Did you mean 'colour=blue'" in wrong.stderr


def test_a_name_that_no_feature_has_is_told_with_its_line(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(f'{JOB.format(hidden="[3]")}"a" = "hidden1.weight[:, \'colour=grey\'] == 0"\n')
    told = affinet("check", "job.toml").stderr
    assert "line 14" in told
    assert "hidden1.weight has no entry named 'colour=grey'. Did you mean 'colour=green'" in told
    (folder / "t.csv").write_text("x0,x1,price\n" + "".join(f"{k},{k * k},{k / 2}\n" for k in range(12)))
    told = affinet("check", "job.toml").stderr
    assert "There are: x0, x1." in told
    assert "data frame" not in told


def test_two_features_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = "\n".join(f"{'c' if k % 2 else 'd'},{'b=c' if k % 2 else 'e'},{k}" for k in range(20))
    (tmp_path / "t.csv").write_text(f"a=b,a,price\n{rows}\n")
    with pytest.raises(DataError, match=r"t.csv has two features 'a=b=c', of the columns 'a=b' and 'a': text becomes"):
        loaded(tmp_path, 0)
    (tmp_path / "t.csv").write_text("\n".join(["a=b,a,price", *(f"{k / 2},{'bc'[k % 2]},{k}" for k in range(20))]))
    with pytest.raises(DataError, match=r"t.csv has two features 'a=b', of the columns 'a=b' and 'a'"):
        loaded(tmp_path, 0)


def test_a_column_of_one_category_is_a_feature_that_says_nothing(tmp_path: Path) -> None:
    data = loaded(write(tmp_path, ["red"] * 30), 0)
    assert data.scaling.features == ("size", "colour=red", "old")
    assert data.train_features[:, 1].all()


def test_a_resumed_run_has_the_features_that_it_began_with(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(JOB.format(hidden="[3]"))
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    stored = (folder / "run" / "scaling.json").read_bytes()
    (folder / "run" / "scaling.json").unlink()
    assert affinet("train", "--resume", "run").exit_code == 0
    assert (folder / "run" / "scaling.json").read_bytes() == stored
    (folder / "run" / "scaling.json").unlink()
    write(folder, [COLOURS[k % 3] for k in range(30)])
    changed = affinet("train", "--resume", "run")
    assert changed.exit_code == 2
    assert "its data (a file, or how the installed packages read it) changed" in changed.stderr


def test_names_with_quotes_and_number_signs_can_be_written(affinet: Command, tmp_path: Path) -> None:
    odd = """it's "#1" \\ two"""
    rows = "\n".join(
        f'{k / 7:.3f},"{(odd if k % 2 else "plain").replace(chr(34), chr(34) * 2)}",{k}' for k in range(20)
    )
    (tmp_path / "t.csv").write_text(f"size,colour,price\n{rows}\n")
    text = JOB.format(hidden="[3]")
    for number, quoted in enumerate((repr(f"colour={odd}"), json.dumps(f"colour={odd}"))):
        line = f"hidden1.weight[:, {quoted}] == 0  # a comment"
        (tmp_path / "job.toml").write_text(f"{text}odd = {json.dumps(line)}\n")
        run = tmp_path / f"run{number}"
        trained = affinet("train", tmp_path / "job.toml", "--out", run)
        assert trained.exit_code == 0, trained.output
        column = json.loads((run / "scaling.json").read_text())["features"].index(f"colour={odd}")
        weight = load_file(run / "model.safetensors")["hidden1.weight"]
        assert not weight[:, column].any()
        assert weight[:, 0].any()
    explained = affinet(
        "check", tmp_path / "job.toml", "--explain", f"hidden1.weight[0, {json.dumps(f'colour={odd}')}]"
    )
    assert explained.exit_code == 0, explained.output
    assert "can only be 0" in explained.stdout
