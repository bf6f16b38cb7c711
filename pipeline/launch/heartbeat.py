"""Keep the storage up to date on one running trial, and bear with a storage that is away.

The run directory holds everything, so nothing is lost meanwhile: the job goes on, the user is
told once, and what was missed is reported when the storage is back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import StorageError
from pipeline.launch.trial_lease import Held
from pipeline.shared.measurement import Measurement
from pipeline.study.owner import LEASE_S

RENEW_S = LEASE_S / 6
RETRY_S = 5.0
#: A storage that is busy for less than this is not worth a word.
SILENT_S = 8.0


class LeaseHeartbeat:
    """What the storage has yet to hear of one trial.

    Args:
        say: prints one line for the user.
    """

    def __init__(self, lease: Held, say: Callable[[str], None]) -> None:
        self.pending = False
        self._lease = lease
        self._say = say
        self._renewed = time.monotonic()
        self._retry_at = 0.0
        self._away_since: float | None = None
        self._told = False

    def sync(self, history: Sequence[Measurement], verdicts: Sequence[Mapping[str, Any]]) -> None:
        """Report if there is news, renew the lease if it is time to.

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
            self._away(now, error)
            return
        if self._told:
            self._say(f"{self._lease.name}: the storage is back, all epochs are reported.")
        self.pending, self._told, self._away_since, self._renewed = False, False, None, now

    def _away(self, now: float, error: StorageError) -> None:
        self._retry_at = now + RETRY_S
        self._away_since = now if self._away_since is None else self._away_since
        if not self._told and now - self._away_since >= SILENT_S:
            self._say(f"{self._lease.name}: {error} Training goes on; reported later.")
            self._told = True
