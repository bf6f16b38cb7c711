"""`pcan sweep refine`: everything the trained weights may still give, in one honest table."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NoResult
from pipeline.job.slots import Slot
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import standard_error
from pipeline.refine.crosswise import CrossReading, CrossResult, halves, read_crosswise
from pipeline.refine.evaluations import Evaluations, Progress
from pipeline.refine.lines import Ensemble, FusedReadings, GreedySoup, Line, Mask, OneOf, fixed
from pipeline.refine.members import (
    Member,
    candidates,
    not_averaged,
    not_joined,
    read_member,
    winner_member,
)
from pipeline.refine.recipes import ClipReading, RefinedRecipe, Weights, recipe_of
from pipeline.refine.score_worker import ScoreWorker, Unavailable
from pipeline.report.stats.kept_scores import BranchScores
from pipeline.report.stats.significance import McNemar, holm
from pipeline.shared.counted import counted
from pipeline.shared.files import read_json, write_json
from pipeline.shared.rundir import RunDir
from pipeline.study.trial_rows import TrialRow

#: Clips of a video at test, as MMAction2's test pipelines have it.
CLIPS = 10
VIEWS: dict[str, dict[str, Any]] = {"clips": {"clips": CLIPS}, "flip": {"flip": True}}
TABLE, TESTS = "table.json", "test.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefineRequest:
    """What is asked for.

    Args:
        count: trials that may be joined, the winner among them.
        slots: of this machine, held by the caller.
    """

    sweep: Sweep
    project: Project
    rows: Sequence[TrialRow]
    winner: TrialRow
    count: int
    slots: Sequence[Slot]
    progress: Progress


def refine(request: RefineRequest) -> dict[str, Any]:
    """Make what is lacking, read all lines, write `refine/table.json` and return it.

    Raises:
        NoResult: the trial has no checkpoint here, or its clips cannot be read.
        NotReady: a worker's process has ended; what was read is kept.
    """
    folder = request.project.root / (request.winner.run_dir or "")
    with opened(request, folder) as evaluations:
        members, left_out = _members(request, evaluations)
        winner = members[0]
        plain = ClipReading(weights=(winner.best,))
        readings, unavailable = _offered(winner, members, left_out)
        refused = evaluations.prepare([plain, *_first(readings, members)])
        if plain in refused:
            raise NoResult(f"{winner.row.name} cannot be read: {refused[plain]}.")
        scores = evaluations.scores(plain)
        members = [one for one in members if _joins(one, scores, evaluations, left_out)]
        lines = _lines(winner, members, readings, refused, unavailable, evaluations, scores)
        first, cut_by = halves(scores.names, scores.people)
        judged = read_crosswise(lines, scores.labels, first)
        record = _record(request, judged, scores, cut_by)
        record["unavailable"] = [
            {"name": name, "reason": reason} for name, reason in unavailable.items()
        ]
        record["left_out"] = left_out
        record["made"] = evaluations.made
    write_json(RunDir(folder).refine / TABLE, record)
    return record


def read_plain(request: RefineRequest) -> BranchScores:
    """Return the scores of a trial's best epoch, read now if its validation did not keep them.

    Raises:
        NoResult: its checkpoint is gone, or its clips cannot be read.
    """
    row = request.winner
    folder = request.project.root / (row.run_dir or "")
    weights = Weights(trial=row.name, folder=folder, epoch=row.best_epoch or 0)
    with opened(request, folder) as evaluations:
        try:
            return evaluations.scores(ClipReading(weights=(weights,)))
        except Unavailable as error:
            raise NoResult(f"The clips of {row.name} cannot be read: {error}.") from None


@contextlib.contextmanager
def opened(request: RefineRequest, folder: Path, split: str = "val") -> Iterator[Evaluations]:
    """Give the evaluations of a run directory; their workers end with the block."""
    refine_folder = RunDir(folder).refine
    if not folder.is_dir():
        raise NoResult(f"{request.winner.name} has no run directory here. Refine it on its host.")
    refine_folder.mkdir(exist_ok=True)
    job, root = request.sweep.job, request.project.root

    def start(number: int) -> ScoreWorker:
        slot = request.slots[number]
        return ScoreWorker(job, root, slot, refine_folder / f"worker{number}.log")

    evaluations = Evaluations(folder, start, len(request.slots), request.progress, split)
    try:
        yield evaluations
    finally:
        evaluations.close()


def _members(
    request: RefineRequest, evaluations: Evaluations
) -> tuple[list[Member], list[dict[str, Any]]]:
    """Return the winner and the trials that may be joined, and those that may not."""
    rows = candidates(request.sweep, request.rows, request.winner, request.count)
    members: list[Member] = []
    left_out: list[dict[str, Any]] = []
    for row in rows:
        found = read_member(request.project, row, evaluations, VIEWS)
        if row is rows[0]:
            found = winner_member(found, row.name, request.sweep.name)
        reason = found if isinstance(found, str) else None
        if isinstance(found, Member) and members:
            reason = not_joined(members[0], found)
        if reason is not None:
            left_out.append({"trial": row.name, "line": "ensemble", "reason": reason})
        elif isinstance(found, Member):
            members.append(found)
    return members, left_out


Readings = dict[str, list[ClipReading]]


def _offered(
    winner: Member, members: Sequence[Member], left_out: list[dict[str, Any]]
) -> tuple[Readings, dict[str, str]]:
    """Return each line's readings of the winner, and why lines are not available."""
    unavailable: dict[str, str] = dict(winner.facts["refused"])
    readings: Readings = {
        name: [ClipReading(weights=(winner.best,), **how)]
        for name, how in VIEWS.items()
        if name not in unavailable
    }
    epochs = winner.facts["epochs"]
    if len(epochs) > 1:
        kept = [tuple(winner.weights(e) for e in epochs[-k:]) for k in range(2, len(epochs) + 1)]
        readings["last_k"] = [ClipReading(weights=weights) for weights in kept]
    else:
        unavailable["last_k"] = "one checkpoint is kept"
    if winner.facts["later"]:
        newest = winner.weights(epochs[-1], later=True)
        readings["trial_mean"] = [ClipReading(weights=(newest,))]
    else:
        unavailable["trial_mean"] = (
            "its checkpoints keep no mean over the later epochs: only a search's trials do"
        )
    for other in members[1:]:
        reason = not_averaged(winner, other)
        if reason is not None:
            left_out.append({"trial": other.row.name, "line": "soup", "reason": reason})
    return readings, unavailable


