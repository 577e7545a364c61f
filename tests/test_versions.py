"""The versions that are promised, tested and installed are the same ones: pyproject.toml and constraints/."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _asked(*extras: str) -> dict[str, Requirement]:
    listed = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    wanted = [Requirement(text) for text in listed]
    return {_name(one): one for one in wanted if one.name != "affinet"}


def _name(one: Requirement) -> str:
    return one.name.lower().replace("_", "-")


def _pinned(file: str) -> dict[str, str]:
    lines = (HERE / "constraints" / file).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    return {_name(pin): str(pin.specifier)[2:] for pin in pins}


def test_the_oldest_versions_that_are_tested_are_the_promised_ones() -> None:
    pinned = _pinned("oldest.txt")
    for name, wanted in _asked("cli", "tensorboard", "test").items():
        (floor,) = [str(one)[2:] for one in wanted.specifier if str(one).startswith(">=")]
        assert name in pinned
        assert pinned[name].startswith(floor), f"{name}: {floor} is promised, {pinned[name]} is tested"


@pytest.mark.parametrize("extra", ["cli", "tensorboard", "test", "check", "trainers", "docs", "browser", "sklearn"])
def test_what_is_installed_is_pinned_and_as_new_as_promised(extra: str) -> None:
    pinned = _pinned("ci.txt")
    for name, wanted in _asked(extra).items():
        assert name in pinned, "run `make constraints`"
        assert wanted.specifier.contains(pinned[name]), f"{name} {pinned[name]}: run `make constraints`"


def test_no_test_is_skipped_everywhere_in_ci_for_want_of_a_package() -> None:
    """`make test` installs the extra `test` alone: who needs more is run by a target that installs it."""
    installed = {name.replace("-", "_") for name in _asked("cli", "tensorboard", "test")}
    makefile = (HERE / "Makefile").read_text(encoding="utf-8")
    (named,) = re.findall(r"^ALSO_WITH_TRAINERS := (.+)$", makefile, re.MULTILINE)
    folders = [HERE / "tests" / name for name in ("integrations", "browser", "adapters", "mutants")]
    elsewhere = [*folders, *(HERE / path for path in named.split())]
    for path in (HERE / "tests").rglob("*.py"):
        if not any(path.is_relative_to(place) for place in elsewhere):
            needed = re.findall(r"importorskip\(\s*['\"](\w+)", path.read_text(encoding="utf-8"))
            assert set(needed) <= installed, f"{path}: run it with an extra that has {set(needed) - installed}"


def test_the_environment_of_tensorflow_is_pinned_and_has_no_torch() -> None:
    pinned = _pinned("tensorflow.txt")
    assert "torch" not in pinned
    for name, wanted in _asked("cli", "keras-tf", "tensorboard").items():
        if name != "torch":
            assert name in pinned, "run `make constraints`"
            assert wanted.specifier.contains(pinned[name]), f"{name} {pinned[name]}: run `make constraints`"
