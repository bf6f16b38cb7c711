"""What a launch begins next, and what it waits for while nothing of it runs."""

from collections.abc import Callable, Sequence

from pipeline.job.slots import Slot
from pipeline.launch.completion import CompletionQueue
from pipeline.launch.context import LaunchContext
from pipeline.launch.elsewhere import refuse_remote_trials, remote_host, run_by_others
from pipeline.launch.enclosing_job import EnclosingJob
from pipeline.launch.made_weights import publish_made_weights
from pipeline.launch.reporters import Once
from pipeline.launch.scheduler import Schedule, claimable
from pipeline.launch.search import prune_paused
from pipeline.launch.slot_pool import SlotPool
from pipeline.launch.stop_requests import StopRequests
from pipeline.study.claim import claim
from pipeline.study.lease import Lease
from pipeline.study.trial_rows import TrialRow

IDLE_S = 2.0

Begin = Callable[[Lease, Slot, Sequence[TrialRow]], None]


class TrialClaimer:
    """Fills free slots with what the plan wants.

    Args:
        say: prints one line for the user.
        inside: the scheduler's job that this launch runs in.
    """

    def __init__(
        self,
        places: SlotPool,
        endings: CompletionQueue,
        stops: StopRequests,
        say: Callable[[str], None],
        inside: EnclosingJob | None,
    ) -> None:
        self.tell_once = Once(say)
        self._places = places
        self._endings = endings
        self._stops = stops
        self._say = say
        self._inside = inside

    def claim_and_start(
        self,
        context: LaunchContext,
        is_open: Callable[[], bool],
        begin: Begin,
        changed: Callable[[], None],
    ) -> Schedule:
        """Claim and start trials while there are free slots and something is wanted.

        Args:
            is_open: whether trials may still be begun.
            begin: starts the job of a claimed trial.
            changed: called when trials were ended that others have beaten.
        """
        self._places.waiting = ""
        rows = context.rows()
        plan = context.plan(rows)
        if plan.beaten:
            prune_paused(context, plan.beaten, self._say)
            changed()
            rows = context.rows()
            plan = context.plan(rows)
        names = [want.variant for want in plan.wanted]
        for line in publish_made_weights(context.sweep, context.project, rows, names):
            self._say(line)
        elsewhere = {row.trial_id for row in rows if remote_host(context, row)}
        skip = self._endings.given_back | elsewhere
        while is_open() and claimable(context.sweep, plan, rows, skip):
            slot = self._places.acquire(context.sweep.name)
            if slot is None:
                break
            lease = claim(context.sweep, context.study_storage, plan.wanted, skip=skip)
            if lease is None:
                self._places.release(slot)
                break
            begin(lease, slot, rows)
            rows = context.rows()
        return plan

    def wait_for_others(self, context: LaunchContext, plan: Schedule) -> bool:
        """Wait while another launcher runs what is wanted; False if there is nothing to await.

        Raises:
            NotReady: only another host can go on with what is wanted.
        """
        if self._places.draining:
            return True
        if self._places.waiting:
            self.tell_once(f"{self._places.waiting}; waiting.")
            self._stops.sleep(IDLE_S)
            return not self._stops.requested
        others = run_by_others(context, plan, self._inside)
        if not others:
            refuse_remote_trials(context, plan)
            return False
        self.tell_once(f"Another launch runs {others}; waiting to take over what it leaves.")
        self._stops.sleep(IDLE_S)
        return not self._stops.requested
