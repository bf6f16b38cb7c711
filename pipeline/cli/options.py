"""What several commands share: their arguments, and how a sweep is opened for them."""

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.errors import printable
from pipeline.plan.project import Project, find_project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep

sweep_argument = click.argument("sweep", required=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar="PCAN_STORAGE",
    help="The study storage, such as sqlite:///FILE. [default: runs/pcan.db]",
)


class Amount(click.FloatRange):
    """A number within bounds; `nan` is within any for Click."""

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
    help="A fact of this machine, such as data_root=/data/ntu (repeatable).",
)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A project and the sweep that a command works on."""

    project: Project
    sweep: Sweep


def open_sweep(given: str | None) -> Opened:
    """Find the project and read the sweep that was named, or the default one."""
    project = find_project()
    return Opened(project, read_sweep(project.sweep_file(given), project.root))


def print_json(record: Any) -> None:
    """Print a record as JSON, on one line where nobody watches."""
    # Indenting takes the slow encoder: half a second for 10,000 trials.
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(record, indent=indent, default=_plain))


def say_to_stderr(text: str) -> None:
    """Print talk, which is no result."""
    click.echo(printable(text), err=True)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value)
