"""What `pcan sweep clean` deletes, and above all what it never does. No job is run here."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.sweep_files import clean as command
from pipeline.errors import StorageError
from pipeline.launch.workdir import run_dir
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db import read_copy
from pipeline.study.db.busy_timeout import short_timeout
from pipeline.study.db.storage import open_storage
from pipeline.study.register import recipe_of, register

ENDS = {
    "won": ("COMPLETE", 0.9),
    "second": ("COMPLETE", 0.8),
    "low": ("PRUNED", 0.95),
    "maker": ("COMPLETE", 0.7),
}
TEXT = (
    "name: s\nconfig: c.py\nobjective: {metric: acc/top1}\n"
    "variants:\n"
    "  maker: {warm_start: null, in_ladder: false, set: {lr: 1.0}}\n"
    + "".join(f"  {n}: {{set: {{lr: 1.0}}}}\n" for n in ("won", "second", "low", "going"))
    + "warm_start: {checkpoint: w.pth, make: maker}\nladder: {start: won}\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A sweep with a winner, two losers, a maker and an interrupted trial, 1000 bytes each."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "wandb.yaml").touch()
    (tmp_path / "sweeps" / "s.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    sweep = read_sweep(project.sweep_file("s"), tmp_path)
    store = open_storage(None, project.runs)
    register(sweep, store, {n: recipe_of(v, "h") for n, v in sweep.variants.items()})
    for variant in sweep.variants:
        end(sweep, project, store, variant)
    store.close()
    return project


def end(sweep: Any, project: Project, store: Any, variant: str) -> None:
    lease = claim(sweep, store, [ClaimRequest(variant=variant, trials=1, recipe_hash="h")])
    folder = run_dir(project, sweep.name, variant, 0).checkpoints
    folder.mkdir(parents=True)
    (folder / "epoch_1.pth").write_bytes(b"x" * 1000)
    if variant not in ENDS:
        lease.release("interrupted", cause=None, reason="", seconds=0)
        return
    state, top1 = ENDS[variant]
    history = [Measurement(epoch=1, top1=top1)]
    lease.report(history, [])
    lease.tell(state, history, cause=None, reason="", verdicts=[], seconds=0)


def left(project: Project) -> set[str]:
    return {file.parts[-4] for file in project.runs.glob("s/*/0/checkpoints/epoch_1.pth")}


def run(*words: str) -> Any:
    return CliRunner().invoke(command, ["s", *words], catch_exceptions=False)


def test_without_yes_nothing_is_deleted(project: Project) -> None:
    done = run()
    assert "2000 bytes would be freed; kept as the best: won/0" in done.output
    assert left(project) == {"won", "second", "low", "maker", "going"}


def test_only_ended_losers_lose_their_checkpoints(project: Project) -> None:
    export = project.exports("s") / "weights.pth"
    export.parent.mkdir(parents=True)
    export.touch()
    assert "Deleted, 2000 bytes freed" in run("--yes").output
    assert left(project) == {"won", "maker", "going"} and export.exists()
    assert "no checkpoints of losers" in run("--yes").output


def test_room_is_made_on_a_full_disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_copy, "_refusal", lambda file: "No space left on device")
    assert "Deleted, 2000 bytes freed" in run("--yes").output
    assert left(project) == {"won", "maker", "going"}


def test_room_is_not_made_under_the_lock_of_another(project: Project, monkeypatch: Any) -> None:
    monkeypatch.setattr(read_copy, "_refusal", lambda file: "No space left on device")
    store = open_storage(None, project.runs)
    with store.lock(), short_timeout(), pytest.raises(StorageError, match="locked"):
        run("--yes")
    assert left(project) == {"won", "second", "low", "maker", "going"}
    store.close()


def test_shared_and_foreign_files_are_neither_counted_nor_followed(project: Project) -> None:
    second = project.runs / "s" / "second" / "0" / "checkpoints"
    os.link(second / "epoch_1.pth", project.root / "elsewhere.pth")
    (second / "epoch_2.pth").symlink_to(project.root / "elsewhere.pth")
    (second / "notes.txt").touch()
    assert "Deleted, 1000 bytes freed" in run("--yes").output
    assert (project.root / "elsewhere.pth").exists()
    assert {file.name for file in second.iterdir()} == {"epoch_2.pth", "notes.txt"}


def test_what_lies_behind_a_link_out_of_runs_is_not_deleted(project: Project) -> None:
    variant = project.runs / "s" / "second"
    variant.rename(project.root / "second")
    variant.symlink_to(project.root / "second")
    run("--yes")
    assert list((project.root / "second").rglob("epoch_1.pth"))


def test_the_best_partial_trial_is_kept_where_none_is_complete(project: Project) -> None:
    from pipeline.manage.clean import find_deletable
    from pipeline.study.trial_rows import read_board

    sweep = read_sweep(project.sweep_file("s"), project.root)
    rows = [
        dataclasses.replace(row, state="PRUNED") if row.finished else row
        for row in read_board("s", open_storage(None, project.runs))
    ]
    found = find_deletable(sweep, project, rows)
    assert found.kept == "low/0"
    assert [loser.trial for loser in found.deletable] == ["won/0", "second/0"]
