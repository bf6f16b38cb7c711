"""Which code, packages and data a job runs with: real git folders, a real interpreter."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.job import provenance
from pipeline.job.provenance import code_of, data_digests, job_versions
from pipeline.job.resolve import ResolvedConfig
from pipeline.plan.sweep import JobSettings
from pipeline.shared.start_record import changes, code_of_attempt, shown_code


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *words],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git folder on branch `work` with one committed module."""
    folder = tmp_path / "fork"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "work")
    (folder / "head.py").write_text("sharpness = 1\n")
    git(folder, "add", "."), git(folder, "commit", "-q", "-m", "one")
    return folder


def test_a_clean_checkout_is_its_commit_and_branch(checkout: Path, tmp_path: Path) -> None:
    found = code_of(checkout, tmp_path / "code")
    head = git(checkout, "rev-parse", "HEAD")
    assert found == {"commit": head, "branch": "work", "dirty": False, "diff": None}
    assert shown_code(found) == f"{head[:8]} on work"
    assert not (tmp_path / "code").exists()


def test_commit_and_kept_diff_give_the_code_back(checkout: Path, tmp_path: Path) -> None:
    (checkout / "head.py").write_text("sharpness = 2\n")
    (checkout / "näw.py").write_text("x = 1\n\ny = 2")
    found = code_of(checkout, tmp_path / "code")
    assert found["dirty"] and found["changed"] == 2
    assert "2 files not committed" in shown_code(found)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(checkout), str(copy))
    git(copy, "apply", str(tmp_path / found["diff"]))
    for name in ("head.py", "näw.py"):
        assert (copy / name).read_bytes() == (checkout / name).read_bytes()


SETTINGS = {
    "diff.noprefix": "true",
    "diff.mnemonicPrefix": "true",
    "diff.renames": "copies",
    "diff.external": "/bin/false",
    "diff.up.textconv": "tr a-z A-Z <",
    "diff.orderFile": "/nonexistent",
    "color.ui": "always",
}


def test_the_diff_applies_whatever_git_is_set_to_show(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitattributes").write_text("*.py diff=up\n")
    (checkout / "mean.npy").write_bytes(bytes(range(256)))
    (checkout / "old.py").write_text("moved = 1\n" * 9)
    git(checkout, "add", "."), git(checkout, "commit", "-q", "-m", "two")
    for key, value in SETTINGS.items():
        git(checkout, "config", key, value)
    (checkout / "head.py").write_bytes(b"sharpness = 2  # caf\xe9\r\n")
    (checkout / "mean.npy").write_bytes(bytes(range(255, -1, -1)))
    git(checkout, "mv", "old.py", "moved.py")
    for name in ('a "b".py', "c\td.py", "näw .py", "new.py"):
        (checkout / name).write_bytes(b"x = 1\r\ny = 'caf\xe9'\n")
    found = code_of(checkout, tmp_path / "code")
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(checkout), str(copy))
    git(copy, "apply", str(tmp_path / found["diff"]))
    kept = {f.name: f.read_bytes() for f in checkout.iterdir() if f.is_file()}
    assert {f.name: f.read_bytes() for f in copy.iterdir() if f.is_file()} == kept


def test_a_large_binary_file_is_named_in_the_diff(checkout: Path, tmp_path: Path) -> None:
    (checkout / "w.bin").write_bytes(b"\0")
    git(checkout, "add", "."), git(checkout, "commit", "-q", "-m", "two")
    (checkout / "w.bin").write_bytes(b"\0" * (provenance.LARGEST_NEW + 1))
    (checkout / "head.py").write_text("sharpness = 2\n")
    file = tmp_path / code_of(checkout, tmp_path / "code")["diff"]
    assert file.read_text().startswith("# left out, binary and large: w.bin\ndiff --git")
    git(checkout, "stash", "-q"), git(checkout, "apply", str(file))
    assert (checkout / "head.py").read_text() == "sharpness = 2\n"


def test_a_commit_is_known_though_its_changes_are_not(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "git").write_text(
        '#!/bin/sh\ncase "$*" in *numstat*) sleep 9;; esac\nexec env PATH="$REST" git "$@"\n'
    )
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("REST", os.environ["PATH"])
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(provenance, "GIT_S", 0.5)
    found = code_of(checkout, tmp_path / "code")
    assert found["commit"] and found["dirty"] is None
    assert shown_code(found).endswith(
        " on work, changes unknown: git does not answer (TimeoutExpired)"
    )


