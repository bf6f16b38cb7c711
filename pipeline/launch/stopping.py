"""Pass on to a running trial what a launch was asked for."""

from pipeline.job.ended import Outcome
from pipeline.launch.attempt import Attempt
from pipeline.launch.stops import Stops
from pipeline.plan.sweep import JobSettings


def pass_on(stops: Stops, attempt: Attempt, job: JobSettings) -> None:
    """Have a trial stop after its epoch, now, or at once, or because its own time is over."""
    if stops.asked:
        attempt.request_stop(stops.outcome(), stops.grace_s)
    if stops.level >= 3 and attempt.process is not None:
        attempt.process.kill()
    if job.max_hours is None or attempt.process is None or attempt.stopping is not None:
        return
    if attempt.process.seconds > 3600 * job.max_hours:
        reason = f"the time limit of {job.max_hours:g} h (job.max_hours) is reached"
        late = Outcome(state=None, cause="timeout", reason=reason)
        attempt.request_stop(late, job.stop_grace_s)
