"""Define the commands and their exit statuses; each command imports the slow modules that only it needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affinet._version import __version__
from affinet.cli.screen import Screen
from affinet.cli.words import shell_word
from affinet.errors import AffinetError, InfeasibleError, JobError, RunError

if TYPE_CHECKING:
    from affinet.cli.jobs.jobfile import JobFile
    from affinet.cli.trainings.processes import Processes

WRONG, CONTRADICTION, BROKEN, INTERRUPTED = 2, 1, 1, 130

commands = typer.Typer(
    name="affinet",
    help="Train neural networks whose weights obey linear equations and inequalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="To begin with a table: affinet init data.csv, affinet train job.toml, affinet report runs/job.",
)


class TaskName(Enum):
    """The tasks that a job names."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


JobPath = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.", show_default=False)]
ModelPath = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A file of weights.", show_default=False),
]
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="A file of Plan.save, as in RUN.", show_default=False)]
OptionalJobPath = Annotated[Path | None, typer.Argument(metavar="JOB.toml", help="The job file.", show_default=False)]
Resumed = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Resume the run in this folder.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The folder to write the run to.")]
Live = Annotated[bool, typer.Option("--live", help="Show the run in a browser on this machine while it trains.")]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, metavar="N", help="The port of the live page.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
PageOut = Annotated[Path | None, typer.Option("--out", metavar="PAGE.html", help="The file to write the page to.")]
SourcePath = Annotated[str, typer.Argument(metavar="DATA", help="A .csv or .parquet file.", show_default=False)]
Target = Annotated[
    str | None, typer.Option("--target", metavar="COLUMN", help="The column to predict; the last one without.")
]
Chosen = Annotated[TaskName | None, typer.Option("--task", help="The task, where the column should not decide it.")]
JobOut = Annotated[Path | None, typer.Option("--out", metavar="JOB.toml", help="The file to write the job to.")]
NoCode = Annotated[bool, typer.Option("--no-code", help="Refuse a job with a factory before it is imported.")]
Explained = Annotated[
    list[str] | None,
    typer.Option(
        "--explain", metavar="ENTRY", help="Explain an entry or slice of a weight; may be given several times."
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Train for N epochs.")]


@commands.callback(invoke_without_command=True)
def affinet(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.", is_eager=True)] = False,
) -> None:
    """Train neural networks whose weights obey linear equations and inequalities."""
    if version:
        typer.echo(f"affinet {__version__}")
        raise typer.Exit


@commands.command()
def init(data: SourcePath, target: Target = None, task: Chosen = None, out: JobOut = None) -> None:
    """Write a commented job file for a table: it trains as it stands, and has rules of each common kind to choose from.

    JOB.toml is job.toml beside the table without --out. The schema that editors complete jobs by is written beside it,
    as affinet.schema.json. Nothing is overwritten. Exit status: 0, or 2 for any mistake in the data or the paths.
    """
    screen = Screen()
    with _exit_statuses(screen):
        from affinet.cli.initial_job import write_initial_job

        written = write_initial_job(data, target, out, task=task and task.value)
        screen.say(f"Data: {written.described}.")
        for choice in written.choices:
            screen.say(choice)
        train_it = f"affinet train {shell_word(written.path)}"
        screen.say(f"Wrote {written.path}. Remove the # before a rule at its end, then: {train_it}")


@commands.command()
def schema() -> None:
    """Print the JSON schema of job files, by which editors complete keys, explain them and mark mistakes."""
    from affinet.cli.editor_schema import schema_text

    typer.echo(schema_text(), nl=False)


@commands.command()
def train(
    job: OptionalJobPath = None, out: Out = None, resume: Resumed = None, live: Live = False, port: Port = None
) -> None:
    """Train the network of a job under its rules, and once more without them for comparison.

    Without --out, RUN is runs/<name of the job>, or the same with -2, -3, … where that holds a run. It receives
    model.safetensors, metrics.csv, job.toml, plan.safetensors, plan.txt, scaling.json, summary.json, and a checkpoint
    after each epoch. With --resume RUN a stopped run is resumed, and ends with the weights of an uninterrupted run;
    JOB.toml is needed only if it has moved.

    With --live the page of `affinet report` is served to browsers on this machine until the command ends, at the
    address that is printed; it follows the training. --port N asks for a port; without it any free one is taken.

    Exit status: 0, 1 where the rules contradict each other, 2 for any other mistake in the job, its files or the run,
    130 after Ctrl-C.
    """
    from affinet.cli.launching import report_once, screen_of_process

    screen = screen_of_process()
    with _exit_statuses(screen):
        from affinet.cli.jobs.jobfile import read_job

        with report_once():
            live_port = _live_port(live, port)
        if resume is not None:
            _resume(screen, resume, job, out, live_port)
        elif job is None:
            raise JobError("there is no job to train. Name a job file, or a stopped run with --resume RUN.")
        else:
            with report_once():
                job_file = read_job(job)
            _run(screen, job_file, out, Path("runs") / job.stem, live_port)


@commands.command()
def check(job: JobPath, no_code: NoCode = False, explain: Explained = None) -> None:
    """Show the plan of a job's rules and what is suspicious in it, without training; name rules that contradict.

    With --explain "hidden1.weight[0, 1]" show instead why that entry has its value or its freedom.

    Exit status: 0 where the rules can hold together, whatever the findings, 1 where they contradict each other, 2 for
    any other mistake.
    """
    screen = Screen()
    with _exit_statuses(screen):
        from affinet.cli.jobs.jobfile import read_job, refuse_code

        job_file = read_job(job)
        if no_code:
            refuse_code(job_file)
        from affinet.cli import checking

        if explain:
            checking.explain(job_file, explain, screen)
        else:
            checking.check(job_file, screen)


@commands.command()
def verify(model: ModelPath, plan: PlanPath) -> None:
    """Say whether the weights in a file satisfy the rules of a plan, rule by rule, to the rounding of their dtype.

    Exit status: 0 where all hold, 1 where one does not, 2 for any mistake in the files.
    """
    screen = Screen()
    with _exit_statuses(screen):
        from affinet.cli.verifying import verify_file

        holds = verify_file(model, plan, screen)
    if not holds:
        raise typer.Exit(BROKEN)


@commands.command()
def report(run: RunPath, out: PageOut = None) -> None:
    """Write a page about a run: its rules in words and drawn on the weights, its curves, and what the rules cost.

    The page is one file of HTML that loads nothing, report.html in RUN without --out; an earlier page is replaced. Of
    an unfinished run it shows what there is. Exit status: 0, or 2 where there is no run or the page cannot be written.
    """
    screen = Screen()
    with _exit_statuses(screen):
        from affinet.cli.reports.reporting import report as write_report

        write_report(run, out, screen)


@commands.command()
def demo(epochs: Epochs = None, out: Out = None) -> None:
    """Train a classifier of handwritten digits under four rules; needs no file and no network connection.

    RUN is runs/demo, or runs/demo-2 and so on where that exists already. Exit status as for train.
    """
    screen = Screen()
    with _exit_statuses(screen):
        from affinet.cli import demonstration

        screen.say(demonstration.INTRODUCTION)
        folder = _run(screen, demonstration.demo_job(epochs), out, Path("runs/demo"))
        demonstration.copy_files(folder)
        screen.say(demonstration.ending(folder))


def _live_port(live: bool, port: int | None) -> int | None:
    """The port of the live page: 0 for any free one, None without the page."""
    if port is not None and not live:
        raise RunError(f"--port {port} is the port of the live page, which --live asks for. Add --live.")
    return (port or 0) if live else None


def _run(screen: Screen, job: JobFile, out: Path | None, usual: Path, live_port: int | None = None) -> Path:
    """Train a job in the folder `out`, or else in `usual` or the next free one. Returns the folder."""
    from affinet.cli.launching import processes_for
    from affinet.cli.runs.runfolder import free_folder

    with processes_for(job) as processes:
        folder = out or processes.from_writer(lambda: free_folder(usual))
        _run_in(processes, screen, job, folder, live_port)
    return folder


def _run_in(processes: Processes, screen: Screen, job: JobFile, out: Path, live_port: int | None) -> None:
    from affinet.cli.live.live_view import live_page
    from affinet.cli.runs.following import follow
    from affinet.cli.runs.runfolder import refuse_used

    if not processes.writes:
        follow(job, out, processes, "finish")
        return
    refuse_used(out)
    with live_page(screen, out, live_port):
        _run_here(processes, screen, job, out)


def _run_here(processes: Processes, screen: Screen, job: JobFile, out: Path) -> None:
    """Run a job in the process that writes its folder and shows it."""
    from affinet.cli.runs.running import run
    from affinet.cli.trainings.preparation import prepare
    from affinet.cli.watch_lines import Terminal

    prepared = prepare(job, processes)
    data = prepared.data
    rows = f"{len(data.train_targets):,} rows to train on, {len(data.test_targets):,} to test on"
    screen.say(f"Data: {rows}; {data.decided}. {data.scaling.sentence()}")
    for notice in data.notices:
        screen.say(notice)
    screen.say("")
    screen.say_plan(f"{prepared.rules}\n")
    if not prepared.rules.system.every:
        screen.say("Both trainings below are the same, for the job has no rules yet.")
    terminal = Terminal(screen, data.score_name)
    terminal.compare(run(prepared, out, terminal))
    screen.say(f"Everything is in {out}. A page with pictures of it: affinet report {shell_word(out)}")


def _resume(screen: Screen, run: Path, job: Path | None, out: Path | None, live_port: int | None = None) -> None:
    from affinet.cli.jobs.jobfile import read_job
    from affinet.cli.launching import processes_for, report_once
    from affinet.cli.live.live_view import live_page
    from affinet.cli.runs.following import follow
    from affinet.cli.runs.resuming import resume
    from affinet.cli.runs.runfolder import holds_run
    from affinet.cli.runs.start_record import job_of_run, read_start_record

    if out is not None:
        raise RunError(f"--out {out} starts a new run, and --resume {run} resumes an old one. Give one of them.")
    with report_once():
        record = read_start_record(run) if job is None or holds_run(run) else None
        job_file = read_job(job) if job is not None else job_of_run(run, record or read_start_record(run), None)
    arguments = f"--resume {shell_word(run)}" if job is None else f"{shell_word(job)} --resume {shell_word(run)}"
    with processes_for(job_file, arguments, record.processes if record else None) as processes:
        if processes.from_writer(lambda: job is not None and not holds_run(run)):
            screen.say(f"There is no run in {run} yet: starting one.")
            _run_in(processes, screen, job_file, run, live_port)
        elif processes.writes:
            with live_page(screen, run, live_port):
                resume(run, job, screen, processes)
                screen.say(f"Everything is in {run}.")
        else:
            follow(job_file, run, processes, processes.from_writer(lambda: "nothing"))


@contextmanager
def _exit_statuses(screen: Screen) -> Iterator[None]:
    """Turn affinet's errors into one paragraph and an exit status; bugs keep their traceback.

    Each warning becomes one paragraph.
    """
    from affinet.cli.trainings.processes import AlreadyReported

    try:
        with screen.warnings():
            yield
    except InfeasibleError as error:
        screen.complain(f"error: {error}")
        raise typer.Exit(CONTRADICTION) from None
    except AlreadyReported:
        raise typer.Exit(WRONG) from None
    except AffinetError as error:
        screen.complain(f"error: {error}")
        raise typer.Exit(WRONG) from None
    except KeyboardInterrupt as stop:
        screen.complain(str(stop) or "Interrupted before training began; nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
