"""What a start of a job runs with: code, packages, GPU and data, as they are at that moment.

A git checkout says commit and branch; what is not committed is kept as a diff, new source files
included, so that the code can be put together again: `git checkout COMMIT && git apply DIFF`.
Credentials are hidden in it.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import PcanError
from pipeline.job.resolve import ResolvedConfig, placed_path
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import run_tool
from pipeline.plan.sweep import JobSettings
from pipeline.shared.files import write_bytes
from pipeline.shared.redact import redact_source

#: Longest diff that is kept, in bytes.
MOST_BYTES = 1_000_000
#: What a new file must end in, and its largest size, to be part of the diff.
SOURCES = (".py", ".pyi", ".yaml", ".yml", ".toml", ".cfg", ".sh", ".cpp", ".cu", ".h")
LARGEST_NEW = 200_000
#: How long git may take; a checkout on a slow file system must not hold up a launch.
GIT_S = 20
CUT = "\n# cut here: the changes are larger than {} bytes\n"
_PACKAGES = ("pcan", "torch", "mmengine", "mmaction2", "mmcv-lite", "mmcv", "numpy", "optuna")
#: A diff that `git apply` takes, whatever the user's settings make of the one that is shown.
_PLAIN_DIFF = (
    *("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--no-relative"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "-O/dev/null"),
)
#: Letters of a file's name for which git puts it in quotes, and what it writes for them.
_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\", **{chr(n): f"\\{n:03o}" for n in range(32)}})
_NO_CODE: dict[str, Any] = dict.fromkeys(("commit", "branch", "dirty", "diff"))


def code_of(folder: Path, keep_in: Path | None = None) -> dict[str, Any]:
    """Return which code a folder holds.

    Args:
        keep_in: where the diff is kept, named by its content; None keeps none.

    Returns:
        `commit`, `branch` (None where detached), `dirty`, `diff` (name of its file, None without
        changes); with changes also `diff_sha256` and `changed` (number of files). Where one of
        the first three is unknown, `note` says why. `git apply` takes the diff; names of binary
        files above `LARGEST_NEW` bytes stand at its head instead of them.
    """
    try:
        return _checkout(folder, keep_in)
    except _NoGitError as error:
        return {**_NO_CODE, "note": str(error)}


class _NoGitError(Exception):
    """Git cannot say which code a folder holds; the text says why."""


def _checkout(folder: Path, keep_in: Path | None) -> dict[str, Any]:
    top = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
    try:
        commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    except _NoGitError:
        return {**_NO_CODE, "dirty": True, "note": "a git folder without a commit"}
    if not _is_tracked(folder):
        raise _NoGitError(f"not part of the git folder around it ({top.name})")
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD").strip()
    record = {"commit": commit, "branch": None if branch == "HEAD" else branch}
    try:
        return {**record, **_changes(top, keep_in)}
    except _NoGitError as error:  # such as a time limit on a slow file system
        return {**record, "dirty": None, "diff": None, "note": f"changes unknown: {error}"}


def _changes(top: Path, keep_in: Path | None) -> dict[str, Any]:
    """Return what is not committed: `dirty`, `diff` and, with changes, the other keys of it."""
    counted = _git(top, "diff", "--numstat", "-z", *_PLAIN_DIFF, "HEAD").split("\0")
    rows = [row.split("\t", 2) for row in counted if row.count("\t") >= 2]
    changed = [(name, added == "-") for added, _, name in rows if not _is_result(name)]
    new = [name for name in _untracked(top) if _is_source(top, name)]
    if not changed and not new:
        return {"dirty": False, "diff": None}
    large = [name for name, binary in changed if binary and _size(top / name) > LARGEST_NEW]
    kept = [name for name, _ in changed if name not in large]
    tracked = _git(top, "diff", "--binary", *_PLAIN_DIFF, "HEAD", "--", *kept) if kept else ""
    head = "".join(f"# left out, binary and large: {_quoted(name)}\n" for name in large)
    text = head + tracked + "".join(_as_new(top, name) for name in new)
    return {"dirty": True, **_keep(text, keep_in), "changed": len(changed) + len(new)}


def _is_tracked(folder: Path) -> bool:
    """Whether the commit holds the folder; a git folder far above may know nothing of it."""
    try:
        _git(folder, "rev-parse", "--verify", "--quiet", "HEAD:./")
    except _NoGitError:
        return False
    return True


def _untracked(top: Path) -> list[str]:
    listed = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    return [name for name in listed.split("\0") if name]


def _is_source(top: Path, name: str) -> bool:
    """Whether a new file is code or configuration rather than a result."""
    if not name.endswith(SOURCES) or _is_result(name):
        return False
    return 0 <= _size(top / name) <= LARGEST_NEW


def _size(file: Path) -> int:
    """Return a file's size in bytes, -1 where there is none."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _is_result(name: str) -> bool:
    """Whether a path lies in a folder that pcan itself writes."""
    return bool({"runs", "exports"} & set(Path(name).parts[:-1]))


