"""`pcan init` and `pcan doctor`: make a project, and check that it is ready."""

from pathlib import Path
from typing import Any

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    open_sweep,
    print_json,
    set_option,
    storage_option,
    sweep_argument,
)
from pipeline.errors import InputError

_MARKS = {"error": "ERROR", "warning": "warn ", "note": "     "}


@click.command()
@sweep_argument
@click.option(
    "--rebuild",
    is_flag=True,
    help="Refill the storage from the run directories; a bad file is kept aside.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: GPUs if any]")
@click.option("--gpus", metavar="LIST", help="GPUs to use, such as 0,1,2,3.")
@storage_option
@set_option
@json_option
def doctor(
    sweep: str | None,
    rebuild: bool,
    device: str | None,
    gpus: str | None,
    storage: str | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check everything that SWEEP needs and list all that is wrong, most important first.

    \b
    Example:
      pcan doctor pcan_ntu60 --set data_root=/data/ntu
    """
    if rebuild:
        return _rebuild(sweep, storage)
    findings = _findings(sweep, device, gpus, storage, sets)
    wrong = [f for f in findings if f["severity"] == "error"]
    if as_json:
        print_json({"schema": 1, "ready": not wrong, "findings": findings})
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding['severity']]} {finding['check']}: {finding['message']}")
        click.echo("Not ready." if wrong else "Ready.")
    return 5 if wrong else 0


def _findings(
    sweep: str | None,
    device: str | None,
    gpus: str | None,
    storage: str | None,
    sets: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Return what is wrong; a sweep file that cannot be read is the first finding."""
    from pipeline.plan.project import find_project
    from pipeline.preflight.finding import CheckContext
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.preflight.runner import examine

    unreadable = None
    try:
        opened = open_sweep(sweep)
        project, plan = opened.project, opened.sweep
    except InputError as error:
        project, plan, unreadable = find_project(), None, str(error)
    context = CheckContext(
        project=project,
        sweep=plan,
        storage_url=storage,
        device=device,
        gpus=gpus,
        sets=parse_sets(sets),
    )
    findings = [f.record() for f in examine(context)]
    if unreadable is not None:
        findings.insert(0, {"check": "sweep", "severity": "error", "message": unreadable})
    return findings


def _rebuild(sweep: str | None, storage: str | None) -> int:
    from pipeline.manage.rebuild import rebuild_project
    from pipeline.plan.project import find_project

    named = None if sweep is None else open_sweep(sweep).sweep
    for line in rebuild_project(find_project(), named, storage):
        echo_err(line)
    return 0


_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=_PATH)
@click.option("--from", "source", metavar="CONFIG", type=_PATH, help="Write a plan for CONFIG.")
@click.option("--checkpoint", metavar="FILE", type=_PATH, help="The weights to start from.")
@click.option("--code-root", metavar="FOLDER", type=_PATH, help="Your own MMAction2 checkout.")
@click.option("--python", metavar="PY", type=_PATH, help="The interpreter that trains.")
@click.option("--log", metavar="WORKDIR", type=_PATH, help="An earlier run of the config.")
@click.option("--metric", metavar="NAME", help="The metric to judge by, as logs have it.")
def init(folder: Path, source: Path | None, **given: Any) -> None:
    """Make DIR (default: this folder) a project: wandb.yaml, sweeps/, configs/.

    With --from it gets a sweep file for your own config instead: the names of its metrics and
    branches are found in --log, by one sample through model and evaluator, or by the evaluator.
    Existing files are not overwritten.

    \b
    Example:
      pcan init ntu60 && cd ntu60 && pcan sweep plan
      pcan init ntu --from fork/configs/pcan.py --checkpoint fork/work_dirs/pcan/epoch_26.pth \\
          --code-root fork --python envs/mmaction/bin/python --log fork/work_dirs/pcan
    """
    from pipeline.shared.files import shell_word

    where = "" if folder == Path(".") else f"cd {shell_word(folder)} && "
    if source is None:
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise click.UsageError(f"--{named[0].replace('_', '-')} needs --from CONFIG.")
        _init_with_plans(folder, where)
        return
    from pipeline.manage.sweep_for_config import ConfigSource, sweep_for_config

    files, notes = sweep_for_config(folder, ConfigSource(config=source, **given))
    for name in files:
        click.echo(folder / name)
    for note in notes:
        echo_err(note)
    sweep = files[-1].stem
    echo_err(
        f"See what it does, then check it: {where}pcan sweep plan {sweep}; pcan doctor {sweep}"
    )


def _init_with_plans(folder: Path, where: str) -> None:
    from pipeline.manage.init_project import new_project

    for name in new_project(folder):
        click.echo(folder / name)
    echo_err(
        "Write your checkpoint, data and config into a file of sweeps/, then see what it will do: "
        f"{where}pcan sweep plan"
    )
