"""A head that trains labels one too low, trained for real: everything that looks says so."""

import pytest

SAID = "the pose branch agrees with label - 1 in"


@pytest.mark.slow
@pytest.mark.sample
def test_a_head_that_lowers_labels_is_seen_by_launch_status_and_diagnose(project) -> None:
    project.sweep("  baseline: {gates: [], set: {train_cfg.max_epochs: 3}}\n")
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("jobs/tiny.py", "jobs/lowered.py"))
    done = project.launch()
    assert done.returncode == 0, done.stderr
    assert f"baseline/0 epoch 3: label_mismatch: {SAID}" in done.stderr
    assert "the rgb branch agrees" not in done.stderr
    assert SAID in project.status()["baseline/0"]["label_mismatch"]["sentence"]
    found = project.run("diagnose", "--plan", "tiny", "--trial", "baseline/0")
    assert f"label_mismatch: epoch 3: {SAID}" in found.stdout
