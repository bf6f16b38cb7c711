"""What a user may type, or find in a folder: a sentence and an exit code, never a traceback."""

from pathlib import Path

import pytest

from pipeline.errors import printable

LONG = "a" * 300


@pytest.fixture
def pcan(called):
    """Return code and stderr of a command in a project of one sweep."""

    def run(*words: str) -> tuple[int, str]:
        code, found = called(*words)
        return code, found.err

    return run


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "", LONG, "/etc", "$(touch canary)"])
def test_an_unknown_sweep_name_is_answered_with_the_known_ones(pcan, name: str) -> None:
    code, output = pcan("sweep", "status", "--", name)
    assert (code, "there are: tiny." in output) == (2, True), output


def test_an_empty_checkpoint_name_is_refused(pcan) -> None:
    code, output = pcan("checkpoint", "inspect", "")
    assert (code, "is empty. Give a file." in output) == (2, True), output


def test_a_copied_sweep_file_with_its_old_name_is_pointed_out(pcan) -> None:
    text = Path("sweeps/tiny.yaml").read_text()
    Path("sweeps/faster.yaml").write_text(text)
    Path("sweeps/folder.yaml").mkdir()
    for name, other in (("faster", "tiny.yaml"), ("tiny", "faster.yaml")):
        code, output = pcan("sweep", "status", name)
        assert code == 0 and f"{other} have the same name (tiny)" in output
    Path("sweeps/faster.yaml").write_text(text.replace("name: tiny", "name: tiny-er", 1))
    assert "same name" not in pcan("sweep", "status", "tiny")[1]


def test_a_sweep_that_was_never_registered_is_shown_as_such(pcan) -> None:
    code, output = pcan("sweep", "status", "tiny")
    assert code == 0 and "Traceback" not in output


def test_terminal_codes_of_a_name_do_not_reach_the_terminal(pcan) -> None:
    code, output = pcan("sweep", "status", "\x1b[2J\x07x")
    assert code == 2 and 'no sweep "[2Jx"' in output
    assert printable("a\x1b[31m\x9b\u202eb\né") == "a[31mb\né"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("sweep status --storage sqlite:///.", 4, "cannot be opened: Is a directory"),
        (f"sweep status --storage sqlite:///{LONG}.db", 4, "File name too long"),
        ("sweep status --storage postgresql+psycopg://u:hush@h:port/x", 4, "no storage URL|not a"),
        ("sweep compare --out /proc/x.html", 2, "/proc/x.html cannot be written"),
        ("sweep compare --out /", 2, "/ cannot be written"),
        ("sweep launch --max-hours nan", 2, "nan is not a finite number"),
        ("sweep search --max-hours nan", 2, "nan is not a finite number"),
        ("sweep search --gpu-hours nan", 2, "nan is not a finite number"),
        ("sweep launch --set data_root=", 2, "--set data_root has no folder"),
        ("data demo /proc/x", 2, "/proc/x cannot be made"),
        ("data demo new --clips -1", 2, "-1 is not in the range"),
        (f"checkpoint inspect {LONG}", 2, "There is no checkpoint file"),
        ("init wandb.yaml", 5, "cannot be made a project"),
        ("log /proc/self/task", 2, "no training log below"),
    ],
)
def test_an_unusable_path_is_named(pcan, words: str, code: int, expected: str) -> None:
    found, text = pcan(*words.split())
    assert found == code and any(part in text for part in expected.split("|")), text
    assert "hush" not in text


def test_a_config_that_is_not_a_python_file_is_not_read(pcan, project) -> None:
    file = project.root / "sweeps" / "tiny.yaml"
    evil = project.root / "evil.yaml"
    evil.write_text("a: !!python/object/apply:os.system ['touch canary']\n")
    file.write_text(file.read_text().replace("config: jobs/tiny.py", "config: evil.yaml"))
    code, output = pcan("sweep", "register", "tiny")
    assert code == 2 and 'the base config is "evil.yaml", but must be a Python file' in output
    assert not (project.root / "canary").exists()


def test_read_only_commands_run_no_config(pcan, project) -> None:
    config = project.root / "jobs" / "tiny.py"
    config.write_text(f"open({str(project.root / 'canary')!r}, 'w')\n{config.read_text()}")
    for words in ("sweep status", "sweep list", "sweep stop", "sweep clean --dry-run"):
        pcan(*words.split())
    assert not (project.root / "canary").exists()
    assert pcan("sweep", "register", "tiny")[0] == 0
    assert (project.root / "canary").exists(), "resolving the config would be seen"


def test_a_backup_never_replaces_the_storage_itself(pcan, project) -> None:
    (project.root / "runs").mkdir()
    database = project.root / "runs" / "pcan.db"
    database.touch()
    (project.root / "link.db").symlink_to(database)
    inode = database.stat().st_ino
    for out in ("runs/pcan.db", "link.db", "runs/../runs/pcan.db"):
        code, output = pcan("sweep", "backup", "--out", out)
        assert code == 4 and "is the storage itself" in output
    assert database.stat().st_ino == inode
    code, output = pcan("sweep", "backup", "--out", "/")
    assert code == 4 and "/ is a folder" in output


def test_a_damaged_run_directory_stops_no_read_only_command(pcan, project) -> None:
    assert project.call("sweep", "register", "tiny").returncode == 0
    folder = project.folder("baseline/0")
    folder.mkdir(parents=True)
    deep = b"[" * 100_000
    for content in (b"", b"{", b"[]", b"\xff\xfe\0", deep, b'{"epoch": "x", "top1": []}\n'):
        for name in ("spec.json", "measurements.jsonl", "outcome.json", "verdicts.jsonl"):
            (folder / name).write_bytes(content)
        for words in ("sweep status", "sweep compare", "diagnose --trial baseline/0"):
            code, output = pcan(*words.split())
            assert code in (0, 2) and "Traceback" not in output, output


@pytest.mark.parametrize("kind", ["dangling link", "link to itself", "file"])
def test_an_unusable_runs_folder_is_named(pcan, project, kind: str) -> None:
    runs = project.root / "runs"
    if kind == "file":
        runs.write_text("in the way")
    else:
        runs.symlink_to("nowhere/x" if kind == "dangling link" else "runs")
    for words in ("sweep status", "sweep register", "sweep clean"):
        code, output = pcan(*words.split())
        assert code in (2, 4, 5) and "runs" in output and "Traceback" not in output, output


def test_a_folder_without_permission_is_an_error_without_traceback(
    pcan, project, monkeypatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(project.root / "sweeps"))

    monkeypatch.setattr(Path, "glob", refuse)
    code, output = pcan("sweep", "list")
    assert code == 5 and output.endswith("sweeps: Permission denied. Fix that, then try again.\n")
