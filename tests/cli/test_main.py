from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from affinet.cli import commands, main
from affinet.cli.runs.running import Interrupted
from tests.cli.conftest import SMALL, Command


def test_without_the_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "PACKAGES", ("typer", "no_such_package", "nor_this_one"))
    with pytest.raises(SystemExit, match="2"):
        main.app()
    told = capsys.readouterr().err
    assert told.startswith(
        "error: the affinet command needs packages that are not installed: no_such_package, nor_this"
    )
    assert told.endswith('Install them with: pip install "affinet[cli]"\n')


def test_ctrl_c_outside_a_command_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "commands", interrupted)
    thresholds = gc.get_threshold()
    with pytest.raises(SystemExit, match="130"):
        main.app()
    assert gc.get_threshold() == thresholds
    assert capsys.readouterr().err == "interrupted.\n"


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        (KeyboardInterrupt(), "Interrupted before training began; nothing was written.\n"),
        (Interrupted("Interrupted. run holds the weights."), "Interrupted. run holds the weights.\n"),
    ],
)
def test_ctrl_c_in_a_command_says_what_is_on_disk(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, stop: KeyboardInterrupt, told: str
) -> None:
    def interrupted(*_: object) -> None:
        raise stop

    (folder / "job.toml").write_text(SMALL)
    monkeypatch.setattr(commands, "_run", interrupted)
    result = affinet("train", "job.toml")
    assert (result.exit_code, result.stderr) == (130, told)


@pytest.mark.parametrize(("words", "completed"), [("affinet ini", ["init"]), ("affinet check --exp", ["--explain"])])
def test_shells_complete_commands_and_options(words: str, completed: list[str]) -> None:
    position = str(words.count(" "))
    environment = {"_AFFINET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
    printed = CliRunner().invoke(commands.commands, [], prog_name="affinet", env=environment).stdout
    assert printed.split() == completed


def test_python_dash_m_affinet_is_the_command_and_help_loads_nothing_heavy() -> None:
    heavy = "torch", "sklearn", "polars", "pydantic", "scipy"
    code = (
        "import runpy, sys; sys.argv = ['affinet', '--help']\n"
        "try: runpy.run_module('affinet', run_name='__main__')\n"
        f"finally: sys.stderr.write(repr([name for name in {heavy} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "check" in done.stdout
    assert done.stderr == "[]"


def test_check_of_a_table_imports_neither_torch_nor_sklearn(folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    code = (
        "import sys; from affinet.cli.main import app\n"
        "sys.argv = ['affinet', 'check', 'job.toml']\n"
        "try: app()\n"
        "finally: sys.stderr.write(repr(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No contradictions: 1 equation" in done.stdout, done.stderr
    loaded = ast.literal_eval(done.stderr)
    assert "polars" in loaded
    assert not {"torch", "sklearn", "pandas", "numba"} & set(loaded)


LAUNCHED = """
import sys, threading
import torch.distributed
from affinet.cli.main import app
threading.Thread(target=threading.Event().wait).start()
sys.argv = ["affinet", *sys.argv[1:]]
app()
"""
"""A process with a thread that the interpreter would wait for, without end."""


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["check", "missing.toml"], 2)])
def test_one_of_several_processes_ends_without_the_end_of_the_interpreter(words: list[str], status: int) -> None:
    """Threads of torch.distributed that want the interpreter while it ends abort the process."""
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "1"}
    command = [sys.executable, "-c", LAUNCHED, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert ended.returncode == status, ended.stderr
    assert "missing.toml" in ended.stderr if status else "Usage" in ended.stdout
