"""A storage file that is bad: every command names the way out, and `--rebuild` carries it out."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.cli.main import main
from pipeline.errors import StorageError
from pipeline.manage.rebuild import _with_runs
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.preflight.finding import CheckContext
from pipeline.preflight.machine_checks import check_storage
from pipeline.shared.states import Phase
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.sqlite import damage_of
from pipeline.study.db.storage import open_storage, put_bad_aside
from pipeline.study.db.urls import sqlite_url
from pipeline.study.import_trials import NumberTaken, RecoveredTrial, recover
from pipeline.study.register import recipe_of, register
from pipeline.study.tables import trials

TEXT = (
    "name: s\nconfig: c.py\nobjective: {metric: acc/top1}\n"
    "variants: {v0: {set: {lr: 1.0}}, v1: {set: {lr: 2.0}}}\nladder: {start: v0}\n"
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a storage with two studies and a trial."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "s.yaml").write_text(TEXT)
    sweep = read_sweep(folder / "s.yaml", folder)
    storage = open_storage(None, folder / "runs")
    register(sweep, storage, {n: recipe_of(v, "h") for n, v in sweep.variants.items()})
    claim(sweep, storage, [ClaimRequest(variant="v0", trials=1, recipe_hash="h")])
    storage.close()
    return (folder / "runs" / "pcan.db").read_bytes()


@pytest.fixture
def runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `runs` of a project whose storage a test writes."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "wandb.yaml", tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s.yaml").write_text(TEXT)
    (tmp_path / "c.py").write_text("lr = 0.5\n")
    (tmp_path / "runs").mkdir(mode=0o700)
    return tmp_path / "runs"


@pytest.fixture
def pcan(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command in this process; return its exit code and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pcan", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    return run


BAD = {
    "cut": lambda data: data[: len(data) // 2],
    "cut in a page": lambda data: data[:60_001],
    "first page alone": lambda data: data[:4096],
    "cut in the header": lambda data: data[:50],
    "text": lambda _: b"no database at all",
    "zeros": lambda data: bytes(len(data)),
    "pages of another file": lambda data: data[:4096] + os.urandom(len(data) - 4096),
    "another format": lambda data: data[:44] + b"\x00\x00\x00\x09" + data[48:],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_found_and_a_sound_one_is_left_alone(runs: Path, sound, kind: str) -> None:
    file = runs / "pcan.db"
    for good in (None, b"", sound):
        if good is not None:
            file.write_bytes(good)
        assert damage_of(file, thorough=True) is None
        assert put_bad_aside(None, runs) is None
    bad = BAD[kind](sound)
    file.write_bytes(bad)
    (runs / "pcan.db-wal").write_bytes(b"old")
    aside = put_bad_aside(None, runs)
    assert aside is not None and aside.read_bytes() == bad
    assert {f.name for f in runs.iterdir()} >= {aside.name, f"{aside.name}-wal", "pcan.db.lock"}
    assert not file.exists() and not (runs / "pcan.db-wal").exists()


def test_a_folder_in_its_place_is_kept_aside(runs: Path) -> None:
    (runs / "pcan.db").mkdir()
    with pytest.raises(StorageError, match=r"runs/pcan.db is a folder.*doctor --rebuild"):
        open_storage(None, runs)
    aside = put_bad_aside(None, runs)
    assert aside is not None and aside.is_dir() and not (runs / "pcan.db").exists()


def test_a_file_of_the_users_that_is_no_database_is_never_renamed(runs: Path) -> None:
    photo = runs / "photo.jpg"
    photo.write_bytes(b"\xff\xd8 a photo")
    assert put_bad_aside(sqlite_url(photo), runs) is None and photo.exists()


@pytest.mark.parametrize("sidecar", ["-wal", "-shm"])
@pytest.mark.parametrize("content", [b"", b"\x37\x7f\x06\x82 torn", b"x" * 5000])
def test_a_torn_log_beside_a_sound_file_stops_nothing(
    runs: Path, pcan, sound: bytes, sidecar: str, content: bytes
) -> None:
    (runs / "pcan.db").write_bytes(sound)
    (runs / f"pcan.db{sidecar}").write_bytes(content)
    code, output = pcan("sweep", "status", "s")
    assert code == 0 and "v0/0" in output, output


COMMANDS = (
    *("sweep status s", "sweep watch s", "sweep list", "sweep stop s", "sweep clean s"),
    *("sweep compare s", "sweep best s", "sweep backup", "sweep continue v0/0"),
    *("doctor s --device cpu", "sweep plan s --search"),
)


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_that_meets_a_bad_file_names_the_way_out(
    runs: Path, pcan, sound: bytes, words: str
) -> None:
    (runs / "pcan.db").write_bytes(BAD["cut"](sound))
    code, output = pcan(*words.split())
    assert code in (4, 5) and "pcan doctor --rebuild" in output, output
    assert "keeps a bad file aside" in output and "Traceback" not in output


def test_the_way_out_repeats_the_storage_that_was_named(runs: Path, pcan, sound: bytes) -> None:
    file = runs / "my own.db"
    file.write_bytes(BAD["cut"](sound))
    url = sqlite_url(file)
    code, output = pcan("sweep", "status", "s", "--storage", url)
    assert code == 4 and f"pcan doctor --rebuild --storage {url}" in output


def test_with_nothing_to_refill_from_the_bad_file_is_still_out_of_the_way(
    runs: Path, pcan, sound: bytes
) -> None:
    (runs / "pcan.db").write_bytes(BAD["cut"](sound))
    code, output = pcan("doctor", "s", "--rebuild")
    assert code == 4 and "The next launch begins a new storage" in output, output
    assert pcan("sweep", "status", "s")[0] == 0


def test_every_sweep_with_runs_is_refilled_the_one_that_is_named_first(runs: Path) -> None:
    project = Project(runs.parent)
    for name in ("a", "b", "c"):
        (project.sweeps / f"{name}.yaml").write_text(TEXT.replace("name: s", f"name: {name}"))
        if name != "b":
            (runs / name / "v0" / "0").mkdir(parents=True)
            (runs / name / "v0" / "0" / "spec.json").write_text("{}")
    (project.sweeps / "broken.yaml").write_text("name: [")
    named = read_sweep(project.sweeps / "c.yaml", project.root)
    assert [s.name for s in _with_runs(project, named)] == ["c", "a"]
    assert [s.name for s in _with_runs(project, None)] == ["a", "c"]


@examples(15)
@given(
    at=st.integers(0, 140_000),
    length=st.integers(1, 4096),
    value=st.binary(min_size=1, max_size=8),
    cut=st.booleans(),
)
def test_no_damage_of_the_file_ends_in_a_traceback(
    runs: Path, pcan, sound: bytes, at: int, length: int, value: bytes, cut: bool
) -> None:
    shutil.rmtree(runs)
    runs.mkdir()
    at %= len(sound)
    patch = (value * length)[:length]
    data = sound[:at] if cut else sound[:at] + patch + sound[at + length :]
    (runs / "pcan.db").write_bytes(data)
    for words in (("sweep", "status", "s", "--json"), ("sweep", "best", "s")):
        code, output = pcan(*words)
        assert code in (0, 3, 4) and "Traceback" not in output, output
    put_bad_aside(None, runs)
    if (runs / "pcan.db").exists():
        sqlite3.connect(runs / "pcan.db").close()


def test_trials_that_the_storage_lost_are_reported_by_status_and_doctor(runs: Path, pcan) -> None:
    folder = runs / "s" / "v0" / "0"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    for content in (None, b""):
        if content is not None:
            (runs / "pcan.db").write_bytes(content)
        assert "Refill it: pcan doctor s --rebuild" in pcan("sweep", "status", "s")[1]
        sweep = read_sweep(runs.parent / "sweeps" / "s.yaml", runs.parent)
        (found,) = check_storage(CheckContext(project=Project(runs.parent), sweep=sweep))
        assert "does not know 1 trial with a run directory, first: runs/s/v0/0" in found.message


def test_a_launch_that_was_refused_by_a_run_directory_does_not_keep_it_from_the_storage(
    runs: Path, pcan, sound: bytes
) -> None:
    (runs / "pcan.db").write_bytes(sound)  # v0/0 is claimed, and never got a run directory
    storage = open_storage(None, runs)
    sweep = read_sweep(runs.parent / "sweeps" / "s.yaml", runs.parent)
    lost = RecoveredTrial(
        variant="v0", number=0, uid="lost", recipe_hash="h", params={}, attempt=1
    )
    with pytest.raises(NumberTaken, match="another trial of this name"):
        recover(sweep, storage, lost)  # its launch lives: this process
    with storage.transaction() as connection:
        connection.execute(sa.update(trials).values(token=None, phase=Phase.INTERRUPTED))
    lease = recover(sweep, storage, lost)
    assert lease is not None and lease.name == "v0/0"
    storage.close()
