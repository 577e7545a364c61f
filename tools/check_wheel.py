"""Build the wheel, look into it, install it in a throw-away environment and run its demo outside the repository.

The environment borrows the installed dependencies through a `.pth` file, so that nothing is downloaded twice; affinet
itself has to come from the wheel.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("affinet/__init__.py", "affinet/py.typed", "affinet/_version.py", "affinet/cli/demo/", "/licenses/LICENSE")
LOCATE = "import affinet; print(affinet.__file__, affinet.__version__)"


def build(folder: Path) -> Path:
    """The wheel, built in isolation."""
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], cwd=ROOT)
    (wheel,) = folder.glob("affinet-*.whl")
    return wheel


def look_into(wheel: Path) -> None:
    """Stop where the wheel lacks something, or holds anything but the package and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    for needed in NEEDED:
        if not any(needed in name for name in names):
            raise SystemExit(f"{wheel.name} lacks {needed}")
    for name in names:
        if not name.startswith(("affinet/", "affinet-")) or "/tests/" in name or "/test_" in name:
            raise SystemExit(f"{wheel.name} holds {name}, which is not part of the package")
    if "License-Expression: Apache-2.0" not in metadata:
        raise SystemExit(f"{wheel.name} does not say its license")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1000:.0f} kB")


def install(wheel: Path, folder: Path) -> Path:
    """The interpreter of a new environment that holds the wheel and sees this one's dependencies."""
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {name: Path(path) for name, path in sysconfig.get_paths(vars={"base": str(folder)}).items()}
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            str(folder),
            "install",
            "--no-deps",
            "--no-index",
            str(wheel),
        ]
    )
    # A path line is not searched for further .pth files: an editable install of affinet here stays out of sight.
    (paths["purelib"] / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return paths["scripts"] / "python"


def try_out(python: Path, folder: Path) -> None:
    """Import affinet from the wheel, run its demo in a folder of its own, and write the page about it."""
    where = run([str(python), "-c", LOCATE], cwd=folder)
    print(where.strip())
    if not where.startswith(str(python.parents[1])):
        raise SystemExit("affinet was not imported from the installed wheel")
    command = str(python.parent / "affinet")
    print(run([command, "demo", "--epochs", "1", "--out", "run"], cwd=folder))
    print(run([command, "report", "run"], cwd=folder))


def run(command: list[str], cwd: Path | None = None) -> str:
    """What the command printed; its whole output and a stop where it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(done.stdout)
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}")
    return done.stdout


def main() -> None:
    """All of it, in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        wheel = build(folder / "dist")
        look_into(wheel)
        python = install(wheel, folder / "environment")
        outside = folder / "outside"
        outside.mkdir()
        try_out(python, outside)


if __name__ == "__main__":
    main()
