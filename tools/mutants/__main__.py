"""Change the code in one small place, run the tests that run that place, and see whether one of them fails.

    python -m tools.mutants --measure              first: which test runs which line (minutes)
    python -m tools.mutants --sample 400 --seed 1  try a sample; a second call goes on where the first stopped
    python -m tools.mutants --again                try the survivors again, after tests were added
    python -m tools.mutants --sample all           everything: days of one core

Survivors that no test can tell are answered in tests/mutants/answers.toml, one by one; the others are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tools.mutants import choosing, covering, scoring
from tools.mutants.making import Mutant
from tools.mutants.running import Trial, try_out, warm_up

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "mutants"
FOLDERS = tuple(f"src/affinet/{name}" for name in ("blocks", "planning", "analysis", "plans", "kernels"))
TESTS = (
    *(f"tests/{name}" for name in ("blocks", "planning", "analysis", "plans", "kernels")),
    "tests/system", "tests/contract", "tests/report",
    *(f"tests/training/test_{name}.py" for name in (
        "compiled", "metric", "multipliers", "reparametrize", "reparametrize_graphs", "reparametrize_keeping",
        "reparametrize_layers", "reparametrized_table", "reparametrized_trajectories")),
)  # fmt: skip
ANSWERS = ROOT / "tests" / "mutants" / "answers.toml"
# A test may take this many times its time, and this many seconds on top, before the mutant counts as running for ever.
PATIENCE, FLOOR, COMPILING = 3.0, 15.0, 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants as asked; 0 where every survivor is answered."""
    asked = _asked(arguments)
    os.chdir(ROOT)
    KEPT.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(KEPT / "loops"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    map_of_tests = KEPT / "coverage.json"
    if asked.measure is not None:
        new = covering.measure(ROOT, FOLDERS, asked.measure or TESTS)
        old = covering.recall(map_of_tests) if asked.measure and map_of_tests.exists() else covering.Coverage({}, {})
        covering.keep(covering.together(old, new), map_of_tests)
        return 0
    if not map_of_tests.exists():
        raise SystemExit("which test runs which line is not known yet: python -m tools.mutants --measure")
    found = choosing.all_mutants(ROOT, FOLDERS, KEPT / "made", asked.only)
    drawn = choosing.sampled(found, None if asked.sample == "all" else int(asked.sample), asked.seed)
    print(f"{len(drawn)} of {sum(map(len, found.values()))} mutants, seed {asked.seed}", flush=True)
    tried = list(_trials(drawn, asked, covering.recall(map_of_tests), KEPT / f"tried-{asked.seed}.jsonl"))
    answered = scoring.answers(ANSWERS)
    for line in (*scoring.still_open(tried, answered), "", *scoring.table(tried, answered)):
        print(line)
    return int(scoring.score(tried, answered).open > 0)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__, fromfile_prefix_chars="@",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--measure", nargs="*", metavar="TEST", help="all tests, or these again")
    parser.add_argument("--sample", default="400", help="how many mutants, or `all`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="PART", help="files whose path has this in it")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of tests a mutant, nearest first")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    return parser.parse_args(arguments)


def _trials(
    drawn: Sequence[Mutant], asked: argparse.Namespace, coverage: covering.Coverage, kept: Path
) -> Iterator[scoring.Tried]:
    """Each mutant with its fate: from the file `kept`, or tried now and noted there."""
    known = _known(kept)
    warm_up()
    for place, mutant in enumerate(drawn, 1):
        trial = known.get(mutant.key)
        if trial is None or (asked.again and trial.fate in ("survived", "no test")):
            trial = _trial(mutant, coverage, asked.budget)
            with kept.open("a", encoding="utf-8") as notes:
                notes.write(json.dumps({"key": mutant.key, "line": mutant.first, **asdict(trial)}) + "\n")
            print(
                f"{place:5} {trial.fate:11} {trial.seconds:6.1f} s  {mutant.file}:{mutant.first} {trial.by}", flush=True
            )
        yield mutant, trial


def _known(kept: Path) -> dict[scoring.Key, Trial]:
    if not kept.exists():
        return {}
    notes = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    return {tuple(each["key"]): Trial(each["fate"], each["by"], each["seconds"]) for each in notes}


def _trial(mutant: Mutant, coverage: covering.Coverage, budget: float) -> Trial:
    loops = choosing.compiled_by_numba(mutant.file)
    chosen, seconds = choosing.tests_of(mutant, coverage, ROOT, budget)
    chosen = [test for test in chosen if (ROOT / test.partition("::")[0]).exists()]  # files may have gone since
    if not chosen:
        return Trial("no test", "", 0.0)
    path = ROOT / mutant.file
    return try_out(
        choosing.module_of(mutant.file),
        path,
        mutant.of(path.read_text(encoding="utf-8")),
        chosen,
        limit=PATIENCE * seconds + FLOOR + (COMPILING if loops else 0.0),
        fresh_loops=loops,
    )


if __name__ == "__main__":
    sys.exit(main())
