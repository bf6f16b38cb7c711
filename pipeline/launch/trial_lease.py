"""The right to run a trial: a lease of a study, or none at all, and the heartbeat that renews it.

The run directory holds everything, so nothing is lost in an outage of the storage: the job goes
on, the outage is reported once, and what was missed is stored when the storage is back.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.errors import StorageError
from pipeline.launch.reporters import Reporter
from pipeline.shared.measurement import Measurement
from pipeline.study.owner import LEASE_S

RENEW_S = LEASE_S / 6
RETRY_S = 5.0
#: Outages shorter than this are not reported.
SILENT_S = 8.0


class TrialLease(Protocol):
    """The part of `study.lease.Lease` that a running trial uses."""

    @property
    def variant(self) -> str: ...

    @property
    def number(self) -> int | str: ...

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def searched(self) -> bool: ...

    @property
    def params(self) -> Mapping[str, Any]: ...

    @property
    def uid(self) -> str: ...

    @property
    def recipe_hash(self) -> str | None: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    @property
    def previous(self) -> Mapping[str, Any]: ...

    def renew(self) -> None: ...

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None: ...

    def tell(
        self,
        state: str,
        history: Sequence[Measurement],
        *,
        cause: str | None,
        reason: str,
        verdicts: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> None: ...

    def release(self, phase: str, *, cause: str | None, reason: str, seconds: float) -> None: ...


@dataclasses.dataclass(kw_only=True)
class NullLease:
    """A lease for `pcan train`, which has no study; its methods store nothing."""

    variant: str
    number: str
    token: str
    params: Mapping[str, Any]
    attempt: int = 1
    searched: bool = False
    recipe_hash: str | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    previous: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.variant}/{self.number}"

    @property
    def uid(self) -> str:
        return self.token

    def renew(self) -> None:
        pass

    def report(
        self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]
    ) -> None:
        pass

    def tell(self, state: str, history: Sequence[Measurement], **why: Any) -> None:
        pass

    def release(self, phase: str, **why: Any) -> None:
        pass


class LeaseHeartbeat:
    """Stores the epochs of one trial and renews its lease, also across an outage of the storage.

    `pending` is set by the owner when there is something to store.
    """

    def __init__(self, lease: TrialLease, reporter: Reporter) -> None:
        self.pending = False
        self._lease = lease
        self._reporter = reporter
        self._renewed = time.monotonic()
        self._retry_at = 0.0
        self._outage_since: float | None = None
        self._outage_reported = False

    def sync(self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]) -> None:
        """Report new epochs, or renew the lease when due.

        Raises:
            LeaseLost: another launcher has the trial now.
        """
        now = time.monotonic()
        due = self.pending or now - self._renewed > RENEW_S
        if not due or now < self._retry_at:
            return
        try:
            if self.pending:
                self._lease.report(history, verdicts)
            else:
                self._lease.renew()
        except StorageError as error:
            self._outage(now, error)
            return
        if self._outage_reported:
            self._reporter.on_message(
                f"{self._lease.name}: the storage is back, all epochs are reported."
            )
        self.pending, self._outage_reported = False, False
        self._outage_since, self._renewed = None, now

    def _outage(self, now: float, error: StorageError) -> None:
        self._retry_at = now + RETRY_S
        self._outage_since = now if self._outage_since is None else self._outage_since
        if not self._outage_reported and now - self._outage_since >= SILENT_S:
            self._reporter.on_message(
                f"{self._lease.name}: {error} Training goes on; reported later."
            )
            self._outage_reported = True
