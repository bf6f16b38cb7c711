"""What a launch begins next, and what it waits for while nothing of it runs."""

from collections.abc import Callable, Sequence

from pipeline.job.slots import Slot
from pipeline.launch.context import Context
from pipeline.launch.elsewhere import away, refuse_what_is_away, run_by_others
from pipeline.launch.endings import Endings
from pipeline.launch.engine import Inside
from pipeline.launch.places import Places
from pipeline.launch.policy import Next, claimable
from pipeline.launch.searching import end_beaten
from pipeline.launch.show import Once
from pipeline.launch.stops import Stops
from pipeline.launch.weights import export_made
from pipeline.study.board import TrialRow
from pipeline.study.claim import claim
from pipeline.study.lease import Lease

IDLE_S = 2.0

Begin = Callable[[Lease, Slot, Sequence[TrialRow]], None]


class Filling:
    """Fills free slots with what the plan wants.

    Args:
        say: prints one line for the user.
        inside: the scheduler's job that this launch runs in.
    """

    def __init__(
        self,
        places: Places,
        endings: Endings,
        stops: Stops,
        say: Callable[[str], None],
        inside: Inside | None,
    ) -> None:
        self.tell_once = Once(say)
        self._places = places
        self._endings = endings
        self._stops = stops
        self._say = say
        self._inside = inside

    def fill(
        self,
        context: Context,
        is_open: Callable[[], bool],
        begin: Begin,
        changed: Callable[[], None],
    ) -> Next:
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
            end_beaten(context, plan.beaten, self._say)
            changed()
            rows = context.rows()
            plan = context.plan(rows)
        names = [want.variant for want in plan.wanted]
        for line in export_made(context.sweep, context.project, rows, names):
            self._say(line)
        elsewhere = {row.trial_id for row in rows if away(context, row)}
        skip = self._endings.given_back | elsewhere
        while is_open() and claimable(context.sweep, plan, rows, skip):
            slot = self._places.take(context.sweep.name)
            if slot is None:
                break
            lease = claim(context.sweep, context.study_storage, plan.wanted, skip=skip)
            if lease is None:
                self._places.give_back(slot)
                break
            begin(lease, slot, rows)
            rows = context.rows()
        return plan

    def wait(self, context: Context, plan: Next) -> bool:
        """Wait while another launcher runs what is wanted; False if there is nothing to await.

        Raises:
            NotReady: only another host can go on with what is wanted.
        """
        if self._places.clearing:
            return True
        if self._places.waiting:
            self.tell_once(f"{self._places.waiting}; waiting.")
            self._stops.sleep(IDLE_S)
            return not self._stops.asked
        others = run_by_others(context, plan, self._inside)
        if not others:
            refuse_what_is_away(context, plan)
            return False
        self.tell_once(f"Another launch runs {others}; waiting to take over what it leaves.")
        self._stops.sleep(IDLE_S)
        return not self._stops.asked
