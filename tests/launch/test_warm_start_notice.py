"""What a warm start loaded and what epoch 0 says of it, as a launch tells it."""

import pytest

VARIANTS = """\
  maker: {warm_start: null, in_ladder: false, gates: [], set: {train_cfg.max_epochs: 1}}
  baseline:
    gates: []
    set: {train_cfg.max_epochs: 2, val_evaluator.start: 0.61, val_evaluator.top1: [0.7, 0.8]}
  strict:
    like: baseline
    warm_start: {checkpoint: start.pth, make: maker, expect: 0.9, on_mismatch: stop}
"""


@pytest.fixture(scope="module")
def started(module_project):
    """A variant whose mismatch is a warning, and one whose mismatch stops it."""
    project = module_project
    project.ranks = 1
    project.sweep(VARIANTS)
    file = project.root / "sweeps" / "tiny.yaml"
    start = "warm_start: {checkpoint: start.pth, make: maker, expect: 0.9, on_mismatch: warn}"
    file.write_text(file.read_text().replace("job: {", f"{start}\njob: {{"))
    first = project.launch()
    return project, first, project.launch("--variant", "baseline", "--variant", "strict")


def test_starting_weights_are_described_checked_and_watched(started) -> None:
    project, done, second = started
    assert done.returncode == 0, done.stderr
    report = [line for line in done.stderr.splitlines() if "start.pth: " in line]
    assert len(report) == 1 and report[0].startswith("baseline/0: ")
    assert "100.0% of the weights such a file should have were matched" in report[0]
    reported = "the starting weights reach 61.00 %, not the expected 90.00 %"
    assert reported in done.stderr
    assert project.epochs("baseline/0") == [0, 1, 2]
    # A second launch has nothing to say of weights that were loaded before.
    assert "baseline/0: start.pth: " not in second.stderr


def test_weights_that_do_not_belong_to_the_data_stop_the_trial(started) -> None:
    project, _, done = started
    assert done.returncode == 3, done.stderr
    assert project.epochs("strict/0") == [0]
    trial = project.status()["strict/0"]
    assert trial["state"] == "FAIL" and "do not belong together" in trial["reason"]