def _first(readings: Readings, members: Sequence[Member]) -> list[ClipReading]:
    """Return the readings that are needed for certain: of all slots none is idle meanwhile."""
    single = [one for found in readings.values() for one in found]
    return [*(ClipReading(weights=(one.best,)) for one in members), *single]


def _joins(
    member: Member,
    scores: BranchScores,
    evaluations: Evaluations,
    left_out: list[dict[str, Any]],
) -> bool:
    """Whether a trial was read on the same clips, by the same branches."""
    try:
        own = evaluations.scores(ClipReading(weights=(member.best,)))
    except Unavailable as error:
        left_out.append({"trial": member.row.name, "line": "ensemble", "reason": str(error)})
        return False
    same = own.ids == scores.ids and set(own.branches) == set(scores.branches)
    if not same:
        reason = "it was validated on other clips, or has other branches"
        left_out.append({"trial": member.row.name, "line": "ensemble", "reason": reason})
    return same


def _lines(
    winner: Member,
    members: Sequence[Member],
    readings: Readings,
    refused: dict[ClipReading, str],
    unavailable: dict[str, str],
    evaluations: Evaluations,
    scores: BranchScores,
) -> list[Line]:
    """Return the lines in the order of their cost at test."""
    fused = FusedReadings(evaluations.scores, scores.labels, scores.own_share)
    selects: dict[str, Callable[[Mask], tuple[tuple[ClipReading, ...], int]]] = {
        "plain": fixed(ClipReading(weights=(winner.best,)))
    }
    for name in ("last_k", "trial_mean"):
        found = [one for one in readings.get(name, []) if one not in refused]
        if found:
            selects[name] = OneOf(fused, found)
        elif name in readings:
            unavailable[name] = refused[readings[name][0]]
    averaged = [one.best for one in members if one is winner or not not_averaged(winner, one)]
    if len(averaged) > 1:
        selects["soup"] = GreedySoup(fused, averaged)
    else:
        unavailable["soup"] = _no_soup(winner, members)
    for name in ("flip", "clips"):
        if name in readings and readings[name][0] not in refused:
            selects[name] = fixed(readings[name][0])
        elif name in readings:
            unavailable[name] = refused[readings[name][0]]
    if len(members) > 1:
        selects["ensemble"] = Ensemble(fused, [one.best for one in members])
    else:
        unavailable["ensemble"] = "there is no other complete trial to join"
    if not scores.two:
        unavailable["ratio"] = "the model has no RGB and pose branch"
    kinds = (False, True) if scores.two else (False,)
    return [
        Line(name=_named(name, tuned), fused=fused, select=select, tuned=tuned)
        for name, select in selects.items()
        for tuned in kinds
    ]


