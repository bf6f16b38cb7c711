import json
import math

from pipeline.shared.measurement import Measurement
from pipeline.track import run_payload
from pipeline.track.run_payload import WandbTarget, read_trial


def test_one_row_a_measurement_with_the_plan_beside_it(job):
    run = job()
    run.measure(0, 1, 2)
    rows = run_payload.rows(read_trial(run.folder))
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[1]["val/top1"] == 0.881
    assert rows[1]["plan/floor"] == 0.88
    assert rows[2]["plan/floor"] == 0.8919  # the next gate's, which is "best_known"
    assert math.isclose(rows[2]["plan/band_low"], 0.88625)  # straight between epochs 1 and 5
    assert "val/best_top1" not in rows[0]  # the check of the starting weights is no result


def test_what_decides_comes_before_the_rest_by_name(job):
    run = job()
    line = Measurement(
        epoch=1,
        top1=0.88,
        rgb_top1=0.87,
        pose_top1=0.8,
        lr=0.01,
        loss=1.5,
        extra={"loss_fine": 0.1},
        times={"train_s": 2.0},
    )
    (run.folder / "measurements.jsonl").write_text(line.to_line())
    row = run_payload.rows(read_trial(run.folder))[0]
    keys = sorted(key for key in row if not key.startswith("_"))
    assert [row[key] for key in keys[:7]] == [0.88, 0.87, 0.8, 0.01, 1.5, 0.88, 0.885]
    assert keys[0] == "decides/1-top1" and row["val/top1"] == row["decides/1-top1"]
    assert keys[-2:] == ["z-extra/loss_fine", "z-time/train_s"]


def test_short_names_of_a_config_are_unique():
    paths = ["optim_wrapper.optimizer.lr", "model.a.depth", "model.b.depth", "x.weights.1", "seed"]
    assert run_payload._short_names(paths) == {"lr": "optim_wrapper.optimizer.lr"}


def test_more_measurements_only_ever_add_rows(job):
    run = job()
    run.measure(1, 2)
    before = run_payload.rows(read_trial(run.folder))
    run.measure(3)
    assert run_payload.rows(read_trial(run.folder))[:2] == before


def test_a_variant_without_gates_has_no_plan_series(job):
    run = job("scratch", gates=[], bands=[], goal=None)
    run.measure(1)
    row = run_payload.rows(read_trial(run.folder))[0]
    assert not [key for key in row if key.startswith("plan/")]


def test_config_is_flat_and_redacted(job):
    run = job(
        overrides={
            "model.cls_head.loss_weights": [1.0, 2.0],
            "param_scheduler": [{"type": "CosineAnnealingLR"}],
            "data": {"url": "s3://me:pw@bucket/x"},
        },
        values={"optim_wrapper.optimizer.lr": 0.001},
        warm_start={"checkpoint": "/home/me/epoch_26.pth"},
    )
    flat = run_payload.config(read_trial(run.folder))
    assert flat["model.cls_head.loss_weights"] == [1.0, 2.0]
    assert json.loads(flat["param_scheduler"]) == [{"type": "CosineAnnealingLR"}]
    assert flat["data.url"] == "s3://<hidden>@bucket/x"
    assert flat["optim_wrapper.optimizer.lr"] == flat["lr"] == 0.001
    assert flat["warm_start"] == "epoch_26.pth"


def test_summary_tells_how_the_trial_stands(job):
    run = job()
    run.measure(0, 1, 2)
    run.judge(2, "prune", "top-1 0.8820 is under the floor")
    assert run_payload.summary(read_trial(run.folder))["status"] == "running"
    run.end("PRUNED", "top-1 0.8820 is under the floor 0.8919")
    figures = run_payload.summary(read_trial(run.folder))
    assert figures == {
        "status": "pruned",
        "reason": "top-1 0.8820 is under the floor 0.8919",
        "cause": None,
        "best_top1": 0.882,
        "best_epoch": 2,
        "final_top1": 0.882,
        "epochs_done": 2,
        "gate": "epoch 2 floor",
        "verdict": "prune",
    }


def test_an_interrupted_trial_is_neither_failed_nor_running(job):
    run = job()
    run.end(None)
    assert read_trial(run.folder).status == "interrupted"


def test_run_ids_are_stable_distinct_and_usable(job):
    one = run_payload.run_id("demo", "lr-0.001", 0, "2026-01-01")
    assert one == run_payload.run_id("demo", "lr-0.001", 0, "2026-01-01")
    assert one != run_payload.run_id("demo", "lr-0.001", 0, "2026-01-02")
    assert run_payload.run_id("demo", "a.b", 0, "x") != run_payload.run_id("demo", "a-b", 0, "x")
    assert len(run_payload.run_id("d" * 100, "v" * 100, 10**6, "x")) <= 64
    assert set(run_payload.run_id("de.mo", "v_1", 0, "x")) <= set(
        "abcdefghijklmnopqrstuvwxyz0123456789_-"
    )


def test_the_runs_of_a_sweep_are_filed_alike(job):
    run = job("pose-1.5", plan="A", wandb={"id": "given", "entity": "lab"})
    filed = run_payload.identity(
        read_trial(run.folder), "given", WandbTarget(project="p", entity="other")
    )
    assert filed["group"] == "demo"
    assert filed["job_type"] == "pose-1.5"
    assert filed["name"] == "pose-1.5/0"
    assert filed["tags"] == ["pose-1.5", "plan A"]
    assert (filed["project"], filed["entity"]) == ("p", "lab")


def test_config_names_the_code_and_the_gpu(job):
    project = {"commit": "ab" * 20, "branch": "main", "dirty": False, "diff": None}
    run = job(code={"project": project, "code_root": None}, gpu={"names": ["H200"], "driver": "5"})
    flat = run_payload.config(read_trial(run.folder))
    assert (flat["code.project"], flat["gpu"]) == ("abababab on main", "H200, driver 5")
    assert (flat["code.project.commit"], flat["code.code_root.commit"]) == ("ab" * 20, None)
