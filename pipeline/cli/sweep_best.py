"""`pcan sweep best`: export the winner."""

from pathlib import Path

import click

from pipeline.cli.options import (
    json_option,
    open_sweep,
    print_json,
    say_to_stderr,
    storage_option,
    sweep_argument,
)


@click.command()
@sweep_argument
@click.option("--out", type=click.Path(path_type=Path), help="[default: exports/SWEEP]")
@click.option("--trial", metavar="VARIANT/N", help="Export this one instead; goes on record.")
@click.option("--test", "evaluate", is_flag=True, help="Also measure the exported weights anew.")
@storage_option
@json_option
def best(
    sweep: str | None,
    out: Path | None,
    trial: str | None,
    evaluate: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Export the best complete trial of SWEEP: config, weights, record, and how to use them.

    \b
    Example:
      pcan sweep best demo --test
    """
    from pipeline.plan.verdict import percent
    from pipeline.report.export import export
    from pipeline.report.winner import find_winner
    from pipeline.study.board import read_board
    from pipeline.study.storage import open_storage

    opened = open_sweep(sweep)
    store = open_storage(storage, opened.project.runs)
    rows = read_board(opened.sweep.name, store)
    winner = find_winner(opened.sweep, rows, trial)
    running = [row.name for row in rows if row.phase == "running"]
    if running:
        say_to_stderr(f"Still running: {', '.join(running)}. The winner may change.")
    if winner.not_comparable:
        say_to_stderr(winner.not_comparable)
    folder = out or opened.project.exports(opened.sweep.name)
    answer = export(opened.sweep, opened.project, winner, folder.resolve(), evaluate)
    if as_json:
        print_json(answer)
        return
    goal = opened.sweep.objective.goal
    reached = "" if goal is None else f" (goal {percent(goal)}: {_reached(answer)})"
    click.echo(
        f"{winner.row.name}: top-1 {percent(answer['top1'])} at epoch {answer['epoch']}{reached}"
    )
    for split, value in (answer.get("measured_anew") or {}).items():
        click.echo(f"  measured anew on {split}: {percent(value)}")
    click.echo(f"  {answer['out']}: config.py, weights.pth, best.json, README.md")


def _reached(answer: dict[str, object]) -> str:
    return "reached" if answer["goal_reached"] else "not reached"
