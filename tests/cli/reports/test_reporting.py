from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from affinet import Plan
from affinet import weights as affinet_weights
from affinet.analysis import prices
from affinet.cli.reports.changed_files import SHOWN_FROM
from affinet.cli.runs.finished import read_summary
from affinet.cli.runs.runfolder import RESULTS
from affinet.cli.runs.start_record import JOB
from affinet.cli.trainings.data import load_data
from affinet.cli.trainings.perceptron import perceptron_of
from affinet.cli.trainings.perceptron_gradient import mean_gradient
from affinet.report.cost import cost_report
from affinet.report.pages.shown_numbers import shown_number
from affinet.system.stored.planfile import write_system
from affinet.system.system import System
from tests.cli.conftest import Command, changed, job_of
from tests.report.pages.html_checks import Page, checked


def report_of(run: Path) -> Page:
    return checked((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def run(affinet: Command, folder: Path) -> Path:
    """The folder of a finished run."""
    job_of(changed(), folder)
    result = affinet("train", "job.toml", "--out", "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_finished_run_has_a_page_with_all_its_parts(affinet: Command, run: Path) -> None:
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    assert result.stdout == "The report is in run/report.html: open it in a browser.\n"
    page = report_of(run)
    for heading in ("The rules, in words", "The weights, and the rules drawn on them", "The training"):
        assert heading in page.shown
    assert '"a tie" ties 1 pair of weights: 1 fewer free number.' in page.shown
    assert "2 tied in 1 group" in page.shown
    assert "With and without the rules" in page.shown
    for heading in ("Before the rules and the training", "Trained without the rules", "What the rules cost"):
        assert heading in page.shown
    assert "Loosening a tie by 0.01 would change the loss by about" in " ".join(page.shown.split())
    assert 'says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"' in page.shown
    assert "What is missing" not in page.shown
    again = affinet("report", "run", "--out", "run/again.html")
    assert again.exit_code == 0, again.output
    assert (run / "again.html").read_bytes() == (run / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("metrics.csv", "metrics.csv is missing"),
        ("model.safetensors", "model.safetensors is missing"),
        ("plan.safetensors", "plan.safetensors is missing"),
        ("plan.txt", "plan.txt is missing"),
        ("summary.json", "This run is unfinished"),
        ("samples.safetensors", "With the rules"),
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b"\xff\x00 damaged \x80" * 20])
def test_a_missing_or_damaged_file_is_named_and_the_others_are_shown(
    affinet: Command, run: Path, name: str, sentence: str, damage: bytes | None
) -> None:
    if damage is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(damage)
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    page = report_of(run)
    assert (sentence if damage is None else name.partition(".")[0]) in page.shown
    assert "Traceback" not in result.output
    assert "Job and versions" in page.shown


def with_a_flipped_bit(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 0x40]) + content[-19:]


CHANGES = {
    "model.safetensors": (with_a_flipped_bit, "the weights that are drawn are those of the file as it is now"),
    "metrics.csv": (lambda content: content[: content.index(b"\n3,") + 1], "the curves are those of the file"),
    "plan.txt": (lambda _: b"garbage\n", "the rules in words and the table of the plan are those of the file"),
    "scaling.json": (lambda content: content.replace(b"width", b"wide"), "names of columns are those of the file"),
    "job.toml": (lambda content: content + b"# later\n", "it is shown as it is now. Put the file back."),
}


def test_the_page_knows_what_it_takes_from_each_result() -> None:
    assert {*SHOWN_FROM} == {*RESULTS, JOB}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_can_be_read_and_was_changed_is_named(affinet: Command, run: Path, name: str) -> None:
    change, sentence = CHANGES[name]
    (run / name).write_bytes(change((run / name).read_bytes()))
    assert affinet("report", "run").exit_code == 0
    page = report_of(run)
    assert f"{name} is not as the run left it: {sentence}" in page.shown
    assert ("when the run ended" in page.shown) == (name == "model.safetensors")
    restored = f"affinet train --resume run restores {name}." in page.shown
    assert restored == (name in ("model.safetensors", "plan.txt", "scaling.json"))
    if restored:
        assert affinet("train", "--resume", "run").exit_code == 0
        assert affinet("report", "run").exit_code == 0
        assert "What is missing" not in report_of(run).shown


def test_weights_that_cannot_be_read_are_not_said_to_be_drawn(affinet: Command, run: Path) -> None:
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-20])
    assert affinet("report", "run").exit_code == 0
    shown = report_of(run).shown
    assert "restore it: affinet train --resume run" in shown
    assert "model.safetensors is not as the run left it." in shown
    assert "weights that are drawn" not in shown


