from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from affinet.blocks.interval import Interval
from affinet.cli.run_summary import Outcome, RunSummary
from affinet.cli.screen import Screen
from affinet.cli.trainings.training import Epoch, Step
from affinet.cli.watch_lines import Terminal
from affinet.report.cost import Trainable

RULES = Outcome(
    loss=0.25, score=0.95, violation=1e-7, trained=Trainable(6000, 6000), free=5000, seconds=1.5, measuring=0.25
)
PLAIN = Outcome(
    loss=0.2, score=0.97, violation=2.5, trained=Trainable(6000, 6000), free=6000, seconds=1.0, measuring=0.125
)


@pytest.mark.parametrize(
    ("name", "rules", "plain", "sentence"),
    [
        (
            "accuracy",
            0.95,
            0.97,
            "cost 2.0 percentage points of accuracy (2 of 100 test rows): 95.0% with them, 97.0% without.",
        ),
        ("accuracy", 0.97, 0.97, "cost nothing in accuracy: 97.0% with them, 97.0% without, on 100 test rows."),
        ("R²", 0.5, 0.625, "cost 0.125 of R²: 0.500 with them, 0.625 without, on 100 test rows."),
        ("R²", 0.50002, 0.50001, "cost nothing in R²: 0.500 with them, 0.500 without, on 100 test rows."),
    ],
)
def test_the_cost_is_one_plain_sentence(name: str, rules: float, plain: float, sentence: str) -> None:
    summary = RunSummary(
        name, 100, 0.5 if name == "accuracy" else 0.0, replace(RULES, score=rules), replace(PLAIN, score=plain)
    )
    assert summary.cost() == f"The rules {sentence}"


def test_rules_that_raise_the_score_are_not_said_to_cost_nothing() -> None:
    gained = RunSummary("R²", 40, 0.0, replace(RULES, score=0.202), replace(PLAIN, score=0.163))
    assert gained.cost() == "With the rules R² is higher: 0.202 with them, 0.163 without, on 40 test rows."


@pytest.mark.parametrize(
    ("trained", "free", "sentence"),
    [
        (4745, 4745, "With rules, trained 4,745 of 4,810 numbers."),
        (4810, 4745, "With rules, trained all 4,810 numbers, of which 4,745 are free."),
        (4810, 4810, "With rules, trained all 4,810 numbers."),
        (4810, Interval(10, 12), "With rules, trained all 4,810 numbers, of which 10..12 are free."),
    ],
)
def test_it_is_told_how_many_numbers_were_trained(trained: int, free: int | Interval, sentence: str) -> None:
    summary = RunSummary("R²", 100, 0.0, replace(RULES, trained=Trainable(trained, 4810), free=free), PLAIN)
    assert summary.training() == sentence
    assert sentence in shown(summary)


@pytest.mark.parametrize(
    ("name", "trivial", "scores", "told"),
    [
        ("accuracy", 0.2, "20.0% with them, 19.0% without", "naming the most frequent class scores 20.0%"),
        ("R²", 0.0, "-0.250 with them, -0.260 without", "the mean of the target scores 0.000"),
    ],
)
def test_two_networks_that_learnt_nothing_say_nothing_about_the_rules(
    name: str, trivial: float, scores: str, told: str
) -> None:
    score = trivial if name == "accuracy" else -0.25
    failed = RunSummary(name, 9, trivial, replace(RULES, score=score), replace(PLAIN, score=score - 0.01))
    assert failed.cost() == (
        f"Neither network learnt anything, so what the rules cost is not known: {name} is {scores}, on 9 test rows, "
        f"and {told}. Change epochs, learning_rate or optimizer in [train]."
    )
    assert "Neither" not in replace(failed, plain=replace(PLAIN, score=trivial + 0.01)).cost()


def shown(summary: RunSummary, width: int = 80) -> str:
    page = io.StringIO()
    Terminal(Screen(Console(file=page, width=width)), summary.score_name).compare(summary)
    return page.getvalue()


def test_both_trainings_stand_side_by_side_in_80_columns() -> None:
    page = shown(RunSummary("accuracy", 100, 0.5, RULES, PLAIN))
    rows = [line.split() for line in page.splitlines()]
    assert ["training", "test", "largest", "free"] in rows
    assert ["loss", "accuracy", "violation", "numbers", "seconds"] in rows
    assert ["with", "rules", "0.2500", "95.0%", "1.0e-07", "5,000", "1.5"] in rows
    assert ["without", "rules", "0.2000", "97.0%", "2.5e+00", "6,000", "1.0"] in rows
    assert page.strip().endswith("95.0% with them, 97.0% without.")


def test_how_much_of_the_time_was_measuring_is_told_apart() -> None:
    summary = RunSummary("accuracy", 100, 0.5, RULES, PLAIN)
    both = "0.2 of the 1.5 seconds with rules, and 0.1 of the 1.0 without"
    subject = "Measuring the violation after every step, and under rules the stationarity, took"
    assert summary.measuring() == f"{subject} {both}."
    assert summary.measuring() in " ".join(shown(summary, width=200).split())
    assert replace(summary, plain=None).measuring() == f"{subject} 0.2 of the 1.5 seconds with rules."


def test_a_comparison_that_diverged_and_a_rank_between_bounds_are_shown_as_such() -> None:
    page = shown(RunSummary("R²", 100, 0.0, replace(RULES, free=Interval(10, 12)), None))
    assert "10..12" in page
    assert "diverged" in page
    assert "Without the rules the same network diverged, so there is nothing to compare the score with." in page


def test_the_progress_bar_shows_the_last_loss_and_score_and_the_largest_violation() -> None:
    page = io.StringIO()
    terminal = Terminal(Screen(Console(file=page, width=100)), "accuracy")
    with terminal.training("with rules", epochs=3, steps=9, steps_done=0) as see:
        see(Step(loss=0.5, violation=3e-7))
        see(Epoch(number=1, loss=0.6, score=0.25, violation=3e-7))
        see(Step(loss=0.4, violation=1e-7))
    assert "1/3 loss 0.4000 accuracy 25.0% violation 3.0e-07" in page.getvalue()


def test_text_of_users_is_never_markup() -> None:
    page = io.StringIO()
    screen = Screen(Console(file=page, width=30), Console(file=page, width=30))
    screen.say("[bold]rule[/bold] [/nonsense] :smile: " + "x" * 40)
    screen.complain("[red]hidden1.weight[0][/red]")
    assert page.getvalue() == "[bold]rule[/bold] [/nonsense] :smile: " + "x" * 40 + "\n[red]hidden1.weight[0][/red]\n"
