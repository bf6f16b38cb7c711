"""`pcan sweep clean`: delete the checkpoints of losers."""

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    open_sweep,
    print_json,
    storage_option,
    sweep_argument,
)


@click.command()
@sweep_argument
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would be.")
@storage_option
@json_option
def command(sweep: str | None, yes: bool, storage: str | None, as_json: bool) -> None:
    """Delete the checkpoints of SWEEP's trials that ended and did not win.

    Measurements and logs stay, and so do the best trial, everything that can be resumed, trials
    that make starting weights, and exports. A cleaned trial cannot be continued or exported.

    \b
    Example:
      pcan sweep clean demo          # says what would go, and how many bytes
      pcan sweep clean demo --yes
    """
    from pipeline.manage.clean import clean, find_losers
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    name = opened.sweep.name
    found = find_losers(opened.sweep, opened.project, read_board(name, store))
    rows = [
        {"trial": one.trial, "state": one.state, "files": len(one.files), "bytes": one.bytes}
        for one in found.losers
    ]
    if yes:
        found = clean(opened.sweep, opened.project, store)
    if as_json:
        record = {"schema": 1, "sweep": name, "deleted": yes, "freed": found.freed}
        print_json({**record, "kept": found.kept, "trials": rows})
        return
    for row in rows:
        click.echo(f"{row['trial']:<24} {row['state']:<9} {row['files']} files")
    kept = f"; kept as the best: {found.kept}" if found.kept else ""
    if not rows:
        echo_err(f"{name} has no checkpoints of losers{kept}.")
    elif yes:
        echo_err(f"Deleted, {_size(found.freed)} freed{kept}.")
    else:
        echo_err(
            f"{_size(found.freed)} would be freed{kept}. Delete: pcan sweep clean {name} --yes"
        )


def _size(count: int) -> str:
    """Return a number of bytes as people read it, exact below a megabyte."""
    if count < 1_000_000:
        return f"{count} bytes"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
