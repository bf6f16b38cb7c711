"""The words of `pcan sweep best`: the lines it prints and the README.md of an export."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.best.export_usage import ExportUsage
from pipeline.report.best.winner import Winner
from pipeline.report.stats.differences import between
from pipeline.report.stats.readings import Reading, read_best
from pipeline.report.stats.repetitions import confirmation_text
from pipeline.report.stats.winner_bias import CHOSEN_BY_HAND, CHOSEN_BY_MEAN, winner_record
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import USUAL_PRECISION
from pipeline.shared.start_record import shown_codes
from pipeline.study.trial_rows import TrialRow

#: Two readings of the same weights differ by no more than this, whatever device took them.
SAME_READING = 1e-3


def best_lines(sweep: Sweep, winner: Winner, answer: Mapping[str, Any]) -> list[str]:
    """Return the lines on what was exported, and how certain that choice is."""
    reached = _goal(sweep.objective.goal, answer["goal_reached"])
    reading = shown_reading(answer["top1"], answer["std_error"])
    goal = f" ({reached})" if reached else ""
    lines = [f"{winner.row.name}: top-1 {reading} at epoch {answer['epoch']}{goal}"]
    lines += [f"  {line}" for line in confirmation_text(answer.get("confirmation"))]
    difference = answer.get("against_runner_up")
    if difference is not None:
        lines.append(f"  {difference['sentence']}")
    if answer.get("on_new_clips"):
        lines.append(f"  {answer['on_new_clips']['sentence']}")
    if answer.get("refined"):
        lines.append(f"  {refined_line(answer['refined'])}")
    if winner.unconfirmed is not None:
        other = winner.unconfirmed
        lines.append(
            f"  {other.name} reads {percent(other.best_top1 or 0)} but was not repeated: "
            f"pcan sweep best {sweep.name} --confirm {len(winner.confirmed) + 1}"
        )
    if answer.get("chosen"):
        instead = answer["chosen"]["instead_of"]
        lines.append(f"  by choice, on record, instead of {instead or 'nothing eligible'}")
    for split, value in (answer.get("measured_anew") or {}).items():
        off = _off_record(answer, value) if split == "val" else ""
        lines.append(f"  measured again on {split}: {percent(value)}{off}")
    files = "config.py, weights.pth and .safetensors, best.json, requirements.txt, README.md"
    return [*lines, f"  {answer['out']}: {files}"]


def _off_record(answer: Mapping[str, Any], value: float) -> str:
    """Return the end of a line on a reading that is not the recorded one, else ""."""
    refined = answer.get("refined") or {}
    recorded = refined["reads"] if refined.get("metric") is not None else answer["top1"]
    if abs(value - recorded) <= SAME_READING:
        return ""
    return (
        f", {100 * (value - recorded):+.2f} points off the recorded {percent(recorded)}. Data, "
        "code or versions have changed since then, or the validation is random"
    )


def line_name(line: Mapping[str, Any]) -> str:
    """Return the name of a refinement's line, with its ratio where that is tuned on top."""
    tuned = line["ratio"] is not None and line["name"] != "ratio"
    return f"{line['name']} + ratio" if tuned else str(line["name"])


def refined_line(refined: Mapping[str, Any]) -> str:
    """Return what of a refinement is exported, in one sentence."""
    choice = refined["selection"]
    line = refined["lines"][refined["chosen_line"]]
    if refined["metric"] is None:
        return "no refinement is better beyond noise, so these are the plain weights"
    return (
        f"{line_name(line)} ({line['detail']}): reads {percent(refined['reads'])} as "
        f"{refined['metric']}; "
        f"choosing it reads {100 * choice['difference']:+.2f} ± "
        f"{100 * choice['difference_std_error']:.2f} points on clips without a part in the choice"
    )


def _goal(goal: float | None, reached: bool) -> str:
    return "" if goal is None else f"goal {percent(goal)}: {'' if reached else 'not '}reached"


def runner_up_difference(project: Project, winner: Winner) -> dict[str, Any] | None:
    """Return how the winner compares with the runner-up on the same clips, if there is one."""
    if winner.runner_up is None:
        return None
    return between(_reading(project, winner.row), _reading(project, winner.runner_up))


