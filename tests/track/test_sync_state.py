import subprocess
import sys

import pytest

from pipeline.errors import TrackingError
from pipeline.shared.files import FormatError, write_json
from pipeline.track import sync_state
from pipeline.track.run_payload import read_trial
from pipeline.track.sync_state import Fragment, OfflineState, ServerState


def test_an_untracked_trial_is_disabled(job):
    run = job()
    state = sync_state.wandb_state(run.folder)
    assert state == {"id": run.id, "mode": "disabled", "synced": False, "url": None}


def test_synced_means_that_the_server_confirmed_the_trial_as_it_stands(job):
    run = job()
    run.measure(1, 2)
    run.end("COMPLETE")
    trial = read_trial(run.folder)
    sync_state.write_state(trial, ServerState(id=run.id, rows=2, status="complete", mode="sync"))
    assert sync_state.wandb_state(run.folder)["synced"]
    run.measure(3)
    assert not sync_state.wandb_state(run.folder)["synced"]


def test_what_was_sent_under_another_id_does_not_count(job):
    run = job()
    trial = read_trial(run.folder)
    sync_state.write_state(trial, ServerState(id="other", rows=0, status="running"))
    assert not sync_state.is_sent(trial)


def test_a_damaged_record_is_as_none(job):
    run = job()
    (run.folder / "wandb").mkdir()
    write_json(run.folder / "wandb" / sync_state.LOCAL, {"fragments": [3], "surprise": 1})
    assert sync_state.read_local(read_trial(run.folder)) == OfflineState(id=run.id)


@pytest.mark.parametrize("name", [sync_state.LOCAL, sync_state.SENT])
def test_a_record_of_a_newer_version_is_refused(job, name):
    run = job()
    (run.folder / "wandb").mkdir()
    write_json(run.folder / "wandb" / name, {"schema": 2, "id": run.id})
    with pytest.raises(FormatError, match=f"{name} was written by a newer pcan"):
        sync_state.read_sent(read_trial(run.folder))


def test_only_an_unbroken_row_of_closed_fragments_is_kept(job):
    run = job()
    wandb = run.folder / "wandb"
    for name in ("offline-run-1", "offline-run-2", "offline-run-3", "offline-run-9"):
        (wandb / name).mkdir(parents=True)
    fragments = [
        Fragment(folder="offline-run-1", first=0, rows=2, closed=True),
        Fragment(folder="offline-run-2", first=2, rows=1, closed=True),
        Fragment(folder="offline-run-3", first=3),  # its writer was killed
    ]
    local = OfflineState(id=run.id, fragments=fragments)
    sync_state.drop_unverified(read_trial(run.folder), local)
    assert local.rows == 3
    assert sorted(p.name for p in wandb.iterdir()) == ["offline-run-1", "offline-run-2"]


def test_two_processes_do_not_send_at_the_same_time(tmp_path):
    second = sync_state.exclusive(tmp_path, "sync", 0.3)
    with (
        sync_state.exclusive(tmp_path, "sync", 0.0),
        pytest.raises(TrackingError, match="already sending"),
        second,
    ):
        pass


@pytest.mark.parametrize(
    "module", ["sync_state", "mirror", "sync", "wandb_server", "tracking", "run_payload"]
)
def test_the_control_side_never_imports_wandb(module):
    code = f"import pipeline.track.{module}, sys; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
