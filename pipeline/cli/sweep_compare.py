"""`pcan sweep compare`: all trials of a sweep in one HTML file, or live on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.plan.sweep import Sweep


@click.command()
@click.argument("sweep", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Where the file goes.")
@click.option("--open", "open_it", is_flag=True, help="Show it in the browser.")
@click.option("--serve", is_flag=True, help="Keep it live on this machine, until Ctrl-C.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for --serve.")
@click.option("--port", default=0, help="Port for --serve; left out, a free one.")
@click.option("--wandb", "on_wandb", is_flag=True, help="Make or update the W&B workspace.")
@click.option("--json", "as_json", is_flag=True, help="Print the page's data instead.")
def command(
    sweep: str | None,
    out: Path | None,
    open_it: bool,
    serve: bool,
    host: str,
    port: int,
    on_wandb: bool,
    as_json: bool,
) -> None:
    """Compare the trials of a sweep: curves against the plan, table, differences, verdicts.

    Writes one HTML file that needs no network and no account:

        pcan sweep compare pcan_ntu60 --open
    """
    from pipeline.report.compare import build_page, collect

    plan, sweep_dir = locate(sweep)
    if on_wandb:
        return click.echo(_workspace(plan, sweep_dir))
    if serve:
        return _serve(plan, sweep_dir, host, port, open_it)
    data = collect(sweep_dir, plan)
    if as_json:
        import json

        return click.echo(json.dumps(data))
    file = out or sweep_dir / "compare.html"
    page = build_page(data, file)
    click.echo(str(file))
    click.echo(f"{len(data['trials'])} trials, {len(page) / 1e6:.1f} MB.", err=True)
    if open_it:
        click.launch(file.resolve().as_uri())


def locate(sweep: str | None) -> tuple["Sweep", Path]:
    """Find a sweep's plan and its folder below runs/."""
    from pipeline.errors import InputError
    from pipeline.plan.read import read_sweep

    root = next(
        (p for p in (Path.cwd(), *Path.cwd().parents) if (p / "wandb.yaml").exists()), None
    )
    if root is None:
        raise InputError(
            "Neither this folder nor one above it has a wandb.yaml, which marks a project. "
            "Go to your project, or make one: pcan init"
        )
    name = sweep or "pcan_ntu60"
    file = Path(name) if name.endswith((".yaml", ".yml")) else root / "sweeps" / f"{name}.yaml"
    plan = read_sweep(file.resolve(), root)
    return plan, root / "runs" / plan.name


def _workspace(plan: "Sweep", sweep_dir: Path) -> str:
    from pipeline.track.project import read_project
    from pipeline.track.workspace import save

    target, _ = read_project(plan.root / "wandb.yaml")
    return save(sweep_dir, target)


def _serve(plan: "Sweep", sweep_dir: Path, host: str, port: int, open_it: bool) -> None:
    from pipeline.report.compare import collect
    from pipeline.report.compare_serve import LOOPBACK, address, make_server

    def fresh() -> dict[str, Any]:
        return collect(sweep_dir, plan)

    server = make_server(fresh, host, port)
    if host not in LOOPBACK:
        click.echo(
            f"Anyone who reaches {host} can read this sweep; there is no password.", err=True
        )
    click.echo(address(server))
    click.echo("Read only; Ctrl-C ends it.", err=True)
    if open_it:
        click.launch(address(server))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("", err=True)
    finally:
        server.server_close()
