"""`python -m tests.fuzz`: hunt on each target in turn for so many minutes of processor time, and say what was found."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.hunting import CURRENT, LONGEST, keep
from tests.fuzz.judging import MEMORY, judge, peak_memory
from tests.fuzz.target import Target
from tests.fuzz.targets import NAMED, TARGETS

FINDINGS = Path(__file__).parent / "findings"
STILL = 120.0
"""Seconds by the clock after which a process that has not finished an input is ended: it hangs outside of Python."""

MOST_DEATHS = 20


@dataclass
class Hunted:
    """What a hunt on one target came to."""

    executions: int = 0
    seconds: float = 0.0
    deaths: int = 0
    base: int = 0
    peak: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=24.0, help="of processor time, for each target")
    parser.add_argument("--target", action="append", choices=[*NAMED], help="one of the targets; all where not given")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read one input again, FINDINGS/TARGET/FILE")
    asked = parser.parse_args()
    if asked.replay is not None:
        return replay(asked.replay)
    print(f"{'target':12} {'inputs':>12} {'CPU-minutes':>12} {'peak memory':>16}  findings")
    found = 0
    for name in asked.target or [target.name for target in TARGETS]:
        target = NAMED[name]
        before = set(_findings(target))
        hunted = hunt(target, 60.0 * asked.minutes)
        new = [path for path in _findings(target) if path not in before]
        found += len(new)
        memory = f"{hunted.base >> 20} + {max(0, hunted.peak - hunted.base) >> 20} MB"
        print(f"{name:12} {hunted.executions:12,} {hunted.seconds / 60:12.1f} {memory:>16}  {len(new)}", flush=True)
        for path in new:
            why = path.with_name(path.name + ".why").read_text().splitlines()[0]
            print(f"    {path}: {why}\n    python -m tests.fuzz --replay {path}", flush=True)
    return 1 if found else 0


def hunt(target: Target, seconds: float) -> Hunted:
    """Start the process that hunts, again where it dies, until the processor time is spent."""
    hunted = Hunted()
    with tempfile.TemporaryDirectory(prefix="affinet-fuzz-") as scratch:
        folder = Path(scratch)
        (folder / "current").write_bytes(bytes(CURRENT.size + LONGEST))
        while hunted.seconds < seconds - 1 and hunted.deaths < MOST_DEATHS:
            status = _hunt_once(target, seconds, folder, hunted)
            if status != 0:
                hunted.deaths += 1
            if status not in (0, 3):
                _keep_last(target, folder, status)
        if (folder / "findings").exists():
            shutil.copytree(folder / "findings", FINDINGS / target.name, dirs_exist_ok=True)
    return hunted


def _hunt_once(target: Target, seconds: float, folder: Path, hunted: Hunted) -> int:
    """Its exit status, negative for a signal; -9 where it had to be ended."""
    words = [sys.executable, "-m", "tests.fuzz.hunting", target.name, str(seconds), str(folder)]
    with (folder / "log").open("wb") as log:
        inside = {**os.environ, "TMPDIR": str(folder)}  # what it leaves behind goes with the folder
        process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=inside)
        since, last = time.monotonic(), -1
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            executions = CURRENT.unpack_from((folder / "current").read_bytes())[0]
            if executions != last:
                since, last = time.monotonic(), executions
            elif time.monotonic() - since > STILL:
                process.kill()
            time.sleep(0.2)
    process.returncode = os.waitstatus_to_exitcode(status)
    hunted.executions, hunted.base, _, hunted.seconds = CURRENT.unpack_from((folder / "current").read_bytes())
    hunted.peak = max(hunted.peak, used.ru_maxrss * 1024)
    return process.returncode


def _keep_last(target: Target, folder: Path, status: int) -> None:
    """The input that the process ended on, unless it ended in the same place before."""
    content = (folder / "current").read_bytes()
    length = CURRENT.unpack_from(content)[2]
    log = (folder / "log").read_text(errors="replace")
    frames = [line.strip() for line in log.partition("(most recent call ")[2].splitlines()[1:2]]
    fact = f"the process ended with status {status}: {frames[0] if frames else 'no traceback'}"
    if not any(why.read_text().startswith(fact) for why in folder.glob("findings/*.why")):
        keep(folder, target.suffix, content[CURRENT.size : CURRENT.size + length], f"{fact}\n\n{log[-6000:]}")


def _findings(target: Target) -> list[Path]:
    return sorted(path for path in (FINDINGS / target.name).glob("*") if path.suffix != ".why")


def replay(path: Path) -> int:
    """Read an input once more; the folder that it lies in names its target."""
    import warnings

    warnings.simplefilter("error")
    target = NAMED[path.parent.name]
    finding = judge(target, path, peak_memory() + MEMORY)
    print(f"{finding}\n\n{finding.details}" if finding else "read or refused, as documented")
    return 1 if finding else 0


if __name__ == "__main__":
    sys.exit(main())
