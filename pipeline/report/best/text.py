"""What `pcan sweep best` says besides the export itself."""

from collections.abc import Mapping
from typing import Any

from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.best.winner import Winner
from pipeline.report.stats.differences import Reading, between, read
from pipeline.report.stats.repetitions import confirmation_text
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow


def best_lines(sweep: Sweep, winner: Winner, answer: Mapping[str, Any]) -> list[str]:
    """Return the lines that say what was exported, and how sure that is."""
    row, goal = winner.row, sweep.objective.goal
    word = "reached" if answer["goal_reached"] else "not reached"
    reached = "" if goal is None else f" (goal {percent(goal)}: {word})"
    reading = shown_reading(answer["top1"], answer["std_error"])
    lines = [f"{row.name}: top-1 {reading} at epoch {answer['epoch']}{reached}"]
    lines += [f"  {line}" for line in confirmation_text(answer.get("confirmation"))]
    difference = answer.get("against_runner_up")
    if difference is not None:
        lines.append(f"  {difference['sentence']}")
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
        lines.append(f"  measured anew on {split}: {percent(value)}")
    return [*lines, f"  {answer['out']}: config.py, weights.pth, best.json, README.md"]


def runner_up_difference(project: Project, winner: Winner) -> dict[str, Any] | None:
    """Return how the winner compares with the runner-up on the same clips, if there is one."""
    if winner.runner_up is None:
        return None
    return between(_reading(project, winner.row), _reading(project, winner.runner_up))


def _reading(project: Project, row: TrialRow) -> Reading | None:
    if not row.run_dir:
        return None
    run = RunDir(project.root / row.run_dir)
    spec = run.read_spec()
    return read(run.root, row.name, spec) if spec is not None else None