def _named(name: str, tuned: bool) -> str:
    return "ratio" if tuned and name == "plain" else name


def _no_soup(winner: Member, members: Sequence[Member]) -> str:
    if len(members) < 2:
        return "there is no other complete trial to average with"
    return not_averaged(winner, members[1]) or "no trial can be averaged with it"


def _record(
    request: RefineRequest, judged: CrossResult, scores: BranchScores, cut_by: str
) -> dict[str, Any]:
    lines = [_line(one, scores) for one in judged.readings]
    corrected = holm([one["p"] for one in lines[1:]])
    for line, p in zip(lines, [1.0, *corrected], strict=True):
        line["p_adjusted"] = p
    chosen = judged.readings[judged.chosen]
    return {
        "schema": 1,
        "sweep": request.sweep.name,
        "trial": request.winner.name,
        "epoch": request.winner.best_epoch,
        "measured": request.winner.best_top1,
        "clips": scores.clips,
        "cut_by": cut_by,
        "tried": sum(one.final.tried for one in judged.readings),
        "lines": lines,
        "chosen": chosen.line.name,
        "chosen_line": judged.chosen,
        "best_line": judged.best,
        "selection": compared(judged.top1, judged.against, scores.clips),
        "better": judged.better,
        "test": last_test(RunDir(request.project.root / (request.winner.run_dir or ""))),
    }


def _line(one: CrossReading, scores: BranchScores) -> dict[str, Any]:
    recipe = one.final.recipe
    return {
        "name": one.line.name,
        "ratio": {"rgb": recipe.ratio.share, "log": recipe.ratio.log} if one.line.tuned else None,
        **compared(one.top1, one.against, scores.clips),
        "fitted": float((one.final.guess == scores.labels).mean()),
        "passes": recipe.passes,
        "one_model": recipe.one_model,
        "tried": one.final.tried,
        "detail": detail(one.line.name, recipe, one.line.tuned),
        "recipe": recipe.to_json(),
    }


def compared(top1: float, test: McNemar, clips: int) -> dict[str, Any]:
    return {
        "top1": top1,
        "std_error": standard_error(top1, clips),
        "difference": test.difference,
        "difference_std_error": test.std_error,
        "p": test.p,
    }


def last_test(run: RunDir) -> dict[str, Any] | None:
    """Return the latest reading of the test split, None before the first."""
    tests = tests_of(run)
    return tests[-1] if tests else None


def tests_of(run: RunDir) -> list[dict[str, Any]]:
    """Return all readings of the test split, as they were recorded."""
    return list((read_json(run.refine / TESTS) or {}).get("readings") or [])


def detail(name: str, recipe: RefinedRecipe, tuned: bool) -> str:
    """Return what a line would use, in words."""
    first = recipe.readings[0]
    names = [one.trial for reading in recipe.readings for one in reading.weights]
    words = {
        "last_k": f"mean of epochs {', '.join(str(w.epoch) for w in first.weights)}",
        "trial_mean": "mean of the weights over the later half of the epochs",
        "soup": f"mean weights of {', '.join(names)}",
        "ensemble": f"mean scores of {', '.join(names)}",
        "clips": f"{counted(first.clips, 'clip')} of each video",
        "flip": "each clip and its mirrored copy",
    }.get(name, f"epoch {first.weights[0].epoch}")
    if not tuned:
        return words
    flat = recipe.ratio.flat
    wide = f", flat from {flat[0]:.2f} to {flat[1]:.2f}" if flat and flat[0] < flat[1] else ""
    return f"{words}; {recipe.ratio.shown}{wide}"


def read_table(project: Project, winner: TrialRow, sweep: str) -> dict[str, Any]:
    """Return the table of an earlier `refine`.

    Raises:
        NoResult: there is none, or it is of another epoch.
    """
    run = RunDir(project.root / (winner.run_dir or ""))
    record = read_json(run.refine / TABLE)
    if record is None or record.get("epoch") != winner.best_epoch:
        raise NoResult(
            f"{winner.name} was not refined yet. First: pcan sweep refine {sweep} --trial "
            f"{winner.name}"
        )
    return record


def chosen_recipe(
    record: dict[str, Any], project: Project, rows: Sequence[TrialRow]
) -> RefinedRecipe:
    """Return the recipe of the line that a table has chosen."""
    folders = {row.name: project.root / (row.run_dir or "") for row in rows}
    return recipe_of(record["lines"][record["chosen_line"]]["recipe"], folders)
