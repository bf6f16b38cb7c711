"""One trial class by class, and what moved against another one: accuracy, confusions, tests.

From the class that each validation clip was given, so every trial that kept its predictions has
it. The coarse classes come from `fine_to_coarse` of the trial's config.
"""

import array
import ast
import collections
import csv
import dataclasses
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, NoResult
from pipeline.plan.project import Project
from pipeline.plan.verdict import percent, standard_error
from pipeline.report.stats.differences import shown_p
from pipeline.report.stats.kept_scores import BranchScores, read_scores
from pipeline.report.stats.readings import predictions
from pipeline.report.stats.significance import LEVEL, McNemar, holm
from pipeline.shared.counted import counted
from pipeline.shared.fusion import fuse, guesses
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow, row_named

#: Confusions that are listed, the most frequent first.
LISTED = 10
CSV_COLUMNS = ("class", "clips", "accuracy", "std_error")
CSV_AGAINST = ("against_accuracy", "difference", "gained", "lost", "p")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadTrial:
    """A trial's predictions at its best epoch."""

    trial: str
    kept: Predictions
    coarse: Sequence[int] | None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """True and predicted class of each clip."""
        return list(zip(self.kept.labels, self.kept.predicted, strict=True))

    def coarsened(self) -> "ReadTrial | None":
        """Return the same clips on the coarse level, None without a class tree."""
        tree = self.coarse
        if tree is None or max(*self.kept.labels, *self.kept.predicted) >= len(tree):
            return None
        columns = [
            type(self.kept.labels)("H", [tree[i] for i in column])
            for column in (self.kept.predicted, self.kept.labels)
        ]
        kept = dataclasses.replace(self.kept, predicted=columns[0], labels=columns[1])
        return ReadTrial(trial=self.trial, kept=kept, coarse=None)


def class_tree(config: str) -> list[int] | None:
    """Return `fine_to_coarse` of a resolved config's text: the coarse class of each fine one."""
    for node in ast.walk(ast.parse(config)):
        found: ast.expr | None = None
        if isinstance(node, ast.keyword) and node.arg == "fine_to_coarse":
            found = node.value
        elif isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            found = node.values[keys.index("fine_to_coarse")] if "fine_to_coarse" in keys else None
        if isinstance(found, ast.List | ast.Tuple):
            return [int(one) for one in ast.literal_eval(found)]
    return None


def by_class(one: ReadTrial, against: ReadTrial | None = None) -> dict[str, Any]:
    """Return what `classes --json` has.

    Raises:
        InputError: the two were validated on different clips.
    """
    if against is not None and against.kept.ids != one.kept.ids:
        raise InputError(
            f"{one.trial} and {against.trial} were validated on different clips, so no class of "
            "theirs can be compared. Compare trials of one sweep."
        )
    coarse, other = one.coarsened(), against.coarsened() if against is not None else None
    return {
        "schema": 1,
        "trial": one.trial,
        "epoch": one.kept.epoch,
        "top1": one.kept.top1,
        **_level(one, against),
        "coarse": _level(coarse, other) if coarse is not None else None,
    }


def _level(one: ReadTrial, against: ReadTrial | None) -> dict[str, Any]:
    """Return one level of classes: accuracies, confusions and what moved."""
    rows = []
    for name, guessed in _by_true_class(one).items():
        right = sum(guess == name for guess in guessed)
        share = right / len(guessed)
        error = standard_error(share, len(guessed))
        rows.append({"class": name, "clips": len(guessed), "accuracy": share, "std_error": error})
    return {
        "clips": len(one.kept.labels),
        "classes": rows,
        "confusions": _confusions(one, against),
        "against": _against(one, against) if against is not None else None,
    }


def _by_true_class(one: ReadTrial) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for truth, guess in sorted(one.pairs):
        found.setdefault(truth, []).append(guess)
    return found


def _confusions(one: ReadTrial, against: ReadTrial | None) -> list[dict[str, Any]]:
    """Return the largest confusions; beside another trial how many clips it has there."""
    own = collections.Counter(pair for pair in one.pairs if pair[0] != pair[1])
    other = collections.Counter(against.pairs if against is not None else ())
    largest = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
    rows: list[dict[str, Any]] = [
        {"true": pair[0], "taken_for": pair[1], "clips": count} for pair, count in largest
    ]
    if against is not None:
        for row in rows:
            row["against"] = other[row["true"], row["taken_for"]]
    return rows


