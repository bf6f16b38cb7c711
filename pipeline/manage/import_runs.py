"""`pcan sweep import`: add earlier runs to a sweep's trials.

An imported run becomes a finished trial with its curve and a run directory of its own, so that
status, compare and every sampler see it. It has no weights here and is never exported.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnose.evidence import EarlierRun
from pipeline.errors import InputError
from pipeline.launch.control_files import audit_stamp
from pipeline.launch.workdir import run_dir, wandb_id
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import make_private, write_json, write_text
from pipeline.shared.measurement import Measurement, best_trained
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.study.db.storage import Storage
from pipeline.study.import_trials import ImportedRun, add_finished
from pipeline.study.trial_rows import TrialRow, read_board, study_name

#: The study of runs that match no variant's recipe.
OTHERS = "imported"
#: Logs print values with at least this many digits.
DIGITS = 4


def import_run(sweep: Sweep, project: Project, storage: Storage, earlier: EarlierRun) -> str:
    """Add an earlier run as a finished trial, once.

    Returns:
        A line for the user.

    Raises:
        InputError: the log belongs to a trial of this sweep.
    """
    _refuse_own(sweep, project, earlier)
    rows = read_board(sweep.name, storage)
    twin = _twin(project, rows, earlier)
    if twin is not None:
        return f"{earlier.log}: same run as {twin}, printed with other precision; skipped."
    _remove_incomplete(sweep, project, rows, earlier)
    variant = earlier.variant or _others(sweep)
    source = {
        "log": Path(earlier.log).name,
        "sha256": earlier.sha256,
        "format": earlier.format,
        "metric": earlier.metric,
        **audit_stamp(),
    }
    run = _finished_run(earlier, variant, source)

    def fill(number: int, uid: str) -> bool:
        return _fill(sweep, project, earlier, source, variant, number, uid)

    name, new = add_finished(sweep, storage, run, fill)
    if not new:
        return f"{earlier.log}: imported already, as {name}."
    return f"{earlier.log} -> {name}: {_summary(earlier)}"


def _finished_run(earlier: EarlierRun, variant: str, source: Mapping[str, Any]) -> ImportedRun:
    return ImportedRun(
        variant=variant,
        params=earlier.params,
        history=earlier.history,
        state=earlier.state,
        cause=earlier.cause,
        reason=earlier.reason,
        source=source,
        facts={"epochs": earlier.epochs, "val_clips": earlier.clips},
    )


def _summary(earlier: EarlierRun) -> str:
    top = best_trained(earlier.history)
    reached = f", best {100 * top.top1:.2f} % at epoch {top.epoch}" if top else ""
    place = "" if earlier.variant else f"; no variant's recipe ({earlier.why_not})"
    values = ", ".join(f"{path} {value}" for path, value in earlier.params.items())
    searched = f"; searched values: {values}" if values else ""
    return (
        f"{earlier.state.lower()}, {len(earlier.history)} validations{reached}{searched}{place}."
    )


def _others(sweep: Sweep) -> str:
    """Return the study of runs without a variant: a name that is not a variant's."""
    return OTHERS if OTHERS not in sweep.variants else f"{OTHERS}-logs"


def _refuse_own(sweep: Sweep, project: Project, earlier: EarlierRun) -> None:
    runs = (project.runs / sweep.name).resolve()
    path = Path(earlier.log).resolve()
    if path.is_relative_to(runs):
        raise InputError(
            f"{earlier.log} is of a trial of {sweep.name} itself, which the sweep knows already."
        )


def _twin(project: Project, rows: Sequence[TrialRow], earlier: EarlierRun) -> str | None:
    """Return the imported trial that is the same run, from another of its logs."""
    for row in rows:
        if not row.imported or row.facts["imported"].get("sha256") == earlier.sha256:
            continue
        known = RunDir(project.root / (row.run_dir or "")).read_measurements()
        if _same_curve(known, earlier.history):
            return row.name
    return None


def _same_curve(a: Sequence[Measurement], b: Sequence[Measurement]) -> bool:
    """Whether two curves agree in epochs, metric, lr and loss, to the digits that logs print."""
    if [m.epoch for m in a] != [m.epoch for m in b]:
        return False
    pairs = [(x, y) for m, n in zip(a, b, strict=True) for x, y in _values(m, n)]
    both = [(x, y) for x, y in pairs if x is not None and y is not None]
    return len(both) > len(a) and all(_close(x, y) for x, y in both)


def _values(a: Measurement, b: Measurement) -> list[tuple[float | None, float | None]]:
    return [(a.top1, b.top1), (a.lr, b.lr), (a.loss, b.loss)]


def _close(x: float, y: float) -> bool:
    return x == y or (x != x and y != y) or abs(x - y) <= 0.6 * 10**-DIGITS * max(1.0, abs(x))


def _remove_incomplete(
    sweep: Sweep, project: Project, rows: Sequence[TrialRow], earlier: EarlierRun
) -> None:
    """Remove run directories that a killed import of this log left without a row."""
    known = {row.name for row in rows}
    for file in (project.runs / sweep.name).glob("*/*/spec.json"):
        spec = RunDir(file.parent).read_spec() or TrialSpec()
        same_log = (spec.imported or {}).get("sha256") == earlier.sha256
        if same_log and spec.name not in known:
            shutil.rmtree(file.parent)


def _fill(
    sweep: Sweep,
    project: Project,
    earlier: EarlierRun,
    source: Mapping[str, Any],
    variant: str,
    number: int,
    uid: str,
) -> bool:
    """Write the run directory; return False if it exists already."""
    run = run_dir(project, sweep.name, variant, number)
    if run.root.exists():
        return False
    make_private(run.root.parent)
    run.root.mkdir(mode=0o700)
    planned = sweep.variants.get(variant)
    lines = "".join(m.to_line() for m in earlier.history)
    write_text(run.measurements, lines)
    write_json(run.facts, {"val_clips": earlier.clips})
    write_json(run.logged_config, {"schema": 1, "config": dict(earlier.config)})
    write_json(run.outcome, _outcome(earlier))
    spec = TrialSpec(
        sweep=sweep.name,
        variant=variant,
        number=number,
        study=study_name(sweep, variant),
        plan=planned.plan if planned else None,
        trial=uid,
        attempt=0,
        values=dict(earlier.params),
        overrides=dict(earlier.overrides),
        epochs=earlier.epochs,
        metric=sweep.metric_of(variant),
        goal=sweep.objective.goal,
        best_known=sweep.objective.best_known,
        wandb={"id": wandb_id(uid, number)},
        imported=dict(source),
    )
    write_json(run.spec, spec.to_json())
    return True


def _outcome(earlier: EarlierRun) -> dict[str, Any]:
    top = best_trained(earlier.history)
    return {
        "state": earlier.state,
        "cause": earlier.cause,
        "reason": earlier.reason,
        "epochs": earlier.history[-1].epoch,
        "best_epoch": top.epoch if top else None,
        "best_top1": top.top1 if top else None,
        "checkpoint": None,
    }