def expected_of_winner(
    project: Project, winner: Winner, candidates: Sequence[TrialRow]
) -> dict[str, Any] | None:
    """Return what the winner is expected to read on new clips; None where it had no rival.

    Args:
        candidates: the trials that could have won, best reading first.
    """
    own = _reading(project, winner.row)
    rivals = [row for row in candidates if row is not winner.row]
    readings = [one for row in rivals if (one := _reading(project, row)) is not None]
    if own is None:
        return None
    how = CHOSEN_BY_HAND if winner.chosen else ""
    if winner.row.name in winner.confirmed:
        how = CHOSEN_BY_MEAN
    return winner_record(own, readings, how)


def _reading(project: Project, row: TrialRow) -> Reading | None:
    if not row.run_dir:
        return None
    run = RunDir(project.root / row.run_dir)
    spec = run.read_spec()
    return read_best(run.root, row.name, spec) if spec is not None else None


def readme(sweep: Sweep, winner: Winner, record: Mapping[str, Any], usage: ExportUsage) -> str:
    """Return the README.md of an export: what won, against which, how to use it."""
    return "\n".join(
        [
            *_result(sweep, winner, record),
            *_against(record),
            *_refined(record),
            *usage.lines(),
        ]
    )


def _result(sweep: Sweep, winner: Winner, record: Mapping[str, Any]) -> list[str]:
    row = winner.row
    reading = (
        f"Top-1 {shown_reading(row.best_top1 or 0, record['std_error'])} at epoch "
        f"{row.best_epoch} ({record['metric']})"
    )
    refined = (record.get("refined") or {}).get("metric") is not None
    what = f"Refined from {row.name} without training, below. Its plain weights: " * refined
    lines = [f"# {sweep.name}: {row.name}", "", f"{what}{reading}.", ""]
    confirmed = [f"- {line}" for line in confirmation_text(record.get("confirmation"))]
    if record.get("on_new_clips"):
        confirmed.append(f"- {record['on_new_clips']['sentence']}")
    lines += [*confirmed, ""] if confirmed else []
    if record["goal"] is not None:
        word = "reached" if record["goal_reached"] else "not reached"
        lines.append(f"The goal of {percent(record['goal'])} is {word}.")
    if record["precision"] != USUAL_PRECISION:
        lines.append(f"Trained in {record['precision']}, validated in {USUAL_PRECISION}.")
    codes = shown_codes(record["code"])
    lines += [f"The code of {place}: {words}." for place, words in codes.items()]
    lines += [f"Changed between attempts, {line}." for line in record["changed"]]
    if not winner.eligible:
        lines.append(f"Not eligible as a winner: the trial is {row.state} ({row.reason}).")
    return lines


def _against(record: Mapping[str, Any]) -> list[str]:
    if not record["others"]:
        return ["", "No other trial of this sweep has measured an epoch."]
    lines = ["", "Against:", ""]
    for other in record["others"]:
        reason = f" ({other['reason']})" if other["reason"] else ""
        top1, state = percent(other["top1"]), other["state"]
        lines.append(f"- {other['trial']}: {top1}, {state}{_kind(other)}{reason}")
    return [*lines, "", record["not_comparable"]] if record["not_comparable"] else lines


def _refined(record: Mapping[str, Any]) -> list[str]:
    """Return the table of a refinement, and how its number is read again."""
    refined = record.get("refined")
    if not refined:
        return []
    rows = [
        f"| {line_name(line)} | {percent(line['top1'])} | {100 * line['difference']:+.2f} ± "
        f"{100 * line['difference_std_error']:.2f} | {line['passes']} | {line['detail']} |"
        for line in refined["lines"]
    ]
    lines = ["", f"Refined without training: {refined_line(refined)}.", ""]
    lines += [
        "| line | top-1 | points against plain | passes a clip | what |",
        "|---|---|---|---|---|",
    ]
    lines += rows
    if refined["metric"] is not None:
        lines += [
            "",
            f"Its number is `{refined['metric']}` on the validation clips: in the command below, "
            "put `c.test_dataloader = c.val_dataloader; ` before `Runner`.",
        ]
    return lines


def _kind(other: Mapping[str, Any]) -> str:
    """Return what another trial is where it is neither planned nor searched."""
    if other["confirms"]:
        return f", confirms {other['confirms']}"
    return ", imported" if other["imported"] else ""
