"""Read a sweep's results in a notebook or a script, from its run directories alone.

    from pipeline.results import open_sweep

    sweep = open_sweep("runs/pcan_ntu60")
    sweep.trial("baseline/0").best.top1
    pandas.DataFrame(sweep.columns("epochs"))

The study storage is not needed, so a copied folder of run directories will do. Nothing is written.
Columns are lists of one type each (None where nothing is known), which pandas, polars and Arrow
take as they are; neither they nor torch have to be installed. Accuracies are fractions, times are
seconds, epochs count from 1 (epoch 0 is the check of the starting weights).
"""

import dataclasses
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import InputError
from pipeline.plan.project import find_project, no_such_trial
from pipeline.plan.verdict import standard_error
from pipeline.shared.files import read_json
from pipeline.shared.measurement import Measurement, best_of
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir, run_directories
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import code_of_attempt, seconds_of_jobs
from pipeline.shared.states import State

#: What there are columns of: a row is a trial, an epoch of a trial, a verdict, a value of a
#: trial's configuration, or a validation clip.
Table = Literal["trials", "epochs", "verdicts", "configs", "scores"]
Columns = dict[str, list[Any]]

_VERDICT_KEYS = ("epoch", "top1", "verdict", "rule", "threshold", "std_error", "reason", "next")


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trial, as its run directory has it.

    Args:
        folder: the run directory.
        spec: what was run: values, overrides, seed, versions, code.
    """

    folder: Path
    spec: TrialSpec

    @property
    def name(self) -> str:
        """VARIANT/NUMBER."""
        return self.spec.name

    @cached_property
    def epochs(self) -> list[Measurement]:
        """The measured epochs, ascending."""
        return RunDir(self.folder).read_measurements()

    @cached_property
    def best(self) -> Measurement | None:
        """The best trained epoch, None before the first one."""
        return best_of([m for m in self.epochs if m.epoch > 0])

    @cached_property
    def outcome(self) -> Mapping[str, Any]:
        """State, cause and reason of the end; empty while the trial has not ended."""
        return read_json(RunDir(self.folder).outcome) or {}

    @property
    def state(self) -> str:
        """COMPLETE, PRUNED or FAIL; RUNNING where it has not ended, whether or not it runs now."""
        return str(self.outcome.get("state") or State.RUNNING)

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """What the rules said after each judged epoch."""
        return RunDir(self.folder).read_verdicts()

    @property
    def code(self) -> dict[str, Any]:
        """The code that the best epoch ran with, as `best.json` has it."""
        attempt = self.best.attempt if self.best is not None else self.spec.attempt
        return code_of_attempt(RunDir(self.folder).read_starts(), attempt)

    @property
    def config(self) -> str:
        """The text of the resolved MMAction2 config, "" of an imported run."""
        file = RunDir(self.folder).config
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @cached_property
    def clips(self) -> int | None:
        """The number of validation clips, None where it is not known."""
        facts = read_json(RunDir(self.folder).facts) or {}
        clips = facts.get("val_clips")
        if isinstance(clips, int) and clips > 0:
            return clips
        kept = self.predictions()
        return len(kept.labels) if kept is not None else None

    def predictions(self, epoch: int | None = None) -> Predictions | None:
        """Return the class that each validation clip was given, None where it was not kept.

        Args:
            epoch: the best one by default; the start, the best and the newest are kept.
        """
        if epoch is None:
            epoch = self.best.epoch if self.best is not None else 0
        try:
            return Predictions.from_bytes(RunDir(self.folder).predictions_of(epoch).read_bytes())
        except (OSError, ValueError):
            return None


@dataclasses.dataclass(frozen=True)
class SweepResults:
    """The trials of one sweep.

    Args:
        folder: `runs/<sweep>`, or a copy of it.
        trials: by variant, then number.
    """

    folder: Path
    trials: tuple[TrialResult, ...]

    @property
    def name(self) -> str:
        return self.trials[0].spec.sweep or self.folder.name

    def trial(self, name: str) -> TrialResult:
        """Return the trial of a name, VARIANT/NUMBER.

        Raises:
            InputError: there is none; the text lists those there are.
        """
        found = next((one for one in self.trials if one.name == name), None)
        if found is None:
            raise no_such_trial(str(self.folder), name, [one.name for one in self.trials])
        return found

    def records(self, table: Table) -> list[dict[str, Any]]:
        """Return the rows of a table, each with the same keys.

        Raises:
            InputError: there is no such table.
        """
        if table not in get_args(Table):
            known = ", ".join(get_args(Table))
            raise InputError(f'There is no table "{table}". There are {known}.')
        if table == "scores":
            columns = self.columns(table)
            clips = zip(*columns.values(), strict=True)
            return [dict(zip(columns, clip, strict=True)) for clip in clips]
        rows = [row for trial in self.trials for row in _ROWS[table](trial)]
        keys = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key) for key in keys} for row in rows]

    def columns(self, table: Table) -> Columns:
        """Return the columns of a table, by name: lists of one type each.

        `trials`: what was run and what came of it; searched values as `value PATH`. `epochs`: the
        measurements; other metrics as `extra NAME`. `verdicts`: what the rules said. `configs`:
        each changed or searched config path, its value as JSON. `scores`: each validation clip at
        the best epoch, its true and its predicted class.
        """
        if table == "scores":  # millions of rows: no record each
            return _score_columns(self.trials)
        rows = self.records(table)
        return {key: _one_type([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def open_sweep(given: str | Path) -> SweepResults:
    """Return a sweep's results.

    Args:
        given: the folder of its run directories (`runs/SWEEP` or a copy of it), or its name if
            the working directory is in the project.

    Raises:
        InputError: there are no run directories.
        FormatError: a newer version of pcan wrote them.
    """
    folder = Path(given)
    if not folder.is_dir():
        if len(folder.parts) > 1:
            raise InputError(f"There is no folder {folder}. Give that of a sweep: runs/SWEEP")
        folder = find_project().runs / str(given)
    trials = [
        TrialResult(run, spec)
        for run in run_directories(folder)
        if (spec := RunDir(run).read_spec()) is not None
    ]
    if not trials:
        raise InputError(
            f"{folder} holds no run directories (VARIANT/NUMBER/spec.json). Give the folder of "
            "one sweep, such as runs/SWEEP."
        )
    return SweepResults(folder, tuple(trials))


def _trial_rows(trial: TrialResult) -> Iterator[dict[str, Any]]:
    spec, best = trial.spec, trial.best
    last = trial.epochs[-1] if trial.epochs else None
    seconds = seconds_of_jobs(RunDir(trial.folder).read_starts(), trial.epochs)
    project = trial.code.get("project") or {}
    yield {
        "trial": trial.name,
        "variant": spec.variant,
        "number": str(spec.number),
        "plan": spec.plan,
        "state": trial.state,
        "cause": trial.outcome.get("cause"),
        "reason": trial.outcome.get("reason"),
        "epochs": last.epoch if last else 0,
        "planned_epochs": spec.epochs,
        "best_top1": best.top1 if best else None,
        "best_epoch": best.epoch if best else None,
        "std_error": standard_error(best.top1, trial.clips) if best else None,
        "clips": trial.clips,
        "last_top1": last.top1 if last else None,
        "seed": spec.seed,
        "confirms": spec.confirms,
        "continues": spec.continues,
        "search": spec.search,
        "imported": (spec.imported or {}).get("log"),
        "attempts": max((m.attempt for m in trial.epochs), default=spec.attempt),
        "device": spec.device,
        "processes": spec.nproc,
        "seconds": seconds,
        "gpu_hours": seconds * (spec.nproc or 1) / 3600,
        "commit": project.get("commit"),
        "branch": project.get("branch"),
        "dirty": project.get("dirty"),
        "data_store": (spec.data or {}).get("store"),
        "data_digest": (spec.data or {}).get("digest"),
        "config_hash": spec.config_hash,
        "created": spec.created,
        **{f"value {path}": value for path, value in spec.values.items()},
    }


def _epoch_rows(trial: TrialResult) -> Iterator[dict[str, Any]]:
    name = {"trial": trial.name, "variant": trial.spec.variant, "number": str(trial.spec.number)}
    for m in trial.epochs:
        fields = {field: getattr(m, field) for field in _EPOCH_FIELDS}
        yield {**name, **fields, **{f"extra {key}": value for key, value in m.extra.items()}}


_EPOCH_FIELDS = tuple(
    field.name for field in dataclasses.fields(Measurement) if field.name != "extra"
)


def _verdict_rows(trial: TrialResult) -> Iterator[dict[str, Any]]:
    for verdict in trial.verdicts:
        yield {"trial": trial.name, **{key: verdict.get(key) for key in _VERDICT_KEYS}}


def _config_rows(trial: TrialResult) -> Iterator[dict[str, Any]]:
    spec = trial.spec
    for path, value in {**spec.overrides, **spec.values}.items():
        searched = path in spec.values
        yield {
            "trial": trial.name,
            "path": path,
            "value": json.dumps(value),
            "searched": searched,
        }


def _score_columns(trials: Iterable[TrialResult]) -> Columns:
    columns: Columns = {}
    for trial in trials:
        kept = trial.predictions()
        if kept is None:
            continue
        labels, predicted = kept.labels.tolist(), kept.predicted.tolist()
        part: dict[str, Iterable[Any]] = {
            "trial": [trial.name] * len(labels),
            "epoch": [kept.epoch] * len(labels),
            "clip": range(len(labels)),
            "label": labels,
            "predicted": predicted,
            "right": map(operator.eq, labels, predicted),
        }
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    return columns


_ROWS: Mapping[Table, Callable[[TrialResult], Iterator[dict[str, Any]]]] = {
    "trials": _trial_rows,
    "epochs": _epoch_rows,
    "verdicts": _verdict_rows,
    "configs": _config_rows,
}


def _one_type(values: list[Any]) -> list[Any]:
    """Return values of one type: whole and other numbers become floats, any other mixture JSON."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 and not kinds & {list, dict, tuple}:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else json.dumps(value, default=str) for value in values]