def test_results_and_large_files_are_no_code(checkout: Path, tmp_path: Path) -> None:
    for name in ("runs/demo/config.py", "exports/demo/config.py", "weights.pth"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("1\n")
    (checkout / "long.py").write_text("#" * (provenance.LARGEST_NEW + 1))
    assert code_of(checkout, tmp_path / "code")["dirty"] is False


def test_credentials_are_hidden_in_the_diff(checkout: Path, tmp_path: Path) -> None:
    secrets = 'api_key = "abcdefgh"\nurl = "s3://me:pw@host/x"\nt = "ghp_' + "a" * 30 + '"\n'
    (checkout / "head.py").write_text(secrets + "tokens_per_clip = 12345678\n")
    text = (tmp_path / code_of(checkout, tmp_path / "code")["diff"]).read_text()
    assert not [word for word in ("abcdefgh", "me:pw", "ghp_a") if word in text]
    assert "+tokens_per_clip = 12345678\n" in text


def test_a_diff_beyond_the_limit_is_cut_and_says_so(checkout: Path, tmp_path: Path) -> None:
    (checkout / "head.py").write_text("x = 1  # " + "y\n" * 800_000)
    file = tmp_path / code_of(checkout, tmp_path / "code")["diff"]
    assert file.stat().st_size < provenance.MOST_BYTES + 100
    assert file.read_text().endswith("# cut here: the changes are larger than 1000000 bytes\n")


def test_where_git_cannot_say_the_record_says_why(checkout: Path, tmp_path: Path) -> None:
    inside = checkout / "data"
    inside.mkdir()
    git(tmp_path, "init", "-q", "empty")
    notes = {
        tmp_path: "not a git folder",
        tmp_path / "missing": "not a git folder",
        inside: "not part of the git folder around it (fork)",
        tmp_path / "empty": "a git folder without a commit",
    }
    for folder, note in notes.items():
        found = code_of(folder)
        assert (found["commit"], found["note"], shown_code(found)) == (None, note, note)


def test_variables_of_another_repository_do_not_answer(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert code_of(checkout)["branch"] == "work"


def test_versions_are_those_that_a_job_would_import(tmp_path: Path) -> None:
    package = tmp_path / "fork" / "mmaction"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "version.py").write_text("__version__ = '9.9.9'\n")
    plain = job_versions(JobSettings(), tmp_path)
    forked = job_versions(JobSettings(code_root="fork"), tmp_path)
    assert plain["torch"] and plain["mmaction2"] == "1.2.0"
    assert forked == {**plain, "mmaction2": "9.9.9 (checkout)"}


def test_annotation_files_are_named_by_their_content(tmp_path: Path) -> None:
    facts = {"ann_files": {"train": "clips/ann.pkl", "val": "clips/none.pkl"}}
    config = ResolvedConfig(text="data_root = 'clips'\n", hash="", changes=(), facts=facts)
    (tmp_path / "disk").mkdir()
    file = tmp_path / "disk" / "ann.pkl"
    file.write_bytes(b"one")
    first = data_digests(tmp_path, config, str(tmp_path / "disk"))
    file.write_bytes(b"other")
    os.utime(file, (1, 1))
    assert list(first) == ["train"] and first != data_digests(tmp_path, config, str(file.parent))


def test_a_change_between_attempts_is_a_sentence() -> None:
    code = {"project": {"commit": "a" * 40, "branch": "main", "dirty": False, "diff": None}}
    other = {"project": {**code["project"], "commit": "b" * 40}}
    first = {"attempt": 1, "code": code, "versions": {"torch": "2.10"}, "gpu": None}
    second = {**first, "attempt": 2, "code": other}
    third = {**second, "attempt": 3, "versions": {"torch": "2.11"}}
    assert changes([first, second, third]) == [
        "attempt 2: the code of project is bbbbbbbb on main, it was aaaaaaaa on main",
        "attempt 3: torch is 2.11, it was 2.10",
    ]
    assert code_of_attempt([first, second], 1) == code
    assert "not recorded" in shown_code(code_of_attempt([], 1)["project"])
