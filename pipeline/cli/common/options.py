"""Options and arguments that several commands share, and opening a sweep."""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cluster.executor import EXECUTORS
from pipeline.env import STORAGE
from pipeline.errors import printable
from pipeline.plan.project import Project, find_project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep

sweep_argument = click.argument("sweep", required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar=STORAGE,
    help="The study storage, such as sqlite:///FILE. [default: runs/pcan.db]",
)


class Amount(click.FloatRange):
    """A finite number within bounds; Click lets `nan` pass any bound."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of this machine, such as data_root=/data/ntu (repeatable).",
)

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


notify_option = click.option(
    "--notify",
    multiple=True,
    metavar="CMD|URL",
    help="Run CMD with the text on stdin, or send to a service: verdicts, failures, the end.",
)


lang_option = click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Of headings, legends and verdicts.",
)


def wandb_option(what: str = "How runs are sent to W&B.") -> Option:
    """Return the option `--wandb`, offline by default."""
    return click.option(
        "--wandb",
        "wandb_mode",
        type=click.Choice(["offline", "live", "disabled"]),
        default="offline",
        show_default=True,
        help=what,
    )


def slot_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about the GPUs that trials run on."""
    for option in reversed(
        (
            click.option(
                "--slots", type=click.IntRange(1, 64), help="Trials at once. [default: all GPUs]"
            ),
            click.option("--gpus", metavar="LIST", help="GPUs to use, such as 0,1,2,3."),
            click.option(
                "--device", type=click.Choice(["cpu", "cuda"]), help="[default: GPUs if any]"
            ),
            click.option("--wait", is_flag=True, help="Wait for GPUs that others use."),
        )
    ):
        command = option(command)
    return command


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a launch by or inside a scheduler's job."""
    for option in reversed(
        (
            click.option(
                "--on",
                type=click.Choice(["local", *EXECUTORS]),
                default="local",
                show_default=True,
                help="Run here, or as jobs of a cluster (slurm: in the sweep file).",
            ),
            click.option("--in-job", is_flag=True, hidden=True),
        )
    ):
        command = option(command)
    return command


def background_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an unattended run."""
    for option in reversed(
        (
            click.option(
                "--detach",
                is_flag=True,
                help="Keep running after logout, with a log in runs/SWEEP.",
            ),
            notify_option,
            click.option("--max-hours", type=Amount(0), help="Start no trial after this."),
        )
    ):
        command = option(command)
    return command


def launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that runs a sweep's trials."""
    shared = (engine_options, slot_options, storage_option, wandb_option(), set_option)
    for options in reversed((*shared, background_options)):
        command = options(command)
    return command


@dataclasses.dataclass(frozen=True)
class Opened:
    """A project and the sweep that a command works on."""

    project: Project
    sweep: Sweep


def open_sweep(given: str | None) -> Opened:
    """Find the project and read the named sweep, or the default one."""
    project = find_project()
    sweep = read_sweep(project.sweep_file(given), project.root)
    _warn_of_namesakes(sweep, project)
    return Opened(project, sweep)


def _warn_of_namesakes(sweep: Sweep, project: Project) -> None:
    """Say which other files carry a sweep's name: a copy whose `name:` was left as it was."""
    own = re.compile(rf"^name:\s*[\"']?{re.escape(sweep.name)}[\"']?\s*(#.*)?$", re.M)
    others = [file for file in project.sweep_files() if file.resolve() != sweep.path.resolve()]
    same = [file.name for file in others if own.search(_text_of(file))]
    if same:
        echo_err(
            f"{sweep.shown_path} and {', '.join(same)} have the same name ({sweep.name}), so they "
            f"share studies and runs/{sweep.name}. Give one of them a name of its own."
        )


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a folder of that name, or a file of someone else
        return ""


def print_json(record: Any) -> None:
    """Print a record as JSON, on one line unless stdout is a terminal."""
    # Indenting takes the slow encoder: half a second for 10,000 trials.
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(record, indent=indent, default=_plain))


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Print rows as CSV; `columns` stand first, whether or not there are rows."""
    from pipeline.report.csv_table import to_csv

    click.echo(to_csv(rows, columns), nl=False)


def one_form(as_json: bool, as_csv: bool) -> None:
    """Refuse two forms of output at once."""
    if as_json and as_csv:
        raise click.UsageError("Use --json or --csv, not both.")


def echo_err(text: str) -> None:
    """Print a message; results go to stdout."""
    click.echo(printable(text), err=True)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value)