def _against(one: ReadTrial, other: ReadTrial) -> dict[str, Any]:
    """Return what moved, class by class; p is McNemar's, corrected for the classes (Holm)."""
    moved: dict[int, list[int]] = {}
    accuracy: dict[int, int] = {}
    for (truth, own), (_, theirs) in zip(one.pairs, other.pairs, strict=True):
        counts = moved.setdefault(truth, [0, 0, 0])
        counts[0] += 1
        counts[1] += own == truth != theirs
        counts[2] += theirs == truth != own
        accuracy[truth] = accuracy.get(truth, 0) + (theirs == truth)
    names = sorted(moved)
    tests = [
        McNemar(clips=moved[n][0], only_first=moved[n][1], only_second=moved[n][2]) for n in names
    ]
    rows = [
        {
            "class": name,
            "accuracy": accuracy[name] / test.clips,
            "difference": test.difference,
            "std_error": test.std_error,
            "gained": test.only_first,
            "lost": test.only_second,
            "p": p,
            "real": p < LEVEL,
        }
        for name, test, p in zip(names, tests, holm([t.p for t in tests]), strict=True)
    ]
    return {
        "trial": other.trial,
        "gained": sum(test.only_first for test in tests),
        "lost": sum(test.only_second for test in tests),
        "classes": rows,
    }


def class_shares(run: RunDir, epoch: int) -> list[float | None] | None:
    """Return the accuracy of each class from 0 on, None for one without clips.

    None where the epoch's predictions were not kept.
    """
    file = run.predictions_of(epoch)
    try:
        return _shares_of(str(file), file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=1024)  # a page that is served asks again every few seconds
def _shares_of(file: str, _changed: int) -> list[float | None]:
    kept = Predictions.from_bytes(Path(file).read_bytes())
    pairs = zip(kept.labels, kept.predicted, strict=True)
    right = collections.Counter(truth for truth, guess in pairs if truth == guess)
    clips = collections.Counter(kept.labels)
    return [right[c] / clips[c] if clips[c] else None for c in range(max(clips, default=-1) + 1)]


def class_csv(record: Mapping[str, Any]) -> str:
    """Return the classes as a table for a spreadsheet; fractions, not percent."""
    against = record["against"]
    columns = [*CSV_COLUMNS, *(CSV_AGAINST if against else ())]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    others = {row["class"]: row for row in against["classes"]} if against else {}
    for row in record["classes"]:
        other = others.get(row["class"], {})
        cells = {**other, **row, "against_accuracy": other.get("accuracy")}
        writer.writerow([cells[name] for name in columns])
    return out.getvalue()


def class_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the record as lines for people: classes, worst first, then the confusions."""
    lines = [f"{record['trial']}: top-1 {percent(record['top1'])} at epoch {record['epoch']}"]
    lines += _level_lines(record, "class")
    if record["coarse"] is not None:
        lines += ["", *_level_lines(record["coarse"], "coarse")]
    return lines


def _level_lines(level: Mapping[str, Any], word: str) -> list[str]:
    against = level["against"]
    others = {row["class"]: row for row in against["classes"]} if against else {}
    head = f"{word:>8}  clips  accuracy   ± points"
    lines = [head + (f"   against {against['trial']}: points, gained, lost, p" if against else "")]
    for row in sorted(level["classes"], key=lambda one: (one["accuracy"], one["class"])):
        error = 100 * (row["std_error"] or 0.0)
        line = f"{row['class']:>8}  {row['clips']:>5}  {percent(row['accuracy'])}   {error:8.2f}"
        other = others.get(row["class"])
        lines.append(line + (f"   {_moved(other)}" if other else ""))
    if against:
        lines.append(
            f"Against {against['trial']}: {counted(against['gained'], 'clip')} gained, "
            f"{against['lost']} lost; p is corrected for "
            f"{counted(len(others), 'class', 'classes')} (Holm)."
        )
    for one in level["confusions"]:
        beside = f" ({one['against']} by {against['trial']})" if against else ""
        lines.append(
            f"{counted(one['clips'], 'clip')} of {word} {one['true']} taken for "
            f"{one['taken_for']}{beside}"
        )
    return lines


def _moved(row: Mapping[str, Any]) -> str:
    real = ", real" if row["real"] else ""
    points = 100 * row["difference"]
    return f"{points:+.2f}, {row['gained']}, {row['lost']}, {shown_p(row['p'])}{real}"


def readable_row(sweep: str, rows: Sequence[TrialRow], name: str, runs: Path) -> TrialRow:
    """Return the trial of that name; it has measured an epoch and was trained, not imported.

    Args:
        runs: the project's runs, where another sweep may have that trial.

    Raises:
        InputError: there is none; the text lists those there are.
        NoResult: it has measured nothing, or has no run directory.
    """
    row = row_named(sweep, rows, name, runs)
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
