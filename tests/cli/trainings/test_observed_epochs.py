from __future__ import annotations

from pathlib import Path

import pytest

from affinet.cli.trainings.observed_epochs import CHEAP_WORK, observed_epochs
from tests.cli.conftest import changed, job_of

FACTORY = ("hidden = [5]", 'factory = "module:make"')


def observed(folder: Path, epochs: int, *changes: tuple[str, str], work: int = 1000) -> list[int]:
    """The epochs of a job after which stationarity is measured, for so many rows times weights."""
    job = job_of(changed(("epochs = 3", f"epochs = {epochs}"), *changes), folder).job
    chosen = observed_epochs(job, work, 1)
    return [epoch for epoch in range(1, epochs + 1) if epoch in chosen]


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_up_to_a_hundred_epochs_are_all_observed(tmp_path: Path, epochs: int) -> None:
    assert observed(tmp_path, epochs) == list(range(1, epochs + 1))


def test_more_epochs_have_about_a_hundred_at_even_distances_with_the_ends(tmp_path: Path) -> None:
    assert observed(tmp_path, 3000) == [1, *range(30, 3001, 30)]
    assert observed(tmp_path, 101)[:3] == [1, 2, 4]
    assert observed(tmp_path, 101)[-2:] == [100, 101]


@pytest.mark.parametrize(("changes", "work"), [((), CHEAP_WORK + 1), ((FACTORY,), 1)], ids=["many rows", "a factory"])
def test_where_a_gradient_may_be_dear_at_most_every_fifth_epoch_is_observed(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], work: int
) -> None:
    assert observed(tmp_path, 25, *changes, work=work) == [1, 5, 10, 15, 20, 25]
    assert observed(tmp_path, 7, *changes, work=work) == [1, 5, 7]
    assert observed(tmp_path, 3000, *changes, work=work) == [1, *range(30, 3001, 30)]


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 3, 6, 7]), (50, [1, 7])])
def test_a_job_decides_for_itself(tmp_path: Path, every: int, epochs: list[int]) -> None:
    key = ("batch_size", f"stationarity_every = {every}\nbatch_size")
    assert observed(tmp_path, 7, key, work=CHEAP_WORK + 1) == epochs
