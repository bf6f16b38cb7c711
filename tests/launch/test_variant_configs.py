"""Two base configs in one sweep: each variant trains its own, and nothing ranks them as one."""

import json

import pytest

VARIANTS = """\
  baseline: {set: {train_cfg.max_epochs: 1, val_evaluator.top1: [0.7]}}
  x3d:
    config: jobs/single.py
    metric: acc/top1
    set: {train_cfg.max_epochs: 2, model.width: 8, val_evaluator.top1: [0.8, 0.9]}
"""


@pytest.mark.slow
def test_a_variant_with_its_own_config_and_metric_stands_beside_the_others(project) -> None:
    text = (project.root / "jobs" / "tiny.py").read_text()
    names = 'top1=None, start=None, names=["top1", "rgb", "pose"]'
    single = text.replace("top1=None, start=None", names)
    (project.root / "jobs" / "single.py").write_text(single)
    project.sweep(VARIANTS)
    done = project.launch("--policy", "all")
    assert done.returncode == 0, done.stderr
    spec = json.loads((project.folder("x3d/0") / "spec.json").read_text())
    assert (spec["metric"], spec["branches"], spec["epochs"]) == ("acc/top1", {}, 2)

    status = json.loads(project.run("sweep", "status", "tiny", "--json").stdout)
    assert (status["best"]["variant"], status["best"]["top1"]) == ("baseline", 0.7)
    assert "acc/top1: x3d/0" in status["not_comparable"]
    compare = json.loads(project.run("sweep", "compare", "tiny", "--json").stdout)
    assert {t["id"]: t["apart"] for t in compare["trials"]} == {"baseline/0": False, "x3d/0": True}
    assert [pair["comparable"] for pair in compare["differences"]] == [False]
    best = project.run("sweep", "best", "tiny", "--json")
    record = json.loads(best.stdout)
    assert record["variant"] == "baseline" and record["runner_up"] is None, best.stderr
    assert "Not comparable" in best.stderr
    report = project.run("sweep", "report", "tiny", "--out", "paper")
    assert report.returncode == 0, report.stderr
    assert "Not comparable and not ranked" in (project.root / "paper" / "table.md").read_text()
    plan = project.run("sweep", "plan", "tiny")
    assert "x3d has its own, jobs/single.py, measured by acc/top1" in plan.stdout
