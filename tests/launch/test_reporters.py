"""Reporters observe a launch: one that fails ends no training, and repeats are dropped."""

from pipeline.job.exit_cause import Outcome
from pipeline.launch.messages import completion_text, epoch_text
from pipeline.launch.reporters import LineReporter, Reporter, Reporters
from pipeline.plan.verdict import Verdict, VerdictKind
from pipeline.shared.measurement import Measurement
from pipeline.shared.states import Cause, State


class Broken(Reporter):
    def on_step_end(self, trials: object) -> None:
        raise OSError("no room")


def test_a_failing_reporter_is_reported_once_and_stops_no_other() -> None:
    lines: list[str] = []
    steps: list[object] = []

    class Counting(LineReporter):
        def on_step_end(self, trials: object) -> None:
            steps.append(trials)

    reporters = Reporters(Broken(), Counting(lines.append))
    for _ in range(2):
        reporters.on_step_end([])
    assert lines == ["Broken failed: OSError: no room. Training goes on."]
    assert steps == [[], []]


def test_a_status_is_printed_when_it_changes() -> None:
    lines: list[str] = []
    reporters = Reporters(LineReporter(lines.append))
    for text in ("waiting", "waiting", "busy", "waiting"):
        reporters.on_status(text)
        reporters.on_message("epoch")
    assert [line for line in lines if line != "epoch"] == ["waiting", "busy", "waiting"]


def test_an_epoch_reads_alike_with_and_without_details() -> None:
    go = Verdict(epoch=3, top1=0.5, kind=VerdictKind.GO, reason="")
    assert epoch_text("a/0", None, Measurement(epoch=3, top1=0.5), go) == (
        "a/0 epoch 3: top-1 50.00 %"
    )
    watch = Verdict(
        epoch=3, top1=0.5, kind=VerdictKind.WATCH, reason="epoch 3: low", std_error=0.01
    )
    m = Measurement(epoch=3, top1=0.5, rgb_top1=0.4, lr=0.01, seconds=35)
    assert epoch_text("a/0", 30, m, watch) == (
        "a/0 epoch 3/30: top-1 50.00 % ± 1.00 (rgb 40.0 %), lr 0.01, 35 s\n  watch: low"
    )


def test_the_end_of_a_trial_says_what_follows() -> None:
    pruned = Outcome(state=State.PRUNED, cause=Cause.GATE, reason="under the floor.")
    assert completion_text("a/0", 1, pruned, "The plan's next step: b.") == (
        "a/0 pruned: under the floor. The plan's next step: b."
    )
    stopped = Outcome(state=None, cause=Cause.INTERRUPTED, reason="SIGTERM")
    assert completion_text("a/0", 1, stopped) == "a/0 interrupted: SIGTERM."
    failed = Outcome(state=State.FAIL, cause=Cause.NAN, reason="loss is nan")
    assert completion_text("a/0", 1, failed, "  Last lines") == (
        "a/0 failed after 1 epoch (nan): loss is nan\n  Last lines"
    )
