"""Export a trial: config, weights and a record that are complete without its run directory.

Everything is written into a new folder that replaces the old export in one step, so a reader finds
the old one or the new one, never a mixture.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import InputError, NoResult
from pipeline.job.provenance import data_digests
from pipeline.job.resolve import ResolvedConfig, data_root_of, resolve
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.report.best.export_usage import ExportUsage, placed_root
from pipeline.report.best.exported_config import ExportedConfig, export_config
from pipeline.report.best.model_card import finish_card
from pipeline.report.best.text import readme
from pipeline.report.best.winner import Winner
from pipeline.report.stats.readings import clips_of, reading_error, same_store, store_of
from pipeline.shared.files import replacing_folder, timestamp
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import USUAL_PRECISION, TrialSpec
from pipeline.shared.start_record import changes, code_of_attempt, start_of
from pipeline.study.trial_rows import TrialRow

CONFIG, WEIGHTS, RECORD, README = "config.py", "weights.pth", "best.json", "README.md"
#: The starting weights alone, where MMEngine cannot load the file that the trial began with.
START = "start.pth"
#: What a caller may add to the record, that the answer shows as well.
MORE = ("chosen", "confirmation", "against_runner_up", "on_new_clips", "refined")


class ModelWriter(Protocol):
    """Writes a model that is not a trial's best checkpoint as it is."""

    #: The metric that its config reports.
    metric: str

    def write(self, text: str, weights: Path) -> tuple[str, str]:
        """Write the weights file.

        Args:
            text: the trial's config.

        Returns:
            The config that runs the model, and the SHA-256 of its weights.
        """
        ...

    def placed(self, run: RunDir) -> Path:
        """Return the config as it runs on this machine, after `write`."""
        ...


