"""Checks of the machine and of the environment that jobs run in."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pipeline
from pipeline.job.gpus import choose, read_gpus
from pipeline.job.oldest_versions import (
    NEWEST_TORCH,
    TRIED,
    refuse_old_environment,
    release_of,
)
from pipeline.job.slots import gpu_slots
from pipeline.job.torch_tools import code_root, run_tool
from pipeline.plan.project import relative
from pipeline.plan.sweep import JobSettings
from pipeline.preflight.finding import CheckContext, CheckFinding, error, note, warning
from pipeline.preflight.launch_checks import (
    disk_need,
    free_bytes,
    loopback_problem,
    unwritable_reason,
)
from pipeline.preflight.machine_limits import machine_limits
from pipeline.shared.counted import counted
from pipeline.shared.files import shell_word
from pipeline.shared.rundir import run_directories
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.trial_rows import read_board


def check_environment(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that everything is installed and that a checkpoint can be saved and loaded."""
    job = context.sweep.job if context.sweep is not None else JobSettings()
    refuse_old_environment(job, context.project.root)
    answer = run_tool("selftest", {}, job, context.project.root)
    for name, problem in answer["problems"].items():
        yield error("environment", f"{name}: {problem}")
    version = str(answer["versions"].get("torch", "0.0"))
    if release_of(version) > NEWEST_TORCH:
        yield warning(
            "environment",
            f"torch {version} is newer than what was tried ({TRIED}); watch the first epochs.",
        )
    versions = ", ".join(f"{name} {v}" for name, v in answer["versions"].items())
    yield note("environment", versions)
    for folder in _other_packages(context.project.root, job):
        yield note(
            "environment",
            f'{folder} is not imported in jobs, where "pipeline" is the package of pcan. '
            "If configs need modules of it, rename that folder.",
        )


def _other_packages(root: Path, job: JobSettings) -> list[Path]:
    """Return the user's packages with the name of ours where jobs import from."""
    folders = [root] if job.code_root is None else [root, code_root(job.code_root, root)]
    packages = [folder / "pipeline" for folder in folders]
    ours = Path(pipeline.__file__).resolve().parent
    return [p for p in packages if (p / "__init__.py").is_file() and p.resolve() != ours]


def check_folder(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that runs can be written and that other users cannot read them."""
    runs = context.project.runs
    shown = relative(runs, Path.cwd())
    problem = unwritable_reason(runs)
    if problem is not None:
        yield error("folder", problem)
    elif runs.is_dir() and runs.stat().st_mode & 0o077:
        yield warning(
            "folder",
            f"{shown} can be read by others. Make it private: chmod -R go= {shell_word(shown)}",
        )


def check_storage(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that the study storage can be opened and is not damaged."""
    if not context.project.runs.is_dir() and context.storage_url is None:
        return
    storage = open_storage(context.storage_url, context.project.runs, create=False)
    try:
        if not storage.exists():
            yield from _unknown_trials(context, storage)
            return
        damage = storage.damage()
        if damage is not None:
            yield error("storage", damage)
            return
        storage.rdb  # noqa: B018  opening it raises for another version of Optuna
        yield from _unknown_trials(context, storage)
    finally:
        storage.close()


def _unknown_trials(context: CheckContext, storage: Storage) -> Iterator[CheckFinding]:
    """Yield a finding on run directories that the storage has lost or never had."""
    sweep, project = context.sweep, context.project
    if sweep is None:
        return
    known = {row.run_dir for row in read_board(sweep.name, storage)}
    folders = [relative(f, project.root) for f in run_directories(project.runs / sweep.name)]
    lost = [folder for folder in folders if folder not in known]
    if lost:
        yield warning(
            "storage",
            f"{storage.shown} does not know {counted(len(lost), 'trial')} with a run directory, "
            f"first: {lost[0]}. Refill it: pcan doctor {sweep.name} --rebuild",
        )


def check_gpus(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that there are free GPUs for a job."""
    if context.device == "cpu":
        return
    listing = read_gpus()
    gpus = listing.gpus
    if listing.remark is not None:
        yield warning("gpus", listing.remark)
    if not gpus:
        report = error if context.device == "cuda" or context.gpus else warning
        yield report(
            "gpus",
            "This machine shows no GPU (nvidia-smi is missing or lists none); jobs would train "
            "on the CPU.",
        )
        return
    allowed = choose(gpus, context.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    for gpu in allowed:
        if gpu.in_use:
            yield warning("gpus", f"{gpu.describe_usage()}; it is left alone.")
    needed = context.sweep.job.gpus if context.sweep is not None else 1
    gpu_slots([gpu for gpu in allowed if not gpu.in_use], needed, None)


def check_disk(context: CheckContext) -> Iterator[CheckFinding]:
    """Check that the disk has room for the checkpoints to come."""
    variants = len(context.sweep.variants) if context.sweep is not None else 1
    need, why = disk_need(context.sweep, context.project, variants)
    free = free_bytes(context.project)
    if free < need:
        yield error(
            "disk",
            f"{free / 1e9:.1f} GB are free in runs, and {need / 1e9:.1f} GB are "
            f"needed ({why}). Make room: pcan sweep clean",
        )


def check_limits(context: CheckContext) -> Iterator[CheckFinding]:
    """Check temporary files, open files, processes and interfaces that a job needs."""
    ranks = context.sweep.job.gpus if context.sweep is not None else 1
    found = machine_limits(1, ranks)
    yield from (error("limits", sentence) for sentence in found.certain)
    yield from (warning("limits", sentence) for sentence in found.likely)


def check_ports(_: CheckContext) -> Iterator[CheckFinding]:
    """Check that the ranks of a job can connect on this machine."""
    problem = loopback_problem()
    if problem is not None:
        yield error("ports", problem)
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        yield warning(
            "ports",
            f'This host cannot resolve its own name "{socket.gethostname()}"; some versions of '
            "torchrun need it. Add it to /etc/hosts beside 127.0.0.1.",
        )


def check_wandb(context: CheckContext) -> Iterator[CheckFinding]:
    """Check the settings by which runs are sent to W&B."""
    from pipeline.plan.project import MARK
    from pipeline.track.tracking import read_project

    read_project(context.project.root / MARK)
    mode = os.environ.get("WANDB_MODE")
    if mode not in (None, "online", "offline", "disabled", "dryrun", "run", "shared"):
        yield warning("wandb", f'WANDB_MODE is "{mode}", which is not a mode of W&B. Unset it.')
    if not os.environ.get("WANDB_API_KEY"):
        yield note("wandb", "WANDB_API_KEY is not set: runs are written offline, send them later.")
