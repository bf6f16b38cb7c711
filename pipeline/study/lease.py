"""A claimed trial: what its owner writes to the storage, each write fenced by its token."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import PcanError
from pipeline.shared.measurement import Measurement, best_trained
from pipeline.shared.states import Phase, State
from pipeline.study import optuna_tables
from pipeline.study.db.storage import Storage
from pipeline.study.tables import trials


class LeaseLost(PcanError):
    """Another launcher has taken the trial up; this one must end its job and write nothing."""

    exit_code = 75


@dataclasses.dataclass(kw_only=True)
class Lease:
    """The right to run one trial, from `claim`.

    Args:
        attempt: which start of the trial this is, from 1.
        searched: the parameters were drawn; otherwise the trial is the recipe as written.
        run_dir: the run directory of an earlier attempt, relative to the runs folder's parent.
        previous: the row as it was before the claim.
    """

    storage: Storage
    trial_id: int
    variant: str
    number: int
    attempt: int
    token: str
    params: dict[str, Any]
    searched: bool
    run_dir: str | None
    previous: Mapping[str, Any]
    _reported: set[int] = dataclasses.field(default_factory=set, repr=False)

    @property
    def name(self) -> str:
        """The trial as users name it: VARIANT/NUMBER."""
        return f"{self.variant}/{self.number}"

    @property
    def uid(self) -> str:
        """The trial's id, which differs from that of a trial of this name in another storage."""
        return str(self.previous["uid"])

    @property
    def recipe_hash(self) -> str | None:
        """The digest of its recipe, None for a drawn trial."""
        found: str | None = self.previous["recipe_hash"]
        return found

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the storage had of the trial when it was claimed."""
        return self.previous.get("facts") or {}

    def begin(self, run_dir: str, gpus: str, facts: Mapping[str, Any]) -> None:
        """Record where and on what the trial runs."""
        started = {"attempt_started": self.storage.now()}
        self._update(run_dir=run_dir, gpus=gpus, facts={**facts, **started})

    def renew(self) -> None:
        """Renew the lease: the owner is alive."""
        self._update()

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None:
        """Report to our table, and to Optuna every epoch that this owner has not reported yet.

        After the storage was unreachable, or the launcher before this one was killed, that may be
        more than the latest; a value that is already there is the same one.

        Args:
            verdicts: the records worth keeping so far.
        """
        with self._fenced(verdicts=[dict(v) for v in verdicts], **figures(history)) as connection:
            optuna_tables.add_values(connection, self.trial_id, self._unreported(history))
        self._reported |= {m.epoch for m in history}

    def tell(
        self,
        state: str,
        history: Sequence[Measurement],
        *,
        cause: str | None,
        reason: str,
        verdicts: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> None:
        """End the trial in Optuna and release the lease.

        Args:
            state: COMPLETE, PRUNED or FAIL.
            seconds: job time of this attempt.
        """
        why = {"cause": cause, "reason": reason, "verdicts": [dict(v) for v in verdicts]}
        row = {**self._ended(Phase.DONE, seconds), **why, **figures(history)}
        with self._unless_done(), self._fenced(**row) as connection:
            optuna_tables.add_values(connection, self.trial_id, self._unreported(history))
            values = final_values(state, history)
            optuna_tables.end(connection, self.trial_id, state, values, why)

    def release(self, phase: str, *, cause: str | None, reason: str, seconds: float) -> None:
        """Release the trial unfinished; the next launch resumes it.

        Args:
            phase: INTERRUPTED or PAUSED.
        """
        with self._unless_done():
            self._update(**self._ended(phase, seconds), cause=cause, reason=reason)

    def _unreported(self, history: Sequence[Measurement]) -> dict[int, float]:
        """Return the values that this owner has not reported to Optuna."""
        return {m.epoch: m.top1 for m in history if m.epoch > 0 and m.epoch not in self._reported}

    def _ended(self, phase: str, seconds: float) -> dict[str, Any]:
        return {
            "phase": phase,
            "seconds": trials.c.seconds + seconds,
            "ended_at": self.storage.clock(),
            "token": None,
        }

    @contextlib.contextmanager
    def _unless_done(self) -> Iterator[None]:
        """Ignore a lost lease if our own earlier commit ended the trial (its reply was lost)."""
        try:
            yield
        except LeaseLost:
            query = sa.select(trials.c.token, trials.c.attempt)
            rows = self.storage.select(query.where(trials.c.trial_id == self.trial_id))
            if rows != [{"token": None, "attempt": self.attempt}]:
                raise

    def _update(self, **values: Any) -> None:
        with self._fenced(**values):
            pass

    @contextlib.contextmanager
    def _fenced(self, **values: Any) -> Iterator[sa.Connection]:
        """Update our row, and let the block write what belongs to it, in one transaction.

        Raises:
            LeaseLost: the trial is another owner's now; nothing is written.
        """
        held = (trials.c.trial_id == self.trial_id) & (trials.c.token == self.token)
        update = sa.update(trials).where(held).values(renewed_at=self.storage.clock(), **values)
        with self.storage.transaction() as connection:
            if connection.execute(update).rowcount != 1:
                raise LeaseLost(
                    f"{self.name} was taken up by another launcher (its lease is no longer ours); "
                    "this job ends without writing a result."
                )
            yield connection


def figures(history: Sequence[Measurement]) -> dict[str, Any]:
    """Return our columns for the latest epoch; none before the first."""
    if not history:
        return {}
    latest, top = history[-1], best_trained(history)
    return {
        "epoch": latest.epoch,
        "last_top1": latest.top1 if latest.finite else None,
        "lr": latest.lr,
        "best_top1": top.top1 if top else None,
        "best_epoch": top.epoch if top else None,
        "averaged": {str(m.epoch): m.averaged for m in history if m.averaged is not None},
    }


def final_values(state: str, history: Sequence[Measurement]) -> list[float] | None:
    """Return Optuna's value: the best epoch of a finished run, the last of a pruned one."""
    if state == State.COMPLETE:
        top = best_trained(history)
        return [top.top1] if top else None
    if state == State.PRUNED and history and history[-1].finite:
        return [history[-1].top1]
    return None
