"""Before the first trial: everything that would make a launch fail, checked at once and fast."""

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.env import stall_floor_s, storage_patience_s
from pipeline.errors import InputError, NotReady
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

#: Wanted where nothing tells how large a checkpoint will be.
MIN_FREE_BYTES = 500_000_000


def check_ready(sweep: Sweep, project: Project, variants: Sequence[str]) -> None:
    """Refuse a launch that lacks a starting checkpoint, disk space, or a folder to write in.

    The fast part of `pcan doctor`: milliseconds, before every launch; a second more where the
    sweep file names the digest of a large checkpoint.

    Raises:
        NotReady: all that is wrong, most important first.
        InputError: a starting checkpoint is no checkpoint, or not the one that is named.
    """
    stall_floor_s(), storage_patience_s()  # told here, not when a trial runs
    wrong = missing_checkpoints(sweep, project, variants)
    wrong += [t for t in (unwritable_reason(project.runs), loopback_problem()) if t is not None]
    need, why = disk_need(sweep, project, len(variants))
    free = free_bytes(project)
    if free < need:
        wrong.append(
            f"Only {free / 1e9:.1f} GB are free in {project.runs}, and {need / 1e9:.1f} GB are "
            f"needed ({why}). Make room: pcan sweep clean"
        )
    if wrong:
        raise NotReady("\n".join(wrong))
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is not None and (project.root / start.checkpoint).is_file():
            _refuse_no_checkpoint(project.root / start.checkpoint)
    altered = checksum_mismatches(sweep, project, variants)
    if altered:
        raise InputError("\n".join(altered))


def missing_checkpoints(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each starting checkpoint that is absent and that nothing makes."""
    found: dict[str, str] = {}
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.make is not None:
            continue
        if (project.root / start.checkpoint).is_file() or start.checkpoint in found:
            continue
        where = sweep.where("variants", name, "warm_start", "checkpoint")
        if ("variants", name, "warm_start") not in sweep.lines:
            where = sweep.where("warm_start", "checkpoint")
        cold = [n for n, v in sweep.variants.items() if v.warm_start is None]
        without = f", or train without one: --variant {cold[0]}" if cold else ""
        found[start.checkpoint] = (
            f"The checkpoint to start from is missing: {start.checkpoint} ({where}). Put it "
            f"there, correct that path{without}"
        )
    return list(found.values())


def checksum_mismatches(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each starting checkpoint that is not the one the sweep file names."""
    starts = {sweep.variants[name].warm_start for name in variants}
    wanted = {s.checkpoint: s.sha256 for s in starts if s is not None and s.sha256 is not None}
    found = []
    for name, digest in sorted(wanted.items()):
        path = project.root / name
        if not path.is_file():
            continue
        with open(path, "rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            found.append(
                f"{name} is another file than the sweep names: its SHA-256 is {actual[:12]}..., "
                f"warm_start.sha256 is {digest[:12]}.... Put the right file there, or correct "
                f"warm_start.sha256 in {sweep.shown_path}."
            )
    return found


def disk_need(sweep: Sweep | None, project: Project, variants: int) -> tuple[int, str]:
    """Return the bytes that the checkpoints to come may take, and where the figure is from.

    A trial keeps its newest two and its best checkpoint; one more is being written.
    """
    found = [0]
    if sweep is not None:
        files = (project.runs / sweep.name).glob("*/*/checkpoints/epoch_*.pth")
        found += [file.stat().st_size for file in files]
        starts = {v.warm_start.checkpoint for v in sweep.variants.values() if v.warm_start}
        # Beside the weights a checkpoint holds the optimizer's state: momentum, or two moments.
        weights = [project.root / name for name in starts]
        found += [3 * file.stat().st_size for file in weights if file.is_file()]
    if max(found) == 0:
        return MIN_FREE_BYTES, "the size of a checkpoint is not known yet"
    need = (3 * variants + 1) * max(found)
    why = f"{variants} trials of 3 checkpoints of up to {max(found) / 1e6:.0f} MB"
    return max(need, MIN_FREE_BYTES // 10), why


def free_bytes(project: Project) -> int:
    """Return the room there is for runs, which may lie on a disk of their own."""
    return shutil.disk_usage(project.runs if project.runs.is_dir() else project.root).free


def unwritable_reason(runs: Path) -> str | None:
    """Say why runs cannot be written, None if they can."""
    if runs.exists() and not runs.is_dir():
        return f"{runs} is a file; runs are written there. Move it away."
    folder = runs if runs.is_dir() else runs.parent
    try:
        handle, name = tempfile.mkstemp(prefix=".pcan-", dir=folder)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}. Mend it, or run as its owner."
    return None


def loopback_problem() -> str | None:
    """Say why the ranks of a job could not meet on the loopback address, None if they can."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
    except OSError as error:
        return (
            f"No port can be opened on 127.0.0.1 ({error.strerror}), where the two ranks of a job "
            "meet. Bring the loopback interface up: ip link set lo up"
        )
    return None


def _refuse_no_checkpoint(path: Path) -> None:
    """Refuse by its first bytes what can be no checkpoint; the job reads the rest."""
    with open(path, "rb") as stream:
        head = stream.read(512)
    if not head:
        raise InputError(f"The checkpoint {path} is empty (0 bytes). Copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the checkpoint. Run: git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not a checkpoint. Download the file itself.")
