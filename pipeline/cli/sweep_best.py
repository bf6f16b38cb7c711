"""`pcan sweep best`: export the winner, after repeating the best on new seeds with --confirm."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.options import (
    echo_err,
    json_option,
    notify_option,
    open_sweep,
    print_json,
    set_option,
    slot_options,
    storage_option,
    sweep_argument,
    wandb_option,
)
from pipeline.shared.counted import counted
from pipeline.shared.states import Phase

if TYPE_CHECKING:
    from pipeline.cli.common.options import Opened
    from pipeline.report.best.export import ModelWriter
    from pipeline.report.best.winner import Winner
    from pipeline.study.db.storage import Storage
    from pipeline.study.trial_rows import TrialRow


@click.command()
@sweep_argument
@click.option("--out", type=click.Path(path_type=Path), help="[default: exports/SWEEP]")
@click.option("--trial", metavar="VARIANT/N", help="Export this one instead; it is recorded.")
@click.option("--test", "evaluate", is_flag=True, help="Also measure the exported weights.")
@click.option("--refined", is_flag=True, help="Export what `pcan sweep refine` has chosen.")
@click.option(
    "--confirm", type=click.IntRange(1, 100), metavar="K", help="First repeat the K best."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=2,
    show_default=True,
    help="New seeds for each repeated trial.",
)
@click.option("--dry-run", is_flag=True, help="With --confirm: print what would be repeated.")
@slot_options
@notify_option
@wandb_option("How runs of the repetitions are sent to W&B.")
@set_option
@storage_option
@json_option
def best(
    sweep: str | None,
    out: Path | None,
    trial: str | None,
    evaluate: bool,
    refined: bool,
    confirm: int | None,
    seeds: int,
    dry_run: bool,
    storage: str | None,
    as_json: bool,
    **launching: Any,
) -> int:
    """Export the best complete trial of SWEEP: config, weights, record, and how to use them.

    With --confirm the K best are first trained again on new seeds, as trials of their studies;
    their means then decide. Interrupted, the same command goes on (exit code 75).

    \b
    Example:
      pcan sweep best demo --confirm 2
    """
    from pipeline.report.best.winner import find_winner
    from pipeline.study.db.read_copy import open_to_read
    from pipeline.study.db.storage import open_storage
    from pipeline.study.trial_rows import read_board

    opened = open_sweep(sweep)
    runs = opened.project.runs
    reading = confirm is None or dry_run
    store = open_to_read(storage, runs, echo_err) if reading else open_storage(storage, runs)
    code = 0
    if confirm is not None:
        if trial is not None:
            raise click.UsageError("Use --confirm or --trial: a mean decides, or you do.")
        if dry_run:
            return _show_repeats(opened, store, confirm, seeds)
        code = _confirm(opened, store, confirm, seeds, launching)
        if code not in (0, 3):
            return code
    rows = read_board(opened.sweep.name, store)
    winner = find_winner(opened.sweep, rows, trial, opened.project.runs)
    _warn(rows, winner)
    _export(opened, store, rows, winner, out, (evaluate, refined), as_json)
    return code


def _warn(rows: "list[TrialRow]", winner: "Winner") -> None:
    """Print what may change the winner or makes it incomparable."""
    running = [row.name for row in rows if row.phase == Phase.RUNNING]
    if running:
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        names = ", ".join(running[:5])
        echo_err(f"Still running: {names}{more}. The winner may change.")
    if winner.not_comparable:
        echo_err(winner.not_comparable)


def _show_repeats(opened: "Opened", store: "Storage", count: int, seeds: int) -> int:
    """Print which trials would be repeated on which seeds."""
    from pipeline.manage.repeat import repetitions

    planned = repetitions(opened.sweep, opened.project, store, count, seeds)
    for name, (_, missing) in planned.items():
        new = ", ".join(map(str, missing)) or "none, all have been run or started"
        click.echo(f"{name}: new seeds {new}")
    return 0


def _confirm(
    opened: "Opened", store: "Storage", count: int, seeds: int, launching: dict[str, Any]
) -> int:
    """Repeat the best trials on new seeds; return the launch's exit code."""
    from pipeline.cli.common.run_launch import run_repeats
    from pipeline.manage.repeat import enqueue_confirmations

    names, new = enqueue_confirmations(opened.sweep, opened.project, store, count, seeds)
    if not names:
        return 0  # the export then says what there is instead
    if len(names) < count:
        echo_err(f"Only {counted(len(names), 'complete trial')} can be repeated.")
    each = f"on {counted(seeds, 'new seed')} each ({counted(new, 'run is', 'runs are')} new)"
    echo_err(f"Repeating {', '.join(names)} {each}.")
    return run_repeats(opened, store, names, launching)


def _export(
    opened: "Opened",
    store: "Storage",
    rows: "list[TrialRow]",
    winner: "Winner",
    out: Path | None,
    how: tuple[bool, bool],
    as_json: bool,
) -> None:
    """Export the winner.

    Args:
        how: whether to measure the weights again, and whether to export the refined result.
    """
    from pipeline.manage.repeat import record_manual_choice
    from pipeline.report.best.export import export
    from pipeline.report.best.text import best_lines

    sweep, project = opened.sweep, opened.project
    extra = _beside_others(opened, rows, winner)
    evaluate, refined = how
    writer, extra["refined"] = _refined(opened, rows, winner) if refined else (None, None)
    more = {key: value for key, value in extra.items() if value is not None}
    folder = out or project.exports(sweep.name)
    answer = export(sweep, project, winner, folder, evaluate, more, writer)
    if "chosen" in more:
        record_manual_choice(sweep, project, store, winner.row, more["chosen"])
    if as_json:
        print_json(answer)
        return
    for line in best_lines(sweep, winner, answer):
        click.echo(line)


def _beside_others(opened: "Opened", rows: "list[TrialRow]", winner: "Winner") -> dict[str, Any]:
    """Return what the record says of the winner beside the other trials; None where nothing is."""
    from pipeline.launch.control_files import audit_stamp
    from pipeline.report.best.text import expected_of_winner, runner_up_difference
    from pipeline.report.stats.repetitions import confirmation_record
    from pipeline.study.best import eligible

    sweep, project = opened.sweep, opened.project
    chosen = {**audit_stamp(), "instead_of": _instead_of(opened, rows)} if winner.chosen else None
    return {
        "chosen": chosen,
        "confirmation": confirmation_record(sweep, rows, project.root),
        "against_runner_up": runner_up_difference(project, winner),
        "on_new_clips": expected_of_winner(project, winner, eligible(sweep, rows)),
    }


def _refined(
    opened: "Opened", rows: "list[TrialRow]", winner: "Winner"
) -> "tuple[ModelWriter | None, dict[str, Any]]":
    """Return what writes the refined model, and what the record keeps of the refinement.

    None writes the plain winner: no refinement was better.
    """
    from pipeline.refine.refined_export import RefinedModel, export_note
    from pipeline.refine.refinement import chosen_recipe, read_table

    sweep, project, row = opened.sweep, opened.project, winner.row
    record = read_table(project, row, sweep.name)
    note = export_note(record)
    if record["chosen_line"] == 0:
        return None, note
    folder = project.root / (row.run_dir or "")
    return RefinedModel(sweep, project, folder, chosen_recipe(record, project, rows)), note


def _instead_of(opened: "Opened", rows: "list[TrialRow]") -> str | None:
    """Return the trial that would have been exported without --trial."""
    from pipeline.study.best import best_row

    row = best_row(opened.sweep, rows)
    return row.name if row is not None else None
