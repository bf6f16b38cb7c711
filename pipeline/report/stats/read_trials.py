"""Find a trial by its name and read what its validations kept of each clip."""

import array
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import NoResult
from pipeline.plan.project import Project, no_such_trial
from pipeline.report.stats.by_class import ReadTrial, class_tree
from pipeline.report.stats.kept_scores import BranchScores, read_scores
from pipeline.report.stats.readings import predictions
from pipeline.shared.fusion import fuse, guesses
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow


def named_row(sweep: str, rows: Sequence[TrialRow], name: str, runs: Path) -> TrialRow:
    """Return the trial of that name; it has measured an epoch and was trained, not imported.

    Args:
        runs: the project's runs, where another sweep may have that trial.

    Raises:
        InputError: there is none; the text lists those there are.
        NoResult: it has measured nothing, or has no run directory.
    """
    row = next((one for one in rows if one.name == name), None)
    if row is None:
        raise no_such_trial(sweep, name, [r.name for r in rows if not r.superseded], runs)
    if row.best_epoch is None or row.run_dir is None:
        raise NoResult(f"{name} has measured no epoch yet. See: pcan sweep status {sweep}")
    if row.imported:
        raise NoResult(f"{name} was imported from a log, which has nothing of its clips.")
    return row


def read_classes(project: Project, row: TrialRow) -> ReadTrial | str:
    """Return the class that each clip was given at a trial's best epoch, or why it is not known.

    Raises:
        NoResult: the run directory is on another host.
    """
    run = RunDir(project.root / (row.run_dir or ""))
    host = row.remote_host(project.root)
    if host is not None:
        raise NoResult(f"{row.name} has its run directory on {host}. Ask there.")
    kept, lacking = predictions(run, row.best_epoch or 0, row.best_top1 or 0.0)
    if kept is not None:
        return with_tree(row.name, run, kept)
    scores = read_scores(run, row.best_epoch or 0)  # read later, by this command or by refine
    return lacking if scores is None else from_scores(row, run, scores)


def from_scores(row: TrialRow, run: RunDir, scores: BranchScores) -> ReadTrial:
    """Return the class of each clip as scores that were read later give it."""
    guess = guesses(fuse(scores.branches, scores.own_share))
    guessed, labels = (array.array("H", one.tolist()) for one in (guess, scores.labels))
    top1 = float((guess == scores.labels).mean())
    made = Predictions(scores.epoch, scores.metric, top1, scores.ids, guessed, labels)
    return with_tree(row.name, run, made)


def with_tree(name: str, run: RunDir, kept: Predictions) -> ReadTrial:
    """Return a trial's predictions with its class tree, where its config has one."""
    tree = class_tree(run.config.read_text()) if run.config.is_file() else None
    return ReadTrial(trial=name, kept=kept, coarse=tree)
