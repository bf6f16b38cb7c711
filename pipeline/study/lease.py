"""A claimed trial: everything its owner writes to the storage, each write fenced by the token."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pipeline.errors import PcanError
from pipeline.plan.judge import best
from pipeline.plan.measurement import Measurement
from pipeline.study.storage import Storage, told
from pipeline.study.table import trials


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
        latest = history[-1]
        top = best(history)
        self._update(
            epoch=latest.epoch,
            last_top1=latest.top1 if latest.finite else None,
            lr=latest.lr,
            best_top1=top.top1 if top else None,
            best_epoch=top.epoch if top else None,
            verdicts=[dict(v) for v in verdicts],
        )
        rdb = self.storage.rdb
        for m in history:
            if m.epoch > 0 and m.epoch not in self._reported:
                with told(self.storage):
                    rdb.set_trial_intermediate_value(self.trial_id, m.epoch, m.top1)
                self._reported.add(m.epoch)

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
        from optuna.trial import TrialState

        # Fences before Optuna is told anything; the reason goes first, so that a kill between
        # the two leaves no ended trial without one.
        self._update(cause=cause, reason=reason, verdicts=[dict(v) for v in verdicts])
        rdb = self.storage.rdb
        with told(self.storage):
            ended = rdb.get_trial(self.trial_id).state.is_finished()
        if not ended and history:
            self.report(history, verdicts)
        with told(self.storage):
            if not ended:
                self._tell_optuna(TrialState[state], history, (cause, reason, verdicts))
        self._end("done", cause, reason, seconds)

    def release(self, phase: str, *, cause: str | None, reason: str, seconds: float) -> None:
        """Give the trial back unfinished; the next launch takes it up again.

        Args:
            phase: "interrupted" or "paused".
        """
        self._end(phase, cause, reason, seconds)

    def _tell_optuna(self, state: Any, history: Sequence[Measurement], why: Any) -> None:
        rdb = self.storage.rdb
        for key, value in zip(("cause", "reason", "verdicts"), why, strict=True):
            rdb.set_trial_user_attr(self.trial_id, key, json.loads(json.dumps(value)))
        rdb.set_trial_state_values(self.trial_id, state, _values(state.name, history))

    def _end(self, phase: str, cause: str | None, reason: str, seconds: float) -> None:
        self._update(
            phase=phase,
            cause=cause,
            reason=reason,
            seconds=trials.c.seconds + seconds,
            ended_at=self.storage.now(),
            token=None,
        )

    def _update(self, **values: Any) -> None:
        mine = (trials.c.trial_id == self.trial_id) & (trials.c.token == self.token)
        with told(self.storage):
            now = self.storage.now()
            with self.storage.engine.begin() as connection:
                found = connection.execute(
                    sa.update(trials).where(mine).values(renewed_at=now, **values)
                )
        if found.rowcount != 1:
            raise LeaseLost(
                f"{self.name} was taken up by another launcher (its lease is no longer ours); "
                "this job ends without writing a result."
            )


def _values(state: str, history: Sequence[Measurement]) -> list[float] | None:
    """Return Optuna's value: the best epoch of a finished run, the last of a pruned one."""
    if state == "COMPLETE":
        top = best(history)
        return [top.top1] if top else None
    if state == "PRUNED" and history and history[-1].finite:
        return [history[-1].top1]
    return None
