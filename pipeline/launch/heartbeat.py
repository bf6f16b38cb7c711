"""Keep the storage up to date on one running trial, also across an outage of the storage.

The run directory holds everything, so nothing is lost meanwhile: the job goes on, the outage is
reported once, and what was missed is stored when the storage is back.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import StorageError
from pipeline.launch.reporters import Reporter
from pipeline.launch.trial_lease import TrialLease
from pipeline.shared.measurement import Measurement
from pipeline.study.owner import LEASE_S

RENEW_S = LEASE_S / 6
RETRY_S = 5.0
#: Outages shorter than this are not reported.
SILENT_S = 8.0


class LeaseHeartbeat:
    """Stores the epochs of one trial and renews its lease.

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
