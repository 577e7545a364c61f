"""`affinet train --live`: a process serves the page, training does not notice, and the process ends with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

import affinet as library
from affinet.cli.live.live_view import live_page
from affinet.cli.screen import Screen
from affinet.errors import RunError
from tests.cli.conftest import SMALL, Command, changed

ADDRESS = re.compile(r"until the command ends: http://127\.0\.0\.1:(\d+)/")
PATIENCE = 60.0


def port_of(output: str) -> int:
    found = ADDRESS.search(output)
    assert found is not None, output
    return int(found[1])


def get(port: int, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def wait_until_closed(port: int) -> None:
    """Wait until nobody listens at a port; fail where somebody still does after a minute."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"somebody still listens at port {port}")


def test_training_has_the_same_bits_with_and_without_it(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    assert affinet("train", "job.toml", "--out", "without").exit_code == 0
    result = affinet("train", "job.toml", "--out", "with", "--live")
    assert result.exit_code == 0, result.output
    wait_until_closed(port_of(result.output))
    for name in ("model.safetensors", "metrics.csv"):
        assert (folder / "with" / name).read_bytes() == (folder / "without" / name).read_bytes()
    names = [sorted(path.name for path in (folder / name).iterdir()) for name in ("with", "without")]
    assert names[0] == names[1]


def test_a_resumed_run_is_served_too(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    result = affinet("train", "job.toml", "--resume", "run", "--live")
    assert result.exit_code == 0, result.output
    assert ADDRESS.search(result.output)
    again = affinet("train", "--resume", "run", "--live")
    assert again.exit_code == 0, again.output
    assert ADDRESS.search(again.output)


def test_the_page_of_a_run_that_was_refused_is_not_served(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    (folder / "metrics.csv").touch()
    result = affinet("train", "job.toml", "--out", ".", "--live")
    assert result.exit_code == 2
    assert not ADDRESS.search(result.output)


def test_a_port_without_the_page_is_refused(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    result = affinet("train", "job.toml", "--port", "8000")
    assert result.exit_code == 2
    assert "--port 8000 is the port of the live page, which --live asks for. Add --live." in result.stderr
    assert not (folder / "runs").exists()


def test_a_port_that_is_taken_is_refused_before_anything_is_written(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = affinet("train", "job.toml", "--live", "--port", str(port))
    assert result.exit_code == 2
    assert f"the live page cannot be served at port {port}: Address already in use." in result.stderr
    assert "leave --port out for any free one" in result.stderr
    assert not (folder / "runs").exists()


def test_the_asked_port_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with live_page(Screen(), tmp_path, port):
        assert port_of(capsys.readouterr().out) == port
        assert '"epochs": 0' in get(port, "/state")
        with pytest.raises(OSError, match="refused"):  # another address of this machine
            socket.create_connection(("127.0.0.2", port), timeout=5)
    wait_until_closed(port)


def test_the_process_ends_where_the_block_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="stop"), live_page(Screen(), tmp_path, 0):
        raise RunError("stop")
    wait_until_closed(port_of(capsys.readouterr().out))


RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from affinet.cli.main import app; app()"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_page_of_a_running_training_follows_it_and_ends_with_it(
    folder: Path, sent: signal.Signals, status: int
) -> None:
    (folder / "job.toml").write_text(changed(("epochs = 3", "epochs = 1_000_000")))
    words = [sys.executable, "-c", RUN, "train", "job.toml", "--out", "run", "--live"]
    environment = os.environ | {"PYTHONPATH": str(Path(library.__file__).resolve().parents[1])}
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        port = port_of(process.stdout.readline())
        deadline = time.monotonic() + PATIENCE
        while "Epoch 2" not in get(port, "/state") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "of 1,000,000: loss" in get(port, "/state")
        assert "hidden1.weight" in get(port, "/report")
        process.send_signal(sent)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == status
    wait_until_closed(port)
