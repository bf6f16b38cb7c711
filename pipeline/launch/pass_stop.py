"""Pass on to a running trial what a launch was asked for."""

from pipeline.job.exit_cause import Outcome
from pipeline.launch.stop_requests import StopRequests
from pipeline.launch.trial_runner import TrialRunner
from pipeline.plan.sweep import JobSettings


def apply_stop_requests(stops: StopRequests, attempt: TrialRunner, job: JobSettings) -> None:
    """Have a trial stop after its epoch, now, or at once, or because its own time is over."""
    if stops.requested:
        attempt.request_stop(stops.outcome(), stops.grace_s)
    if stops.level >= 3 and attempt.process is not None:
        attempt.process.kill()
    if job.max_hours is None or attempt.process is None or attempt.stopping is not None:
        return
    if attempt.process.seconds > 3600 * job.max_hours:
        reason = f"the time limit of {job.max_hours:g} h (job.max_hours) is reached"
        late = Outcome(state=None, cause="timeout", reason=reason)
        attempt.request_stop(late, job.stop_grace_s)
