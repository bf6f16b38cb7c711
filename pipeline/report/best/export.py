"""Export a trial: a config, weights and a record that stand on their own.

Everything is written into a new folder that replaces the old export in one step, so a reader finds
the old one or the new one, never a mixture.
"""

import ctypes
import datetime
import errno
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, NoResult
from pipeline.job.resolve import ResolvedConfig, data_root_of, placed_path, resolve
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.report.best.export_readme import readme
from pipeline.report.best.exported_config import exported_config
from pipeline.report.best.winner import Winner
from pipeline.report.stats.comparability import same, store_of
from pipeline.report.stats.reading_error import clips_of, reading_error
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow

CONFIG, WEIGHTS, RECORD, README = "config.py", "weights.pth", "best.json", "README.md"
#: What a caller may add to the record, that the answer shows as well.
MORE = ("chosen", "confirmation", "against_runner_up")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def export(
    sweep: Sweep,
    project: Project,
    winner: Winner,
    out: Path,
    evaluate: bool = False,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the export of a trial.

    Args:
        more: goes into the record as it is: who chose the trial, what repetitions say.
        out: the folder to write; an earlier export there is replaced.
        evaluate: measure the weights anew, in a fresh process, on the validation and test sets.

    Returns:
        The record that `best --json` prints.

    Raises:
        NoResult: the best epoch's checkpoint is gone.
        InputError: `out` holds something that is no export.
    """
    out = out.resolve()
    _refuse_other(out)
    rundir = RunDir(project.root / (winner.row.run_dir or ""))
    spec = read_json(rundir.spec)
    if spec is None:
        raise NoResult(
            f"{winner.row.name} has no run directory here ({winner.row.run_dir}); it lies on "
            f"{winner.row.host or 'another machine'}. Export it there."
        )
    checkpoint = _checkpoint(rundir, winner.row, project)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        request = {"checkpoint": str(checkpoint), "out": str(fresh / WEIGHTS)}
        weights = run_tool("export_weights", request, sweep.job, project.root)
        config = _config(sweep, project, spec)
        head = f"{spec['study']}/{spec['number']}: top-1 {percent(winner.row.best_top1 or 0)}"
        variant = sweep.variants.get(winner.row.variant)
        patience = variant.patience if variant is not None else None
        metric = sweep.objective.metric
        (fresh / CONFIG).write_text(exported_config(config.text, metric, patience, head))
        record = _record(sweep, project, winner, rundir, spec, config, weights["sha256"])
        record.update(more or {})
        if evaluate:
            record["measured_anew"] = _measure(sweep, project, fresh, spec)
        (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        (fresh / README).write_text(readme(sweep, winner, record))
        fresh.chmod(0o755)
        _replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return {**_answer(sweep, winner, record), "out": relative(out, project.root)}


def _answer(sweep: Sweep, winner: Winner, record: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("variant", "number", "top1", "epoch", "goal_reached", "eligible", "runner_up")
    answer = {"schema": 1, **{key: record[key] for key in (*keys, "not_comparable")}}
    answer.update({key: record[key] for key in ("std_error", "val_clips", *MORE) if key in record})
    answer.update(config=CONFIG, weights=WEIGHTS, sha256=record["sha256"])
    if "measured_anew" in record:
        answer["measured_anew"] = record["measured_anew"]
    return answer


def _record(
    sweep: Sweep,
    project: Project,
    winner: Winner,
    rundir: RunDir,
    spec: Mapping[str, Any],
    config: ResolvedConfig,
    sha256: str,
) -> dict[str, Any]:
    """Return all that is worth knowing of a winner years later; no path of this machine."""
    row, goal = winner.row, sweep.objective.goal
    second, clips = winner.runner_up, clips_of(row, project.root)
    return {
        "schema": 1,
        "sweep": sweep.name,
        "variant": row.variant,
        "number": row.number,
        "plan": spec.get("plan"),
        "top1": row.best_top1,
        "epoch": row.best_epoch,
        "val_clips": clips,
        "std_error": reading_error(row.best_top1, clips),
        "goal": goal,
        "goal_reached": goal is not None and winner.reading >= goal,
        "eligible": winner.eligible,
        "chosen_by_hand": winner.chosen,
        "runner_up": second
        and {"variant": second.variant, "number": second.number, "top1": second.best_top1},
        "others": [
            {
                "trial": o.name,
                "state": o.state,
                "top1": o.best_top1,
                "reason": o.reason,
                "comparable": same(_store(o), _store(row)),
                "confirms": o.confirms,
                "imported": o.imported,
            }
            for o in winner.others
        ],
        "not_comparable": winner.not_comparable,
        "values": dict(row.params),
        "overrides": spec.get("overrides"),
        "metric": sweep.objective.metric,
        "measurements": [json.loads(m.to_line()) for m in rundir.read_measurements()],
        "verdicts": rundir.read_verdicts(),
        "state": row.state,
        "cause": row.cause,
        "reason": row.reason,
        "seed": spec.get("seed"),
        "processes": spec.get("nproc"),
        "versions": spec.get("versions"),
        "git_commit": _commit(project),
        "data": {**(spec.get("data") or {}), "root": None, "sha256": _data(project, config, spec)},
        "sha256": sha256,
        "config_sha256": spec.get("config_hash"),
        "wandb": (spec.get("wandb") or {}).get("id"),
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _store(row: TrialRow) -> dict[str, Any]:
    return store_of(row.facts.get("data"))


def _checkpoint(rundir: RunDir, row: TrialRow, project: Project) -> Path:
    file = rundir.checkpoints / f"epoch_{row.best_epoch}.pth"
    if not file.is_file():
        raise NoResult(
            f"The checkpoint of {row.name}'s best epoch is gone: {relative(file, project.root)}. "
            "Was it cleaned? Export another: --trial VARIANT/NUMBER"
        )
    return file


def _config(sweep: Sweep, project: Project, spec: Mapping[str, Any]) -> ResolvedConfig:
    """Resolve the trial's config again, without this machine's facts."""
    overrides = dict(spec.get("overrides") or {})
    return resolve(sweep, project, {"export": overrides}).configs["export"]


def _measure(
    sweep: Sweep, project: Project, folder: Path, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure exported weights anew: on the validation set and, if it is another, the test set."""
    placed = RunDir(project.runs / sweep.name / spec["variant"] / str(spec["number"])).config
    request = {
        "config": str(placed),
        "weights": str(folder / WEIGHTS),
        "splits": ["val", "test"],
    }
    answer = run_tool("evaluate", request, sweep.job, project.root)
    metric = sweep.objective.metric
    found = {split: values.get(metric) for split, values in answer["metrics"].items()}
    if answer["same"]:
        found.pop("test", None)
    return found


def _data(project: Project, config: ResolvedConfig, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of each annotation file, as far as it is here."""
    digests = {}
    placed = RunDir(project.runs / spec["sweep"] / spec["variant"] / str(spec["number"])).config
    root = data_root_of(placed.read_text()) if placed.exists() else None
    for loader, name in (config.facts.get("ann_files") or {}).items():
        file = project.root / placed_path(config.text, str(name), root)
        if file.is_file():
            with open(file, "rb") as stream:
                digests[loader] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _commit(project: Project) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project.root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _refuse_other(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RECORD).exists())):
        raise InputError(f"{out} exists and is no export; nothing was written. Use another --out.")


def _replace(fresh: Path, out: Path) -> None:
    """Put `fresh` where `out` is, in one step where the kernel can exchange two names."""
    try:
        os.rename(fresh, out)
        return
    except OSError as error:  # there is an export already, or another call was faster
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(fresh), os.fsencode(out)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        shutil.rmtree(out)  # a file system without exchange: the old one goes first
        os.rename(fresh, out)