def test_metrics_of_a_finished_run_that_are_gone_come_back_as_the_page_says(affinet: Command, run: Path) -> None:
    (run / "metrics.csv").unlink()
    assert affinet("report", "run").exit_code == 0
    shown = report_of(run).shown
    assert "affinet train --resume run writes metrics.csv again, with the row of the last epoch alone." in shown
    assert "loss, last epoch" in shown
    assert affinet("train", "--resume", "run").exit_code == 0
    assert [line[:2] for line in (run / "metrics.csv").read_text().splitlines()[1:]] == ["3,"]


def table_of(page: str, title: str) -> list[tuple[str, str]]:
    """The rows of a curve's table."""
    table = page.partition(f"<summary>{title} as a table</summary>")[2].partition("</table>")[0]
    return re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', table)


def test_stationarity_is_drawn_over_the_epochs_after_which_it_was_measured(affinet: Command, folder: Path) -> None:
    job_of(changed(("epochs = 3", "epochs = 8\nstationarity_every = 3")), folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    summary = read_summary(folder / "run")
    assert summary is not None
    assert summary.prices is not None
    assert affinet("report", "run").exit_code == 0
    page = report_of(folder / "run")
    rows = table_of((folder / "run" / "report.html").read_text(), "Stationarity")
    assert [epoch for epoch, _ in rows] == ["1", "3", "6", "8"]
    measured = [line.rpartition(",")[2] for line in (folder / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert [value != "" for value in measured] == [True, False, True, False, False, True, False, True]
    assert [number for _, number in rows] == [shown_number(float(value)) for value in measured if value]
    first, last = (shown_number(float(measured[k]), 2) for k in (0, -1))
    assert f"0 at an optimum: {first} after epoch 1, {last} after epoch 8." in " ".join(page.shown.split())
    assert "What is missing" not in page.shown


def test_a_run_without_stationarity_or_of_an_earlier_version_is_drawn_without(affinet: Command, folder: Path) -> None:
    job_of(changed(("epochs = 3", "epochs = 3\nstationarity_every = 0")), folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    metrics = (folder / "run" / "metrics.csv").read_text()
    old = "".join(line.rpartition(",")[0] + "\n" for line in metrics.splitlines())
    for text in (metrics, old):
        (folder / "run" / "metrics.csv").write_text(text)
        assert affinet("report", "run").exit_code == 0
        page = (folder / "run" / "report.html").read_text()
        assert "cannot be read" not in page
        assert not table_of(page, "Stationarity")
        assert [epoch for epoch, _ in table_of(page, "Largest violation")] == ["1", "2", "3"]


def test_a_run_without_rules_is_not_said_to_be_at_an_optimum(affinet: Command, folder: Path) -> None:
    text = changed()
    job_of(text[: text.index("[[rule]]")], folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    assert affinet("report", "run").exit_code == 0
    assert "at an optimum" not in report_of(folder / "run").shown


def test_a_run_that_has_only_begun_says_that_it_is_unfinished(affinet: Command, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "job.toml").write_text(changed())
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    page = report_of(folder / "run")
    assert "no epoch is finished yet" in page.shown
    assert "affinet train --resume run" in page.shown
    assert "metrics.csv is missing" in result.stdout


def test_rows_that_are_not_whole_are_left_out(affinet: Command, run: Path) -> None:
    metrics = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(f"{metrics}4,0.5,")
    affinet("report", "run")
    assert "1 of 4 rows of metrics.csv cannot be read, and are left out." in report_of(run).shown


def test_a_folder_without_a_run_and_a_page_that_cannot_be_written_end_with_2(affinet: Command, run: Path) -> None:
    for words in (("report", "nowhere"), ("report", "run", "--out", "run"), ("report", "run", "--out", "run/plan.txt")):
        result = affinet(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")


METHODS = {
    "project": (),
    "reparametrize": (("epochs = 3", 'epochs = 3\nmethod = "reparametrize"'),),
    "lagrange": (("epochs = 3", 'epochs = 3\nmethod = "lagrange"'),),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prices_the_rules_of_its_run(affinet: Command, folder: Path, method: str) -> None:
    job_of(changed(*METHODS[method]), folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    summary = read_summary(folder / "run")
    assert summary is not None
    assert summary.prices is not None
    assert [rule.name for rule in summary.prices.rules] == ["a tie"]
    assert summary.prices.stationarity >= 0.0
    assert affinet("report", "run").exit_code == 0
    assert "What the rules cost" in report_of(folder / "run").shown


def test_prices_are_those_of_the_gradient_over_all_rows(affinet: Command, folder: Path) -> None:
    """The figures of the run equal those that NumPy computes from its weights, to the rounding of float32."""
    text = changed(("epochs = 3", "epochs = 40"))
    job = job_of(text, folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    plan, weights = Plan.load(folder / "run" / "plan.safetensors"), load_file(folder / "run" / "model.safetensors")
    data = load_data(job.job.data, folder, job.job.train.seed)
    rows = data.train_features.astype(np.float32), data.train_targets
    gradients = mean_gradient(perceptron_of(job, data.inputs, data.outputs), data.task, weights, *rows)
    at = {parameter.name: weights[parameter.name] for parameter in plan.parameters}
    truth = cost_report(plan.projector(at), {name: gradients[name] for name in at}, at=at)
    summary = read_summary(folder / "run")
    assert summary is not None
    assert summary.prices is not None
    # The gradient of torch is summed in float32 over 30 rows; the price is the difference of two of its entries.
    assert summary.prices.rules[0].change == pytest.approx(truth.rules[0].change, rel=1e-4)
    assert summary.prices.stationarity == pytest.approx(truth.stationarity, rel=1e-4)


def test_a_report_imports_no_framework(run: Path) -> None:
    code = (
        "import sys; from affinet.cli.commands import commands; commands(['report', 'run'], standalone_mode=False); "
        "print([name for name in ('torch', 'jax', 'keras', 'tensorflow') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=run.parent, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_many_rules_with_hostile_names_are_drawn_in_a_page_of_bounded_size(affinet: Command, folder: Path) -> None:
    """The page names the first rules of a weight and how many there are; 100,000 rules make it no longer."""
    count, entries = 3000, affinet_weights({"a": (60, 50)})["a"]
    rules = [(entries[k // 50, k % 50] >= -1.0).named(f"</style><script>{k}") for k in range(count)]
    (folder / "run").mkdir()
    (folder / "run" / "job.toml").write_text("[data]\n# <script>\n")
    write_system(System.of(rules), folder / "run" / "plan.safetensors")
    save_file({"a": np.full((60, 50), -1.0, np.float32)}, folder / "run" / "model.safetensors")
    assert affinet("report", "run").exit_code == 0
    page = report_of(folder / "run")
    assert "… (3,000 in all)" in page.shown
    assert "3,000 at a bound" in page.shown
    assert (folder / "run" / "report.html").stat().st_size <= 3_000_000


def test_rules_too_large_to_be_priced_are_not_and_the_page_says_so(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "MOST_PRICED", 1)
    job_of(changed(), folder)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    assert affinet("report", "run").exit_code == 0
    page = report_of(folder / "run")
    assert "Prices of rules are not computed in runs whose rules have 2 pairs of a row and an entry." in page.shown
    assert "Loosening" not in page.shown


@pytest.mark.parametrize("hidden", ["[5]", "[]"])
def test_the_page_says_what_the_columns_are_about(affinet: Command, folder: Path, hidden: str) -> None:
    rows = [f"{k % 7},{('red', '<i>', 'a b')[k % 3]},{k % 5}" for k in range(30)]
    (folder / "shop.csv").write_text("\n".join(["<script>alert(1)</script>,colour,price", *rows]) + "\n")
    first = "output.weight" if hidden == "[]" else "hidden1.weight"
    text = changed(
        ("small.csv", "shop.csv"),
        ('"kind"', '"price"\ntask = "regression"\ntext = "encode"'),
        ("[5]", hidden),
        ("hidden1.weight[0, 1] == hidden1.weight[2, 0]", f"{first}[:, 'colour=red'] == 0"),
    )
    (folder / "job.toml").write_text(text)
    assert affinet("train", "job.toml", "--out", "run").exit_code == 0
    assert affinet("report", "run").exit_code == 0
    written = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in written
    assert "<i>" not in written.replace("<i></i>", "")
    columns = written.split("What the columns are about")[1].split("</details>")[0]
    assert [line.split("<bdi>")[1].split("</bdi>")[0] for line in columns.splitlines() if "<bdi>" in line] == [
        "&lt;script&gt;alert(1)&lt;/script&gt;", "colour=&lt;i&gt;", "colour=a b", "colour=red",
    ]  # fmt: skip
    assert "<title>colour=red: 0</title>" in written
    report_of(folder / "run")
    for damage in ("[]", '{"features": [1]}', '{"features": ["a"]}', "no JSON", '{"features": "abcd"}'):
        (folder / "run" / "scaling.json").write_text(damage)
        assert affinet("report", "run").exit_code == 0
        assert "What the columns are about" not in (folder / "run" / "report.html").read_text(encoding="utf-8")
