"""The sweep file changes at 2 a.m.: read again, recorded, finished epochs judged again."""

from collections.abc import Callable
from pathlib import Path

from pipeline.job.exit_cause import Outcome
from pipeline.job.slots import Slot
from pipeline.launch.control_files import overrule, overruled
from pipeline.launch.reporters import LineReporter
from pipeline.launch.trial_lease import NullLease
from pipeline.launch.trial_runner import TrialRunner
from pipeline.plan.gates import Gate
from pipeline.plan.judge import Rules
from pipeline.plan.verdict import Verdict
from pipeline.shared.files import append_line
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir

SLOW = (
    "  baseline: {set: {train_cfg.max_epochs: 40, model.sleep: 0.25, "
    "val_evaluator.top1: [0.6, 0.7, 0.8, 0.85]}, patience: null}\n"
)


def test_gates_changed_during_a_launch_hold_for_what_runs(
    project, until: Callable[..., None]
) -> None:
    project.ranks = 1
    project.sweep(SLOW)
    file = project.root / "sweeps" / "tiny.yaml"
    good = file.read_text()
    launch = project.start(*project.launch_words())
    until(lambda: project.epochs("baseline/0")[-1:] >= [1], "epoch 1")
    file.write_text(good.replace("floor: 0.5", "floor: high"))
    reported = lines_up_to(launch, "by the plan as it was")
    assert "sweeps/tiny.yaml:11" in reported[-1] and '"high"' in reported[-1]
    file.write_text(good.replace("floor: 0.5, target: 0.6", "floor: 0.65"))
    rest = launch.communicate(timeout=120)[0]
    assert launch.returncode == 3, rest
    assert "baseline: gates changed; recorded with the date." in rest
    assert "by the changed rules it is stopped" in rest
    trial = project.status()["baseline/0"]
    assert (trial["state"], trial["cause"], trial["verdicts"][-1]["epoch"]) == (
        "PRUNED",
        "gate",
        1,
    )

    file.write_text(good)
    again = project.launch()
    assert "by the present rules it goes on: pcan sweep continue baseline/0" in again.stderr
    assert project.status()["baseline/0"]["state"] == "PRUNED"


def lines_up_to(process, text: str) -> list[str]:
    lines = []
    while not lines or text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], f"the launch ended without a word about: {text}"
    return lines


class OneFloor:
    """The rules of a trial with one gate, as far as it is not overruled."""

    def __init__(self, rundir: RunDir) -> None:
        self.rundir = rundir

    def rules(self) -> Rules:
        gate = Gate(epoch=1, floor=0.88)
        return Rules(gates=(gate,), overruled=overruled(self.rundir))

    def next_variant(self, verdict: Verdict) -> None:
        return None


def test_an_overruled_verdict_takes_the_stop_of_a_running_job_back(tmp_path: Path) -> None:
    rundir, said = RunDir(tmp_path), []
    append_line(rundir.measurements, Measurement(epoch=1, top1=0.8).to_line())
    attempt = TrialRunner(
        NullLease(variant="baseline", number="0", token="t", params={}),
        rundir,
        OneFloor(rundir),
        Slot(number=0, gpus=()),
        epochs=30,
        grace_s=10,
        reporter=LineReporter(said.append),
    )
    assert attempt.ending is not None
    attempt.request_stop(Outcome(state="PRUNED", cause="gate", reason="under the floor"), 10)
    assert rundir.stop.exists()
    overrule(rundir, attempt.verdicts[-1], [])
    attempt.poll()
    assert attempt.ending is None and attempt.stopping is None and not rundir.stop.exists()
    assert said == [
        "baseline/0 is no longer to stop: epoch 1: top-1 80.00 % is under the floor 88.00 %."
    ]
