"""The trials that a refinement may join, and why others are left out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NoResult
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.refine.evaluations import Evaluations
from pipeline.refine.recipes import Weights
from pipeline.report.stats.readings import same_store, shown_store, store_of
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Kind, State
from pipeline.study.trial_rows import TrialRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A trial with what its job side says of it.

    Args:
        facts: as `pipeline.train.refine_facts` returns them.
    """

    row: TrialRow
    run: RunDir
    spec: TrialSpec
    facts: Mapping[str, Any]

    @property
    def best(self) -> Weights:
        """The weights of its best epoch."""
        return self.weights(self.row.best_epoch or 0)

    def weights(self, epoch: int, later: bool = False) -> Weights:
        return Weights(trial=self.row.name, folder=self.run.root, epoch=epoch, later=later)

    @property
    def start(self) -> str | None:
        """The starting weights, None for random ones."""
        found = (self.spec.warm_start or {}).get("checkpoint")
        return None if found is None else str(found)


def candidates(
    sweep: Sweep, rows: Sequence[TrialRow], winner: TrialRow, count: int
) -> list[TrialRow]:
    """Return the winner and the best other complete trials, `count` in all.

    Repetitions of a trial on other seeds are among them; makers of starting weights are not.
    """
    others = [
        row
        for row in rows
        if row.state == State.COMPLETE
        and row.best_top1 is not None
        and row.name != winner.name
        and row.variant not in sweep.makers
        and not row.superseded
        and row.kind is not Kind.IMPORTED
    ]
    others.sort(key=lambda row: -(row.best_top1 or 0.0))
    return [winner, *others[: max(0, count - 1)]]


def read_member(
    project: Project, row: TrialRow, evaluations: Evaluations, views: dict[str, Any]
) -> Member | str:
    """Return a trial with its facts, or why it cannot be read."""
    run = RunDir(project.root / (row.run_dir or ""))
    host = row.remote_host(project.root)
    spec = run.read_spec() if host is None else None
    if spec is None:
        return f"its run directory is on {host or 'another machine'}"
    best = Path(run.checkpoints / f"epoch_{row.best_epoch}.pth")
    if not best.is_file():
        return "the checkpoint of its best epoch was deleted"
    facts = evaluations.facts(run.root, row.best_epoch or 0, views)
    return Member(row=row, run=run, spec=spec, facts=facts)


def winner_member(found: Member | str, name: str, sweep: str) -> Member:
    """Return the trial to refine.

    Raises:
        NoResult: it cannot be read here.
    """
    if isinstance(found, str):
        raise NoResult(
            f"{name} cannot be refined: {found}. Refine another: pcan sweep refine {sweep} "
            "--trial VARIANT/NUMBER"
        )
    return found


def not_averaged(winner: Member, other: Member) -> str | None:
    """Return why two trials' weights have no useful mean, None if they may have one.

    Weights that came from the same start by small steps lie in one basin; others do not.
    """
    if winner.start is None:
        return f"{winner.row.name} began with random weights; a mean needs a common start"
    if other.start != winner.start:
        return f"it began with other weights ({other.start or 'random ones'})"
    if other.facts["shapes"] != winner.facts["shapes"]:
        return "its weights have other names or shapes (another network or head)"
    if other.facts["model"] != winner.facts["model"]:
        return "its network or head is configured otherwise"
    stores = [store_of(one.spec.data) for one in (winner, other)]
    if not same_store(*stores):
        return f"it was trained on other data ({shown_store(stores[1])})"
    if other.facts["training"] != winner.facts["training"]:
        return "it was trained on other data, or with another pipeline"
    return None


def not_joined(winner: Member, other: Member) -> str | None:
    """Return why two trials' scores cannot be averaged, None if they can."""
    if other.facts["validation"] != winner.facts["validation"]:
        return "it was validated on other clips, or by another pipeline"
    if other.spec.metric != winner.spec.metric:
        return f"its objective is {other.spec.metric}"
    return None
