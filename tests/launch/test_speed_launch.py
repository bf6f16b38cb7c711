"""`job.speed` in a whole launch: a recipe of its own, on record, not compared with float32."""

import json

import pytest

ONE_EPOCH = "  baseline: {set: {train_cfg.max_epochs: 1, val_evaluator.top1: [0.7]}}\n"


def with_speed(project, speed: str) -> None:
    file = project.root / "sweeps" / "tiny.yaml"
    text = file.read_text().replace("job: {", f"job: {{speed: {{{speed}}}, ")
    file.write_text(text)


@pytest.mark.slow
@pytest.mark.sample
def test_a_plan_that_turns_to_bf16_gets_new_trials_that_are_not_compared_with_the_old(project):
    project.ranks = 1
    project.sweep(ONE_EPOCH)
    assert project.launch().returncode == 0
    with_speed(project, "amp: bf16, channels_last: true")
    done = project.launch()
    assert done.returncode == 0 and "the recipe has changed" in done.stderr, done.stderr
    trials = project.status()
    assert [trials[f"baseline/{n}"]["precision"] for n in (0, 1)] == ["fp32", "bf16"]
    spec = json.loads((project.folder("baseline/1") / "spec.json").read_text())
    assert spec["speed"] == {"amp": "bf16", "channels_last": True}
    config = (project.folder("baseline/1") / "config.py").read_text()
    assert 'type="AmpOptimWrapper"' in config and 'dtype="bfloat16"' in config
    reason = "they were trained in different precision (fp32: baseline/0; bf16: baseline/1)."
    assert reason in project.call("sweep", "status", "tiny").stdout
    compared = json.loads(project.call("sweep", "compare", "tiny", "--json").stdout)
    assert reason in compared["not_comparable"]
    assert [pair["comparable"] for pair in compared["differences"]] == [False]
    best = project.call("sweep", "best", "tiny", "--trial", "baseline/1", "--json")
    assert best.returncode == 0 and "bf16: baseline/1" in best.stderr, best.stderr
    exported = project.root / "exports" / "tiny"
    assert 'dtype="bfloat16"' in (exported / "config.py").read_text()
    assert "Trained in bf16, validated in fp32." in (exported / "README.md").read_text()


def test_speed_that_cannot_be_had_is_refused_before_a_job(project) -> None:
    project.ranks = 1
    project.sweep(ONE_EPOCH)
    with_speed(project, "amp: fp16")
    done = project.launch()
    assert (done.returncode, "which needs a GPU" in done.stderr) == (5, True), done.stderr
    assert not (project.root / "runs" / "tiny").exists()


def test_speed_against_the_configs_own_settings_is_refused_with_its_line(project) -> None:
    project.ranks = 1
    project.sweep(ONE_EPOCH)
    with_speed(project, "amp: bf16")
    config = project.root / "jobs" / "tiny.py"
    text = config.read_text().replace("optim_wrapper = dict(", 'optim_wrapper = dict(type="X", ')
    config.write_text(text)
    done = project.call("sweep", "register", "tiny")
    assert "sweeps/tiny.yaml:" in done.stderr and "a X, which decides its precision" in done.stderr
    assert done.returncode == 2
