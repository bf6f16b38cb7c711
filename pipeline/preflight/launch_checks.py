"""Before the first trial: the fast checks of everything that would make a launch fail."""

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.env import stall_floor_s, storage_patience_s
from pipeline.errors import InputError, NotReady
from pipeline.job.oldest_versions import refuse_old_environment
from pipeline.job.resolve import ResolvedConfig
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.counted import counted
from pipeline.shared.foreign_files import not_a_checkpoint

#: Required where the size of a checkpoint is not known yet.
MIN_FREE_BYTES = 500_000_000


def check_ready(sweep: Sweep, project: Project, variants: Sequence[str]) -> None:
    """Refuse a launch without its starting checkpoint, disk space, or a folder to write in.

    The fast part of `pcan doctor`: milliseconds, before every launch; a tenth of a second more
    where jobs have an interpreter of their own, a second where the sweep file names the digest
    of a large checkpoint.

    Raises:
        NotReady: all problems, most important first; the interpreter of jobs is too old.
        InputError: a starting checkpoint is not a checkpoint, or not the one that is named.
    """
    stall_floor_s(), storage_patience_s()  # refused here, not while a trial runs
    refuse_old_environment(sweep.job, project.root)
    problems = missing_checkpoints(sweep, project, variants)
    problems += [p for p in (unwritable_reason(project.runs), loopback_problem()) if p is not None]
    need, why = disk_need(sweep, project, len(variants))
    free = free_bytes(project)
    if free < need:
        problems.append(
            f"Only {free / 1e9:.1f} GB are free in runs, and {need / 1e9:.1f} GB are "
            f"needed ({why}). Make room: pcan sweep clean"
        )
    if problems:
        raise NotReady("\n".join(problems))
    for name in variants:
        start = sweep.variants[name].warm_start
        file = start.file(project.root) if start is not None else None
        if file is not None and file.is_file():
            _refuse_non_checkpoint(file, relative(file, project.root))
    altered = checksum_mismatches(sweep, project, variants)
    if altered:
        raise InputError("\n".join(altered))


def refuse_float16(sweep: Sweep, configs: Mapping[str, ResolvedConfig], device: str) -> None:
    """Refuse half precision in float16 on the CPU, which computes in bfloat16 only.

    Raises:
        NotReady: with the variants that ask for it.
    """
    asking = [n for n, c in configs.items() if "fp16" in str(c.facts.get("precision"))]
    if device == "cpu" and asking:
        asks = f"{sweep.where('job', 'speed', 'amp')}: amp is fp16"
        if sweep.job.speed.amp is None:
            asks = f"The config's optim_wrapper ({', '.join(asking)}) computes in float16"
        raise NotReady(f"{asks}, which needs a GPU. Launch on one, or on the CPU with amp: bf16.")


def missing_checkpoints(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each missing starting checkpoint that no variant makes."""
    sentences: dict[str, str] = {}
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.checkpoint is None or start.make is not None:
            continue
        if (project.root / start.checkpoint).is_file() or start.checkpoint in sentences:
            continue
        where = sweep.where("variants", name, "warm_start", "checkpoint")
        if ("variants", name, "warm_start") not in sweep.lines:
            where = sweep.where("warm_start", "checkpoint")
        cold = [n for n, v in sweep.variants.items() if v.warm_start is None]
        without = f" Or train without one: --variant {cold[0]}" if cold else ""
        sentences[start.checkpoint] = (
            f"The checkpoint to start from is missing: {start.checkpoint} ({where}). Put it "
            f"there, or correct that path.{without}"
        )
    return list(sentences.values())


def checksum_mismatches(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each starting checkpoint that is not the one the sweep file names."""
    starts = {sweep.variants[name].warm_start for name in variants}
    expected = {s.checkpoint: s.sha256 for s in starts if s is not None and s.sha256 is not None}
    sentences = []
    for name, digest in sorted(expected.items()):
        path = project.root / str(name)
        if not path.is_file():
            continue
        with open(path, "rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            sentences.append(
                f"{name} is another file than the sweep names: its SHA-256 is {actual[:12]}..., "
                f"warm_start.sha256 is {digest[:12]}.... Put the right file there, or correct "
                f"warm_start.sha256 in {sweep.shown_path}."
            )
    return sentences


def disk_need(sweep: Sweep | None, project: Project, variants: int) -> tuple[int, str]:
    """Return the bytes that the checkpoints to come may take, and how that was estimated.

    A trial keeps its newest two and its best checkpoint; one more is being written.
    """
    sizes = [0]
    if sweep is not None:
        files = (project.runs / sweep.name).glob("*/*/checkpoints/epoch_*.pth")
        sizes += [file.stat().st_size for file in files]
        starts = [v.warm_start.file(project.root) for v in sweep.variants.values() if v.warm_start]
        # Also the optimizer's state, momentum or two moments, and the sum of later weights.
        weights = {file for file in starts if file is not None and file.is_file()}
        sizes += [4 * file.stat().st_size for file in weights]
    if max(sizes) == 0:
        return MIN_FREE_BYTES, "the size of a checkpoint is not known yet"
    need = (3 * variants + 1) * max(sizes)
    why = f"{counted(variants, 'trial')} of 3 checkpoints of up to {max(sizes) / 1e6:.0f} MB"
    return max(need, MIN_FREE_BYTES // 10), why


def free_bytes(project: Project) -> int:
    """Return the free bytes for runs, which may be on a disk of their own."""
    return shutil.disk_usage(project.runs if project.runs.is_dir() else project.root).free


def unwritable_reason(runs: Path) -> str | None:
    """Return why runs cannot be written, None if they can."""
    if runs.exists() and not runs.is_dir():
        return f"{runs} is a file; runs are written there. Move it away."
    folder = runs if runs.is_dir() else runs.parent
    try:
        handle, name = tempfile.mkstemp(prefix=".pcan-", dir=folder)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}. Fix that, or run as its owner."
    return None


def loopback_problem() -> str | None:
    """Return why the ranks of a job cannot connect on the loopback address, None if they can."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
    except OSError as error:
        return (
            f"No port can be opened on 127.0.0.1 ({error.strerror}), where the two ranks of a job "
            "connect. Bring the loopback interface up: ip link set lo up"
        )
    return None


def _refuse_non_checkpoint(path: Path, shown: str) -> None:
    """Refuse a file whose first bytes are not those of a checkpoint; the job reads the rest."""
    what = not_a_checkpoint(path)
    if what is not None:
        raise InputError(what.replace(str(path), shown))
