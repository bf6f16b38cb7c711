"""A claimed trial: everything its owner writes to the storage, each write fenced by the token."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import PcanError
from pipeline.plan.judge import best
from pipeline.shared.measurement import Measurement
from pipeline.study import optuna_tables
from pipeline.study.db.db_errors import translate_errors
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

    def begin(self, run_dir: str, gpus: str, facts: Mapping[str, Any]) -> None:
        """Record where and on what the trial runs."""
        started = {"attempt_started": self.storage.now()}
        self._update(run_dir=run_dir, gpus=gpus, facts={**facts, **started})

    def renew(self) -> None:
        """Say that the owner lives."""
        self._update()

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None:
        """Report to our table, and to Optuna every epoch that it has not heard of.

        After the storage was away, or the launcher before this one was killed, that may be more
        than the latest; a value that is already there is the same one.

        Args:
            verdicts: the records worth keeping so far.
        """
        with self._mine(verdicts=[dict(v) for v in verdicts], **_figures(history)) as connection:
            optuna_tables.add_values(connection, self.trial_id, self._unheard(history))
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
        told_why = {"cause": cause, "reason": reason, "verdicts": [dict(v) for v in verdicts]}
        row = {**self._ended("done", seconds), **told_why, **_figures(history)}
        with self._unless_done(), self._mine(**row) as connection:
            optuna_tables.add_values(connection, self.trial_id, self._unheard(history))
            optuna_tables.end(
                connection, self.trial_id, state, final_values(state, history), told_why
            )

    def release(self, phase: str, *, cause: str | None, reason: str, seconds: float) -> None:
        """Give the trial back unfinished; the next launch takes it up again.

        Args:
            phase: "interrupted" or "paused".
        """
        with self._unless_done():
            self._update(**self._ended(phase, seconds), cause=cause, reason=reason)

    def _unheard(self, history: Sequence[Measurement]) -> dict[int, float]:
        """Return the values that Optuna has not been told by this owner."""
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
        """Let an end pass that was written before, by a call that heard of no success."""
        try:
            yield
        except LeaseLost:
            query = sa.select(trials.c.token, trials.c.attempt)
            with translate_errors(self.storage), self.storage.engine.connect() as connection:
                found = connection.execute(query.where(trials.c.trial_id == self.trial_id)).first()
            if found is None or tuple(found) != (None, self.attempt):
                raise

    def _update(self, **values: Any) -> None:
        with self._mine(**values):
            pass

    @contextlib.contextmanager
    def _mine(self, **values: Any) -> Iterator[sa.Connection]:
        """Write our row and what else belongs to it in one transaction.

        Raises:
            LeaseLost: the trial is another owner's now; nothing is written.
        """
        mine = (trials.c.trial_id == self.trial_id) & (trials.c.token == self.token)
        now = self.storage.clock()
        with translate_errors(self.storage), self.storage.engine.begin() as connection:
            found = connection.execute(
                sa.update(trials).where(mine).values(renewed_at=now, **values)
            )
            if found.rowcount != 1:
                raise LeaseLost(
                    f"{self.name} was taken up by another launcher (its lease is no longer ours); "
                    "this job ends without writing a result."
                )
            yield connection


def _figures(history: Sequence[Measurement]) -> dict[str, Any]:
    """Return our columns for the latest epoch; none before the first."""
    if not history:
        return {}
    latest, top = history[-1], best(history)
    return {
        "epoch": latest.epoch,
        "last_top1": latest.top1 if latest.finite else None,
        "lr": latest.lr,
        "best_top1": top.top1 if top else None,
        "best_epoch": top.epoch if top else None,
    }


def final_values(state: str, history: Sequence[Measurement]) -> list[float] | None:
    """Return Optuna's value: the best epoch of a finished run, the last of a pruned one."""
    if state == "COMPLETE":
        top = best(history)
        return [top.top1] if top else None
    if state == "PRUNED" and history and history[-1].finite:
        return [history[-1].top1]
    return None
