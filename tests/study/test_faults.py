"""The storage under faults: cut-off claims and registrations, locks, lost and replaced files."""

import dataclasses
import errno
import fcntl
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.errors import StorageError
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study import claim as claiming
from pipeline.study import optuna_tables
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.sqlite import network_kind
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.owner import this_process
from pipeline.study.register import recipe_of, register
from pipeline.study.tables import trials
from pipeline.study.trial_rows import read_board

TEXT = (
    "name: many\nconfig: c.py\nobjective: {metric: acc/top1}\nvariants:\n"
    "  v0: {set: {lr: 1e-3}}\n"
    "  searched: {set: {lr: 1e-3}, space: {lr: {low: 1e-4, high: 1e-2, log: true}}}\n"
    "ladder: {start: v0}\n"
)
HISTORY = [Measurement(epoch=n, top1=n / 10) for n in (1, 2, 3)]


class Killed(BaseException):
    """Stands for SIGKILL at this very call: nothing after it is run."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


@pytest.fixture
def storage(tmp_path: Path):
    storage = open_storage(None, tmp_path / "runs")
    yield storage
    storage.close()


def register_all(sweep: Sweep, storage: Storage) -> None:
    register(sweep, storage, {name: recipe_of(v, "h") for name, v in sweep.variants.items()})


def want(variant: str, trials: int = 1) -> list[ClaimRequest]:
    return [ClaimRequest(variant=variant, trials=trials, recipe_hash="h")]


@pytest.mark.parametrize("call", ["set_study_user_attr", "create_new_trial"])
def test_a_registration_that_was_cut_off_is_completed_not_repeated(
    sweep: Sweep, storage: Storage, monkeypatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(storage.rdb, call, killed)
        with pytest.raises(Killed):
            register_all(sweep, storage)
    register_all(sweep, storage)
    rows = read_board("many", storage)
    assert [(r.name, r.state) for r in rows] == [("v0/0", "WAITING"), ("searched/0", "WAITING")]
    assert len(storage.rdb.get_all_trials(storage.rdb.get_study_id_from_name("many/v0"))) == 1


@pytest.mark.parametrize("call", ["start", "set_params"])
def test_a_claim_that_was_cut_off_leaves_the_trial_to_anyone(
    sweep: Sweep, storage: Storage, monkeypatch, call: str
) -> None:
    register_all(sweep, storage)
    with monkeypatch.context() as patch:
        patch.setattr(optuna_tables, call, killed)
        with pytest.raises(Killed):
            claim(sweep, storage, want("searched"))
    lease = claim(sweep, storage, want("searched"))
    assert lease is not None and (lease.number, lease.attempt) == (0, 1)


def test_a_trial_drawn_by_a_launcher_that_died_before_its_lease_is_ended(
    sweep: Sweep, storage: Storage
) -> None:
    import optuna

    register_all(sweep, storage)
    first = claim(sweep, storage, want("searched"))
    assert first is not None
    study = optuna.load_study(study_name="many/searched", storage=storage.rdb)
    study.ask()  # and then SIGKILL: no row of ours
    drawn = claim(sweep, storage, want("searched", trials=2))
    assert drawn is not None and drawn.number == 2
    assert study.trials[1].state.name == "FAIL"
    assert study.trials[1].user_attrs["cause"] == "never_begun"


def test_an_end_is_reported_whole_or_not_at_all(
    sweep: Sweep, storage: Storage, monkeypatch
) -> None:
    register_all(sweep, storage)
    lease = claim(sweep, storage, want("v0"))
    assert lease is not None
    why = {"cause": "nan", "reason": "not finite", "verdicts": [], "seconds": 1.0}
    with monkeypatch.context() as patch:
        patch.setattr(optuna_tables, "end", killed)
        with pytest.raises(Killed):
            lease.tell("FAIL", HISTORY, **why)
    row = read_board("many", storage)[0]
    assert (row.state, row.phase, row.cause, row.epoch) == ("RUNNING", "running", None, 0)
    lease.tell("FAIL", HISTORY, **why)
    lease.tell("FAIL", HISTORY, **why)  # said again: the same story, no error
    row = read_board("many", storage)[0]
    assert (row.state, row.phase, row.cause, row.epoch) == ("FAIL", "done", "nan", 3)
    assert row.seconds == 1.0


def test_every_missed_epoch_is_reported_when_the_storage_is_back(
    sweep: Sweep, storage: Storage
) -> None:
    register_all(sweep, storage)
    lease = claim(sweep, storage, want("v0"))
    assert lease is not None
    lease.report(HISTORY[:1], [])
    other = sqlite3.connect(storage.sqlite_file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with storage.short_timeout(), pytest.raises(StorageError, match="has held it for 1 s"):
        lease.report(HISTORY[:2], [])
    other.execute("ROLLBACK")
    lease.report(HISTORY, [])
    assert storage.rdb.get_trial(lease.trial_id).intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_a_launch_that_stopped_inside_the_lock_is_named(sweep: Sweep, storage: Storage) -> None:
    register_all(sweep, storage)
    handle = os.open(f"{storage.sqlite_file}.lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with storage.short_timeout(), pytest.raises(StorageError, match="Is it stopped"):
        register_all(sweep, storage)
    os.close(handle)
    assert claim(sweep, storage, want("v0")) is not None


def test_writing_into_a_deleted_database_is_refused_and_a_restored_one_is_used(
    sweep: Sweep, storage: Storage, tmp_path: Path
) -> None:
    register_all(sweep, storage)
    lease = claim(sweep, storage, want("v0"))
    assert lease is not None and storage.sqlite_file is not None
    lease.report(HISTORY[:1], [])
    copy = tmp_path / "copy.db"
    with sqlite3.connect(storage.sqlite_file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    for file in storage.sqlite_file.parent.glob("pcan.db*"):
        file.unlink()
    for act in (lambda: lease.report(HISTORY, []), lambda: read_board("many", storage)):
        with pytest.raises(StorageError, match="is gone .* pcan doctor --rebuild"):
            act()
    copy.rename(storage.sqlite_file)
    lease.report(HISTORY, [])
    assert read_board("many", storage)[0].epoch == 3


def test_a_clock_that_jumps_hands_no_living_trial_to_another_host(
    sweep: Sweep, storage: Storage, monkeypatch
) -> None:
    register_all(sweep, storage)
    away = dataclasses.replace(this_process(), host="elsewhere/1", pid=1)
    assert claim(sweep, storage, want("v0"), me=away) is not None
    ahead = storage.now() + 3600
    monkeypatch.setattr(storage, "now", lambda: ahead)
    monkeypatch.setattr(storage, "clock", lambda: sa.literal(ahead, sa.Float))
    assert claim(sweep, storage, want("v0")) is None
    with storage.engine.begin() as connection:  # the owner lives: it renews its lease
        connection.execute(trials.update().values(renewed_at=ahead - 1000))
    monkeypatch.setattr(claiming, "TAKEOVER_CONFIRM_S", 0.0)
    assert claim(sweep, storage, want("v0")) is None
    assert claim(sweep, storage, want("v0")) is not None  # unchanged for the whole watch


MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
    "2 1 0:9 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2\n"
    "3 2 0:5 / /home/me/scratch rw - tmpfs tmpfs rw\n"
    "4 1 0:7 / /mnt/my\\040share rw - fuse.sshfs host: rw\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/runs/pcan.db", "nfs4"),
        ("/home/me/scratch/pcan.db", None),
        ("/homework/pcan.db", None),
        ("/mnt/my share/pcan.db", "fuse.sshfs"),
    ],
)
def test_sqlite_is_distinguished_from_a_network_file_system(path: str, kind: str | None) -> None:
    assert network_kind(Path(path), MOUNTS) == kind


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch) -> None:
    fake = tmp_path / "mounts"
    fake.write_text(f"1 0 8:1 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr("pipeline.study.db.sqlite.MOUNTS", fake)
    with pytest.raises(StorageError, match=r"network file system \(nfs4\).*postgresql"):
        open_storage(None, tmp_path / "runs")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_a_sentence(storage: Storage, monkeypatch, code) -> None:
    def refuse(*_) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(StorageError, match=rf"no locks \({os.strerror(code)}\).*--storage URL"),
        storage.lock(),
    ):
        pass


@pytest.mark.parametrize("version", ["v0.9.0.a", "v99.0.0"])
def test_a_storage_of_another_optuna_is_refused_with_the_way_out(
    storage: Storage, version: str
) -> None:
    storage.rdb  # noqa: B018
    file = storage.sqlite_file
    storage.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(StorageError, match="pcan sweep backup"):
        Storage(storage.url).rdb  # noqa: B018


def test_a_full_disk_is_reported_as_such(tmp_path: Path, sweep: Sweep) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small file system here")
    storage = open_storage(f"sqlite:///{folder}/s.db", tmp_path)
    try:
        register_all(sweep, storage)
        lease = claim(sweep, storage, want("v0"))
        assert lease is not None
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as stream, pytest.raises(OSError):
            while True:
                stream.write(b"x" * 4096)
        with pytest.raises(StorageError, match="disk is full"):
            for epoch in range(1, 200):
                lease.report([Measurement(epoch=epoch, top1=0.5)], [{"reason": "x" * 4000}])
        filler.unlink()
        lease.report(HISTORY, [])
        assert read_board("many", storage)[0].epoch == 3
    finally:
        storage.close()
        subprocess.run(["umount", "-l", str(folder)], check=False)