def export(
    sweep: Sweep,
    project: Project,
    winner: Winner,
    out: Path,
    evaluate: bool = False,
    more: Mapping[str, Any] | None = None,
    writer: ModelWriter | None = None,
) -> dict[str, Any]:
    """Write the export of a trial.

    Args:
        writer: writes a refined model in place of the best epoch's checkpoint.
        more: goes into the record as it is: who chose the trial, the repetitions' result.
        out: the folder to write; an earlier export there is replaced.
        evaluate: measure the weights again, in a new process, on the validation and test sets.

    Returns:
        The record that `best --json` prints.

    Raises:
        NoResult: the best epoch's checkpoint is gone.
        InputError: `out` holds something that is not an export.
    """
    given, out = out, out.resolve()
    _refuse_other(out, given)
    source = _Source.of(sweep, project, winner.row)
    with replacing_folder(out) as fresh:
        model = writer or _Checkpoint(sweep, project, source)
        # Resolved again, without what belongs to this machine.
        name, speed = source.spec.name, source.spec.speed
        sets = {name: source.spec.overrides}
        resolved = resolve(sweep, project, sets, speed=speed).configs[name]
        text, digest = model.write(resolved.text, fresh / WEIGHTS)
        config = _exported(sweep, project, winner, source, text)
        (fresh / CONFIG).write_text(config.text)
        record = {**_record(sweep, project, winner, source, resolved, digest), **(more or {})}
        if evaluate:
            record["measured_anew"] = _measure(sweep, project, fresh, source, model)
        (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        usage = _usage(sweep, project, source, config, out, fresh, record["versions"])
        (fresh / README).write_text(readme(sweep, winner, record, usage))
        finish_card(fresh, record)
    return {**_answer(record), "out": relative(out, project.root)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """What an export is made from: the run directory and its specification."""

    run: RunDir
    spec: TrialSpec
    checkpoint: Path
    attempt: int  # that measured the best epoch

    @classmethod
    def of(cls, sweep: Sweep, project: Project, row: TrialRow) -> "_Source":
        run = RunDir(project.root / (row.run_dir or ""))
        spec = run.read_spec()
        if spec is None:
            raise NoResult(
                f"{row.name} has no run directory here ({row.run_dir}); it is on "
                f"{row.host or 'another machine'}. Export it there."
            )
        checkpoint = run.checkpoints / f"epoch_{row.best_epoch}.pth"
        if not checkpoint.is_file():
            raise NoResult(
                f"The checkpoint of {row.name}'s best epoch is gone: "
                f"{relative(checkpoint, project.root)}. Was it cleaned? "
                f"Export another: pcan sweep best {sweep.name} --trial VARIANT/NUMBER"
            )
        measured = {m.epoch: m.attempt for m in run.read_measurements()}
        attempt = measured.get(row.best_epoch or 0, spec.attempt)
        return cls(run=run, spec=spec, checkpoint=checkpoint, attempt=attempt)


class _Checkpoint:
    """The weights of a trial's best epoch as they are."""

    def __init__(self, sweep: Sweep, project: Project, source: _Source) -> None:
        self.metric = source.spec.metric or sweep.metric_of(source.spec.variant)
        self._sweep, self._project, self._source = sweep, project, source

    def write(self, text: str, weights: Path) -> tuple[str, str]:
        request = {
            "checkpoint": str(self._source.checkpoint),
            "out": str(weights),
            "start": (self._source.spec.warm_start or {}).get("checkpoint"),
            "start_out": str(weights.with_name(START)),
        }
        answer = run_tool("export_weights", request, self._sweep.job, self._project.root)
        return text, answer["sha256"]

    def placed(self, run: RunDir) -> Path:
        return run.config


def _exported(
    sweep: Sweep, project: Project, winner: Winner, source: _Source, text: str
) -> ExportedConfig:
    row, spec = winner.row, source.spec
    variant = sweep.variants.get(row.variant)
    patience = variant.patience if variant is not None else None
    lines = [f"{spec.study}/{spec.number}: top-1 {percent(row.best_top1 or 0)}"]
    start = _start(sweep, project, spec)
    lines += [f"It began with {start}: set load_from to it to train again."] if start else []
    stop = None if patience is None else (sweep.metric_of(row.variant), patience)
    return export_config(sweep, project.root, text, stop, "\n".join(lines))


def _start(sweep: Sweep, project: Project, spec: TrialSpec) -> str | None:
    """Return the checkpoint that a trial began with, as the sweep file or the project names it."""
    variant = sweep.variants.get(spec.variant)
    if spec.stage is not None and spec.warm_start is not None:
        return relative(Path(str(spec.warm_start["checkpoint"])), project.root)
    return variant.warm_start.checkpoint if variant and variant.warm_start else None


def _usage(
    sweep: Sweep,
    project: Project,
    source: _Source,
    config: ExportedConfig,
    folder: Path,
    fresh: Path,
    versions: Mapping[str, str],
) -> ExportUsage:
    """Return how the export in `folder`, whose files are still in `fresh`, is used."""
    used = data_root_of(source.run.config.read_text()) if source.run.config.exists() else None
    return ExportUsage(
        job=sweep.job,
        config=config,
        root=project.root,
        folder=folder,
        start=_start(sweep, project, source.spec),
        start_copy=START if (fresh / START).exists() else None,
        data_root=placed_root(sweep.data.root, used, config.data_root),
        versions=versions,
    )


def _record(
    sweep: Sweep,
    project: Project,
    winner: Winner,
    source: _Source,
    config: ResolvedConfig,
    digest: str,
) -> dict[str, Any]:
    """Return the record of the export but for what its caller adds."""
    spec = source.spec
    return {
        "schema": 1,
        "sweep": sweep.name,
        **_result(sweep, project, winner, source),
        **_circumstances(project, source, config),
        "sha256": digest,
        "config_sha256": spec.config_hash,
        "wandb": spec.wandb.get("id"),
        "exported": timestamp(),
    }


def _result(sweep: Sweep, project: Project, winner: Winner, source: _Source) -> dict[str, Any]:
    """Return what the winner reached, against which other trials, and how it got there."""
    row, goal, second = winner.row, sweep.objective.goal, winner.runner_up
    clips = clips_of(row, project.root)
    return {
        "variant": row.variant,
        "number": row.number,
        "plan": source.spec.plan,
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
        "others": [_other(other, row) for other in winner.others],
        "not_comparable": winner.not_comparable,
        "values": dict(row.params),
        "overrides": source.spec.overrides,
        "metric": source.spec.metric or sweep.metric_of(row.variant),
        "measurements": [json.loads(m.to_line()) for m in source.run.read_measurements()],
        "verdicts": source.run.read_verdicts(),
        "state": row.state,
        "cause": row.cause,
        "reason": row.reason,
    }


def _other(other: TrialRow, row: TrialRow) -> dict[str, Any]:
    stores = [store_of(one.facts.get("data")) for one in (other, row)]
    same_precision = other.facts.get("precision") == row.facts.get("precision")
    return {
        "trial": other.name,
        "state": other.state,
        "top1": other.best_top1,
        "reason": other.reason,
        "comparable": same_store(*stores) and same_precision,
        "confirms": other.confirms,
        "imported": other.imported,
    }


def _circumstances(project: Project, source: _Source, config: ResolvedConfig) -> dict[str, Any]:
    """Return what else decided the result, as the attempt of the best epoch ran with it.

    No path of this machine.
    """
    spec, starts = source.spec, source.run.read_starts()
    start = start_of(starts, source.attempt) or {}
    code = code_of_attempt(starts, source.attempt)
    return {
        "seed": spec.seed,
        "processes": spec.nproc,
        "versions": start.get("versions") or spec.versions,
        "code": code,
        "git_commit": (code.get("project") or {}).get("commit"),
        "gpu": start.get("gpu"),
        "precision": spec.precision or USUAL_PRECISION,
        "speed": start.get("speed") or {},
        "changed": changes(starts),
        "dataset": _dataset(spec, config),
        "data": {**(spec.data or {}), "root": None, "sha256": _digests(project, source, config)},
    }


#: Annotation files whose name tells nothing of the data: their folder's does.
NAMELESS = ("ann", "anno", "annotation", "annotations", "train", "val", "test", "data", "skeleton")


def _dataset(spec: TrialSpec, config: ResolvedConfig) -> dict[str, str]:
    """Return the name of the validation data and the split, as the config has them."""
    files, splits = (config.facts.get(key) or {} for key in ("ann_files", "ann_splits"))
    file = files.get("val_dataloader")
    name = Path(str(file)).stem if file else spec.sweep
    if name in NAMELESS:
        name = Path(str(file)).parent.name or spec.sweep
    return {"name": name, "split": str(splits.get("val_dataloader") or "val")}


def _digests(project: Project, source: _Source, config: ResolvedConfig) -> dict[str, str]:
    """Return the annotation files' digests of the trial's start; of an old trial those of now."""
    recorded = (source.spec.data or {}).get("sha256")
    if recorded:
        return dict(recorded)
    file = source.run.config
    root = data_root_of(file.read_text()) if file.exists() else None
    return data_digests(project.root, config, root)


def _measure(
    sweep: Sweep, project: Project, folder: Path, source: _Source, model: ModelWriter
) -> dict[str, float | None]:
    """Measure exported weights again: on the validation set and, if it differs, the test set."""
    request = {
        "config": str(model.placed(source.run)),
        "weights": str(folder / WEIGHTS),
        "splits": ["val", "test"],
    }
    answer = run_tool("evaluate", request, sweep.job, project.root)
    values = {split: metrics.get(model.metric) for split, metrics in answer["metrics"].items()}
    if answer["same"]:
        values.pop("test", None)
    return values


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("variant", "number", "top1", "epoch", "goal_reached", "eligible", "runner_up")
    answer = {"schema": 1, **{key: record[key] for key in (*keys, "not_comparable")}}
    answer.update({key: record[key] for key in ("std_error", "val_clips", *MORE) if key in record})
    answer.update(config=CONFIG, weights=WEIGHTS, sha256=record["sha256"])
    if "measured_anew" in record:
        answer["measured_anew"] = record["measured_anew"]
    return answer


def _refuse_other(out: Path, given: Path) -> None:
    is_export = out.is_dir() and (not any(out.iterdir()) or (out / RECORD).exists())
    if out.exists() and not is_export:
        raise InputError(
            f"{given} exists and is not an export; nothing was written. Use another --out."
        )
