"""`pcan sweep best --confirm` with real two-process jobs: repeated, interrupted, exported."""

import json

import pytest

VARIANTS = (
    "  baseline: {set: {train_cfg.max_epochs: 2, val_evaluator.top1: [0.6, 0.9]}}\n"
    "  better: {plan: A, like: baseline, seed: 7, gates: [], set: {val_evaluator.top1: null}}\n"
)
CONFIRM = ("sweep", "best", "tiny", "--device", "cpu", "--wandb", "disabled", "--confirm")


@pytest.mark.slow
@pytest.mark.sample
def test_the_best_are_repeated_on_new_seeds_and_the_mean_decides(project) -> None:
    project.ranks = 1
    project.sweep(VARIANTS)
    assert project.launch("--policy", "all").returncode == 0
    reported = project.run(*CONFIRM, "2", "--seeds", "1", "--dry-run")
    assert set(reported.stdout.splitlines()) == {
        "baseline/0: new seeds 1",
        "better/0: new seeds 8",
    }
    assert set(project.status()) == {"baseline/0", "better/0"}
    done = project.run(*CONFIRM, "2", "--seeds", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert "Repeating baseline/0, better/0 on 1 new seed each (2 runs are new)." in done.stderr
    answer = json.loads(done.stdout)
    reported = {one["trial"]: one for one in answer["confirmation"]["trials"]}
    assert {n: [r["seed"] for r in one["runs"]] for n, one in reported.items()} == {
        "baseline/0": [1],
        "better/0": [8],
    }
    assert answer["confirmation"]["chance_best"] is None  # one seed each has no spread
    assert answer["confirmation"]["trials"][0]["trial"] == f"{answer['variant']}/0"

    trials = project.status()
    repeated = trials["better/1"]
    assert (repeated["confirms"], repeated["seed"], repeated["state"]) == (
        "better/0",
        8,
        "COMPLETE",
    )
    spec = json.loads((project.folder("better/1") / "spec.json").read_text())
    first = json.loads((project.folder("better/0") / "spec.json").read_text())
    assert spec["config_hash"] == first["config_hash"] and spec["seed"] == 8
    lines = [(project.folder(f"better/{n}") / "measurements.jsonl").read_text() for n in (0, 1)]
    assert lines[0] != lines[1]

    again = project.run(*CONFIRM, "2", "--seeds", "1")
    assert again.returncode == 0 and "starts" not in again.stderr
    assert "mean 90.00 % over 1 new seed, spread unknown (90.00)" in again.stdout
    assert "unknown: one new seed each" in again.stdout

    readme = (project.root / "exports" / "tiny" / "README.md").read_text()
    assert "- baseline/0: mean 90.00 % over 1 new seed" in readme
    assert "COMPLETE, confirms better/0 (All 2 epochs are done.)" in readme

    chosen = project.run("sweep", "best", "tiny", "--trial", "better/0", "--json")
    record = json.loads((project.root / "exports" / "tiny" / "best.json").read_text())
    assert chosen.returncode == 0 and record["number"] == 0 and record["variant"] == "better"
    assert record["chosen"]["instead_of"] == f"{answer['variant']}/0"
    assert {"by", "host", "time"} <= set(record["chosen"])
    assert (project.folder("better/0") / "chosen.json").is_file()


@pytest.mark.slow
def test_an_interrupted_confirmation_is_gone_on_with(project, until) -> None:
    project.sweep(
        "  baseline: {set: {train_cfg.max_epochs: 4, model.sleep: 0.2, "
        "val_evaluator.top1: [0.6, 0.9]}}\n"
    )
    assert project.launch().returncode == 0
    # A plan whose gate nothing passes any more: repetitions are run all the same.
    file = project.root / "sweeps" / "tiny.yaml"
    file.write_text(file.read_text().replace("floor: 0.5, target: 0.6", "floor: 0.99"))
    process = project.start(*CONFIRM, "1")
    until(lambda: project.epochs("baseline/1"), "the first repetition measures")
    assert project.run("sweep", "stop", "tiny").returncode == 0
    reported, _ = process.communicate(timeout=120)
    assert process.returncode == 75, reported
    assert "the same command goes on" in reported
    assert not (project.root / "exports").exists()
    left = project.status()["baseline/1"]
    assert (left["phase"], left["confirms"]) == ("interrupted", "baseline/0")

    done = project.run(*CONFIRM, "1", "--json")
    assert done.returncode == 0, done.stderr
    trials = project.status()
    assert {n: (t["state"], t["epochs"]) for n, t in trials.items() if t["confirms"]} == {
        "baseline/1": ("COMPLETE", 4),
        "baseline/2": ("COMPLETE", 4),
    }
    [one] = json.loads(done.stdout)["confirmation"]["trials"]
    assert (one["mean"], one["spread"], one["failed"]) == (0.9, 0.0, 0)
