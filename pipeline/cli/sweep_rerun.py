"""`pcan sweep rerun`: one epoch again from the recorded state, compared with the record."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import Opened, json_option, open_sweep, print_json

if TYPE_CHECKING:
    from pipeline.job.slots import Slot


@click.command()
@click.argument("trial", metavar="VARIANT/N")
@click.option("--check", is_flag=True, help="Compare with the record; nothing is kept.")
@click.option("--sweep", metavar="SWEEP", help="[default: the project's first plan]")
@click.option("--gpus", metavar="LIST", help="GPUs to use, such as 0,1.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: the recorded one]")
@json_option
def command(
    trial: str,
    check: bool,
    sweep: str | None,
    gpus: str | None,
    device: str | None,
    as_json: bool,
) -> int:
    """Train the first epoch of a trial again and compare it with the record.

    It starts from the recorded config, seed and weights, in a folder of its own. On the CPU the
    figures have to be equal to the bit, on a GPU within its noise; what has changed since (code,
    packages, data) is said. Exit code 3 if they differ.

    \b
    Example:
      pcan sweep rerun baseline/0 --sweep demo --check
    """
    from pipeline.manage.rerun import rerun

    if not check:
        raise click.UsageError("Use --check: the epoch is compared and then thrown away.")
    opened = open_sweep(sweep)
    slot = _acquired(opened, trial, device, gpus)
    try:
        record = rerun(opened.sweep, opened.project, trial, slot)
    finally:
        slot.release()
    if as_json:
        print_json(record)
    else:
        for line in lines(record):
            click.echo(line)
    return 0 if record["same"] else 3


def _acquired(opened: Opened, trial: str, device: str | None, gpus: str | None) -> "Slot":
    """Return a slot of the recorded kind, held by us.

    Raises:
        NotReady: there is none, or another launch holds it.
    """
    from pipeline.errors import NotReady
    from pipeline.launch.reporters import Reporter
    from pipeline.launch.slot_pool import find_slots
    from pipeline.manage.rerun import recorded_run

    spec = recorded_run(opened.sweep, opened.project, trial).read_spec()
    recorded = spec.device if spec is not None else None
    [slot, *_] = find_slots(opened.sweep, device or recorded, gpus, 1, Reporter())
    problem = slot.acquire(trial)
    if problem is not None:
        raise NotReady(f"{problem}. Wait for it, or name others: --gpus")
    return slot


def lines(record: dict[str, Any]) -> list[str]:
    how = "to the bit" if record["exact"] else "within the noise of a GPU"
    verdict = f"equals the record {how}" if record["same"] else f"differs ({how} was asked for)"
    shown = [f"{record['trial']} epoch {record['epoch']} trained again {verdict}."]
    shown += [
        f"  {value['name']}: {value['recorded']!r}, now {value['now']!r}"
        for value in record["values"]
        if not value["same"] or value["name"] in ("top1", "loss")
    ]
    return shown + [f"  changed since: {line}" for line in record["changed"]]