def _as_new(top: Path, name: str) -> str:
    """Return a new file as git shows it in a diff, with its own line ends and encoding."""
    try:
        text = (top / name).read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    lines = text.split("\n")
    closing = "" if text.endswith("\n") else "\n\\ No newline at end of file"
    lines = lines[:-1] if text.endswith("\n") else lines
    old, new = _quoted(f"a/{name}"), _quoted(f"b/{name}")
    head = f"diff --git {old} {new}\nnew file mode 100644\n"
    if not text:
        return head
    body = "\n".join(f"+{line}" for line in lines)
    return f"{head}--- /dev/null\n+++ {new}\n@@ -0,0 +1,{len(lines)} @@\n{body}{closing}\n"


def _quoted(name: str) -> str:
    """Return a file's name as a diff has it."""
    escaped = name.translate(_ESCAPES)
    return name if escaped == name else f'"{escaped}"'


def _keep(text: str, keep_in: Path | None) -> dict[str, Any]:
    """Write a diff, at most `MOST_BYTES` of it; return its name and digest."""
    content = redact_source(text).encode("utf-8", "surrogateescape")
    if len(content) > MOST_BYTES:
        whole = content[:MOST_BYTES].rpartition(b"\n")[0]
        content = whole + CUT.format(MOST_BYTES).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    if keep_in is None:
        return {"diff": None, "diff_sha256": sha256}
    file = keep_in / f"{sha256[:12]}.diff"
    keep_in.mkdir(mode=0o700, exist_ok=True)
    if not file.exists():
        write_bytes(file, content)
    return {"diff": f"{keep_in.name}/{file.name}", "diff_sha256": sha256}


def _git(folder: Path, *words: str) -> str:
    # The variables of a hook or of another repository would answer for the wrong one.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotepath=off", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**env, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            timeout=GIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise _NoGitError("git is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoGitError(f"git does not answer ({type(error).__name__})") from None
    if done.returncode != 0:
        raise _NoGitError(_why(done.stderr.decode("utf-8", "replace")))
    return done.stdout.decode("utf-8", "surrogateescape")


def _why(stderr: str) -> str:
    if "not a git repository" in stderr or "cannot change to" in stderr:
        return "not a git folder"
    if "dubious ownership" in stderr:
        return "git does not trust this folder, which another user owns (safe.directory)"
    lines = stderr.strip().splitlines() or ["git failed"]
    fatal = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return (fatal or lines)[0].removeprefix("fatal: ").removeprefix("error: ")


def versions(names: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of packages, as this environment has them.

    That of pcan is the code's own: what an editable install recorded is as old as the install.
    """
    installed = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            ours = name == "pcan"
            installed[name] = __version__ if ours else importlib.metadata.version(name)
    return installed


def job_versions(job: JobSettings, root: Path) -> dict[str, str]:
    """Return the packages that jobs import, by name; empty if their interpreter cannot say."""
    try:
        answer = run_tool("versions", {}, job, root)
    except PcanError:
        return {}  # the job itself will fail with a better text
    return {str(name): str(version) for name, version in answer["versions"].items()}


def gpu_of(slot: Slot) -> dict[str, Any] | None:
    """Return model and driver of a slot's GPUs, None on the CPU."""
    if not slot.gpus:
        return None
    return {"names": [gpu.name for gpu in slot.gpus], "driver": _driver()}


def _driver() -> str | None:
    """Return the version of NVIDIA's driver; None where the kernel does not show it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found.group(1) if found else None


def data_digests(root: Path, config: ResolvedConfig, data_root: str | None) -> dict[str, str]:
    """Return the sha256 of each annotation file that is on this machine, by loader.

    Args:
        root: of the project; relative paths of a config begin there.
        data_root: where this machine has the data, None for the place in the config.
    """
    digests = {}
    for loader, name in (config.facts.get("ann_files") or {}).items():
        file = root / placed_path(config.text, str(name), data_root)
        try:
            stat = file.stat()
            digests[loader] = _sha256(str(file), stat.st_mtime_ns, stat.st_size)
        except OSError:
            continue
    return digests


@functools.lru_cache(maxsize=64)
def _sha256(file: str, _mtime: int, _size: int) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
